// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import ProcessTrace

/// A userfaultfd made inside of a running process, taken out of it and closed there.
enum InjectedUserfaultfd {
    /// Whose faults it can serve.
    enum Kind {
        /// Those of the program itself; needs no permission. Enough where nothing is ever served.
        case userModeOnly
        /// Those of the kernel as well.
        case full
    }

    /// Stops the process, makes two calls in it and lets it go.
    static func make(
        in process: ProcessDescriptor,
        _ pid: Int32,
        _ kind: Kind,
        timeout: Duration
    ) throws(TrackingError) -> OwnedDescriptor {
        do throws(TraceError) {
            let isFiltered = try ProcessStatus.read(pid).seccompMode != 0
            // Its filters would apply to calls of ours, and may kill the process for them.
            let stopped = try StoppedProcess.stop(
                pid,
                options: isFiltered ? .suspendSeccomp : [],
                timeout: timeout
            )
            // Should this throw, the stop is let go with its owner.
            let descriptor = try take(from: process, kind, stopped)
            try stopped.letGo()
            return descriptor
        } catch {
            throw failure(error, pid, kind)
        }
    }

    private static func failure(_ error: TraceError, _ pid: Int32, _ kind: Kind) -> TrackingError {
        if kind == .full, error.cause?.errno == .perm, error.cause?.call == "userfaultfd" { return notFull(pid, error) }
        if error.code == .inaccessible { return TrackingError(.refused, error.message) }
        return TrackingError.of(error, pid: pid, doing: "track the writes of")
    }

    private static func notFull(_ pid: Int32, _ error: TraceError) -> TrackingError {
        TrackingError(
            .permission,
            "process \(pid) may not have a userfaultfd that serves the kernel's own writes, without which system calls would fail "
                + "in it: use wp-async (Linux 6.7), or as root: sysctl vm.unprivileged_userfaultfd=1",
            cause: error.cause
        )
    }

    private static func take(
        from process: ProcessDescriptor,
        _ kind: Kind,
        _ stopped: StoppedProcess
    ) throws(TraceError) -> OwnedDescriptor {
        guard let thread = stopped.threads.first(where: \.takesInjectedCalls) else {
            throw TraceError(
                .inaccessible,
                "no thread of process \(stopped.pid) can make a system call for the tracker: all run 32-bit code or dispatch their "
                    + "system calls themselves; let the program end that"
            )
        }
        let tracee = thread.tracee
        let injector = stopped.injector
        let mode = kind == .userModeOnly ? clinux_UFFD_USER_MODE_ONLY : 0
        let flags = UInt64(O_CLOEXEC | O_NONBLOCK | mode)
        let number = try injector.call(SYS_userfaultfd, flags, on: tracee)
        guard number >= 0 else {
            let cause = SystemCallError("userfaultfd", Errno(rawValue: Int32(-number)))
            throw TraceError(
                cause.errno == .perm ? .notPermitted : .systemCall,
                "No userfaultfd can be made in process \(stopped.pid)",
                cause: cause
            )
        }
        let taken = Result { () throws(SystemCallError) in try process.duplicate(Int32(number)).release() }
        // Whatever became of the copy.
        let closed = try injector.call(SYS_close, UInt64(number), on: tracee)
        switch taken {
        case .success(let descriptor):
            let owned = OwnedDescriptor(adopting: descriptor)
            guard closed == 0 else {
                throw TraceError(.unexpected, "Descriptor \(number) of the process cannot be closed")
            }
            return owned
        case .failure(let error):
            throw TraceError(
                error.errno == .perm ? .notPermitted : .systemCall,
                "Descriptor \(number) of process \(stopped.pid) cannot be taken out of it",
                cause: error
            )
        }
    }
}
