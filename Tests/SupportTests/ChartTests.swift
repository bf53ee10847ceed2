// SPDX-License-Identifier: Apache-2.0
import BenchmarkPictures
import TestSupport
import Testing

/// Pictures of the benchmarks are XML that others can read, and show what they are given.
@Suite(.timeLimit(.minutes(5)))
struct ChartTests {
    private static let charts: [Chart] = [
        Chart("nothing", x: .init("x"), y: .init("y"), []),
        Chart(
            "a < b & \"c\" > d",
            x: .init("µs", .logarithmic),
            y: .init("% of waits", .tail),
            [.init("<floor>", [(80, 0), (95.5, 50), (600, 99.9), (4000, 100)]), .init("none", [])],
            marks: [.init("here & there", at: 300)]
        ),
        Chart(
            "not finite",
            x: .init("s"),
            y: .init("operations"),
            [.init("a", [(0, 0), (1, .infinity), (.nan, 3), (2, 5)])]
        ),
    ]

    @Test(
        .enabled(if: Machine.program("python3") != nil, "needs python3: run deploy/bootstrap"),
        arguments: charts.indices
    )
    func pictureIsXML(index: Int) throws {
        let file = try Scratch("chart").file("chart.svg")
        try writeFile(file, Self.charts[index].svg)
        let read = "import sys, xml.dom.minidom as m; print(m.parse(sys.argv[1]).documentElement.tagName)"
        try withProcess(Machine.program("python3") ?? "", ["-c", read, file]) { python in
            let root = try python.readLine()
            #expect(root == "svg")
        }
    }

    @Test func everyLineAndMarkIsDrawn() {
        let svg = Self.charts[1].svg
        #expect(svg.split(separator: "<polyline").count == 3)
        #expect(svg.contains("&lt;floor&gt;") && svg.contains("here &amp; there"))
        // 80 to 4000 lie between 10 and 10000, from 80 to 840: log10(80) = 1.903, log10(4000) = 3.602.
        #expect(svg.contains("points=\"308.783,420 "))
        #expect(svg.contains(" 739.189,"))
    }
}
