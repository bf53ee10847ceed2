// SPDX-License-Identifier: Apache-2.0

/// How a process is rebuilt.
public struct BuildOptions: Hashable, Sendable {
    /// Own pid and mount namespace with a fresh `/proc`, so that the original ids are free.
    public var newPIDNamespace = false

    /// The original ids in the restorer's own pid namespace.
    public init() {}
}
