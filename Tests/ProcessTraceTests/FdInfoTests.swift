// SPDX-License-Identifier: Apache-2.0
import ProcessTrace
import Testing

@Suite(.timeLimit(.minutes(5)))
struct FdInfoTests {
    @Test
    func commonLinesAndLocksAreRead() throws {
        let info = try parse(
            """
            pos:\t4096
            flags:\t02100002
            mnt_id:\t29
            ino:\t283
            lock:\t1: FLOCK  ADVISORY  WRITE 1234 00:13:283 0 EOF
            unheard-of:\tvalue
            """
        )
        #expect(info.position == 4096)
        #expect(info.flags == 0o2100002)
        #expect(info.mountID == 29)
        #expect(info.inode == 283)
        #expect(info.locks == ["1: FLOCK  ADVISORY  WRITE 1234 00:13:283 0 EOF"])
    }

    @Test
    func linesOfEachKindAreRead() throws {
        let event = try parse("eventfd-count:               2a\neventfd-id: 3\neventfd-semaphore: 1\n")
        #expect(event.eventCount == 0x2a && event.isEventSemaphore)
        #expect(try parse("sigmask:\t0000000000000201\n").signalMask == 0x201)
        let epoll = try parse("tfd:        5 events:       19 data:        500000005  pos:0 ino:3f9 sdev:e\n")
        #expect(epoll.watches == [FdInfo.Watch(descriptor: 5, events: 0x19, data: 0x5_0000_0005)])
        let timer = try parse(
            "clockid: 1\nticks: 2\nsettime flags: 01\nit_value: (3, 49406829)\nit_interval: (1, 0)\n"
        )
        #expect(timer.timer?.clock == 1 && timer.timer?.ticks == 2 && timer.timer?.setFlags == 1)
        #expect(timer.timer?.value == 3_049_406_829 && timer.timer?.interval == 1_000_000_000)
    }

    @Test(arguments: ["pos:\tfive\n", "flags:\t9\n", "tfd: x\n", "it_value: 5\n", "eventfd-count: \n"])
    func oddLinesAreErrorsThatQuoteThem(text: String) {
        #expect { try parse(text) } throws: { error in
            (error as? TraceError)?.code == .malformed && "\(error)".contains(text.dropLast())
        }
    }

    private func parse(_ text: String) throws -> FdInfo {
        try FdInfo(Array(text.utf8), file: "fdinfo")
    }
}
