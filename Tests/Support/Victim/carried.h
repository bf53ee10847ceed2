// SPDX-License-Identifier: Apache-2.0
//
// Parts: pieces of process state that a move must carry. A part sets its state up before the move and looks at it
// afterwards; a victim is one part or several together.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// One piece of state. Every function but `set_up` may be NULL.
struct part {
    const char *name;
    /// Makes the state. Runs in the first thread, before any move.
    void (*set_up)(void);
    /// What has to happen at once after the last move, while pages are still missing.
    void (*arrive)(void);
    /// Looks at the state and leaves it as it is. Runs after each move.
    void (*verify)(void);
    /// Looks at what can be looked at only once. Runs after the last move.
    void (*finish)(void);
    /// Plants what a wrong restore would leave, to show that `verify` or `finish` sees it.
    void (*spoil)(void);
    /// Whether `verify` looks at memory only, so that a forked child can run it too.
    bool memory;
};

// Tables of parts by subject, each ended by a row without a name.
extern const struct part memory_parts[];
extern const struct part object_parts[];
extern const struct part shared_parts[];
extern const struct part living_parts[];
extern const struct part thread_parts[];
extern const struct part register_parts[];
extern const struct part signal_parts[];
extern const struct part call_parts[];
extern const struct part timer_parts[];
extern const struct part file_parts[];
extern const struct part process_parts[];
/// Parts that `everything` leaves out.
extern const struct part lone_parts[];

/// Reports a deviation; the first one of a run is printed.
void wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

/// Ends the program when the surroundings, not the move, are at fault.
void broken(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/// Says that the machine lacks what a part needs; the run goes on and prints `skip PART: why` beforehand.
void skipped(const char *format, ...) __attribute__((format(printf, 1, 2)));

/// Path of `name` in the folder of the run; the text lives until the next 8 calls.
const char *in_folder(const char *name);

/// Runs `verify` of every part of the run that looks at memory only; whether all was right. For forked children.
bool verify_memory(void);

/// Whether the calling process is a child that a part forked.
extern bool in_child;

/// Whether many parts run together.
extern bool in_company;

/// CLOCK_MONOTONIC in nanoseconds.
int64_t monotonic(void);

/// Nanoseconds during which the whole process stood still, as a thread that never rests has noticed.
int64_t time_stood_still(void);

/// Sleeps without returning early.
void rest(int64_t nanoseconds);

/// Waits until `*word` is `value`, at most 20 s; reports when it does not become so.
void await_word(const volatile int *word, int value, const char *what);

/// A thread of this process, started with a stack of its own.
void start_thread(unsigned long *handle, void *(*body)(void *), void *argument);

/// The signals that parts use, each by one part. They are blocked in every thread unless a part unblocks one.
enum part_signal {
    signal_queued_first = 36,
    signal_queued_second,
    signal_thread_queued,
    signal_timer_counted,
    signal_timer_thread,
    signal_call_wait,
    signal_call_timed,
    signal_call_descriptor,
    signal_call_pause,
    signal_call_suspend,
    signal_in_handler,
    signal_alternate_stack,
    signal_descriptor_owner,
    signal_file_descriptor,
    signal_registers,
    signal_timer_pending,
    signal_last,
};
