// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import Paging
internal import ProcessImage

// Pages that have to be there before the process runs, because the kernel does not wait for them: an operation on a priority-inheriting
// futex answers EFAULT for a page that is missing (fault_in_user_writeable), and a thread that ends neither clears its id nor marks
// its robust futexes (handle_userfault refuses tasks that exit).
extension Construction {
    /// Reads those pages, which makes the fault service install them.
    func makeResident() {
        for thread in description.threads {
            if thread.clearChildTID != 0 { touch(thread.clearChildTID) }
            if thread.robustListHead != 0 { walkRobustList(thread.robustListHead) }
            for address in Self.futexes(thread) { touch(address) }
        }
    }

    /// Whatever a pointer of the process leads to: a wrong one is its own affair.
    private func touch(_ address: UInt64) {
        _ = try? runner.read(address, count: 4)
    }

    /// `struct robust_list_head`: a list of locks, the offset from an entry to its futex, a lock that is just being taken.
    private func walkRobustList(_ head: UInt64) {
        guard let words = try? runner.read(head, count: 24) else { return }
        let offset = StubRunner.word(words, at: 8)
        let pending = StubRunner.word(words, at: 16) & ~1
        if pending != 0 { touch(pending &+ offset) }
        // Bit 0 tells a priority-inheriting lock.
        var entry = StubRunner.word(words, at: 0) & ~1
        var count = 0
        while entry != head, entry != 0, count < Self.robustListLimit {
            touch(entry &+ offset)
            guard let next = try? runner.read(entry, count: 8) else { return }
            entry = StubRunner.word(next, at: 0) & ~1
            count += 1
        }
    }

    /// ROBUST_LIST_LIMIT: the kernel looks at no more.
    private static let robustListLimit = 2048

    /// The futexes of an interrupted operation that writes them.
    private static func futexes(_ thread: ThreadDescription) -> [UInt64] {
        let words = thread.registers
        guard words.count == RegisterIndex.count,
            Int64(bitPattern: words[RegisterIndex.originalRAX]) == Int64(SYS_futex)
        else { return [] }
        // FUTEX_WAKE_OP, LOCK_PI, UNLOCK_PI, TRYLOCK_PI, WAIT_REQUEUE_PI, CMP_REQUEUE_PI, LOCK_PI2.
        switch words[RegisterIndex.rsi] & 0x7f {
        case 6, 7, 8, 13: return [words[RegisterIndex.rdi]]
        case 5, 11, 12: return [words[RegisterIndex.rdi], words[RegisterIndex.r8]]
        default: return []
        }
    }
}
