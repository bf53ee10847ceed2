// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Paging

/// Memory in the process in which batches run: one page of code, then pages for tables and data.
struct BatchArea {
    /// The code page.
    let code: VirtualAddress
    /// Tables and data.
    let tables: AddressRange
    /// Whether this program mapped it and so unmaps it.
    let isMapped: Bool

    /// Where rip stands when a batch is through.
    var end: VirtualAddress {
        BatchCode.end(code: code)
    }
}

/// A batch laid out for one thread: its table and its data at a fixed place of the area.
struct PlacedBatch {
    let batch: CallBatch
    /// Table entries, those for moves included.
    let table: AddressRange
    /// Where the data of the batch lies.
    let data: VirtualAddress
    /// Address of the result of each call.
    private let resultAddresses: [VirtualAddress]
    /// Bytes of table and data.
    let image: [UInt8]

    /// Bytes that a batch needs, rounded so that the next one is aligned.
    static func byteCount(of batch: CallBatch) -> Int {
        (entryCount(of: batch) * BatchCode.entryBytes + batch.bytes.count + 63) & ~63
    }

    private static func entryCount(of batch: CallBatch) -> Int {
        batch.calls.reduce(0) { $0 + 1 + moveCount(of: $1) }
    }

    private static func moveCount(of call: CallBatch.Call) -> Int {
        call.arguments.reduce(0) {
            if case .result = $1 { $0 + 1 } else { $0 }
        }
    }

    init(_ batch: CallBatch, at start: VirtualAddress) {
        let entryCount = Self.entryCount(of: batch)
        let data = VirtualAddress(start.rawValue + UInt64(entryCount * BatchCode.entryBytes))
        var words: [UInt64] = []
        var results: [VirtualAddress] = []
        words.reserveCapacity(entryCount * 8)
        for call in batch.calls {
            // An argument that is an earlier result is copied into the entry of the call just before it is made.
            let entry = start.rawValue + UInt64((words.count / 8 + Self.moveCount(of: call)) * BatchCode.entryBytes)
            var arguments = [UInt64](repeating: 0, count: 6)
            for (position, argument) in call.arguments.enumerated() {
                switch argument {
                case .value(let value): arguments[position] = value
                case .data(let slot, let offset): arguments[position] = data.rawValue + UInt64(slot.offset + offset)
                case .result(let index):
                    let argumentAddress = entry + 8 + UInt64(position) * 8
                    words += [BatchCode.moveNumber, argumentAddress, results[index.call].rawValue, 0, 0, 0, 0, 0]
                }
            }
            words.append(UInt64(truncatingIfNeeded: call.number))
            words += arguments
            words.append(0)
            results.append(VirtualAddress(entry + 56))
        }
        self.batch = batch
        self.data = data
        table = AddressRange(start, data)
        resultAddresses = results
        // SAFETY: the bytes of the array's own storage are copied during the closure; the machine is little-endian.
        image = unsafe words.withUnsafeBytes { unsafe Array($0) } + batch.bytes
    }

    /// Takes the results out of what the table and data have become.
    func results(from image: [UInt8]) -> BatchResults {
        let start = table.lowerBound.rawValue
        // SAFETY: the results lie in the table, which the image begins with; loadUnaligned checks the bounds.
        let results = unsafe image.withUnsafeBytes { bytes in
            resultAddresses.map {
                unsafe bytes.loadUnaligned(fromByteOffset: Int($0.rawValue - start), as: Int64.self)
            }
        }
        return BatchResults(results: results, bytes: Array(image[Int(table.byteCount)...]))
    }
}
