// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// A descriptor to which whole lines are written, one at a time.
public final class LineOutput: Sendable {
    private let descriptor: OwnedDescriptor
    private let order = Lock(())

    /// Takes over a descriptor that is open for writing.
    public init(_ descriptor: consuming OwnedDescriptor) {
        self.descriptor = descriptor
    }

    /// Writes `line` and a line feed; lines of several threads do not mix.
    ///
    /// - Throws: ``SystemCallError`` of write(2); `EPIPE` when nobody reads any more (the caller ignores SIGPIPE).
    public func write(line: String) throws(SystemCallError) {
        let bytes = Array((line + "\n").utf8)
        let number = descriptor.rawValue
        try order.withLock { _ throws(SystemCallError) in
            var written = 0
            while written < bytes.count {
                let offset = written
                written += try systemCall("write", operand: "descriptor \(number)") {
                    // SAFETY: the array outlives the call and holds `count - offset` bytes from `offset` on.
                    unsafe bytes.withUnsafeBytes {
                        unsafe Glibc.write(number, $0.baseAddress! + offset, $0.count - offset)
                    }
                }
            }
        }
    }
}
