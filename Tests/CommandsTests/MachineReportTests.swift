// SPDX-License-Identifier: Apache-2.0
import DirtyTracking
import LinuxSystem
import Reporting
import TestSupport
import Testing

@testable import Commands

@Suite(.serialized, .timeLimit(.minutes(5)))
struct MachineReportTests {
    /// A machine on which everything works.
    private static var complete: MachineFacts {
        var facts = MachineFacts()
        facts.kernelRelease = "6.18.1"
        facts.architecture = "x86_64"
        facts.pageBytes = 4096
        facts.openSSLVersion = 0x3000_0130
        facts.extendedState = 0x2e7
        facts.capabilities = .max
        facts.userfaultfdBySystemCall = .works(0x1ffff)
        facts.userfaultfdByDevice = .works(0x1ffff)
        facts.userfaultfdUserModeOnly = .works(0x1ffff)
        for question in questions { facts[keyPath: question] = .works(0) }
        for bug in KernelBug.allCases { facts.kernelBugs[bug] = .fixed }
        return facts
    }

    private static var questions: [WritableKeyPath<MachineFacts, Answer>] {
        [
            \.userfaultfdEvents, \.pagemapScan, \.guardPages, \.trace, \.rseqConfiguration, \.processMemory,
            \.pidfdGetfd, \.kcmp, \.setTID, \.pidNamespace, \.timeNamespace, \.timerRestoreIDs, \.memoryMap,
            \.softDirty,
        ]
    }

    /// A user without rights on the same machine.
    private static var unprivileged: MachineFacts {
        var facts = complete
        facts.capabilities = 0
        facts.ptraceScope = 1
        facts.userfaultfdBySystemCall = .failed(.perm)
        facts.userfaultfdByDevice = .failed(.access)
        facts.userfaultfdEvents = .failed(.access)
        facts.setTID = .failed(.perm)
        facts.pidNamespace = .failed(.perm)
        facts.timeNamespace = .failed(.perm)
        return facts
    }

    /// An old kernel.
    private static var old: MachineFacts {
        var facts = complete
        facts.kernelRelease = "5.10.0"
        facts.userfaultfdBySystemCall = .works(0x1ff)
        facts.userfaultfdByDevice = .failed(.noEntry)
        facts.pagemapScan = .failed(Errno(rawValue: 25))
        facts.rseqConfiguration = .failed(.io)
        facts.guardPages = .failed(.invalid)
        facts.timerRestoreIDs = .failed(.invalid)
        facts.kernelBugs[.hiddenHugeHole] = .notApplicable("this kernel has no asynchronous write protection")
        facts.kernelBugs[.hiddenEmptyPage] = .notApplicable("this kernel has no asynchronous write protection")
        return facts
    }

    @Test(arguments: [
        ("check-complete", ExitCode.done), ("check-unprivileged", .permission), ("check-old", .unavailable),
    ])
    func textIsAsRecorded(name: String, code: ExitCode) throws {
        let machines = [
            "check-complete": Self.complete, "check-unprivileged": Self.unprivileged, "check-old": Self.old,
        ]
        let report = MachineReport(try #require(machines[name]))
        try Golden.expect(report.rendered(as: .text), name)
        #expect(report.exitCode == code)
    }

    @Test
    func everythingMissingHasARemedy() {
        for facts in [Self.unprivileged, Self.old, MachineFacts()] {
            for requirement in MachineReport(facts).requirements {
                #expect((requirement.remedy == nil) == (requirement.state == .yes), "\(requirement)")
            }
        }
    }

    /// Each question is asked for a reason: its answer changes what is said.
    @Test
    func everyAnswerCounts() {
        let whole = MachineReport(Self.complete).requirements
        for question in Self.questions {
            var facts = Self.complete
            facts[keyPath: question] = .failed(.invalid)
            #expect(MachineReport(facts).requirements != whole, "\(question)")
        }
    }

    @Test(arguments: KernelBug.allCases)
    func aBugOfTheKernelIsSaidAndNothingIsNotReadyForIt(bug: KernelBug) throws {
        var facts = Self.complete
        facts.kernelBugs[bug] = .present
        let report = MachineReport(facts)
        let rows = report.requirements.filter { $0.state == .no }
        #expect(rows.count == 1 && rows[0].detail.contains("hides") && rows[0].remedy?.contains("Boot") ?? false)
        #expect(report.exitCode == .done)
        facts.kernelBugs[bug] = nil
        #expect(MachineReport(facts).requirements.contains { $0.state == .denied && $0.name == rows[0].name })
    }

    @Test
    func aSeccompFilterIsNamedWhereACallIsNotPermitted() {
        var facts = Self.unprivileged
        facts.hasSeccompFilter = true
        let remedy = MachineReport(facts).requirements.first { $0.name == "userfaultfd" }?.remedy
        #expect(remedy?.contains("seccomp") == true)
    }

    @Test
    func jsonSaysTheSame() throws {
        let report = MachineReport(Self.unprivileged)
        let json = try JSONValue(parsing: report.rendered(as: .json))
        #expect(json["ready"] == .bool(false))
        #expect(json["pageServer"] == .bool(false))
        let requirements = try #require(json["requirements"]?.array)
        #expect(requirements.compactMap { $0["name"]?.string } == report.requirements.map(\.name))
        #expect(requirements.compactMap { $0["state"]?.string } == report.requirements.map(\.state.rawValue))
    }

    @Test
    func theProgramExitsWithWhatItFound() throws {
        let run = try CommandRun(["check", "--format", "json"])
        let json = try JSONValue(parsing: run.output)
        let isReady = json["ready"] == .bool(true)
        #expect(isReady ? run.ending == .exited(0) : run.ending == .exited(69) || run.ending == .exited(77))
        #expect(run.errors.isEmpty)
    }
}
