// SPDX-License-Identifier: Apache-2.0

/// Numbers of the kernel's interface that the C library's headers hide, or that are younger than these.
enum Kernel {
    /// mremap(2): MREMAP_MAYMOVE and MREMAP_FIXED.
    static let moveTo: UInt64 = 1 | 2
    /// MADV_GUARD_INSTALL (Linux 6.13).
    static let guardInstall: UInt64 = 102
    /// mseal(2) (Linux 6.10).
    static let sealMapping: Int32 = 462

    // open(2), fcntl(2), memfd_create(2)
    static let pathOnly: UInt32 = 0o10000000
    static let packetMode: Int32 = 0o40000
    static let setOwner: UInt64 = 15
    static let setSignal: UInt64 = 10
    static let setPipeSize: UInt64 = 1031
    static let addSeals: UInt64 = 1033
    static let memfdCloseOnExec: UInt64 = 1
    static let memfdAllowSealing: UInt64 = 2
    /// TFD_IOC_SET_TICKS.
    static let setTimerTicks: UInt64 = 0x4008_5400

    // prctl(2)
    static let setParentDeathSignal: UInt64 = 1
    static let setDumpable: UInt64 = 4
    static let setKeepCapabilities: UInt64 = 8
    static let setName: UInt64 = 15
    static let dropBoundingCapability: UInt64 = 24
    static let setSecureBits: UInt64 = 28
    static let setTimerSlack: UInt64 = 29
    static let setMemory: UInt64 = 35
    static let setMemoryMap: UInt64 = 14
    static let setChildSubreaper: UInt64 = 36
    static let setNoNewPrivileges: UInt64 = 38
    static let setHugePagesDisabled: UInt64 = 41
    static let ambientCapability: UInt64 = 47
    static let raiseAmbientCapability: UInt64 = 2
    /// PR_TIMER_CREATE_RESTORE_IDS (Linux 6.16).
    static let restoreTimerIDs: UInt64 = 77
    /// PR_SET_VMA; its PR_SET_VMA_ANON_NAME is 0.
    static let setVMA: UInt64 = 0x5356_4d41
}
