// SPDX-License-Identifier: Apache-2.0
//
// Questions to the kernel for `thaw check`: each function tries one thing on this program itself or on a child of its own, undoes it,
// and says how it went. They are in C because a child of a threaded Swift program may run nothing but async-signal-safe C.
#pragma once

#include <stdint.h>

enum {
    /// userfaultfd(2) without flags: faults of the kernel are served as well.
    CLINUX_PROBE_UFFD_SYSTEM_CALL = 0,
    /// USERFAULTFD_IOC_NEW of /dev/userfaultfd.
    CLINUX_PROBE_UFFD_DEVICE = 1,
    /// userfaultfd(2) with UFFD_USER_MODE_ONLY: a system call that touches a missing page fails with EFAULT.
    CLINUX_PROBE_UFFD_USER_MODE_ONLY = 2,
};

/// Makes a userfaultfd in the given way. Returns the feature bits that UFFDIO_API offers, or -errno.
int64_t clinux_probe_userfaultfd(int way);
/// Asks UFFDIO_API for the fork, remap, remove and unmap events. Returns 0, or -errno (EPERM: no CAP_SYS_PTRACE).
int clinux_probe_userfaultfd_events(void);
/// PAGEMAP_SCAN of a page of our own. Returns 0, or -errno (ENOTTY: no such ioctl).
int clinux_probe_pagemap_scan(void);
/// MADV_GUARD_INSTALL on a page of our own. Returns 0, or -errno (EINVAL: no such advice).
int clinux_probe_guard_pages(void);
/// PTRACE_SEIZE and PTRACE_INTERRUPT of a child. Returns 0, or -errno.
int clinux_probe_ptrace(void);
/// PTRACE_GET_RSEQ_CONFIGURATION of a seized child. Returns 0, or -errno.
int clinux_probe_rseq_configuration(void);
/// process_vm_readv(2) from a child. Returns 0, or -errno.
int clinux_probe_process_memory(void);
/// pidfd_open(2) and pidfd_getfd(2) of a child. Returns 0, or -errno.
int clinux_probe_pidfd_getfd(void);
/// kcmp(2) of two descriptors of our own. Returns 0, or -errno.
int clinux_probe_kcmp(void);
/// clone3(2) with set_tid of a pid that was free a moment ago. Returns 0, or -errno.
int clinux_probe_set_tid(void);
/// A child in a pid and mount namespace of its own. Returns 0, or -errno.
int clinux_probe_pid_namespace(void);
/// A child that unshares its time namespace. Returns 0, or -errno.
int clinux_probe_time_namespace(void);
/// prctl(PR_TIMER_CREATE_RESTORE_IDS). Returns 0, or -errno (EINVAL: no such option).
int clinux_probe_timer_restore_ids(void);
/// prctl(PR_SET_MM_MAP_SIZE). Returns 0, or -errno (EINVAL: a kernel without CONFIG_CHECKPOINT_RESTORE).
int clinux_probe_mm_map(void);
