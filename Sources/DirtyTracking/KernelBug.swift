// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem

/// A bug of PAGEMAP_SCAN that makes pages which were thrown away look as if they still held what was read.
///
/// No decision of the tracker rests on the scans that have them: which pages exist is told by the last look, and where a bug hides
/// pages from its short way it takes the long one.
public enum KernelBug: String, Sendable, CaseIterable {
    /// A huge page that MADV_DONTNEED throws away whole is neither reported nor protected again.
    case hiddenHugeHole
    /// A page that MADV_DONTNEED throws away is not reported when more is asked for than whether it was written.
    case hiddenEmptyPage

    /// What came of a look for it.
    public enum Outcome: Hashable, Sendable {
        /// The kernel reports such pages.
        case fixed
        /// It hides them.
        case present
        /// It cannot be tried here, and why.
        case notApplicable(String)
    }

    /// Tries it on a mapping of this program, which is gone afterwards.
    public func probe() -> Outcome {
        let result =
            switch self {
            case .hiddenHugeHole: clinux_probe_hidden_huge_hole()
            case .hiddenEmptyPage: clinux_probe_hidden_empty_page()
            }
        switch result {
        case Int32(CLINUX_BUG_FIXED): return .fixed
        case Int32(CLINUX_BUG_PRESENT): return .present
        case -ENODEV: return .notApplicable("no huge page can be had")
        case -EINVAL, -ENOTTY: return .notApplicable("this kernel has no asynchronous write protection")
        case -ENOSYS: return .notApplicable("this kernel has no userfaultfd")
        case -EPERM, -EACCES: return .notApplicable("not permitted")
        default: return .notApplicable("\(Errno(rawValue: -result))")
        }
    }
}
