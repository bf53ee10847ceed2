// SPDX-License-Identifier: Apache-2.0

/// Bytes from lines of hexadecimal, each with a remark behind `|`.
func bytes(_ lines: String) -> [UInt8] {
    var result: [UInt8] = []
    for line in lines.split(separator: "\n") {
        let digits = (line.split(separator: "|", omittingEmptySubsequences: false).first ?? "").filter { $0 != " " }
        var rest = Substring(digits)
        while !rest.isEmpty {
            guard let byte = UInt8(rest.prefix(2), radix: 16) else { fatalError("not hexadecimal: \(line)") }
            result.append(byte)
            rest = rest.dropFirst(2)
        }
    }
    return result
}
