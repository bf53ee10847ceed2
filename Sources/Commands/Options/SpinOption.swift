// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxSystem

/// How eagerly the threads on the way of a page fault wait.
struct SpinOption: ParsableArguments {
    private static let longest = Int(Spin.longest / .microseconds(1))

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How long the thread that serves page faults looks for the next one before it sleeps, at most "
                + "\(Self.longest); 0 for never. Without it 50 where there are more than two CPUs. It sleeps "
                + "at once while others want its CPU, and always where there is one CPU only.",
            valueName: "microseconds"
        )
    )
    var spin: UInt32?

    func validate() throws {
        guard time ?? .zero <= Spin.longest else {
            throw ValidationError("'--spin' must be at most \(Self.longest).")
        }
    }

    var time: Duration? { spin.map { .microseconds(Int64($0)) } }
}
