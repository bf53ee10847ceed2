// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import ProcessTrace

/// What only a thread itself can ask the kernel: the batch for one thread, and how its answers are read.
struct ThreadQuestions {
    private(set) var batch = CallBatch()
    private let clearChildTID: CallBatch.Slot
    private let alternateStack: CallBatch.Slot
    private let deathSignal: CallBatch.Slot
    private let secureBits: CallBatch.Index
    private let timerSlack: CallBatch.Index

    /// prctl(2) options that Glibc's module lacks.
    private enum Control {
        static let getDeathSignal = 2
        static let getDumpable = 3
        static let getTSC = 25
        static let getSecureBits = 27
        static let getTimerSlack = 30
        static let getChildSubreaper = 37
        static let getTIDAddress = 40
        static let getTHPDisable = 42
        static let getIOFlusher = 58
        static let getMDWE = 66
    }

    init() {
        clearChildTID = batch.output(8)
        alternateStack = batch.output(24)
        deathSignal = batch.output(8)
        batch.call(SYS_prctl, .int(Control.getTIDAddress), .data(clearChildTID))
        batch.call(SYS_sigaltstack, .int(0), .data(alternateStack))
        secureBits = batch.call(SYS_prctl, .int(Control.getSecureBits))
        timerSlack = batch.call(SYS_prctl, .int(Control.getTimerSlack))
        batch.call(SYS_prctl, .int(Control.getDeathSignal), .data(deathSignal))
    }

    /// What one thread answered.
    struct Answers {
        var clearChildTID: UInt64
        var alternateStack: (address: UInt64, flags: Int32, size: UInt64)
        var deathSignal: Int32
        var secureBits: UInt32
        var timerSlack: UInt64
    }

    func answers(_ results: BatchResults) -> Answers {
        Answers(
            clearChildTID: results.word(clearChildTID),
            alternateStack: (
                results.word(alternateStack),
                Int32(truncatingIfNeeded: results.word(alternateStack, at: 8)),
                results.word(alternateStack, at: 16)
            ),
            deathSignal: Int32(truncatingIfNeeded: results.word(deathSignal)),
            secureBits: UInt32(truncatingIfNeeded: results[secureBits]),
            timerSlack: UInt64(max(0, results[timerSlack]))
        )
    }

    /// Adds the trial, which is nil when it would take too long.
    mutating func addRegistrationTrial(
        of mappings: [MapEntry],
        _ tracker: TrackerRegistrations?
    ) -> RegistrationTrial? {
        RegistrationTrial(of: mappings, by: tracker, in: &batch)
    }

    /// The leader is asked for what the process has once, behind its own questions.
    mutating func addProcessQuestions(timers: [PosixTimerEntry]) -> ProcessQuestions {
        var questions = ProcessQuestions()
        for number in 1...64 {
            let slot = batch.output(32)
            questions.actions.append(slot)
            batch.call(SYS_rt_sigaction, .int(number), .int(0), .data(slot), .int(8))
        }
        questions.brk = batch.call(SYS_brk, .int(0))
        questions.dumpable = batch.call(SYS_prctl, .int(Control.getDumpable))
        questions.hugePagesDisabled = batch.call(SYS_prctl, .int(Control.getTHPDisable))
        questions.noWriteExecute = batch.call(SYS_prctl, .int(Control.getMDWE))
        questions.flusher = batch.call(SYS_prctl, .int(Control.getIOFlusher))
        let subreaper = batch.output(8)
        batch.call(SYS_prctl, .int(Control.getChildSubreaper), .data(subreaper))
        questions.subreaper = subreaper
        let tsc = batch.output(8)
        batch.call(SYS_prctl, .int(Control.getTSC), .data(tsc))
        questions.tsc = tsc
        for resource in 0..<16 {
            let slot = batch.output(16)
            questions.limits.append(slot)
            batch.call(SYS_prlimit64, .int(0), .int(resource), .int(0), .data(slot))
        }
        questions.timers = TimerQuestions(about: timers, in: &batch)
        // Never sleeps: WNOHANG. __WALL finds children of every kind, WNOWAIT leaves them as they are.
        let options = WNOHANG | WEXITED | WNOWAIT | Int32(bitPattern: UInt32(0x4000_0000))
        questions.child = batch.call(SYS_waitid, .int(0), .int(0), .data(batch.output(128)), .int(options), .int(0))
        return questions
    }
}

/// Where the answers about the whole process are.
struct ProcessQuestions {
    var actions: [CallBatch.Slot] = []
    var brk: CallBatch.Index?
    var dumpable: CallBatch.Index?
    var hugePagesDisabled: CallBatch.Index?
    var noWriteExecute: CallBatch.Index?
    var flusher: CallBatch.Index?
    var subreaper: CallBatch.Slot?
    var tsc: CallBatch.Slot?
    /// Asked from within, as another user's limits take CAP_SYS_RESOURCE to see.
    var limits: [CallBatch.Slot] = []
    var timers: TimerQuestions?
    var child: CallBatch.Index?
}
