// SPDX-License-Identifier: Apache-2.0
//
// Calls about another process that glibc does not wrap, or wraps in a way that Swift cannot call.
#pragma once

#include <stddef.h>
#include <stdint.h>
// The numbers of system calls (SYS_mmap ...), for calls that are made in another process.
#include <sys/syscall.h>

/// wait4(2) of one child or tracee, `__WALL` always set. Returns its id, 0 when WNOHANG is among `options` and nothing has
/// happened, or -errno.
int clinux_wait(int tid, int32_t *_Nonnull status, int options);

/// waitid(2) with WNOWAIT: whether a child has ended. Returns 1 or 0, or -errno.
int clinux_wait_peek(int pid);

/// process_vm_readv(2), one piece. Returns bytes read, or -errno.
int64_t clinux_process_vm_read(int pid, uint64_t address, void *_Nonnull buffer, size_t length);

/// process_vm_writev(2), one piece. Returns bytes written, or -errno.
int64_t clinux_process_vm_write(int pid, uint64_t address, const void *_Nonnull buffer, size_t length);

/// Kinds of `clinux_kcmp`.
static const int32_t clinux_KCMP_FILE = 0;
static const int32_t clinux_KCMP_VM = 1;
static const int32_t clinux_KCMP_FILES = 2;
static const int32_t clinux_KCMP_FS = 3;
static const int32_t clinux_KCMP_SIGHAND = 4;
static const int32_t clinux_KCMP_IO = 5;
static const int32_t clinux_KCMP_SYSVSEM = 6;
static const int32_t clinux_KCMP_EPOLL_TFD = 7;

/// kcmp(2). Returns 0 equal, 1 less, 2 greater, 3 different, or -errno.
int clinux_kcmp(int pid1, int pid2, int type, uint64_t index1, uint64_t index2);

/// process_madvise(2) with MADV_COLLAPSE (Linux 6.1) for `size` bytes at `address` of the process of a pidfd. Returns 0, or -errno.
int clinux_process_collapse(int pidfd, uint64_t address, size_t size);

/// kcmp(2) KCMP_EPOLL_TFD: compares descriptor `fd` of `pid1` with the target number `toff` (among equal `tfd`) of epoll
/// descriptor `efd` of `pid2`. Returns as `clinux_kcmp`.
int clinux_kcmp_epoll(int pid1, int pid2, int fd, uint32_t efd, uint32_t tfd, uint32_t toff);

/// prlimit(2) that reads. `limits` receives the soft and the hard limit. Returns 0 or -errno.
int clinux_prlimit_get(int pid, int resource, uint64_t *_Nonnull limits);

/// prlimit(2) that sets `limits` (soft, hard). Returns 0 or -errno.
int clinux_prlimit_set(int pid, int resource, const uint64_t *_Nonnull limits);

/// sched_getattr(2): up to `size` bytes. Returns how many the kernel filled (its first word), or -errno.
int clinux_sched_getattr(int tid, void *_Nonnull attributes, uint32_t size);

/// sched_setattr(2); the size is in the first word of `attributes`. Returns 0 or -errno.
int clinux_sched_setattr(int tid, const void *_Nonnull attributes);

/// ioprio_get(2) of a thread. Returns the value, or -errno.
int clinux_ioprio_get(int tid);

/// ioprio_set(2) of a thread. Returns 0 or -errno.
int clinux_ioprio_set(int tid, int value);

/// rt_sigqueueinfo(2): 128 bytes of siginfo to a process. Returns 0 or -errno.
int clinux_rt_sigqueueinfo(int pid, int signal, const void *_Nonnull siginfo);

/// rt_tgsigqueueinfo(2): 128 bytes of siginfo to a thread. Returns 0 or -errno.
int clinux_rt_tgsigqueueinfo(int pid, int tid, int signal, const void *_Nonnull siginfo);

/// tgkill(2). Returns 0 or -errno.
int clinux_tgkill(int pid, int tid, int signal);

/// get_robust_list(2) of a thread (0: the caller). Returns 0 or -errno.
int clinux_get_robust_list(int tid, uint64_t *_Nonnull head, uint64_t *_Nonnull length);

#if defined(__x86_64__)
/// CPUID leaf and subleaf: eax, ebx, ecx, edx into four words.
void clinux_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t *_Nonnull registers);

/// XGETBV with register 0, or 0 when the CPU or the kernel does not use XSAVE.
uint64_t clinux_xcr0(void);
#endif
