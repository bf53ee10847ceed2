// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

int clinux_wait(int tid, int32_t *status, int options) {
    int word = 0;
    pid_t result;
    do {
        result = waitpid(tid, &word, options | __WALL);
    } while (result < 0 && errno == EINTR);
    *status = word;
    return result < 0 ? -errno : result;
}

int clinux_wait_peek(int pid) {
    siginfo_t information = {.si_signo = 0};
    if (waitid(P_PID, (id_t)pid, &information, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0) return -errno;
    return information.si_signo == SIGCHLD;
}

int64_t clinux_process_vm_read(int pid, uint64_t address, void *buffer, size_t length) {
    struct iovec local = {buffer, length};
    struct iovec remote = {(void *)(uintptr_t)address, length};
    ssize_t result = process_vm_readv(pid, &local, 1, &remote, 1, 0);
    return result < 0 ? -errno : result;
}

int64_t clinux_process_vm_write(int pid, uint64_t address, const void *buffer, size_t length) {
    struct iovec local = {(void *)buffer, length};
    struct iovec remote = {(void *)(uintptr_t)address, length};
    ssize_t result = process_vm_writev(pid, &local, 1, &remote, 1, 0);
    return result < 0 ? -errno : result;
}

int clinux_kcmp(int pid1, int pid2, int type, uint64_t index1, uint64_t index2) {
    long result = syscall(SYS_kcmp, pid1, pid2, type, index1, index2);
    return result < 0 ? -errno : (int)result;
}

int clinux_kcmp_epoll(int pid1, int pid2, int fd, uint32_t efd, uint32_t tfd, uint32_t toff) {
    struct kcmp_epoll_slot slot = {.efd = efd, .tfd = tfd, .toff = toff};
    long result = syscall(SYS_kcmp, pid1, pid2, KCMP_EPOLL_TFD, (unsigned long)fd, &slot);
    return result < 0 ? -errno : (int)result;
}

int clinux_prlimit_get(int pid, int resource, uint64_t *limits) {
    long result = syscall(SYS_prlimit64, pid, resource, NULL, limits);
    return result < 0 ? -errno : 0;
}

int clinux_prlimit_set(int pid, int resource, const uint64_t *limits) {
    long result = syscall(SYS_prlimit64, pid, resource, limits, NULL);
    return result < 0 ? -errno : 0;
}

int clinux_sched_getattr(int tid, void *attributes, uint32_t size) {
    long result = syscall(SYS_sched_getattr, tid, attributes, size, 0);
    return result < 0 ? -errno : (int)*(uint32_t *)attributes;
}

int clinux_sched_setattr(int tid, const void *attributes) {
    long result = syscall(SYS_sched_setattr, tid, attributes, 0);
    return result < 0 ? -errno : 0;
}

#define CLINUX_IOPRIO_WHO_PROCESS 1

int clinux_ioprio_get(int tid) {
    long result = syscall(SYS_ioprio_get, CLINUX_IOPRIO_WHO_PROCESS, tid);
    return result < 0 ? -errno : (int)result;
}

int clinux_ioprio_set(int tid, int value) {
    long result = syscall(SYS_ioprio_set, CLINUX_IOPRIO_WHO_PROCESS, tid, value);
    return result < 0 ? -errno : 0;
}

int clinux_rt_sigqueueinfo(int pid, int signal, const void *siginfo) {
    long result = syscall(SYS_rt_sigqueueinfo, pid, signal, siginfo);
    return result < 0 ? -errno : 0;
}

int clinux_rt_tgsigqueueinfo(int pid, int tid, int signal, const void *siginfo) {
    long result = syscall(SYS_rt_tgsigqueueinfo, pid, tid, signal, siginfo);
    return result < 0 ? -errno : 0;
}

int clinux_tgkill(int pid, int tid, int signal) {
    long result = syscall(SYS_tgkill, pid, tid, signal);
    return result < 0 ? -errno : 0;
}

int clinux_get_robust_list(int tid, uint64_t *head, uint64_t *length) {
    void *address = NULL;
    size_t size = 0;
    long result = syscall(SYS_get_robust_list, tid, &address, &size);
    *head = (uintptr_t)address;
    *length = size;
    return result < 0 ? -errno : 0;
}

#if defined(__x86_64__)
void clinux_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t *registers) {
    __cpuid_count(leaf, subleaf, registers[0], registers[1], registers[2], registers[3]);
}

uint64_t clinux_xcr0(void) {
    uint32_t words[4];
    clinux_cpuid(1, 0, words);
    if (!(words[2] & (1u << 27))) return 0;
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}
#endif

#define CLINUX_MADV_COLLAPSE 25

int clinux_process_collapse(int pidfd, uint64_t address, size_t size) {
    struct iovec range = {.iov_base = (void *)(uintptr_t)address, .iov_len = size};
    long result = syscall(SYS_process_madvise, pidfd, &range, 1, CLINUX_MADV_COLLAPSE, 0);
    return result < 0 ? -errno : 0;
}
