// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser

/// Bytes a second, as users write them: `1GiB`, `125MB`, `10Gbit`, `500000`.
struct Bandwidth: ExpressibleByArgument, Hashable, Sendable {
    let bytesPerSecond: Double

    init(bytesPerSecond: Double) {
        self.bytesPerSecond = bytesPerSecond
    }

    /// Nil for anything but a number above 0 with a unit that is known; a unit may be followed by `/s`.
    init?(argument: String) {
        let number = argument.prefix { $0.isASCII && $0.isNumber || $0 == "." }
        var unit = argument.dropFirst(number.count).lowercased()
        if unit.hasSuffix("/s") { unit.removeLast(2) }
        guard let value = Double(number), let factor = Self.units[unit] else { return nil }
        let bytes = value * factor
        guard bytes >= 1, bytes <= Self.highest else { return nil }
        bytesPerSecond = bytes
    }

    var defaultValueDescription: String { description }

    /// No machine moves more, and what is computed from it stays within its types.
    private static let highest = 1e15

    /// One letter means a power of 1024, as in dd(1) and QEMU.
    private static let units: [String: Double] = [
        "": 1, "b": 1,
        "k": 0x1p10, "m": 0x1p20, "g": 0x1p30, "kib": 0x1p10, "mib": 0x1p20, "gib": 0x1p30,
        "kb": 1e3, "mb": 1e6, "gb": 1e9,
        "kbit": 125, "mbit": 125e3, "gbit": 125e6,
    ]
}

extension Bandwidth: CustomStringConvertible {
    /// `1 GiB/s`, `119.2 MiB/s`.
    var description: String { Figures.bytes(bytesPerSecond) + "/s" }
}
