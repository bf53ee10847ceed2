// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// Later than some headers that we build with.
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

_Static_assert(sizeof(struct signalfd_siginfo) == 128, "signalfd_siginfo layout");

static int result(long value) {
    return value < 0 ? -errno : (int)value;
}

int clinux_gettid(void) {
    return gettid();
}

int clinux_pipe(int32_t ends[2]) {
    return result(pipe2(ends, O_CLOEXEC));
}

int clinux_set_thread_name(const char *name) {
    return result(prctl(PR_SET_NAME, name, 0, 0, 0));
}

int clinux_signal_mask(int how, uint64_t set, uint64_t *old) {
    *old = 0;
    return result(syscall(SYS_rt_sigprocmask, how, &set, old, sizeof set));
}

int clinux_signal_pending(uint64_t *set) {
    *set = 0;
    return result(syscall(SYS_rt_sigpending, set, sizeof *set));
}

int clinux_ignore_signal(int signal) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_IGN;
    return result(sigaction(signal, &action, NULL));
}

const char *clinux_signal_name(int signal) {
    return sigabbrev_np(signal);
}

int clinux_eventfd(unsigned int initial) {
    return result(eventfd(initial, EFD_CLOEXEC | EFD_NONBLOCK));
}

int clinux_signalfd(uint64_t set) {
    return result(syscall(SYS_signalfd4, -1, &set, sizeof set, SFD_CLOEXEC | SFD_NONBLOCK));
}

int clinux_read_signal(int descriptor, struct clinux_signal_info *info) {
    struct signalfd_siginfo entry;
    ssize_t count = read(descriptor, &entry, sizeof entry);
    if (count < 0) return errno == EAGAIN ? 0 : -errno;
    if (count != sizeof entry) return -EIO;
    info->number = (int32_t)entry.ssi_signo;
    info->code = entry.ssi_code;
    info->pid = entry.ssi_pid;
    info->uid = entry.ssi_uid;
    info->status = entry.ssi_status;
    info->value = entry.ssi_int;
    return 1;
}

int clinux_epoll_create(void) {
    return result(epoll_create1(EPOLL_CLOEXEC));
}

int clinux_epoll_control(int epoll, int operation, int descriptor, uint32_t events, uint64_t token) {
    struct epoll_event event = {.events = events, .data.u64 = token};
    return result(epoll_ctl(epoll, operation, descriptor, &event));
}

int clinux_epoll_wait(int epoll, struct epoll_event *events, int capacity, int milliseconds) {
    return result(epoll_wait(epoll, events, capacity, milliseconds));
}

int clinux_pidfd_open(int pid, unsigned int flags) {
    return result(syscall(SYS_pidfd_open, pid, flags));
}

int clinux_pidfd_getfd(int pidfd, int descriptor) {
    return result(syscall(SYS_pidfd_getfd, pidfd, descriptor, 0));
}

int clinux_pidfd_send_signal(int pidfd, int signal) {
    return result(syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}

int clinux_pidfd_wait(int pidfd, int options, int *code, int *status) {
    siginfo_t info;
    info.si_pid = 0;
    *code = 0;
    *status = 0;
    if (syscall(SYS_waitid, P_PIDFD, pidfd, &info, options | __WALL, NULL) < 0) return -errno;
    if (info.si_pid == 0) return 0;
    *code = info.si_code;
    *status = info.si_status;
    return 1;
}

int clinux_get_affinity(int tid, void *mask, size_t size) {
    return result(syscall(SYS_sched_getaffinity, tid, size, mask));
}

int clinux_set_affinity(int tid, const void *mask, size_t size) {
    return result(syscall(SYS_sched_setaffinity, tid, size, mask));
}

long clinux_getrandom(void *buffer, size_t size) {
    long count = syscall(SYS_getrandom, buffer, size, 0);
    return count < 0 ? -errno : count;
}
