// SPDX-License-Identifier: Apache-2.0
internal import CLinux
public import Paging

/// A message of a userfaultfd.
public enum UserfaultEvent: Hashable, Sendable {
    /// A thread waits for a page, or waits no more: it asks again if it still needs it.
    case pageFault(PageFault)
    /// The process has forked; the number is a descriptor in this program (close-on-exec is up to the receiver), the child's
    /// userfaultfd. Whoever takes the event owns it: `OwnedDescriptor(adopting:)`.
    case fork(descriptor: Int32)
    /// A range was moved, mremap(2).
    case remap(from: VirtualAddress, to: VirtualAddress, byteCount: UInt64)
    /// The pages of a range were thrown away, but it is still mapped.
    case remove(AddressRange)
    /// A range is no longer mapped.
    case unmap(AddressRange)
    /// A message that this program does not know.
    case unknown(UInt8)
}

/// A fault that the kernel reports.
public struct PageFault: Hashable, Sendable {
    /// What is wrong with the page.
    public enum Kind: Hashable, Sendable {
        /// It is not there.
        case missing
        /// It is there and write-protected.
        case writeProtect
        /// It is in the page cache but not mapped.
        case minor
    }

    /// The page, or the address in it when exact addresses were asked for.
    public var address: VirtualAddress
    /// What is wrong.
    public var kind: Kind
    /// Whether the thread writes.
    public var isWrite: Bool
    /// The thread as this program's pid namespace numbers it; 0 when thread ids were not asked for.
    public var thread: Int32
}

extension UserfaultEvent {
    init(_ message: clinux_uffd_message) {
        let range = AddressRange(VirtualAddress(message.second), VirtualAddress(message.third))
        switch message.event {
        case clinux_UFFD_EVENT_PAGEFAULT:
            let kind: PageFault.Kind =
                if message.first & clinux_UFFD_PAGEFAULT_FLAG_WP != 0 {
                    .writeProtect
                } else if message.first & clinux_UFFD_PAGEFAULT_FLAG_MINOR != 0 {
                    .minor
                } else {
                    .missing
                }
            self = .pageFault(
                PageFault(
                    address: VirtualAddress(message.second),
                    kind: kind,
                    isWrite: message.first & clinux_UFFD_PAGEFAULT_FLAG_WRITE != 0,
                    thread: Int32(truncatingIfNeeded: message.number)
                )
            )
        case clinux_UFFD_EVENT_FORK:
            self = .fork(descriptor: Int32(bitPattern: message.number))
        case clinux_UFFD_EVENT_REMAP:
            self = .remap(
                from: VirtualAddress(message.first),
                to: VirtualAddress(message.second),
                byteCount: message.third
            )
        case clinux_UFFD_EVENT_REMOVE:
            self = .remove(range)
        case clinux_UFFD_EVENT_UNMAP:
            self = .unmap(range)
        default:
            self = .unknown(message.event)
        }
    }
}

/// Where messages are read to; one thread uses it at a time.
///
/// The messages of one read are kept until the next one and taken apart one by one, so nothing is allocated on the fault path.
public final class UserfaultEvents {
    /// Messages in one read.
    public static let capacity = 64

    /// Messages of the last read.
    public internal(set) var count = 0
    var bytes = [UInt8](repeating: 0, count: capacity * clinux_uffd_message_size)

    /// Makes room for ``capacity`` messages.
    public init() {}

    /// A message of the last read.
    ///
    /// - Precondition: `index` is less than ``count``.
    public subscript(_ index: Int) -> UserfaultEvent {
        precondition(index >= 0 && index < count, "UserfaultEvents: no such message")
        // SAFETY: the array holds `count` whole messages; the pointer does not leave the closure.
        let message = unsafe bytes.withUnsafeBytes { buffer -> clinux_uffd_message in
            guard let start = buffer.baseAddress else { return clinux_uffd_message() }
            return unsafe clinux_uffd_decode(start, index)
        }
        return UserfaultEvent(message)
    }
}
