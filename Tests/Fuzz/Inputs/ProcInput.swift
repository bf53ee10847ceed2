// SPDX-License-Identifier: Apache-2.0
internal import Paging
internal import ProcessTrace

/// What the kernel, or something that looks like `/proc`, says in one of its files.
func checkProc(_ choice: UInt8, _ text: [UInt8]) {
    let file = "/proc/1/file"
    switch choice % 8 {
    case 0: checkMaps(text, file)
    case 1: _ = try? ProcessStat(text, file: file)
    case 2: _ = try? ProcessStatus(text, file: file)
    case 3: _ = try? FdInfo(text, file: file)
    case 4: _ = try? PosixTimerEntry.parse(text, file: file)
    case 5: _ = try? KernelTimers(text, file: file)
    case 6: _ = PagemapEntry.parse(text[...])
    default: checkMaps(text + Array("\n".utf8) + text, file)
    }
}

/// Mappings are whole pages and not empty, whatever the text says.
private func checkMaps(_ text: [UInt8], _ file: String) {
    guard let maps = try? ProcessMaps.parse(text, file: file) else { return }
    for entry in maps {
        precondition(entry.range.lowerBound < entry.range.upperBound, "an empty mapping")
    }
}
