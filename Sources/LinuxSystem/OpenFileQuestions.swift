// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc

/// What can be asked of an open file besides fstat(2); nothing of the file changes.
public enum OpenFileQuestions {
    /// Who gets SIGIO, fcntl(2) F_SETOWN_EX and F_SETSIG.
    public struct Owner: Hashable, Sendable {
        /// F_OWNER_TID 0, F_OWNER_PID 1, F_OWNER_PGRP 2.
        public var type: Int32
        /// The id; 0 for nobody.
        public var id: Int32
        /// The signal; 0 for SIGIO.
        public var signal: Int32
    }

    /// The corresponding calls are `fcntl(F_GETOWN_EX)` and `fcntl(F_GETSIG)`.
    public static func owner(of descriptor: Int32) throws(SystemCallError) -> Owner {
        var owner = Owner(type: 0, id: 0, signal: 0)
        // SAFETY: three numbers that live during the call.
        let result = unsafe clinux_file_owner(descriptor, &owner.type, &owner.id, &owner.signal)
        try checked("fcntl", result, operand: "F_GETOWN_EX of descriptor \(descriptor)")
        return owner
    }

    /// Makes the kernel count the ticks that a timer with a period has missed since it went off and nobody read it.
    ///
    /// A reader gets the same number with it and without it; `/proc/PID/fdinfo` tells it, and the time left, only afterwards.
    ///
    /// The corresponding call is `timerfd_gettime`.
    public static func catchUp(timer descriptor: Int32) throws(SystemCallError) {
        try checked("timerfd_gettime", clinux_timerfd_catch_up(descriptor), operand: "descriptor \(descriptor)")
    }

    /// The magic number of the file system, statfs(2).
    ///
    /// The corresponding call is `fstatfs`.
    public static func fileSystemType(of descriptor: Int32) throws(SystemCallError) -> UInt64 {
        var magic: UInt64 = 0
        // SAFETY: one number that lives during the call.
        try checked("fstatfs", unsafe clinux_file_system_type(descriptor, &magic), operand: "descriptor \(descriptor)")
        return magic
    }

    /// Whether a lease is held through this open file.
    ///
    /// The corresponding call is `fcntl(F_GETLEASE)`.
    public static func hasLease(_ descriptor: Int32) -> Bool {
        // A file that cannot have one is an error of the kernel and no lease.
        let result = clinux_file_lease(descriptor)
        return result >= 0 && result != F_UNLCK
    }

    /// Seals of a memfd.
    ///
    /// The corresponding call is `fcntl(F_GET_SEALS)`.
    public static func seals(of descriptor: Int32) throws(SystemCallError) -> UInt32 {
        let result = try checked(
            "fcntl",
            clinux_file_seals(descriptor),
            operand: "F_GET_SEALS of descriptor \(descriptor)"
        )
        return UInt32(bitPattern: result)
    }

    /// Capacity of a pipe in bytes.
    ///
    /// The corresponding call is `fcntl(F_GETPIPE_SZ)`.
    public static func pipeSize(of descriptor: Int32) throws(SystemCallError) -> UInt32 {
        let result = try checked(
            "fcntl",
            clinux_pipe_size(descriptor),
            operand: "F_GETPIPE_SZ of descriptor \(descriptor)"
        )
        return UInt32(bitPattern: result)
    }

    /// What is in a pipe, piece by piece; it stays there.
    ///
    /// A piece is what one read(2) gives: in a pipe of packets (O_DIRECT) one packet, else as much as there is.
    ///
    /// - Parameters:
    ///   - descriptor: a reading end.
    ///   - capacity: of the pipe, in bytes.
    ///
    /// The corresponding call is `tee`.
    public static func contents(ofPipe descriptor: Int32, capacity: UInt32) throws(SystemCallError) -> [[UInt8]] {
        var pair = try DescriptorPair.pipe()
        let copy = pair.takeFirst()
        let entrance = pair.takeSecond()
        try checked(
            "fcntl",
            clinux_pipe_resize(entrance.rawValue, Int32(clamping: capacity)),
            operand: "F_SETPIPE_SZ to \(capacity)"
        )
        let count = clinux_tee(descriptor, entrance.rawValue, Int(Int32.max))
        if count == -Int64(EAGAIN) { return [] }
        try checked("tee", count, operand: "descriptor \(descriptor)")
        var pieces: [[UInt8]] = []
        var left = Int(count)
        while left > 0 {
            let piece = try DescriptorIO.read(copy.rawValue, limit: max(left, 1), until: .after(.seconds(1)))
            guard !piece.isEmpty else { break }
            left -= piece.count
            pieces.append(piece)
        }
        return pieces
    }

    /// The first run of data at or behind `offset`, nil when only a hole follows.
    ///
    /// The corresponding call is `lseek(SEEK_DATA)` and `lseek(SEEK_HOLE)`; the offset of `descriptor` moves.
    public static func nextData(in descriptor: Int32, from offset: UInt64) throws(SystemCallError) -> Range<UInt64>? {
        let start = clinux_seek_data(descriptor, Int64(clamping: offset))
        if start == -Int64(ENXIO) { return nil }
        try checked("lseek", start, operand: "SEEK_DATA of descriptor \(descriptor)")
        let end = try checked(
            "lseek",
            clinux_seek_hole(descriptor, start),
            operand: "SEEK_HOLE of descriptor \(descriptor)"
        )
        return UInt64(start)..<UInt64(max(start, end))
    }

    /// Where the first data at or behind `offset` is, nil when only a hole follows.
    ///
    /// Unlike ``nextData(in:from:)`` it does not walk to the end of the data. The corresponding call is `lseek(SEEK_DATA)`.
    public static func firstData(in descriptor: Int32, from offset: UInt64) throws(SystemCallError) -> UInt64? {
        let start = clinux_seek_data(descriptor, Int64(clamping: offset))
        if start == -Int64(ENXIO) { return nil }
        return UInt64(try checked("lseek", start, operand: "SEEK_DATA of descriptor \(descriptor)"))
    }
}
