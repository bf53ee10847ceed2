// SPDX-License-Identifier: Apache-2.0
#if arch(x86_64)
internal import CLinux

/// What the CPU and the kernel of this machine save of a thread's extended registers.
public struct CPUFeatures: Hashable, Sendable {
    /// XCR0: the components that the kernel has switched on.
    public let components: UInt64
    /// Bytes of an XSAVE area with all of them in the standard format, what NT_X86_XSTATE has.
    public let areaSize: Int

    /// Asks the CPU that the calling thread runs on.
    public init() {
        components = clinux_xcr0()
        var words = [UInt32](repeating: 0, count: 4)
        // SAFETY: the shim writes four words into the array's own storage.
        unsafe words.withUnsafeMutableBufferPointer { buffer in
            guard let start = buffer.baseAddress else { return }
            unsafe clinux_cpuid(0xd, 0, start)
        }
        areaSize = components == 0 ? 512 : Int(words[1])
    }

    /// Makes a description of another machine.
    public init(components: UInt64, areaSize: Int) {
        self.components = components
        self.areaSize = areaSize
    }

    /// The components that an XSAVE area holds values for (XSTATE_BV of its header); 0 for one that is too short.
    public static func componentsInUse(of area: [UInt8]) -> UInt64 {
        guard area.count >= 576 else { return 0 }
        return area[512..<520].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// Components that a thread uses and this machine lacks; 0 when the thread can go on here.
    public func missing(for area: [UInt8]) -> UInt64 {
        Self.componentsInUse(of: area) & ~components
    }

    /// The usual names of components.
    public static func names(of components: UInt64) -> [String] {
        let names = [
            "x87", "SSE", "AVX", "MPX-bounds", "MPX-config", "AVX-512-mask", "AVX-512-upper", "AVX-512-high", "PT",
            "PKRU",
            "PASID", "CET-user", "CET-supervisor", "HDC", "UINTR", "LBR", "HWP", "AMX-config", "AMX-tiles", "APX",
        ]
        return (0..<64).filter { components >> UInt64($0) & 1 != 0 }.map { $0 < names.count ? names[$0] : "bit \($0)" }
    }
}
#endif
