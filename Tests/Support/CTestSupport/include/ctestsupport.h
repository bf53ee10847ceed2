// SPDX-License-Identifier: Apache-2.0
//
// What tests need and Swift's Glibc module lacks: posix_spawn(3) with a session of its own and no inherited descriptors.
#pragma once

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

/// What `ctest_spawn` starts. Lists of strings are the strings one after the other, each with its NUL.
struct ctest_spawn_request {
    const char *path;
    const char *arguments;
    size_t arguments_size;
    const char *environment;
    size_t environment_size;
    /// Working directory, or NULL for that of the caller.
    const char *_Nullable directory;
    /// Descriptors of the caller that become 0, 1, 2 ...; every other descriptor is closed in the child.
    const int32_t *descriptors;
    size_t descriptor_count;
    /// Whether the child leads a session of its own.
    int32_t new_session;
};

/// Starts a program with all signals at their default action and none blocked. Returns its pid or -errno.
int32_t ctest_spawn(const struct ctest_spawn_request *request);

/// pidfd_open(2). Returns a descriptor or -errno.
int32_t ctest_pidfd_open(int32_t pid);

/// Whether the pidfd's process has ended, waiting at most `milliseconds`: 1, 0 or -errno.
int32_t ctest_pidfd_wait(int32_t pidfd, int32_t milliseconds);

/// waitpid(2) with WNOHANG for a child of the caller: 1 when `status` was filled, 0 when it runs, or -errno.
int32_t ctest_reap(int32_t pid, int32_t *status);

#pragma clang assume_nonnull end
