// SPDX-License-Identifier: Apache-2.0

/// How a process is rebuilt.
public struct BuildOptions: Hashable, Sendable {
    /// Own pid and mount namespace with a fresh `/proc`, so that the original ids are free.
    public var newPIDNamespace = false
    /// The userfaultfd serves asynchronous write protection besides missing pages (Linux 6.7).
    public var tracked = false

    /// The original ids in the restorer's own pid namespace.
    public init() {}
}
