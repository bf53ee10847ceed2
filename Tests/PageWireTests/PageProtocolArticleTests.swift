// SPDX-License-Identifier: Apache-2.0
import LinuxSystem
import PageWire
import Paging
import Testing

/// The article "The page protocol" says what the code does.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct PageProtocolArticleTests {
    /// The lines of the article.
    private static func lines() throws -> [String] {
        let here = #filePath.split(separator: "/", omittingEmptySubsequences: false)
        let root = here.dropLast(3).joined(separator: "/")
        let bytes = try FileReading.read(root + "/Sources/Commands/Documentation.docc/PageProtocol.md")
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    }

    /// The cells of every table row that begins with a kind's number.
    private static func kindRows() throws -> [[String]] {
        try lines().filter { $0.hasPrefix("| 0x") }.map { line in
            line.split(separator: "|").map { $0.filter { $0 != "`" && $0 != " " } }
        }
    }

    /// The sender as the table has it.
    private static func sender(_ kind: FrameKind) -> String {
        let connection = ConnectionKind.allCases.first { connection in
            [Side.source, .destination].contains { kind.isLegal(on: connection, from: $0) }
        }
        guard let connection else { return "nobody" }
        guard kind.isLegal(on: connection, from: .source) else { return "destination" }
        return kind.isLegal(on: connection, from: .destination) ? "either" : "source"
    }

    private static func connection(_ kind: FrameKind) -> String {
        let connections = ConnectionKind.allCases.filter { connection in
            [Side.source, .destination].contains { kind.isLegal(on: connection, from: $0) }
        }
        return connections.count == 3 ? "every" : connections.map { "\($0)" }.joined(separator: ",")
    }

    private static func bounds(_ kind: FrameKind) -> String {
        let bounds = kind.payloadBounds
        return bounds.count == 1 ? "\(bounds.lowerBound)" : "\(bounds.lowerBound)to\(bounds.upperBound)"
    }

    @Test func theTableOfKindsIsTheCode() throws {
        let rows = try Self.kindRows()
        let expected = FrameKind.allCases.map { kind in
            let number = String(kind.rawValue, radix: 16)
            let digits = String(repeating: "0", count: 2 - number.count) + number
            return ["0x" + digits, "\(kind)", Self.connection(kind), Self.sender(kind), Self.bounds(kind)]
        }
        #expect(rows == expected)
    }

    @Test func theTableOfConnectionsIsTheCode() throws {
        let lines = try Self.lines()
        for connection in ConnectionKind.allCases {
            #expect(lines.contains { $0.hasPrefix("| \(connection) | \(connection.rawValue) |") })
        }
    }

    @Test func theExampleDecodes() throws {
        let lines = try Self.lines()
        let start = try #require(lines.firstIndex { $0.hasPrefix("## Example") })
        let end = try #require(lines.firstIndex { $0.hasPrefix("## Versions") })
        var example: [UInt8] = []
        for line in lines[start..<end] {
            let digits = line.prefix(24).split(separator: " ")
            let values = digits.compactMap { $0.count == 2 ? UInt8($0, radix: 16) : nil }
            if values.count == digits.count { example += values }
        }
        try #require(example.count == 96)
        let request = try PageFrame(decoding: example.span, on: .fault, from: .destination)
        let answer = try PageFrame(decoding: example.span, at: 48, on: .fault, from: .source)
        #expect(request.kind == .requestPages)
        #expect(answer.kind == .pages)
        #expect(request.request == answer.request)
        #expect(request.run == answer.run)
        var zeros = PageDigest()
        zeros.addZeros(address: answer.address)
        #expect(answer.digest == zeros)
    }

    @Test func theBoundsInTheTextAreTheCode() throws {
        let text = try Self.lines().joined(separator: "\n")
        for words in [
            "number of pages, 1 to \(PageProtocol.maximumPages)",
            "at most \(PageProtocol.maximumGuards) guard ranges in a `grant`, \(PageProtocol.maximumMapRuns) runs",
            "at most \(PageProtocol.maximumText) bytes, without control characters",
            "at most \(PageProtocol.maximumDescription >> 20) MiB",
            "This is version \(PageProtocol.version).",
        ] {
            #expect(text.contains(words), "\(words)")
        }
    }
}
