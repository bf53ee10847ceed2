// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem
public import Paging

extension PageDigest {
    /// Adds the page at `address` that lies at `offset` of a buffer.
    public mutating func add(address: VirtualAddress, from buffer: TransferBuffer, at offset: Int) {
        buffer.withBytes(offset..<offset + PageSize.baseBytes) { add(address: address, page: $0) }
    }

    /// The digest of a run of pages that lie one behind the other from `offset` of a buffer on.
    ///
    /// Allocates nothing.
    init(of run: PageRun, in buffer: TransferBuffer, at offset: Int) {
        self.init()
        for index in 0..<Int(run.count) {
            let address = VirtualAddress(run.address.rawValue + UInt64(index) << 12)
            add(address: address, from: buffer, at: offset + index * PageSize.baseBytes)
        }
    }

    /// The digest of a run of pages that are all zeros.
    ///
    /// Allocates nothing.
    init(zeros run: PageRun) {
        self.init()
        for index in 0..<run.count { addZeros(address: VirtualAddress(run.address.rawValue + index << 12)) }
    }
}
