// SPDX-License-Identifier: Apache-2.0
//
// Making the process that a restored one is built in. Swift cannot do it: between clone3(2) and the moment in which a tracer
// takes over, the child of a program with threads may run nothing but plain system calls.
#pragma once

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

/// A pid namespace and a mount namespace with a fresh /proc of its own, with an init of ours.
#define CLINUX_SPAWN_NEW_PID_NAMESPACE 1u

/// What is asked for. Ids are those of the namespace the process lives in.
struct clinux_spawn_request {
    uint32_t flags;
    /// Id of the process, or 0 for any.
    int32_t pid;
    /// Session and process group: equal to `pid` = its own; with a new namespace any other id is made by a helper process that
    /// ends at once; 0 = that of the caller. Without a new namespace ids other than `pid` count as 0.
    int32_t session;
    int32_t group;
    /// Where the process maps `stub_size` bytes (readable, writable, executable) of zeros before it waits.
    uint64_t stub_address;
    uint64_t stub_size;
    /// Text for /proc/self/timens_offsets (time_namespaces(7)), or NULL: the time namespace of the caller.
    const char *_Nullable time_offsets;
};

/// The step that failed, for a message.
enum clinux_spawn_step {
    CLINUX_SPAWN_CHANNEL = 1,
    CLINUX_SPAWN_NAMESPACE = 2,
    CLINUX_SPAWN_MOUNT = 3,
    CLINUX_SPAWN_TIME = 4,
    CLINUX_SPAWN_SESSION = 5,
    CLINUX_SPAWN_GROUP = 6,
    CLINUX_SPAWN_PROCESS = 7,
    CLINUX_SPAWN_STUB = 8,
    CLINUX_SPAWN_ANSWER = 9,
};

struct clinux_spawn_result {
    /// The process, as the caller sees it.
    int32_t pid;
    /// The init of the new namespace, as the caller sees it, or 0.
    int32_t init;
    /// The channel to the init (close-on-exec), or -1. The init ends, and everything in its namespace with it, when the channel
    /// breaks before clinux_spawn_release; afterwards it lives until its last child has ended.
    int32_t channel;
    /// After a failure: enum clinux_spawn_step.
    int32_t step;
};

/// Makes a process that waits in pause(2), all signals blocked, all actions default, standard streams and (without a new
/// namespace) every other descriptor inherited. Its parent is the init of the new namespace, or the caller.
/// Needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE. Returns 0 or -errno (-EEXIST: the id is taken) with `result->step` set, and
/// then nothing is left. clone3(2).
int clinux_spawn(const struct clinux_spawn_request *request, struct clinux_spawn_result *result);

/// Tells the init that the process runs: from now on the end of the channel means nothing. Returns 0 or -errno.
int clinux_spawn_release(int channel);

/// Receives the wait status (wait(2)) of the process from the init, without waiting. Returns 1 with `*status` set, 0 when there
/// is none yet, -EPIPE when the init ended without one (it was killed), or another -errno.
int clinux_spawn_read_status(int channel, int32_t *status);

/// Ends what clinux_spawn made, tracer or not, and reaps it. `result` may be partly filled (0 and -1 mean none).
void clinux_spawn_destroy(const struct clinux_spawn_result *result);

/// waitpid(2) of one thread with __WALL and WNOHANG. Returns 1 with `*status` set, 0 when there is nothing, or -errno.
int clinux_spawn_wait(int32_t pid, int32_t *status);

/// getcpu(2): the CPU that the calling thread is on, or -errno.
int clinux_current_cpu(void);

#pragma clang assume_nonnull end
