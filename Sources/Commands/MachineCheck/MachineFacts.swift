// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import LinuxSystem

/// What the kernel said to one question.
enum Answer: Hashable, Sendable {
    /// It can be done; feature bits where the question has some.
    case works(UInt64)
    /// It cannot.
    case failed(Errno)

    /// Of a `clinux_probe_` function: a value, or -errno.
    init(_ result: Int64) {
        self = result < 0 ? .failed(Errno(rawValue: Int32(-result))) : .works(UInt64(result))
    }

    var works: Bool {
        if case .works = self { true } else { false }
    }
}

/// What can be told about this machine and about the rights of this program, without any judgement.
struct MachineFacts: Sendable {
    var kernelRelease = "unknown"
    var architecture = "unknown"
    var pageBytes = 0
    /// OPENSSL_VERSION_NUMBER of the library that is loaded.
    var openSSLVersion: UInt = 0
    /// XCR0: the components of the extended state that threads have here; 0 without XSAVE.
    var extendedState: UInt64 = 0
    /// CapEff of /proc/self/status.
    var capabilities: UInt64 = 0
    /// kernel.yama.ptrace_scope; nil without Yama.
    var ptraceScope: Int?
    /// Whether a seccomp filter watches this program, as container runtimes install one.
    var hasSeccompFilter = false

    var userfaultfdBySystemCall = Answer.failed(.noSystemCall)
    var userfaultfdByDevice = Answer.failed(.noEntry)
    var userfaultfdUserModeOnly = Answer.failed(.noSystemCall)
    var userfaultfdEvents = Answer.failed(.noSystemCall)
    var pagemapScan = Answer.failed(.noSystemCall)
    var guardPages = Answer.failed(.invalid)
    var softDirty = Answer.failed(.notSupported)
    /// What came of the look for each bug that concerns the tracking of writes.
    var kernelBugs: [KernelBug: KernelBug.Outcome] = [:]
    var trace = Answer.failed(.perm)
    var rseqConfiguration = Answer.failed(.io)
    var processMemory = Answer.failed(.noSystemCall)
    var pidfdGetfd = Answer.failed(.noSystemCall)
    var kcmp = Answer.failed(.noSystemCall)
    var setTID = Answer.failed(.noSystemCall)
    var pidNamespace = Answer.failed(.invalid)
    var timeNamespace = Answer.failed(.invalid)
    var timerRestoreIDs = Answer.failed(.invalid)
    var memoryMap = Answer.failed(.invalid)

    /// Feature bits of the best userfaultfd that can be had; nil when none can.
    var userfaultfdFeatures: UInt64? {
        for answer in [userfaultfdBySystemCall, userfaultfdByDevice, userfaultfdUserModeOnly] {
            if case .works(let features) = answer { return features }
        }
        return nil
    }
}
