// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc

/// Bytes that nobody can guess.
public enum RandomBytes {
    /// That many bytes of the kernel's generator.
    ///
    /// The corresponding call is `getrandom`.
    public static func make(_ count: Int) throws(SystemCallError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let start = done
            let result = unsafe bytes.withUnsafeMutableBytes { buffer in
                guard let base = buffer.baseAddress else { return 0 }
                // SAFETY: the array's own memory, from `start` to its end.
                return unsafe clinux_getrandom(base + start, count - start)
            }
            if result == -Int(EINTR) { continue }
            done += try checked("getrandom", result)
        }
        return bytes
    }
}
