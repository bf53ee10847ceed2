// SPDX-License-Identifier: Apache-2.0
import Checkpoint
import TestSupport
import Testing

/// The article is tested against the one table that examination uses.
@Suite(.timeLimit(.minutes(5)))
struct WhatIsCarriedTests {
    private static let article = "\(BuiltProduct.package)/Sources/Commands/Documentation.docc/WhatIsCarried.md"

    @Test(arguments: CarriedObjects.Area.allCases)
    func theArticleHasTheTableOfEachArea(area: CarriedObjects.Area) throws {
        let section = try section(area.rawValue)
        #expect(
            tables(section) == [CarriedObjects.markdown(of: area)],
            "write this:\n\(CarriedObjects.markdown(of: area))"
        )
    }

    @Test func theArticleHasTheTableOfWhatIsRefused() throws {
        let table = CarriedObjects.refusedMarkdown
        #expect(tables(try section("What is refused")) == [table], "write this:\n\(table)")
    }

    @Test func theArticleHasNoOtherTables() throws {
        let count = tables(try readText(Self.article)).count
        #expect(count == CarriedObjects.Area.allCases.count + 1)
    }

    /// The text below a heading of any level, up to the next heading.
    private func section(_ title: String) throws -> String {
        let lines = try readText(Self.article).split(separator: "\n", omittingEmptySubsequences: false)
        let isHeading = { (line: Substring) in line.hasPrefix("#") }
        guard let start = lines.firstIndex(where: { isHeading($0) && $0.drop(while: { "# ".contains($0) }) == title })
        else {
            throw TestFailure("\(Self.article) has no heading \"\(title)\"")
        }
        return lines[(start + 1)...].prefix { !isHeading($0) }.joined(separator: "\n")
    }

    private func tables(_ text: String) -> [String] {
        text.split(separator: "\n", omittingEmptySubsequences: false).split { !$0.hasPrefix("|") }
            .map { $0.joined(separator: "\n") }
    }
}
