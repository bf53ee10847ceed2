// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxSystem
internal import Reporting

/// The program without its `main`: arguments in, exit status out.
public enum Application {
    /// Runs the command that `arguments` (without the program's name) ask for.
    ///
    /// Results go to standard output, everything else to standard error. Must be called before the program starts a thread.
    ///
    /// - Returns: the exit status, see `thaw --help`.
    public static func run(arguments: [String]) -> Int32 {
        StandardStream.ignoreBrokenPipes()
        do {
            var command = try ThawCommand.parseAsRoot(arguments)
            try command.run()
            return Reporting.ExitCode.done.rawValue
        } catch let failure as SessionFailure {
            StandardStream.error.write("thaw: \(failure)\n")
            return failure.code.rawValue
        } catch {
            return finish(error)
        }
    }

    /// What ArgumentParser has to say: help and version are successes on standard output, the rest is wrong usage.
    private static func finish(_ error: any Error) -> Int32 {
        let code = ThawCommand.exitCode(for: error)
        let message = ThawCommand.fullMessage(for: error)
        if !message.isEmpty {
            (code.isSuccess ? StandardStream.output : .error).write(message + "\n")
        }
        return code.rawValue
    }
}
