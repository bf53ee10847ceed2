// SPDX-License-Identifier: Apache-2.0
#if arch(x86_64)
internal import CLinux

/// The extended registers that this CPU and kernel have.
enum ExtendedState {
    /// XCR0.
    static var components: UInt64 { clinux_xcr0() }
}
#endif
