// SPDX-License-Identifier: Apache-2.0
public import Paging

/// A step of the books that is not a message of a userfaultfd: with those, in their order, new books come to where old ones were.
///
/// What was asked for and has not come is no part of it: threads that wait fault again.
public enum BooksStep: Hashable, Sendable {
    /// ``LazyPages/pageMapArrived(_:)``.
    case pageMapArrived(PageRun)
    /// ``LazyPages/pageMapCompleted()``.
    case pageMapCompleted
    /// ``LazyPages/forgetPartialMap()``.
    case pageMapForgotten
    /// ``LazyPages/preCopyMapArrived(_:)``.
    case preCopyMapArrived(PageRun)
    /// ``LazyPages/guardsArrived(_:)``.
    case guardsArrived(PageRun)
    /// ``LazyPages/guardsInstalled(_:_:)``.
    case guardsInstalled(SpaceIdentifier, AddressRange)
    /// ``LazyPages/unmapConfirmed(_:_:)``.
    case unmapConfirmed(SpaceIdentifier, AddressRange)
    /// ``LazyPages/spaceEnded(_:)``.
    case spaceEnded(SpaceIdentifier)
    /// ``LazyPages/installed(_:_:)``: these pages are settled.
    case settled(SpaceIdentifier, SettledPages)
    /// ``LazyPages/pagesArrived(_:)``: those came for the first time, and are in the digest.
    case arrived(VirtualAddress, FirstArrivals)
}

/// Pages, as the source numbers them, of which a space needs nothing any more.
public struct SettledPages: Hashable, Sendable {
    /// The first page.
    public var first: UInt64
    /// Number of pages.
    public var count: UInt64

    /// Pages from `first` on.
    public init(first: UInt64, count: UInt64) {
        self.first = first
        self.count = count
    }

    var pages: Range<UInt64> { first..<first + count }
}

extension LazyPages {
    /// Does a step again.
    ///
    /// - Throws: ``LazyPagesError`` when it contradicts the steps before.
    public mutating func replay(_ step: BooksStep) throws(LazyPagesError) {
        switch step {
        case .pageMapArrived(let run): try pageMapArrived([run])
        case .pageMapCompleted: try pageMapCompleted()
        case .pageMapForgotten: if !isMapComplete { _ = forgetPartialMap() }
        case .preCopyMapArrived(let run): try preCopyMapArrived([run])
        case .guardsArrived(let run): try guardsArrived([run])
        case .guardsInstalled(let space, let range): guardsInstalled(space, range)
        case .unmapConfirmed(let space, let range): unmapConfirmed(space, range)
        case .spaceEnded(let space): spaceEnded(space)
        case .settled(let space, let settled): settle(settled, in: space)
        case .arrived(let address, let first): arrivedBefore(address, first)
        }
    }

    private mutating func arrivedBefore(_ address: VirtualAddress, _ first: FirstArrivals) {
        for index in 0..<64 where first.contains(index) {
            let page = address.pageNumber + UInt64(index)
            _ = isMapComplete ? outstanding.remove(page) : early.insert(page)
            local.remove(page)
        }
    }
}
