// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import ProcessImage

// The descriptor table. Everything is made at temporary numbers above all that the process will have; then each descriptor is
// duplicated to its number, and the temporary ones are closed.
extension Construction {
    /// The lowest number for descriptors of ours.
    var temporaryDescriptors: Int32 {
        let numbers = description.files.descriptors.map(\.number)
        let watched = description.files.descriptions.flatMap { $0.watches.map(\.number) }
        return max(64, (numbers + watched).max().map { $0 + 1 } ?? 0)
    }

    /// More than every descriptor has as a number while building.
    private var borderOfDescriptors: Int {
        let temporary =
            description.files.descriptions.count + 2 * description.files.pipes.count
            + description.memory.sharedObjects.count + description.memory.files.count
        return Int(temporaryDescriptors) + 2 * temporary
    }

    /// RLIMIT_NOFILE while building.
    var descriptorLimit: Int {
        max(4096, borderOfDescriptors + 256)
    }

    /// Makes the table as large as it will have to be, with a duplicate of `number`.
    ///
    /// Once threads share the table the kernel waits for an RCU grace period before it grows, 9 ms (expand_fdtable in fs/file.c).
    func growDescriptorTable(with number: Int32) throws(RestoreError) {
        let border = UInt64(borderOfDescriptors)
        var batch = runner.makeBatch()
        batch.call(
            SYS_fcntl,
            UInt64(argument: number),
            UInt64(F_DUPFD_CLOEXEC),
            border,
            for: "grow the descriptor table",
            // It only makes it faster.
            expecting: .anything
        )
        batch.call(SYS_close_range, border, UInt64(UInt32.max), 0, for: "close a descriptor of ours")
        try runner.run(batch, on: leader)
    }

    /// Makes the whole table.
    func makeDescriptors() throws(RestoreError) {
        try checkFileTable()
        let pipes = try makePipes()
        let made = try makeDescriptions(pipes)
        try fillPipes(pipes)
        try setDescriptions(made)
        try place(made)
    }

    private func checkFileTable() throws(RestoreError) {
        let table = description.files
        for file in table.descriptions {
            let bound =
                switch file.kind {
                case .pipe: table.pipes.count
                case .memfd: objects.count
                case .path, .device, .eventfd, .epoll, .timerfd, .signalfd, .standardStream: Int.max
                }
            guard bound == .max || Int(file.object) < bound else {
                throw RestoreError(.badDescription, "an open file (\(file.kind)) refers to nothing that is described")
            }
            guard file.watches.allSatisfy({ Int($0.description) < table.descriptions.count && $0.number >= 0 }) else {
                throw RestoreError(.badDescription, "an epoll instance watches an open file that is not described")
            }
        }
        guard table.descriptors.allSatisfy({ $0.number >= 0 && $0.number < 1 << 20 }) else {
            throw RestoreError(.badDescription, "a descriptor has an impossible number")
        }
    }

    // MARK: Pipes

    /// The ends of a pipe, or a FIFO (one descriptor for both), at temporary numbers.
    private struct PipeEnds {
        let read: Int32
        let write: Int32
        /// Path of a FIFO, or empty.
        let path: String
    }

    private func makePipes() throws(RestoreError) -> [PipeEnds] {
        var ends: [PipeEnds] = []
        for (index, pipe) in description.files.pipes.enumerated() {
            let fifo = description.files.descriptions.first {
                $0.kind == .pipe && $0.object == UInt32(index) && $0.detail == 1
            }
            if let fifo {
                ends.append(try openFIFO(fifo))
            } else {
                ends.append(try makePipe())
            }
            var batch = runner.makeBatch()
            batch.call(
                SYS_fcntl,
                UInt64(argument: ends[index].write),
                Kernel.setPipeSize,
                UInt64(pipe.capacity),
                for: "size a pipe to \(pipe.capacity) bytes",
                expecting: pipe.capacity == 0 ? .anything : .success
            )
            try runner.run(batch, on: leader)
        }
        return ends
    }

    private func makePipe() throws(RestoreError) -> PipeEnds {
        var batch = runner.makeBatch()
        let numbers = batch.place(words: [0])
        batch.call(SYS_pipe2, numbers, UInt64(O_CLOEXEC), for: "make a pipe")
        try runner.run(batch, on: leader)
        let both = StubRunner.word(try runner.read(numbers, count: 8), at: 0)
        var first = runner.makeBatch()
        var second = runner.makeBatch()
        return PipeEnds(
            read: try lift(Int32(truncatingIfNeeded: both), with: &first),
            write: try lift(Int32(truncatingIfNeeded: both >> 32), with: &second),
            path: ""
        )
    }

    private func openFIFO(_ file: OpenFile) throws(RestoreError) -> PipeEnds {
        var batch = runner.makeBatch()
        let path = batch.place(file.path)
        batch.call(
            SYS_openat,
            UInt64(argument: AT_FDCWD),
            path,
            UInt64(O_RDWR | O_NONBLOCK | O_CLOEXEC),
            for: "open the FIFO \"\(file.path)\""
        )
        let number = Int32(truncatingIfNeeded: try runner.run(batch, on: leader)[0])
        batch = runner.makeBatch()
        let lifted = try lift(number, with: &batch)
        return PipeEnds(read: lifted, write: lifted, path: file.path)
    }

    /// Puts into pipes what was in them.
    ///
    /// A FIFO that still holds it (its file is that of the source, on one machine) is left alone.
    private func fillPipes(_ ends: [PipeEnds]) throws(RestoreError) {
        for (pipe, end) in zip(description.files.pipes, ends) where !pipe.content.isEmpty {
            let own = try duplicate(end.write)
            if !end.path.isEmpty, try holdsBytes(end) { continue }
            var pieces: [ArraySlice<UInt8>] = [pipe.content[...]]
            if !pipe.packets.isEmpty {
                try setStatusFlags(O_WRONLY | Kernel.packetMode, of: end.write)
                pieces = try packets(of: pipe)
            }
            for piece in pieces {
                try RestoreError.wrap("fill a pipe with \(piece.count) bytes") { () throws(SystemCallError) in
                    try DescriptorIO.write(Array(piece), to: own.rawValue, until: .after(.seconds(5)))
                }
            }
            if !pipe.packets.isEmpty { try setStatusFlags(O_WRONLY, of: end.write) }
        }
    }

    private func holdsBytes(_ end: PipeEnds) throws(RestoreError) -> Bool {
        let own = try duplicate(end.read)
        return try RestoreError.wrap("look into a FIFO") { () throws(SystemCallError) in
            try DescriptorIO.wait(for: .readable, on: own.rawValue, until: .immediate)
        }
    }

    private func packets(of pipe: Pipe) throws(RestoreError) -> [ArraySlice<UInt8>] {
        var rest = pipe.content[...]
        var pieces: [ArraySlice<UInt8>] = []
        for count in pipe.packets {
            guard Int(count) <= rest.count else {
                throw RestoreError(.badDescription, "a pipe has packets of more bytes than it holds")
            }
            pieces.append(rest.prefix(Int(count)))
            rest = rest.dropFirst(Int(count))
        }
        if !rest.isEmpty { pieces.append(rest) }
        return pieces
    }

    private func setStatusFlags(_ flags: Int32, of number: Int32) throws(RestoreError) {
        var batch = runner.makeBatch()
        batch.call(SYS_fcntl, UInt64(argument: number), UInt64(F_SETFL), UInt64(flags), for: "set flags of a pipe")
        try runner.run(batch, on: leader)
    }

    // MARK: Open files

    /// Makes every description.
    ///
    /// - Returns: their temporary numbers, in order.
    private func makeDescriptions(_ pipes: [PipeEnds]) throws(RestoreError) -> [Int32] {
        let files = description.files.descriptions
        var usedEnds: Set<Int32> = []
        let numbers = try runner.run(over: files, on: leader, callsPerItem: 1) {
            (file: OpenFile, batch) throws(RestoreError) in
            switch file.kind {
            case .pipe: addPipeEnd(file, pipes[Int(file.object)], &usedEnds, to: &batch)
            case .memfd: addReopening(objects[Int(file.object)].descriptor, file, to: &batch)
            case .path, .device: addOpening(file.path, Self.openFlags(file), to: &batch)
            case .standardStream: addDuplicate(Int32(truncatingIfNeeded: file.value), to: &batch)
            case .eventfd, .epoll, .timerfd, .signalfd: addObject(file, to: &batch)
            }
        }
        let base = UInt64(temporaryDescriptors)
        let lifted = try runner.run(over: numbers, on: leader, callsPerItem: 1, bytesPerItem: 0) {
            (number: Int64, batch) throws(RestoreError) in
            batch.call(
                SYS_fcntl,
                UInt64(number),
                UInt64(F_DUPFD_CLOEXEC),
                base,
                for: "make room for a descriptor (RLIMIT_NOFILE)"
            )
        }
        // The streams below 3 are still needed by nobody: each description has its own duplicate.
        var batch = runner.makeBatch()
        batch.call(SYS_close_range, 0, base - 1, 0, for: "close descriptors of ours")
        try runner.run(batch, on: leader)
        return lifted.map { Int32(truncatingIfNeeded: $0) }
    }

    /// open(2) flags without those that only act once.
    private static func openFlags(_ file: OpenFile) -> UInt64 {
        let once = UInt32(O_CREAT | O_EXCL | O_TRUNC)
        return UInt64(file.flags & ~once | UInt32(O_CLOEXEC | O_NOCTTY))
    }

    private func addOpening(_ path: String, _ flags: UInt64, to batch: inout StubBatch) {
        let text = batch.place(path)
        batch.call(SYS_openat, UInt64(argument: AT_FDCWD), text, flags, for: "open \"\(path)\"")
    }

    private func addDuplicate(_ number: Int32, to batch: inout StubBatch) {
        batch.call(
            SYS_fcntl,
            UInt64(argument: number),
            UInt64(F_DUPFD_CLOEXEC),
            3,
            for: "duplicate descriptor \(number)"
        )
    }

    /// A further open file description of something that a descriptor of ours leads to.
    private func addReopening(_ number: Int32, _ file: OpenFile, to batch: inout StubBatch) {
        // Opening an end of a pipe waits for the other one unless it is told not to; the flag is set as it was later.
        let flags = Self.openFlags(file) | UInt64(file.kind == .pipe ? O_NONBLOCK : 0)
        addOpening("/proc/self/fd/\(number)", flags, to: &batch)
    }

    private func addPipeEnd(
        _ file: OpenFile,
        _ ends: PipeEnds,
        _ usedEnds: inout Set<Int32>,
        to batch: inout StubBatch
    ) {
        let mode = Int32(truncatingIfNeeded: file.flags) & O_ACCMODE
        let number = mode == O_RDONLY ? ends.read : ends.write
        if ends.path.isEmpty, mode != O_RDWR, usedEnds.insert(number).inserted {
            addDuplicate(number, to: &batch)
        } else {
            addReopening(number, file, to: &batch)
        }
    }

    private func addObject(_ file: OpenFile, to batch: inout StubBatch) {
        let nonBlocking = UInt64(file.flags & UInt32(O_NONBLOCK)) | UInt64(O_CLOEXEC)
        switch file.kind {
        case .eventfd:
            // EFD_SEMAPHORE is 1. The counter may be larger than the argument of the call.
            batch.call(SYS_eventfd2, 0, nonBlocking | (file.detail != 0 ? 1 : 0), for: "make an eventfd")
        case .epoll: batch.call(SYS_epoll_create1, UInt64(O_CLOEXEC), for: "make an epoll instance")
        case .timerfd:
            batch.call(SYS_timerfd_create, UInt64(argument: file.detail), nonBlocking, for: "make a timerfd")
        case .signalfd:
            let mask = batch.place(words: [file.value])
            batch.call(SYS_signalfd4, UInt64(argument: Int32(-1)), mask, 8, nonBlocking, for: "make a signalfd")
        case .path, .device, .pipe, .memfd, .standardStream: break
        }
    }

    /// Offsets, flags and contents of descriptions at their temporary numbers.
    private func setDescriptions(_ made: [Int32]) throws(RestoreError) {
        let entries = zip(description.files.descriptions, made).map { (file: $0, number: UInt64(argument: $1)) }
        try runner.run(over: entries, on: leader) {
            (entry: (file: OpenFile, number: UInt64), batch) throws(RestoreError) in
            let (file, number) = entry
            switch file.kind {
            case .path, .memfd:
                if file.offset != 0, file.flags & Kernel.pathOnly == 0 {
                    batch.call(
                        SYS_lseek,
                        number,
                        UInt64(argument: file.offset),
                        0,
                        for: "set the offset of \"\(file.path)\""
                    )
                }
            case .eventfd:
                if file.value != 0 {
                    let counter = batch.place(words: [file.value])
                    batch.call(SYS_write, number, counter, 8, for: "set the counter of an eventfd")
                }
            case .device, .pipe, .epoll, .timerfd, .signalfd, .standardStream: break
            }
            addOwner(file, number, to: &batch)
            if file.kind == .pipe {
                // O_ASYNC comes when the descriptor has its number: the signal tells the number with which it was asked for.
                let flags = file.flags & ~UInt32(O_ASYNC)
                batch.call(SYS_fcntl, number, UInt64(F_SETFL), UInt64(flags), for: "set status flags")
            }
        }
    }

    /// Who gets SIGIO.
    private func addOwner(_ file: OpenFile, _ number: UInt64, to batch: inout StubBatch) {
        if file.owner != 0 {
            let owner = batch.place(file.ownerType.littleEndianBytes + file.owner.littleEndianBytes)
            batch.call(SYS_fcntl, number, Kernel.setOwner, owner, for: "set the owner of a descriptor")
        }
        if file.ownerSignal != 0 {
            batch.call(
                SYS_fcntl,
                number,
                Kernel.setSignal,
                UInt64(argument: file.ownerSignal),
                for: "set the signal of a descriptor"
            )
        }
    }

    // MARK: Numbers

    /// Duplicates everything to its number, adds the epoll watches, closes the rest.
    private func place(_ made: [Int32]) throws(RestoreError) {
        try addStrayWatches(made)
        try runner.run(over: description.files.descriptors, on: leader, callsPerItem: 1, bytesPerItem: 0) {
            (entry: DescriptorEntry, batch) throws(RestoreError) in
            batch.call(
                SYS_dup3,
                UInt64(argument: made[Int(entry.description)]),
                UInt64(argument: entry.number),
                UInt64(entry.closeOnExec ? O_CLOEXEC : 0),
                for: "make descriptor \(entry.number)"
            )
        }
        try askForSignals()
        let byNumber = descriptionsByNumber
        for (index, file) in description.files.descriptions.enumerated() where file.kind == .epoll {
            let watches = file.watches.filter { byNumber[$0.number] == $0.description }
            try addWatches(watches, to: made[index])
        }
        for entry in description.files.descriptors {
            let file = description.files.descriptions[Int(entry.description)]
            guard file.kind == .timerfd else { continue }
            if !timerDescriptors.contains(where: { made[Int(entry.description)] == $0.made }) {
                timerDescriptors.append((entry.number, made[Int(entry.description)], file))
            }
        }
        var batch = runner.makeBatch()
        batch.call(
            SYS_close_range,
            UInt64(temporaryDescriptors),
            UInt64(UInt32.max),
            0,
            for: "close descriptors of ours"
        )
        try runner.run(batch, on: leader)
    }

    /// O_ASYNC.
    private func askForSignals() throws(RestoreError) {
        var asked: Set<UInt32> = []
        var batch = runner.makeBatch()
        for entry in description.files.descriptors {
            let file = description.files.descriptions[Int(entry.description)]
            guard file.flags & UInt32(O_ASYNC) != 0, asked.insert(entry.description).inserted else { continue }
            let number = UInt64(argument: entry.number)
            batch.call(SYS_fcntl, number, UInt64(F_SETFL), UInt64(file.flags), for: "ask for signals of input")
        }
        try runner.run(batch, on: leader)
    }

    private var descriptionsByNumber: [Int32: UInt32] {
        Dictionary(
            description.files.descriptors.map { ($0.number, $0.description) },
            uniquingKeysWith: { first, _ in first }
        )
    }

    /// Watches whose number has been closed or means something else since: the number is lent to them before it gets what it has.
    private func addStrayWatches(_ made: [Int32]) throws(RestoreError) {
        let byNumber = descriptionsByNumber
        for (index, file) in description.files.descriptions.enumerated() where file.kind == .epoll {
            for watch in file.watches where byNumber[watch.number] != watch.description {
                var batch = runner.makeBatch()
                let number = UInt64(argument: watch.number)
                batch.call(
                    SYS_dup3,
                    UInt64(argument: made[Int(watch.description)]),
                    number,
                    UInt64(O_CLOEXEC),
                    for: "lend descriptor \(watch.number)"
                )
                addWatch(watch, to: made[index], &batch)
                batch.call(SYS_close, number, for: "close descriptor \(watch.number)")
                try runner.run(batch, on: leader)
            }
        }
    }

    private func addWatches(_ watches: [EpollWatch], to epoll: Int32) throws(RestoreError) {
        try runner.run(over: watches, on: leader, callsPerItem: 1, bytesPerItem: 32) {
            (watch: EpollWatch, batch) throws(RestoreError) in
            addWatch(watch, to: epoll, &batch)
        }
    }

    private func addWatch(_ watch: EpollWatch, to epoll: Int32, _ batch: inout StubBatch) {
        // struct epoll_event is packed on x86-64.
        let event = batch.place(watch.events.littleEndianBytes + watch.data.littleEndianBytes)
        batch.call(
            SYS_epoll_ctl,
            UInt64(argument: epoll),
            UInt64(EPOLL_CTL_ADD),
            UInt64(argument: watch.number),
            event,
            for: "watch descriptor \(watch.number)"
        )
    }

    /// Arms timerfds with the time that they had left, and gives them the expirations that nobody has read (arming clears them).
    func addTimerDescriptorStarts(to batch: inout StubBatch) {
        for timer in timerDescriptors {
            var time = timer.file.timer
            // A periodic one stands still from its expiration until it is read.
            if time.value == 0 { time.value = time.period }
            if time.value != 0 { addStart(timer.file, time, timer.number, to: &batch) }
            guard timer.file.value != 0 else { continue }
            let ticks = batch.place(words: [timer.file.value])
            batch.call(
                SYS_ioctl,
                UInt64(argument: timer.number),
                Kernel.setTimerTicks,
                ticks,
                for: "set the ticks of a timerfd (CONFIG_CHECKPOINT_RESTORE)"
            )
        }
    }

    private func addStart(_ file: OpenFile, _ time: IntervalTimer, _ number: Int32, to batch: inout StubBatch) {
        var setting = Self.timerSpecification(time)
        var flags: UInt64 = 0
        // TFD_TIMER_CANCEL_ON_SET only goes with TFD_TIMER_ABSTIME.
        if file.timerFlags & 2 != 0 {
            flags = 3
            // Programs that only want to hear when the clock is set name the end of time, of which less is left here.
            let (value, isBeyond) = KernelClock.nanoseconds(file.detail).addingReportingOverflow(time.value)
            (setting[2], setting[3]) = Self.parts(isBeyond ? .max : value, of: 1)
        }
        let address = batch.place(words: setting)
        batch.call(SYS_timerfd_settime, UInt64(argument: number), flags, address, 0, for: "start a timerfd")
    }
}
