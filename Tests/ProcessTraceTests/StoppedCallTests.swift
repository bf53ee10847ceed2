// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import ProcessTrace

/// What the registers of a stopped thread say of its call.
@Suite(.timeLimit(.minutes(5)))
struct StoppedCallTests {
    private func call(
        _ number: Int64,
        result: Int64 = 0,
        _ others: [StoppedCall.Register: UInt64] = [:]
    ) -> StoppedCall {
        var words = [UInt64](repeating: 0, count: 27)
        words[StoppedCall.Register.origRax.rawValue] = UInt64(bitPattern: number)
        words[StoppedCall.Register.rax.rawValue] = UInt64(bitPattern: result)
        words[StoppedCall.Register.cs.rawValue] = 0x33
        words[StoppedCall.Register.rip.rawValue] = 0x1002
        for (register, value) in others { words[register.rawValue] = value }
        return StoppedCall(registers: words)
    }

    @Test func ownCodeAndFinishedCallsGoOnAsTheyAre() {
        #expect(call(-1).continuation(handlerPending: false, groupStopped: false) == .none)
        #expect(call(0, result: 5).continuation(handlerPending: false, groupStopped: false) == .none)
        #expect(call(0, result: -11).continuation(handlerPending: false, groupStopped: false) == .none)
    }

    @Test(arguments: [Int64(-512), -513, -514])
    func theKernelRestartsWhatItCan(result: Int64) {
        #expect(call(0, result: result).continuation(handlerPending: true, groupStopped: false) == .byKernel)
    }

    @Test func aRestartBlockIsTold() {
        #expect(call(35, result: -516).continuation(handlerPending: false, groupStopped: false) == .restartBlock)
    }

    @Test(arguments: [Int64(232), 281, 441, 128, 65, 220, 23, 270, 271])
    func anInterruptOfOursIsTakenBack(number: Int64) {
        let epoll = call(number, result: -4)
        #expect(epoll.continuation(handlerPending: false, groupStopped: false) == .again)
        #expect(epoll.continuation(handlerPending: true, groupStopped: false) == .none)
        #expect(epoll.continuation(handlerPending: false, groupStopped: true) == .none)
    }

    @Test func anInterruptOfACallThatHasDoneSomethingStays() {
        // close(2) must not be made twice.
        #expect(call(3, result: -4).continuation(handlerPending: false, groupStopped: false) == .none)
    }

    @Test func aRewoundThreadExecutesTheInstructionAgain() {
        let words = call(232, result: -4, [.r10: 5000]).rewound(timeLeft: 1_200_000_001)
        #expect(words[StoppedCall.Register.rip.rawValue] == 0x1000)
        #expect(words[StoppedCall.Register.rax.rawValue] == 232)
        #expect(words[StoppedCall.Register.origRax.rawValue] == .max)
        #expect(words[StoppedCall.Register.r10.rawValue] == 1201)
        // No time-out, or one in memory: the register stays.
        #expect(call(232, result: -4, [.r10: .max]).rewound(timeLeft: -1)[StoppedCall.Register.r10.rawValue] == .max)
        #expect(call(441, result: -4, [.r10: 77]).rewound(timeLeft: 5)[StoppedCall.Register.r10.rawValue] == 77)
    }

    @Test func timeOutsAreFoundWhereTheyAre() {
        #expect(call(35, [.rdi: 10]).timeout(of: 35) == .timespec(10))
        #expect(call(35, [.rdi: 10, .rsi: 20]).timeout(of: 35) == .remaining(20))
        #expect(call(230, [.rdx: 30]).timeout(of: 230) == .timespec(30))
        #expect(call(230, [.rdx: 30, .r10: 40]).timeout(of: 230) == .remaining(40))
        #expect(call(230, [.rdx: 30, .rsi: 1]).timeout(of: 230) == .none)
        #expect(call(7, [.rdx: 250]).timeout(of: 7) == .relative(250_000_000))
        #expect(call(7, [.rdx: 0xffff_ffff]).timeout(of: 7) == .none)
        #expect(call(202, [.rsi: 0x80, .r10: 50]).timeout(of: 202) == .timespec(50))
        #expect(call(202, [.rsi: 0x189, .r10: 50]).timeout(of: 202) == .none)
        #expect(call(232, [.r10: 3]).timeout(of: 232) == .relative(3_000_000))
        #expect(call(128, [.rdx: 60]).timeout(of: 128) == .timespec(60))
        #expect(call(0).timeout(of: 0) == .none)
    }

    @Test func theCallBehindARestartIsTold() {
        #expect(call(219, [.rdi: 0x7ffe_0000]).restartedNumber(sleepingIn: "do_syscall_64") == 35)
        #expect(call(219, [.rdi: 1]).restartedNumber(sleepingIn: "hrtimer_nanosleep_restart") == 230)
        #expect(call(219, [.rdi: UInt64(bitPattern: -6)]).restartedNumber(sleepingIn: "do_syscall_64") == 230)
        #expect(call(219).restartedNumber(sleepingIn: "poll_schedule_timeout.constprop.0") == 7)
        #expect(call(219).restartedNumber(sleepingIn: "futex_do_wait") == 202)
        #expect(call(219).restartedNumber(sleepingIn: "0") == nil)
    }

    @Test func shortRegistersAreNoTrap() {
        #expect(StoppedCall(registers: [])[.rip] == 0)
        #expect(!StoppedCall(registers: []).is64Bit)
    }
}
