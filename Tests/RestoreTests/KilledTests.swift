// SPDX-License-Identifier: Apache-2.0
import Glibc
import LinuxSystem
import ProcessImage
import Restore
import TestSupport
import Testing

/// A process that is killed while it is built, by whoever it may be, keeps nobody waiting.
@Suite(
    .serialized,
    .timeLimit(.minutes(5)),
    .enabled(if: Machine.isRoot, "needs root: makes processes with chosen ids")
)
struct KilledTests {
    /// Nobody has waited for these threads when their process ends, and the end of the first thread is not told before somebody has.
    @Test func buildingEndsWhenTheProcessIsKilledWhileItsThreadsAreMade() throws {
        try withMovedVictim(["registers"]) { moved in
            var description = moved.source.description
            let last = try #require(description.threads.last)
            for number in 1...400 {
                var thread = last
                thread.tid = last.tid + Int32(number)
                description.threads.append(thread)
            }
            var options = BuildOptions()
            options.newPIDNamespace = true
            let partial = try ProcessBuilder.begin(description, options: options)
            for pages in moved.source.eager { try partial.write(pages) }
            try partial.register()
            let pid = partial.pid
            let killer = try NamedThread("killer") {
                while (try? namesInFolder("/proc/\(pid)/task").count) == 1 {}
                kill(pid, SIGKILL)
            }
            let error = #expect(throws: RestoreError.self) { try partial.finish() }
            #expect(error?.code == .ended, "\(String(describing: error))")
            killer.join()
            partial.destroy()
            #expect(!processIsAlive(pid))
        }
    }
}
