// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Commands

@Suite
struct PictureTests {
    @Test(arguments: [
        (Picture.ascii, 0.0, ""), (.ascii, 0.001, "-"), (.ascii, 0.25, "#"), (.ascii, 0.375, "#-"), (.ascii, 1, "####"),
        (.ascii, 7, "####"), (.ascii, -1, ""),
        (.blocks, 0, ""), (.blocks, 0.001, "▏"), (.blocks, 0.25, "█"), (.blocks, 0.46875, "█▉"), (.blocks, 1, "████"),
    ])
    func barsAreAsLongAsTheShare(picture: Picture, share: Double, bar: String) {
        #expect(picture.bar(share, width: 4) == bar)
    }

    @Test func sparklinesAreAsHighAsTheValues() {
        #expect(Picture.blocks.sparkline([0, 1, 50, 100]) == " ▁▄█")
        #expect(
            Picture.ascii.sparkline([0, 1, 50, 100]) == "_.=@" || Picture.ascii.sparkline([0, 1, 50, 100]) == "_.-@"
        )
        #expect(Picture.ascii.sparkline([0, 0]) == "__")
        #expect(Picture.ascii.sparkline([]) == "")
    }

    @Test(arguments: [
        (["LANG": "C.UTF-8"], true), (["LANG": "de_DE.utf8", "TERM": "xterm"], true), (["LANG": "C"], false),
        ([:], false),
        (["LANG": "C.UTF-8", "LC_ALL": "C"], false), (["LANG": "C", "LC_CTYPE": "C.UTF-8"], true),
        (["LANG": "C.UTF-8", "LC_ALL": ""], true), (["LANG": "C.UTF-8", "TERM": "dumb"], false),
    ])
    func theLocaleDecidesOnTheCharacters(environment: [String: String], isUTF8: Bool) {
        #expect(Picture.showsUTF8 { environment[$0] } == isUTF8)
    }
}

@Suite
struct FiguresTests {
    @Test(arguments: [
        (0.0, 1, "0.0"), (0.05, 1, "0.1"), (9.96, 1, "10.0"), (-1.25, 2, "-1.25"), (1234.5, 0, "1235"),
        (0.007, 3, "0.007"),
        (.nan, 1, "?"), (1e300, 1, "?"),
    ])
    func decimalsAreRounded(number: Double, digits: Int, text: String) {
        #expect(Figures.decimal(number, digits: digits) == text)
    }

    @Test(arguments: [
        (0.0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (1_048_575, "1.0 MiB"), (0x1p30, "1 GiB"),
        (1.25e8, "119.2 MiB"), (0x1p50, "1024 TiB"),
    ])
    func bytesHaveTheLargestUnit(count: Double, text: String) {
        #expect(Figures.bytes(count) == text)
    }

    @Test(arguments: [
        (0.0, "0 us"), (35e-6, "35 us"), (0.000_999_6, "1.0 ms"), (0.0471, "47.1 ms"), (0.099_97, "100 ms"),
        (0.192, "192 ms"),
        (0.9996, "1.0 s"), (12.34, "12.3 s"), (99.96, "100 s"), (4000, "4000 s"),
    ])
    func durationsHaveTheUnitThatFits(seconds: Double, text: String) {
        #expect(Figures.duration(.seconds(seconds)) == text)
    }

    @Test(arguments: [(1.0, "1 s"), (0.5, "0.5 s"), (0.001, "0.001 s"), (10, "10 s"), (86_400, "86400 s")])
    func intervalsAreAsTheyWereWritten(seconds: Double, text: String) {
        #expect(Figures.seconds(.seconds(seconds)) == text)
    }

    @Test(arguments: [(0.0, "0.0 %"), (0.000_1, "<0.1 %"), (0.0005, "0.1 %"), (0.245, "24.5 %"), (1, "100.0 %")])
    func aShareAboveNothingShows(share: Double, text: String) {
        #expect(Figures.percent(share) == text)
    }

    @Test func namesCannotDriveATerminal() {
        #expect("a\u{1B}[2Jb\n\u{9B}c\u{7F}ü".printable == "a?[2Jb??c?ü")
        #expect("ab".right(4) == "  ab" && "ab".left(4) == "ab  " && "abcde".right(4) == "abcde")
    }
}

@Suite
struct BandwidthTests {
    @Test(arguments: [
        ("1", 1.0), ("500000", 500_000), ("1GiB", 0x1p30), ("1g", 0x1p30), ("1.5M", 1.5 * 0x1p20), ("2KiB/s", 2048),
        ("100MB", 1e8), ("10Gbit", 1.25e9), ("10gbit/s", 1.25e9), ("100Mbit", 1.25e7), ("64kB", 64_000), ("7B", 7),
    ])
    func unitsAreUnderstood(text: String, bytes: Double) {
        #expect(Bandwidth(argument: text)?.bytesPerSecond == bytes)
    }

    @Test(arguments: [
        "", "0", "-1", "1e9", "GiB", "1 GiB", "1GiBs", "1parsec", "nan", "inf", "1.2.3", "0.5", "99999999TB", "²",
    ])
    func othersAreNot(text: String) {
        #expect(Bandwidth(argument: text) == nil)
    }

    @Test func itIsSaidInBinaryUnits() {
        #expect(Bandwidth(bytesPerSecond: 0x1p30).description == "1 GiB/s")
        #expect(Bandwidth(bytesPerSecond: 1.25e8).description == "119.2 MiB/s")
    }
}
