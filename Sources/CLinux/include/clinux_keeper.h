// SPDX-License-Identifier: Apache-2.0
//
// The keeper: a small process that shares the descriptor table of the restorer, so that nothing is closed when that one dies, and
// starts a new restorer in its place; and the journal, memory in which the restorer notes what a new one has to know.
//
// In C, because the keeper lives in a forked copy of a process with threads, where only async-signal-safe calls are allowed, and
// because a record has to be there whole or not at all whatever instruction the restorer dies at.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// What becomes of the process when the restorer dies.
enum clinux_journal_phase {
    /// The keeper ends, and the guardian has its way: nothing has run yet, or nothing is owed.
    CLINUX_JOURNAL_IDLE = 0,
    /// A new restorer takes over.
    CLINUX_JOURNAL_OWED = 1,
};

/// What a new restorer has to know besides the records; the beginning of the journal.
struct clinux_journal_facts {
    int32_t pid;
    int32_t pidfd;
    int32_t uffd;
    int32_t guardian;
    int32_t guardian_channel;
    /// Whether the restorer has stopped the process because its source is lost.
    uint32_t is_stopped;
    /// What was pre-copied, or -1.
    int32_t staged;
    /// The userfaultfd of its lazy shared memory, or -1.
    int32_t objects;
    uint64_t features;
    /// CLOCK_MONOTONIC in nanoseconds.
    uint64_t froze;
    uint8_t session[32];
};

/// Five words; the first one is made by clinux_journal_first_word().
struct clinux_journal_record {
    uint64_t words[5];
};

/// Kind of a record that holds a message of a userfaultfd.
static const uint8_t clinux_journal_event = 255;
/// Kind of a record whose second word is the number of a descriptor that the next restorer gets.
static const uint8_t clinux_journal_descriptor = 254;

/// Bytes before the first record.
static const size_t clinux_journal_header_size = 8192;
/// Where messages of a userfaultfd are read to, and how many bytes that takes: before they are entered they are safe.
static const size_t clinux_journal_inbox_offset = 4096;

/// The kind is in the lowest 8 bits, 24 bits of `extra` above it, the space in the upper half.
static inline uint64_t clinux_journal_first_word(uint8_t kind, uint32_t extra, uint32_t space) {
    return (uint64_t)space << 32 | (uint64_t)(extra & 0xffffffu) << 8 | kind;
}

/// Changes the record that was added last, which must be there. Whoever is killed in this leaves it as it was or as it is to be when
/// only one word differs, or besides the first word only words that mean nothing in a record of the old kind.
void clinux_journal_amend(void *_Nonnull journal, struct clinux_journal_record record);

/// Begins a journal in zeroed shared memory of `size` bytes.
void clinux_journal_begin(void *_Nonnull journal, size_t size);
/// Whether this is a journal of this program, of `size` bytes.
int clinux_journal_is_valid(const void *_Nonnull journal, size_t size);

struct clinux_journal_facts clinux_journal_read_facts(const void *_Nonnull journal);
void clinux_journal_write_facts(void *_Nonnull journal, struct clinux_journal_facts facts);
void clinux_journal_set_phase(void *_Nonnull journal, enum clinux_journal_phase phase);
enum clinux_journal_phase clinux_journal_phase(const void *_Nonnull journal);

/// Says whether the restorer has stopped threads of the process and changes their registers: when it dies then, they are lost.
void clinux_journal_set_at_work(void *_Nonnull journal, int is_at_work);
/// Whether a new restorer would take over now: pages are owed, everything is noted, and the process is left alone.
int clinux_journal_can_be_taken_over(const void *_Nonnull journal);
/// Whether something could not be noted: nobody takes over any more.
int clinux_journal_is_full(const void *_Nonnull journal);

/// Adds a record. Returns 0, or -ENOSPC; then nobody takes over any more.
int clinux_journal_append(void *_Nonnull journal, struct clinux_journal_record record);
/// Records that are there whole.
uint64_t clinux_journal_count(const void *_Nonnull journal);
/// Record `index` of those.
struct clinux_journal_record clinux_journal_read(const void *_Nonnull journal, uint64_t index);

/// read(2) of up to `count` messages (at most 64) of a userfaultfd into the inbox, from where those that are no page faults are added
/// as records of `space` before this returns. Returns how many were read, or -errno.
int64_t clinux_journal_read_events(void *_Nonnull journal, int uffd, uint32_t space, size_t count);
/// Adds what the last read has left in the inbox because its reader died. Returns how many, or -errno.
int64_t clinux_journal_recover_inbox(void *_Nonnull journal);

/// clone(2) of a keeper over the journal that is mapped at `journal` and open as `descriptor`. When the caller has died with pages owed,
/// it starts this program again with the same arguments, and `variable` set to the number of the descriptor.
/// Returns the pid of the keeper, or -errno.
int32_t clinux_keeper_start(void *_Nonnull journal, int32_t descriptor, const char *_Nonnull variable);
/// The keeper that watches over the caller, when another one has started it; 0 without one.
int32_t clinux_keeper_parent(const void *_Nonnull journal);
/// Kills a keeper and waits until it has ended. Returns 0, or -errno.
int clinux_keeper_end(int32_t pid);
