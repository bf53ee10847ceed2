// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import ProcessImage

/// By how much the clocks of the process were ahead of this machine's, so that they do not go backwards for it.
struct ClockOffsets {
    /// Nanoseconds for CLOCK_MONOTONIC and CLOCK_BOOTTIME, never negative.
    private let monotonic: Int64
    private let boot: Int64

    /// nil when both clocks are ahead here, and so need nothing.
    init?(_ machine: MachineDescription) {
        monotonic = max(0, machine.monotonicClock - KernelClock.nanoseconds(KernelClock.monotonic))
        boot = max(0, machine.bootClock - KernelClock.nanoseconds(KernelClock.boot))
        guard monotonic > 0 || boot > 0 else { return nil }
    }

    /// Lines for `/proc/self/timens_offsets`, time_namespaces(7).
    var text: String {
        [("monotonic", monotonic), ("boottime", boot)]
            .map { "\($0.0) \($0.1 / 1_000_000_000) \($0.1 % 1_000_000_000)\n" }
            .joined()
    }
}
