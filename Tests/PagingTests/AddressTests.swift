// SPDX-License-Identifier: Apache-2.0
import Paging
import Testing

@Suite(.serialized, .timeLimit(.minutes(5)))
struct AddressTests {
    @Test func aRangeTouchesThePagesItBeginsAndEndsIn() {
        #expect(AddressRange(VirtualAddress(0x1000), VirtualAddress(0x3000)).pageNumbers == 1..<3)
        #expect(AddressRange(VirtualAddress(0x1fff), VirtualAddress(0x2001)).pageNumbers == 1..<3)
        #expect(AddressRange(VirtualAddress(0x1234), VirtualAddress(0x1234)).pageNumbers == 1..<1)
        #expect(AddressRange(VirtualAddress(0x5000), VirtualAddress(0x4000)).isEmpty)
    }

    @Test func runsAndRangesAreTheSamePages() {
        let run = PageRun(address: VirtualAddress(0x7000), count: 3)
        #expect(run.range == AddressRange(VirtualAddress(0x7000), VirtualAddress(0xa000)))
        #expect(PageRun(run.range) == run)
        #expect(PageRun(pageNumbers: 7..<10) == run)
        #expect(run.pageNumbers == 7..<10)
        #expect(run.description == "0x7000+3")
        #expect(AddressRange(pageNumbers: 7..<10) == run.range)
    }

    @Test func anAddressKnowsItsPage() {
        let address = VirtualAddress(0x7f00_0000_1234)
        #expect(address.pageNumber == 0x7_f000_0001)
        #expect(address.pageStart == VirtualAddress(0x7f00_0000_1000))
        #expect(VirtualAddress(pageNumber: 0x7_f000_0001) == address.pageStart)
    }
}
