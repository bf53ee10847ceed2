// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem

/// System calls that the new process makes one after another, with the memory that their arguments point to.
///
/// Nothing happens before ``StubRunner/run(_:on:)``. One batch costs one stop of the thread, whatever the number of its calls.
struct StubBatch {
    /// What the answer of a call has to be.
    enum Expectation: Equatable {
        /// Anything but an error.
        case success
        /// This value.
        case value(UInt64)
        /// Anything; the caller looks at it.
        case anything
    }

    /// One call.
    struct Call {
        let number: Int32
        let arguments: [UInt64]
        let expectation: Expectation
        /// What it is for, for a message.
        let purpose: String
    }

    /// The memory of the batch in the new process.
    let arena: StubArena
    /// The calls so far.
    private(set) var calls: [Call] = []
    /// Contents of the arena behind the table.
    private(set) var data: [UInt8] = []

    /// An empty batch.
    init(arena: StubArena) {
        self.arena = arena
    }

    /// Whether `calls` more calls with `bytes` more bytes fit.
    func hasRoom(calls more: Int, bytes: Int) -> Bool {
        calls.count + more <= arena.callCapacity && data.count + bytes + 64 <= arena.dataBytes
    }

    /// Adds a call; arguments that are not given are 0.
    ///
    /// - Returns: its index among the results.
    @discardableResult
    mutating func call(
        _ number: Int32,
        _ arguments: UInt64...,
        for purpose: String,
        expecting expectation: Expectation = .success
    ) -> Int {
        call(number, arguments: arguments, for: purpose, expecting: expectation)
    }

    /// Adds a call with its arguments as a list.
    @discardableResult
    mutating func call(
        _ number: Int32,
        arguments: [UInt64],
        for purpose: String,
        expecting expectation: Expectation = .success
    ) -> Int {
        calls.append(Call(number: number, arguments: arguments, expectation: expectation, purpose: purpose))
        return calls.count - 1
    }

    /// The calls as the code of the stub reads them: number, six arguments, room for the result.
    var table: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(calls.count * StubCode.entryBytes)
        func append(_ word: UInt64) {
            for index in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: word >> (8 * index))) }
        }
        for call in calls {
            append(UInt64(call.number))
            for argument in call.arguments { append(argument) }
            for _ in call.arguments.count..<7 { append(0) }
        }
        return bytes
    }

    /// Adds bytes that arguments may point to.
    ///
    /// - Returns: their address in the new process, a multiple of 16.
    mutating func place(_ bytes: [UInt8]) -> UInt64 {
        while data.count % 16 != 0 { data.append(0) }
        let address = arena.data + UInt64(data.count)
        data += bytes
        return address
    }

    /// Adds a text with its end mark.
    mutating func place(_ text: String) -> UInt64 {
        place(Array(text.utf8) + [0])
    }

    /// Adds words, little-endian.
    mutating func place(words: [UInt64]) -> UInt64 {
        place(words.flatMap { $0.littleEndianBytes })
    }
}

/// A piece of the stub that belongs to one thread: a table of calls, and data behind it.
struct StubArena {
    /// Address of the table.
    let table: UInt64
    /// Calls in the table.
    let callCapacity: Int
    /// Bytes of the whole arena.
    let size: UInt64

    /// Address of the data.
    var data: UInt64 { table + UInt64(callCapacity * StubCode.entryBytes) }
    /// Bytes of the data.
    var dataBytes: Int { Int(size) - callCapacity * StubCode.entryBytes }
}

extension FixedWidthInteger {
    /// Its bytes, the lowest first.
    var littleEndianBytes: [UInt8] {
        (0..<(Self.bitWidth / 8)).map { UInt8(truncatingIfNeeded: self >> (8 * $0)) }
    }
}

extension UInt64 {
    /// A signed number as an argument of a system call.
    init(argument: some FixedWidthInteger & SignedInteger) {
        self = UInt64(bitPattern: Int64(argument))
    }
}
