// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Testing

@Suite(.serialized, .timeLimit(.minutes(5)))
struct ParserTests {
    private static let smaps = """
        55d0a0000000-55d0a0001000 rw-p 00002000 fe:01 1234                       /tmp/odd \\012name (deleted)
        Size:                  4 kB
        KernelPageSize:        4 kB
        Rss:                  20 kB
        Locked:                8 kB
        VmFlags: rd wr mr mw me ac um
        7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
        ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]

        """
    private static let status = """
        Name:\todd) (name
        Umask:\t0027
        State:\tt (tracing stop)
        Tgid:\t10
        Pid:\t11
        PPid:\t1
        TracerPid:\t99
        Uid:\t1\t2\t3\t4
        Gid:\t5\t6\t7\t8
        Groups:\t4 24 27 \nNStgid:\t10\t1
        NSpid:\t11\t2
        NSpgid:\t10\t1
        NSsid:\t10\t1
        Threads:\t2
        SigPnd:\t0000000000000000
        ShdPnd:\t0000000000000200
        SigBlk:\t0000000000000000
        SigIgn:\t0000000000001000
        SigCgt:\t0000000180000000
        CapInh:\t0000000000000000
        CapPrm:\t000001ffffffffff
        CapEff:\t000001ffffffffff
        CapBnd:\t000001ffffffffff
        CapAmb:\t0000000000000000
        NoNewPrivs:\t1
        Seccomp:\t2
        Seccomp_filters:\t1
        x86_Thread_features:\tshstk wrss

        """
    private static let stat =
        "4711 (a) b (c)) S 1 2 3 34816 -1 4194560 1 2 3 4 5 6 7 8 20 -5 1 0 9876 1000 200 18446744073709551615 10 20 30 0 0 "
        + "0 0 4096 17663 0 0 0 17 1 0 0 0 0 0 40 50 60 70 80 90 100 0"

    @Test func mapsAndSmapsAreTakenApart() throws {
        let entries = try ProcessMaps.parse(Array(Self.smaps.utf8), file: "smaps")
        try #require(entries.count == 3)
        #expect(entries[0].range == AddressRange(VirtualAddress(0x55d0_a000_0000), VirtualAddress(0x55d0_a000_1000)))
        #expect(entries[0].protection == 3)
        #expect(!entries[0].isShared)
        #expect(entries[0].offset == 0x2000)
        #expect(entries[0].deviceMajor == 0xfe && entries[0].deviceMinor == 1 && entries[0].inode == 1234)
        #expect(entries[0].name == "/tmp/odd \nname (deleted)")
        let details = try #require(entries[0].details)
        #expect(details.kernelPageSize == 4096 && details.resident == 20480 && details.locked == 8192)
        #expect(details.has("um") && details.has("ac") && !details.has("uw"))
        #expect(entries[1].name == "[stack]" && entries[1].details == nil)
        #expect(entries[2].protection == 4)
    }

    @Test func statusIsTakenApart() throws {
        let status = try ProcessStatus(Array(Self.status.utf8), file: "status")
        #expect(status.state == "t" && status.tgid == 10 && status.pid == 11 && status.tracer == 99)
        #expect(status.users == [1, 2, 3, 4] && status.groupIDs == [5, 6, 7, 8] && status.groups == [4, 24, 27])
        #expect(status.namespacePIDs == [11, 2] && status.namespaceSessions == [10, 1])
        #expect(status.umask == 0o27 && status.threadCount == 2)
        #expect(status.sharedPendingSignals == 0x200 && status.ignoredSignals == 0x1000)
        #expect(status.permittedCapabilities == 0x1ff_ffff_ffff)
        #expect(status.noNewPrivileges && status.seccompMode == 2 && status.seccompFilterCount == 1)
        #expect(status.hasShadowStack && status.threadFeatures == ["shstk", "wrss"])
    }

    @Test func statIsTakenApart() throws {
        let stat = try ProcessStat(Array(Self.stat.utf8), file: "stat")
        #expect(stat.name == Array("a) b (c)".utf8) && stat.state == "S")
        #expect(stat.parent == 1 && stat.processGroup == 2 && stat.session == 3)
        #expect(stat.terminal == 34816 && stat.terminalProcessGroup == -1 && stat.nice == -5)
        #expect(stat.startTime == 9876 && stat.field(25) == .max)
        #expect(stat.startCode == 10 && stat.endCode == 20 && stat.startStack == 30)
        #expect(stat.processor == 1 && stat.startData == 40 && stat.envEnd == 100 && stat.field(60) == 0)
    }

    @Test(arguments: [
        "", "x", "1000", "1000-", "1000-2000", "2000-1000 rw-p 0 0:0 0", "1000-2000 rw 0 0:0 0",
        "1000-2000 rw-p 0 0:0", "11112222333344445-2000 rw-p 0 0:0 0", "1000-2000 rw-p 0 fffffffff:0 0", "Rss: 3 kB",
    ])
    func aLineOfMapsThatIsNotUnderstoodIsQuoted(line: String) throws {
        guard !line.isEmpty else {
            #expect(try ProcessMaps.parse([], file: "maps").isEmpty)
            return
        }
        do {
            _ = try ProcessMaps.parse(Array(line.utf8), file: "maps")
            Issue.record("no error")
        } catch {
            #expect(error.code == .malformed)
            #expect(error.message.contains("\"\(line)\""))
        }
    }

    /// Wrong text is an error or is read somehow; it never traps.
    @Test func alteredTextNeverTraps() {
        var random = SeededGenerator(seed: 3)
        var failures = 0
        for round in 0..<3000 {
            let texts = [Self.smaps, Self.status, Self.stat]
            var bytes = Array(texts[round % texts.count].utf8)
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.removeSubrange(place..<min(bytes.count, place + 9))
                case 2: bytes.insert(contentsOf: Array("99999999999999999999".utf8), at: place)
                default: bytes = Array(bytes[..<place])
                }
                if bytes.isEmpty { bytes = [0] }
            }
            do {
                _ = try ProcessMaps.parse(bytes, file: "maps")
                _ = try ProcessStatus(bytes, file: "status")
                _ = try ProcessStat(bytes, file: "stat")
            } catch {
                failures += 1
            }
        }
        #expect(failures == 3000)
    }

    @Test func thisProcessIsUnderstood() throws {
        let pid = getpid()
        let status = try ProcessStatus.read(pid)
        #expect(status.pid == pid && status.tgid == pid && status.namespacePIDs.first == pid)
        #expect(try ProcessStat.read(pid).parent == status.parent)
        let plain = try ProcessMaps.read(pid)
        #expect(plain.contains { $0.name == "[stack]" } && plain.contains { $0.isExecutable })
        #expect(try ProcessMaps.readDetailed(pid).allSatisfy { $0.details?.flags.isEmpty == false })
        #expect(try ProcFile.threads(of: pid).contains(pid))
        #expect(try ProcFile.descriptors(of: pid).contains(1))
        #expect(try ProcFile.auxiliaryVector(of: pid).count % 16 == 0)
        #expect(try ProcFile.link("/proc/self/exe") != nil)
        #expect(try ProcFile.link("/proc/self/fd/123456") == nil)
    }

    @Test func aChildIsFound() throws {
        let victim = try TracedVictim("trace-memory")
        #expect(try ProcFile.children(of: getpid()).contains(victim.pid))
        victim.process.end()
    }
}
