// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Options of a connected TCP socket that serve one purpose, by its descriptor.
public enum SocketTuning {
    /// Bounds what waits in the kernel to be sent, so that the writer waits instead of the network's queue growing.
    ///
    /// The corresponding call is `setsockopt(TCP_NOTSENT_LOWAT)`.
    public static func limitUnsent(_ descriptor: Int32, bytes: Int32) throws(SystemCallError) {
        var value = bytes
        try systemCall("setsockopt", operand: "TCP_NOTSENT_LOWAT of descriptor \(descriptor)") {
            // SAFETY: one number that lives during the call.
            unsafe setsockopt(
                descriptor,
                Int32(IPPROTO_TCP),
                TCP_NOTSENT_LOWAT,
                &value,
                socklen_t(MemoryLayout<Int32>.size)
            )
        }
    }
}
