// SPDX-License-Identifier: Apache-2.0
//
// Threads' names and masks, eventfd, signalfd, epoll, pidfd, affinity, random bytes: Swift's Glibc module has no module map entry for
// most of these headers and cannot call a variadic syscall(2). Goes away when it does.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

/// gettid(2): the kernel's id of the calling thread.
int clinux_gettid(void);

/// pipe2(2), close-on-exec: `ends[0]` to read, `ends[1]` to write. Returns 0, or -errno.
int clinux_pipe(int32_t ends[_Nonnull 2]);

/// prctl(2), PR_SET_NAME, for the calling thread; the kernel keeps the first 15 bytes. Returns 0.
int clinux_set_thread_name(const char *_Nonnull name);

/// rt_sigprocmask(2) for the calling thread: `how` is SIG_BLOCK, SIG_UNBLOCK or SIG_SETMASK, bit n-1 stands for signal n.
/// `*old` is always written. Returns 0, or -errno.
int clinux_signal_mask(int how, uint64_t set, uint64_t *_Nonnull old);

/// rt_sigpending(2): the signals pending for the calling thread or its process, bit n-1 for signal n. Returns 0, or -errno.
int clinux_signal_pending(uint64_t *_Nonnull set);

/// sigaction(2) with SIG_IGN. Returns 0, or -errno.
int clinux_ignore_signal(int signal);

/// sigabbrev_np(3): the name without SIG, a constant string; NULL for a number without a name.
const char *_Nullable clinux_signal_name(int signal);

/// eventfd2(2). Returns a descriptor that is close-on-exec and does not block, or -errno.
int clinux_eventfd(unsigned int initial);

/// signalfd4(2), bit n-1 of `set` for signal n. Returns a descriptor that is close-on-exec and does not block, or -errno.
int clinux_signalfd(uint64_t set);

/// One entry of a signalfd.
struct clinux_signal_info {
    int32_t number;
    int32_t code;
    /// Sender, or the child of a SIGCHLD.
    uint32_t pid;
    uint32_t uid;
    /// Exit status or signal of a SIGCHLD.
    int32_t status;
    /// What came with sigqueue(3).
    int32_t value;
};

/// read(2) of one signalfd_siginfo. Returns 1 with `*info` written, 0 when none is pending, or -errno.
int clinux_read_signal(int descriptor, struct clinux_signal_info *_Nonnull info);

/// epoll_create1(2), close-on-exec. Returns a descriptor, or -errno.
int clinux_epoll_create(void);

/// epoll_ctl(2): `operation` is EPOLL_CTL_ADD, MOD or DEL; `token` comes back with each event. Returns 0, or -errno.
int clinux_epoll_control(int epoll, int operation, int descriptor, uint32_t events, uint64_t token);

/// epoll_wait(2). Returns the number of entries of `events` written, 0 after `milliseconds` (-1: never), or -errno (EINTR included).
int clinux_epoll_wait(int epoll, struct epoll_event *_Nonnull events, int capacity, int milliseconds);

/// pidfd_open(2). Returns a descriptor (close-on-exec), or -errno.
int clinux_pidfd_open(int pid, unsigned int flags);

/// pidfd_getfd(2). Returns a descriptor (close-on-exec) for the open file that `descriptor` is in the other process, or -errno.
int clinux_pidfd_getfd(int pidfd, int descriptor);

/// pidfd_send_signal(2) without siginfo; signal 0 only asks. Returns 0, or -errno.
int clinux_pidfd_send_signal(int pidfd, int signal);

/// waitid(2) with P_PIDFD; `options` are added to __WALL. Returns 1 with `*code` (CLD_EXITED, …) and `*status` written, 0 when WNOHANG
/// was given and nothing has happened, or -errno (EINTR included).
int clinux_pidfd_wait(int pidfd, int options, int *_Nonnull code, int *_Nonnull status);

/// sched_getaffinity(2) of a thread (0: the caller). Returns the bytes of `mask` written, or -errno (EINVAL: `size` is too small).
int clinux_get_affinity(int tid, void *_Nonnull mask, size_t size);

/// sched_setaffinity(2) of a thread (0: the caller). Returns 0, or -errno.
int clinux_set_affinity(int tid, const void *_Nonnull mask, size_t size);

/// getrandom(2) without flags. Returns the bytes written, or -errno.
long clinux_getrandom(void *_Nonnull buffer, size_t size);
