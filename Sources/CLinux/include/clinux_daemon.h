// SPDX-License-Identifier: Apache-2.0
//
// Starting this program again in the background. In C because posix_spawn(3) takes arrays of pointers that Swift could only lend
// for the length of nested closures.
#pragma once

#include <stdint.h>

/// Starts /proc/self/exe with this program's own arguments, in a session of its own, with the same descriptors 0, 1 and 2 and
/// with NAME=N in its environment, N being the descriptor of the writing end of a pipe.
/// Returns the reading end in the upper and the pid in the lower 32 bits, or -errno. See posix_spawn(3).
int64_t clinux_daemon_start(const char *_Nonnull name);

/// Points those of the descriptors 0, 1 and 2 that lead to a terminal or a pipe to /dev/null; files stay. Returns 0, or -errno.
int clinux_daemon_close_streams(void);
