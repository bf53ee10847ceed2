// SPDX-License-Identifier: Apache-2.0
internal import CLinux

extension CPUAffinity {
    /// Keeps the calling thread on the CPU that it is on.
    ///
    /// - Returns: what it was allowed before, for ``apply(to:)``.
    public static func pinToCurrent() throws(SystemCallError) -> CPUAffinity {
        try pin(to: Int(checked("getcpu", clinux_current_cpu())))
    }
}
