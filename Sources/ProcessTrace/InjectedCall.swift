// SPDX-License-Identifier: Apache-2.0
internal import CLinux
public import Paging

/// One system call as the kernel gets it.
public struct InjectedCall: Sendable {
    /// SYS_*.
    public var number: UInt64
    /// Argument words.
    public var arguments: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64)

    /// Makes a call with up to six arguments; missing ones are 0.
    ///
    /// - Precondition: At most six arguments.
    public init(_ number: Int32, _ arguments: [UInt64]) {
        precondition(arguments.count <= 6, "a system call has at most six arguments")
        func argument(_ index: Int) -> UInt64 { index < arguments.count ? arguments[index] : 0 }
        self.number = UInt64(number)
        self.arguments = (argument(0), argument(1), argument(2), argument(3), argument(4), argument(5))
    }
}

/// A list of system calls that one thread of another process makes at one go, with the memory that they need.
public struct CallBatch: Sendable {
    /// An argument of a call.
    public enum Argument: Sendable {
        /// A number or an address, sign-extended by the caller.
        case value(UInt64)
        /// The address of bytes that ``CallBatch/data(_:alignment:)`` or ``CallBatch/output(_:alignment:)`` placed, plus an offset.
        case data(Slot, offset: Int)
        /// The result of an earlier call of the batch.
        case result(Index)

        /// A number of any width, sign-extended if it is signed.
        public static func int(_ value: some BinaryInteger) -> Argument {
            .value(UInt64(truncatingIfNeeded: value))
        }

        /// The address of placed bytes.
        public static func data(_ slot: Slot) -> Argument {
            .data(slot, offset: 0)
        }

        /// An address in the process.
        public static func address(_ address: VirtualAddress) -> Argument {
            .value(address.rawValue)
        }
    }

    /// Bytes that were placed in the batch.
    public struct Slot: Hashable, Sendable {
        let offset: Int
        let count: Int
    }

    /// The place of a call in the batch.
    public struct Index: Hashable, Sendable {
        let call: Int
    }

    struct Call: Sendable {
        var number: Int32
        var arguments: [Argument]
    }

    private(set) var calls: [Call] = []
    private(set) var bytes: [UInt8] = []

    /// Makes an empty batch.
    public init() {}

    /// Number of calls.
    public var count: Int {
        calls.count
    }

    /// Adds a call.
    ///
    /// - Precondition: At most six arguments.
    @discardableResult
    public mutating func call(_ number: Int32, _ arguments: Argument...) -> Index {
        precondition(arguments.count <= 6, "a system call has at most six arguments")
        calls.append(Call(number: number, arguments: arguments))
        return Index(call: calls.count - 1)
    }

    /// Places bytes that calls read or alter.
    ///
    /// - Precondition: `alignment` is a power of two, at most 64.
    public mutating func data(_ bytes: [UInt8], alignment: Int = 8) -> Slot {
        precondition(alignment > 0 && alignment <= 64 && alignment & (alignment - 1) == 0, "not an alignment")
        while self.bytes.count % alignment != 0 { self.bytes.append(0) }
        self.bytes.append(contentsOf: bytes)
        return Slot(offset: self.bytes.count - bytes.count, count: bytes.count)
    }

    /// Places zeros that calls fill.
    public mutating func output(_ count: Int, alignment: Int = 8) -> Slot {
        data([UInt8](repeating: 0, count: count), alignment: alignment)
    }

    /// Places a string with a NUL behind it.
    public mutating func path(_ path: String) -> Slot {
        data(Array(path.utf8) + [0], alignment: 1)
    }
}

/// What the calls of a batch returned and left in memory.
public struct BatchResults: Sendable {
    /// The results in order, -errno for failures.
    public let results: [Int64]
    let bytes: [UInt8]

    /// The result of a call, -errno for a failure.
    public subscript(_ index: CallBatch.Index) -> Int64 {
        results[index.call]
    }

    /// The bytes of a slot after all calls.
    public subscript(_ slot: CallBatch.Slot) -> [UInt8] {
        Array(bytes[slot.offset..<slot.offset + slot.count])
    }

    /// The 64-bit word at the beginning of a slot plus an offset.
    ///
    /// - Precondition: The word lies in the slot.
    public func word(_ slot: CallBatch.Slot, at offset: Int = 0) -> UInt64 {
        precondition(offset >= 0 && offset + 8 <= slot.count, "outside of the slot")
        return bytes[slot.offset + offset..<slot.offset + offset + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}
