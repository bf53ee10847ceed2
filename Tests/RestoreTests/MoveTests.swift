// SPDX-License-Identifier: Apache-2.0
import Glibc
import LinuxSystem
import ProcessTrace
import Restore
import TestSupport
import Testing

@Suite(
    .serialized,
    .timeLimit(.minutes(1)),
    .enabled(if: Machine.isRoot, "needs root: makes processes with chosen ids")
)
struct MoveTests {
    @Test(arguments: [
        "heap", "threads", "stack", "anonymous", "sparse", "growsdown", "hidden", "locked", "advice", "huge",
        "private-file", "shared-file", "locks", "registers", "queue", "handler", "alternate-stack", "identity",
    ])
    func aMovedPartIsAsBefore(part: String) throws {
        let folder = try Scratch("restore-\(part)")
        let output = folder.file("output")
        try withProcess(BuiltProduct.victim, ["carried", folder.path, part], options: .init(output: .file(output))) {
            victim in
            try wait(for: "ready") { (try? readText(output))?.contains("ready\n") == true }
            let source = try MiniDescriber(pid: victim.pid)
            var options = BuildOptions()
            options.newPIDNamespace = true
            let partial = try ProcessBuilder.begin(source.description, options: options)
            for pages in source.eager { try partial.write(pages) }
            try partial.register()
            let service = try FaultService(partial.uffd, from: source.memory)
            defer { service.stop() }
            try partial.finish()
            let watcher = try partial.release(guards: [])
            try writeFile(folder.file("round.1"), "")
            var status: LinuxSystem.ExitStatus?
            try wait(for: "the first round") {
                status = try watcher.status()
                return status != nil || (try? readText(output))?.contains("round 1") == true
            }
            try writeFile(folder.file("go"), "")
            try wait(for: "the end") {
                status = try status ?? watcher.status()
                return status != nil
            }
            let text = try readText(output)
            #expect(text.contains("\nok "), "\(text) \(victim.errors)")
            #expect(status == .exited(0))
            try source.group.kill(deadline: .after(.seconds(10)))
        }
    }
}
