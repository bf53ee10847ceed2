// SPDX-License-Identifier: Apache-2.0

/// Memory of this machine that can be had without swapping.
public enum AvailableMemory {
    /// Bytes, as `MemAvailable` of `/proc/meminfo` says.
    ///
    /// - Throws: ``SystemCallError`` when the file cannot be read or has no such line.
    public static func byteCount() throws(SystemCallError) -> UInt64 {
        let text = String(decoding: try FileReading.read("/proc/meminfo"), as: UTF8.self)
        guard let bytes = parse(text) else {
            throw SystemCallError("read", .invalid, operand: "/proc/meminfo without MemAvailable")
        }
        return bytes
    }

    static func parse(_ text: String) -> UInt64? {
        for line in text.split(separator: "\n") where line.hasPrefix("MemAvailable:") {
            let words = line.split(separator: " ")
            guard words.count == 3, words[2] == "kB", let kilobytes = UInt64(words[1]) else { return nil }
            let (bytes, overflow) = kilobytes.multipliedReportingOverflow(by: 1024)
            return overflow ? nil : bytes
        }
        return nil
    }
}
