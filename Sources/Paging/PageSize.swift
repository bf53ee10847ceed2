// SPDX-License-Identifier: Apache-2.0

/// The size of a page.
///
/// Thaw carries processes with 4 KiB base pages; a machine with another base page size is refused by `thaw check`.
public enum PageSize {
    /// Bytes in a base page.
    public static let base: UInt64 = 4096
    /// Bytes in a base page, as an offset in a buffer.
    public static let baseBytes = 4096
    /// Bytes in a huge page (PMD size on x86-64 and on arm64 with 4 KiB pages).
    public static let huge: UInt64 = 2 << 20
}
