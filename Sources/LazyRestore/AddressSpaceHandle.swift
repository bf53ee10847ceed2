// SPDX-License-Identifier: Apache-2.0
internal import LazyPages
internal import LinuxSystem
internal import Userfaultfd

/// The userfaultfd of the restored process, or of a child that it forked.
///
/// Only let go when every page is there, or when the process is dead: the last reference that goes turns missing pages into zeros.
final class AddressSpaceHandle: Sendable {
    let identifier: SpaceIdentifier
    let uffd: Userfaultfd
    /// How pages are installed: clean, where writes are tracked.
    ///
    /// A page that a thread waits to write to ends as written all the same.
    let copyModes: CopyModes

    init(_ identifier: SpaceIdentifier, _ uffd: consuming Userfaultfd) {
        self.identifier = identifier
        copyModes = uffd.features.contains(.writeProtectAsync) ? .writeProtect : []
        self.uffd = uffd
    }
}
