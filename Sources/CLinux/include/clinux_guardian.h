// SPDX-License-Identifier: Apache-2.0
//
// The guardian: a small process that holds a second reference to the userfaultfds of a restored process. When the last reference to
// a userfaultfd is closed, threads that wait for a page go on with zeros; with a guardian the death of the restorer ends the restored
// process instead.
//
// In C, because it lives in a forked copy of a process with threads, where only async-signal-safe calls are allowed. It can go when
// the guardian is a program of its own.
#pragma once

#include <stdint.h>

/// What is told to the guardian with a descriptor.
enum clinux_guardian_message {
    /// A userfaultfd to hold until released.
    CLINUX_GUARDIAN_HOLD = 'h',
    /// A pidfd of a process to kill, with its descendants, when the caller of clinux_guardian_start() dies before it released.
    CLINUX_GUARDIAN_KILL = 'k',
};

/// fork(2) of the guardian: an own session, every signal blocked, no descriptor but its end of the channel.
/// Returns its pid in the upper 32 bits and the caller's end of the channel (close-on-exec) in the lower ones, or -errno. Nobody
/// else may hold that end open.
int64_t clinux_guardian_start(void);

/// waitpid(2) for the guardian, which ends when it is released or its channel is closed. Returns 0, or -errno.
int clinux_guardian_reap(int32_t pid);

/// Hands a duplicate of `descriptor` to the guardian and waits until it holds it; `pid` is the process of a pidfd, else 0.
/// Returns 0, or -errno; -EPIPE when the guardian is gone.
int clinux_guardian_tell(int channel, enum clinux_guardian_message message, int descriptor, int32_t pid);

/// Nothing is owed any more: the guardian closes everything and ends. Returns 0 when it has, or -errno.
int clinux_guardian_release(int channel);

/// Takes the channel over from a caller that has died: answers that it has not read are thrown away. Returns 0, or -errno; -EPIPE when
/// the guardian is gone.
int clinux_guardian_greet(int channel);
