// SPDX-License-Identifier: Apache-2.0
public import Paging
public import ProcessImage

extension PageDigest {
    /// Adds pages that are sent ahead, a last part of a page filled up with zeros.
    ///
    /// Pages of shared objects are told from those of the process by the upper bits of their address, which no process uses.
    public mutating func add(_ pages: EagerPages) {
        let space: UInt64 =
            switch pages.target {
            case .process: 0
            case .sharedObject: UInt64(pages.object &+ 1) << 48
            }
        var offset = 0
        while offset < pages.bytes.count {
            let address = VirtualAddress(space &+ pages.address &+ UInt64(offset))
            let end = offset + PageSize.baseBytes
            if end <= pages.bytes.count {
                add(address: address, page: pages.bytes.span, at: offset)
            } else {
                let rest = Array(pages.bytes[offset...])
                add(address: address, page: (rest + [UInt8](repeating: 0, count: end - pages.bytes.count)).span)
            }
            offset = end
        }
    }
}
