// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Options of a connected TCP socket that serve one purpose, by its descriptor.
public enum SocketTuning {
    /// How often something has to be sent in vain before silence means anything.
    private static let vainAttempts: UInt8 = 3

    /// Whether the other machine has acknowledged nothing for so long, although it was sent something again and again.
    ///
    /// Keep-alive does not look while something is on its way, and TCP itself goes on sending that for a quarter of an hour. A
    /// machine that lives answers each attempt, also when its program reads nothing, or is stopped.
    ///
    /// The corresponding call is `getsockopt(TCP_INFO)`.
    public static func isUnanswered(_ descriptor: Int32, for limit: Duration) -> Bool {
        var info = tcp_info()
        var length = socklen_t(MemoryLayout<tcp_info>.size)
        // SAFETY: room for one structure of the length that is said, which lives during the call.
        guard unsafe getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_INFO, &info, &length) == 0 else { return false }
        return max(info.tcpi_retransmits, info.tcpi_probes) >= vainAttempts
            && .milliseconds(Int64(info.tcpi_last_ack_recv)) >= limit
    }

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
