// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Glibc
internal import LinuxSystem

/// What a session leaves for scripts to read, the same on both sides.
struct ReportingOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp("Write one line of JSON per change of state to this descriptor.", valueName: "fd")
    )
    var statusFd: Int32?

    @Option(
        name: .long,
        help: ArgumentHelp("Write one JSON object with statistics to this file at the end.", valueName: "file"),
        completion: .file()
    )
    var stats: String?

    @Option(
        name: .long,
        help: ArgumentHelp("Write the pid of this program to this file.", valueName: "file"),
        completion: .file()
    )
    var pidfile: String?

    func validate() throws {
        guard let statusFd else { return }
        guard statusFd >= 0 else { throw ValidationError("'--status-fd' is no descriptor: \(statusFd).") }
        let flags = fcntl(statusFd, F_GETFL)
        guard flags >= 0 else {
            throw ValidationError("'--status-fd \(statusFd)' is not open. In a shell: thaw ... --status-fd 3 3>status.")
        }
        guard flags & O_ACCMODE != O_RDONLY else {
            throw ValidationError("'--status-fd \(statusFd)' is open for reading only.")
        }
    }
}
