// SPDX-License-Identifier: Apache-2.0
import Glibc
import LinuxSystem
import ProcessImage
import ProcessTrace
import Restore
import TestSupport

/// A victim that runs parts (see `carried.h`), and its copy.
final class MovedVictim {
    let victim: TestProcess
    let source: FrozenSource
    private let folder: Scratch
    private var service: FaultService?
    private(set) var watcher: ExitWatcher?
    private(set) var status: LinuxSystem.ExitStatus?

    /// Starts a victim and freezes it as soon as it is ready.
    init(_ parts: [String], allEager: Bool = false) throws {
        folder = try Scratch("restore-\(parts.joined(separator: "-"))")
        let options = TestProcess.Options(output: .file(folder.file("output")))
        victim = try TestProcess(BuiltProduct.victim, ["carried", folder.path] + parts, options: options)
        let output = folder.file("output")
        try wait(for: "ready") { (try? readText(output))?.contains("ready\n") == true }
        source = try FrozenSource(pid: victim.pid, allEager: allEager)
    }

    /// What victim and copy have written.
    var text: String { (try? readText(folder.file("output"))) ?? "" }

    /// A process on its way, with its faults answered.
    func build(
        newPIDNamespace: Bool = true,
        changing change: (inout ProcessDescription) -> Void = { _ in }
    ) throws -> PartialProcess {
        var options = BuildOptions()
        options.newPIDNamespace = newPIDNamespace
        var description = source.description
        change(&description)
        let partial = try ProcessBuilder.begin(description, options: options)
        for pages in source.eager { try partial.write(pages) }
        try partial.register()
        service = try FaultService(partial.uffd, from: newPIDNamespace ? source.memory : nil)
        return partial
    }

    /// Builds the copy and lets it run.
    func move(
        newPIDNamespace: Bool = true,
        changing change: (inout ProcessDescription) -> Void = { _ in }
    ) throws {
        let partial = try build(newPIDNamespace: newPIDNamespace, changing: change)
        try partial.finish()
        watcher = try partial.release(guards: source.guards)
    }

    /// Lets the copy look at everything once, and then end.
    func runToTheEnd() throws {
        try writeFile(folder.file("round.1"), "")
        try wait(for: "the first round") { try ended() || text.contains("round 1") }
        try writeFile(folder.file("go"), "")
        try waitForEnd()
    }

    /// Waits until the copy has ended.
    func waitForEnd() throws {
        try wait(for: "the end") { try ended() }
    }

    private func ended() throws -> Bool {
        status = try status ?? watcher?.status()
        return status != nil
    }

    /// Ends whatever is left.
    func end() {
        if status == nil, let watcher {
            kill(watcher.pid, SIGKILL)
            try? waitForEnd()
        }
        service?.stop()
        source.kill()
        victim.end()
    }
}

/// Freezes a victim, lends it to `body`, and ends everything.
func withMovedVictim(_ parts: [String], allEager: Bool = false, _ body: (MovedVictim) throws -> Void) throws {
    let moved = try MovedVictim(parts, allEager: allEager)
    defer { moved.end() }
    try body(moved)
}
