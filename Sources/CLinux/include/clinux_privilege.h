// SPDX-License-Identifier: Apache-2.0
//
// Capabilities of a thread and switches of prctl(2): glibc has no wrapper for the first, and Swift cannot call the variadic second.
#pragma once

#include <stdint.h>

/// Capability sets, bit n for capability n.
struct clinux_capabilities {
    uint64_t effective;
    uint64_t permitted;
    uint64_t inheritable;
};

/// capget(2) of the calling thread. Returns 0, or -errno.
int clinux_get_capabilities(struct clinux_capabilities *_Nonnull sets);

/// capset(2) of the calling thread. Returns 0, or -errno.
int clinux_set_capabilities(const struct clinux_capabilities *_Nonnull sets);

/// prctl(2), PR_SET_DUMPABLE, for the whole process. Returns 0, or -errno.
int clinux_set_dumpable(int value);

/// prctl(2), PR_SET_NO_NEW_PRIVS, for the calling thread and those that it starts. Returns 0, or -errno.
int clinux_set_no_new_privileges(void);
