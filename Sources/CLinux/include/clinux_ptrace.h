// SPDX-License-Identifier: Apache-2.0
//
// ptrace(2): variadic in glibc, so Swift cannot call it. One function a request.
#pragma once

#include <stddef.h>
#include <stdint.h>

static const uint64_t clinux_PTRACE_O_TRACESYSGOOD = 1 << 0;
static const uint64_t clinux_PTRACE_O_TRACEFORK = 1 << 1;
static const uint64_t clinux_PTRACE_O_TRACEVFORK = 1 << 2;
static const uint64_t clinux_PTRACE_O_TRACECLONE = 1 << 3;
static const uint64_t clinux_PTRACE_O_TRACEEXEC = 1 << 4;
static const uint64_t clinux_PTRACE_O_TRACEEXIT = 1 << 6;
static const uint64_t clinux_PTRACE_O_EXITKILL = 1 << 20;
static const uint64_t clinux_PTRACE_O_SUSPEND_SECCOMP = 1 << 21;

/// Bits 16 and up of a wait status.
static const int32_t clinux_PTRACE_EVENT_FORK = 1;
static const int32_t clinux_PTRACE_EVENT_VFORK = 2;
static const int32_t clinux_PTRACE_EVENT_CLONE = 3;
static const int32_t clinux_PTRACE_EVENT_EXEC = 4;
static const int32_t clinux_PTRACE_EVENT_EXIT = 6;
static const int32_t clinux_PTRACE_EVENT_STOP = 128;

/// Register sets of PTRACE_GETREGSET.
static const int32_t clinux_NT_PRSTATUS = 1;
static const int32_t clinux_NT_X86_XSTATE = 0x202;

#if defined(__x86_64__)
/// `struct user_regs_struct` with its fields as they are named there.
struct clinux_registers {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, rip, cs, eflags, rsp, ss,
        fs_base, gs_base, ds, es, fs, gs;
};

/// PTRACE_GETREGS. Returns 0 or -errno.
int clinux_ptrace_getregs(int tid, struct clinux_registers *_Nonnull registers);
/// PTRACE_SETREGS. Returns 0 or -errno.
int clinux_ptrace_setregs(int tid, const struct clinux_registers *_Nonnull registers);
#endif

/// `struct ptrace_rseq_configuration`.
struct clinux_rseq_configuration {
    uint64_t address;
    uint32_t size;
    uint32_t signature;
    uint32_t flags;
    uint32_t pad;
};

/// PTRACE_SEIZE with options. Returns 0 or -errno.
int clinux_ptrace_seize(int tid, uint64_t options);
/// PTRACE_INTERRUPT. Returns 0 or -errno.
int clinux_ptrace_interrupt(int tid);
/// PTRACE_CONT with a signal to deliver or 0. Returns 0 or -errno.
int clinux_ptrace_cont(int tid, int signal);
/// PTRACE_SYSCALL with a signal to deliver or 0. Returns 0 or -errno.
int clinux_ptrace_syscall(int tid, int signal);
/// PTRACE_LISTEN. Returns 0 or -errno.
int clinux_ptrace_listen(int tid);
/// PTRACE_DETACH with a signal to deliver or 0. Returns 0 or -errno.
int clinux_ptrace_detach(int tid, int signal);
/// PTRACE_SETOPTIONS. Returns 0 or -errno.
int clinux_ptrace_setoptions(int tid, uint64_t options);
/// PTRACE_GETEVENTMSG. Returns 0 or -errno.
int clinux_ptrace_geteventmsg(int tid, uint64_t *_Nonnull message);
/// PTRACE_GETREGSET: up to `*length` bytes, `*length` becomes what was filled. Returns 0 or -errno.
int clinux_ptrace_getregset(int tid, int type, void *_Nonnull buffer, size_t *_Nonnull length);
/// PTRACE_SETREGSET. Returns 0 or -errno.
int clinux_ptrace_setregset(int tid, int type, const void *_Nonnull buffer, size_t length);
/// PTRACE_GETSIGMASK, 64 signals. Returns 0 or -errno.
int clinux_ptrace_getsigmask(int tid, uint64_t *_Nonnull mask);
/// PTRACE_SETSIGMASK, 64 signals. Returns 0 or -errno.
int clinux_ptrace_setsigmask(int tid, uint64_t mask);
/// PTRACE_GETSIGINFO: 128 bytes. Returns 0 or -errno.
int clinux_ptrace_getsiginfo(int tid, void *_Nonnull siginfo);
/// PTRACE_SETSIGINFO: 128 bytes. Returns 0 or -errno.
int clinux_ptrace_setsiginfo(int tid, const void *_Nonnull siginfo);
/// PTRACE_PEEKSIGINFO: up to `count` siginfos of 128 bytes from `offset` on; `shared` not 0 reads the process' queue.
/// Returns how many, or -errno.
int clinux_ptrace_peeksiginfo(int tid, uint64_t offset, int shared, int count, void *_Nonnull siginfos);
/// PTRACE_GET_RSEQ_CONFIGURATION (Linux 5.13). Returns 0 or -errno.
int clinux_ptrace_rseq_configuration(int tid, struct clinux_rseq_configuration *_Nonnull configuration);
/// PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG (Linux 6.4): `*mode` is 0 when it is off. Returns 0 or -errno.
int clinux_ptrace_syscall_user_dispatch(int tid, uint64_t *_Nonnull mode);
