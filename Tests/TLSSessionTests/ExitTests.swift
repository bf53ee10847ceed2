// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import TestSupport
internal import Testing

@testable import TLSSession

/// A process ends by exit(3) while threads of it that have used OpenSSL end as well.
@Suite(.enabled(if: slowness == 1, "ThreadSanitizer reports threads that nobody joins, which are what is tested"))
struct ExitTests {
    /// The library frees its lists of threads at exit unless it is told not to: four of five such processes died of SIGSEGV.
    @Test(arguments: 1...10)
    func threadsThatEndDuringExitDoNoHarm(attempt: Int) async {
        await #expect(processExitsWith: .exitCode(7)) {
            let files = try Files.server()
            _ = try TLSContext.server(files, allowing: .anyCertified)
            for index in 0..<4 {
                try NamedThread("starter-\(index)") {
                    while true { try? NamedThread("short") { _ = try? Credentials(files) }.join() }
                }.detach()
            }
            usleep(20_000)
            exit(7)
        }
    }
}
