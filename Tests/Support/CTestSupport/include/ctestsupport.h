// SPDX-License-Identifier: Apache-2.0
//
// What tests need and Swift's Glibc module lacks: posix_spawn(3) with a session of its own and no inherited descriptors, and
// a TCP proxy that runs on a thread of its own.
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

/// A TCP proxy on loopback that does to connections what networks do to them.
struct ctest_proxy;

/// What happens when a rule is met.
enum ctest_proxy_action {
    /// The connection is reset on both sides.
    CTEST_CUT,
    /// All connections are.
    CTEST_CUT_ALL,
    /// One direction ends, the other goes on.
    CTEST_HALF_CLOSE,
    /// Nothing is carried any more, and nobody is told.
    CTEST_STALL,
    /// What comes next is carried twice: the first `amount` bytes of it, or all that is here.
    CTEST_DUPLICATE,
    /// Bit `amount` of what is here is another one when it is carried.
    CTEST_CORRUPT,
    /// One direction carries nothing for `amount` milliseconds, and then goes on.
    CTEST_DELAY,
};

/// That something happens before byte `offset`, or before the record of TLS of that number; once.
struct ctest_proxy_rule {
    /// The number of the connection in the order in which they came, from 0; -1 for any, then `offset` counts all bytes of all of them.
    int connection;
    /// 0 to the server, 1 to the client, -1 for either.
    int direction;
    unsigned long long offset;
    /// Then the next bytes, for DUPLICATE and CORRUPT, are those of one record.
    _Bool counts_records;
    enum ctest_proxy_action action;
    unsigned amount;
    _Bool fired;
};

/// What is to be done at once.
enum ctest_proxy_order { CTEST_CUT_NOW, CTEST_CUT_ONE, CTEST_FORGET, CTEST_REFUSE, CTEST_STALL_NOW, CTEST_AIM };

/// What has happened.
struct ctest_proxy_state {
    unsigned long long carried;
    int accepted, cuts, fired;
};

/// Starts a proxy to a port of loopback; NULL when that cannot be. `port` is its own.
struct ctest_proxy *_Nullable ctest_proxy_start(int target, int *port);
/// Ends everything.
void ctest_proxy_stop(struct ctest_proxy *proxy);
/// `value` is 1 or 0 to begin or end refusing or stalling, a port for AIM, the number of a connection for CUT_ONE.
void ctest_proxy_tell(struct ctest_proxy *proxy, enum ctest_proxy_order order, int value);
/// Adds a rule.
void ctest_proxy_add(struct ctest_proxy *proxy, struct ctest_proxy_rule rule);
/// What has happened so far.
struct ctest_proxy_state ctest_proxy_look(struct ctest_proxy *proxy);
/// Bytes of one connection in one direction.
unsigned long long ctest_proxy_carried(struct ctest_proxy *proxy, int connection, int direction);
/// The numbers of those records of one connection in one direction that begin what was written at once: those that follow one that is not
/// full. At most `room` of them; returns how many.
int ctest_proxy_messages(struct ctest_proxy *proxy, int connection, int direction, unsigned long long *numbers, int room);

#pragma clang assume_nonnull end
