// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import TestSupport

/// One move of a victim that checks every byte, with planned faults, until it is known what has become of it.
final class Trial {
    /// How long a move may take with everything that goes wrong in it, before it counts as stuck.
    private static let patience = Duration.seconds(60)
    /// How long a program that has stopped itself stays stopped.
    private static let stopTime = Duration.milliseconds(600)

    private let folder: Scratch
    private let records: Scratch
    private let victim: TestProcess
    private let source: Program
    /// Nil when the page server did not come to listen.
    private let destination: Program?
    private let port: Int
    private let tls: String
    private var result = TrialResult(end: .lost)
    /// Pids that ran beside each other when they were looked at last.
    private var runningTogether: Set<Int32> = []

    /// Runs a plan to its end, whatever that is.
    static func run(_ plan: Plan) -> TrialResult {
        let began = ContinuousClock.now
        var result = TrialResult(end: .lost)
        do {
            let trial = try Trial(plan)
            do {
                try trial.finish(plan)
            } catch {
                trial.result.words += " \(error)"
            }
            result = trial.result
        } catch {
            result.words = "\(error)"
        }
        let time = (ContinuousClock.now - began).components
        result.seconds = Double(time.seconds) + Double(time.attoseconds) / 1e18
        return result
    }

    private init(_ plan: Plan) throws {
        folder = try Scratch("victim")
        records = try Scratch("records")
        victim = try TestProcess(
            BuiltProduct.victim,
            ["carried", folder.path, "heap", "anonymous", "registers"],
            options: .init(output: .file(folder.file("out")), errors: .file(folder.file("err")), directory: "/")
        )
        let path = folder.file("out")
        try wait(for: "the victim") { (try? readText(path))?.contains("ready") ?? false }
        tls = try Certificates.directory()
        let served = ["-t", "\(victim.pid)", "--port", "0", "--tls-dir", tls, "--record", records.path]
        let ending = plan.clones ? ["--on-complete", "continue"] : []
        source = try Program("page-server", served + ending, plan.environment(of: .source), records)
        try wait(for: "a port") { [source] in try source.look().contains("listening") || source.hasEnded }
        port = source.number("port", of: "listening") ?? 0
        guard port > 0 else {
            destination = nil
            return
        }
        let words = ["--port", "\(port)", "--tls-dir", tls, "--new-pid-namespace"]
        let preCopy = plan.preCopies ? [] : ["--no-pre-copy"]
        destination = try Program("restore", words + preCopy, plan.environment(of: .destination), records)
    }

    deinit {
        endRestorers()
        for program in [source, destination] { program?.process.end() }
        for pid in copies { kill(pid, SIGKILL) }
        victim.end()
    }

    private func finish(_ plan: Plan) throws {
        try watch()
        result.end = try settle()
        result.faultsCame = plan.faults.allSatisfy { fault in
            (fault.side == .source ? source : destination)?.errors.contains("fault: \(fault.point)\n") ?? false
        }
        clearAway()
    }

    // MARK: - Until nothing changes any more

    private func watch() throws {
        guard let destination else { return }
        let end = ContinuousClock.now + Self.patience
        while ContinuousClock.now < end {
            try source.look()
            try destination.look()
            lookForDoubles()
            source.continueIfStopped(after: Self.stopTime)
            destination.continueIfStopped(after: Self.stopTime)
            if isOver(destination) { return }
            usleep(20000)
        }
        result.isStuck = true
        result.words = "source \(source.states), destination \(destination.states)"
    }

    private func isOver(_ destination: Program) -> Bool {
        switch (source.hasEnded, destination.hasEnded) {
        case (true, true): true
        case (true, false):
            // A destination that runs and has lost its source for good, or that has everything.
            isWhole && source.ended(before: .seconds(1))
                || destination.states.contains("running") && source.ended(before: .seconds(2))
        case (false, true):
            if !copies.isEmpty {
                // Somebody else goes on in its place, or is about to end the copy; or it needs nobody any more.
                isWhole && source.states.contains("lost") && destination.ended(before: .seconds(3))
            } else if source.states.contains("granted") {
                source.states.contains("lost") || source.states.contains("complete")
            } else {
                // Undone by itself, or nothing has begun.
                !source.states.contains("frozen") && destination.ended(before: .seconds(1))
            }
        case (false, false): false
        }
    }

    private var isWhole: Bool {
        destination?.states.contains { $0 == "resident" || $0 == "complete" } ?? false
    }

    /// Two that run do so for longer than a look takes; one that is being killed runs for a moment, too, and no instruction of its own.
    private func lookForDoubles() {
        let running = Set(([victim.pid] + copies).filter(runs))
        if running.count > 1, running.intersection(runningTogether).count > 1 { result.wasDouble = true }
        runningTogether = running
    }

    private func runs(_ pid: Int32) -> Bool {
        guard let status = try? readText("/proc/\(pid)/status"), let stat = try? readText("/proc/\(pid)/stat") else {
            return false
        }
        let isKilled = ["SigPnd", "ShdPnd"].contains { key in
            let line = status.split(separator: "\n").first { $0.hasPrefix(key) }
            return (line?.split(separator: "\t").last).flatMap { UInt64($0, radix: 16) }.map { $0 & 0x100 != 0 }
                ?? false
        }
        // Behind the name: the state, and as the seventh word the flags, PF_EXITING among them.
        let words = stat.split(separator: ")").last?.split(separator: " ") ?? []
        guard words.count > 6, let flags = UInt64(words[6]), !isKilled, flags & 4 == 0 else { return false }
        return !"tTZX".contains(words[0])
    }

    /// Processes beside the victim that have its command line.
    private var copies: [Int32] {
        processes { $0.contains("\(folder.path)\0") }.filter { $0 != victim.pid && $0 != getpid() }
    }

    private func processes(_ matches: (String) -> Bool) -> [Int32] {
        ((try? namesInFolder("/proc")) ?? []).compactMap { Int32($0) }.filter { pid in
            guard let text = try? readText("/proc/\(pid)/cmdline"), matches(text) else { return false }
            return processIsAlive(pid)
        }
    }

    // MARK: - What an operator would do

    private func settle() throws -> TrialResult.End {
        let running = processIsAlive(victim.pid) && processState(victim.pid).map { !"tT".contains($0) } ?? false
        if isWhole, !copies.isEmpty, !running { return try keepCopy() }
        guard processIsAlive(victim.pid) else { return .lost }
        try endPrograms()
        try wait(for: "the copy to be gone", within: .seconds(10)) { copies.isEmpty }
        guard !running else { return try verdict(.undone) }
        try settle("--thaw", "--force")
        return try verdict(.settled)
    }

    /// The copy has every page.
    private func keepCopy() throws -> TrialResult.End {
        let moved = destination?.states.contains("taken-over") == true ? TrialResult.End.recovered : .moved
        guard processIsAlive(victim.pid) else { return try verdict(moved) }
        try source.end(by: SIGTERM)
        // Behind the acknowledgement it has ended the process by itself.
        guard processIsAlive(victim.pid) else { return try verdict(moved) }
        try settle("--drop")
        return try verdict(.dropped)
    }

    /// Ends the restorer, or the one that took over, and keepers first, so that nobody takes over any more; the guardian ends the copy.
    private func endRestorers() {
        func name(_ pid: Int32) -> String { (try? readText("/proc/\(pid)/comm")) ?? "" }
        let restorers = processes(isRestorer).filter { $0 != getpid() && name($0) != "thaw-guardian\n" }
        for pid in restorers where name(pid) == "thaw-keeper\n" { kill(pid, SIGSTOP) }
        for pid in restorers { kill(pid, SIGKILL) }
    }

    /// Whether a command line is that of this trial's restorer, of its keeper, or of one that took over.
    private func isRestorer(_ words: String) -> Bool {
        words.contains("\0restore\0--port\0\(port)\0--tls-dir\0\(tls)\0")
    }

    private func endPrograms() throws {
        endRestorers()
        try destination?.end(by: SIGKILL)
        try source.end(by: SIGTERM)
    }

    private func settle(_ words: String...) throws {
        let arguments = ["settle", "\(victim.pid)", "--record", records.path] + words
        try withProcess(BuiltProduct.thaw, arguments) { process in
            let ending = try process.waitForExit(within: .seconds(20))
            guard ending == .exited(0) else { throw TestFailure("settle: \(ending) \(process.errors)") }
        }
    }

    private func verdict(_ end: TrialResult.End) throws -> TrialResult.End {
        try writeFile(folder.file("go"), "")
        var words = ""
        let path = folder.file("out")
        try wait(for: "the verdict after \(end)", within: .seconds(30)) {
            lookForDoubles()
            words = (try? readText(path)) ?? ""
            return words.contains("ok ") || words.contains("wrong ")
        }
        guard words.contains("ok carried"), !words.contains("wrong ") else {
            result.words = words
            return .wrong
        }
        return end
    }

    // MARK: - What is left

    private func clearAway() {
        try? destination?.wait(for: .seconds(12))
        try? source.wait(for: .seconds(12))
        func left() -> [Int32] {
            processes { text in
                text.contains("\(folder.path)\0") || text.contains("\(records.path)\0") || isRestorer(text)
            }.filter { $0 != getpid() }
        }
        try? TestSupport.wait(for: "nothing to be left", within: .seconds(5)) { [self] in
            _ = try? victim.pollForExit()
            return left().isEmpty
        }
        for pid in left() {
            result.leftovers += 1
            result.words += " left: \((try? readText("/proc/\(pid)/cmdline")) ?? "") \(processState(pid) ?? "?")"
            kill(pid, SIGKILL)
        }
    }
}
