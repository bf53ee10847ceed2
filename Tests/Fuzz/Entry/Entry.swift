// SPDX-License-Identifier: Apache-2.0
import FuzzInputs
import Glibc

/// Which input is fed: `THAW_FUZZ`.
private let input: FuzzInput = {
    guard let name = unsafe getenv("THAW_FUZZ"), let input = unsafe FuzzInput(rawValue: String(cString: name)) else {
        fatalError("THAW_FUZZ must be one of \(FuzzInput.allCases.map(\.rawValue))")
    }
    return input
}()

/// libFuzzer calls it for every input.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafeRawPointer?, _ count: Int) -> CInt {
    // SAFETY: libFuzzer lends `count` bytes for the time of the call.
    unsafe input.check(Array(UnsafeRawBufferPointer(start: start, count: count)))
    return 0
}
