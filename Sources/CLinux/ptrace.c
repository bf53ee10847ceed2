// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#define CLINUX_PTRACE_GET_RSEQ_CONFIGURATION 0x420f
#define CLINUX_PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211

// glibc's first parameter is an enum that does not know the newest requests.
static int request(int number, int tid, uintptr_t address, uintptr_t data) {
    errno = 0;
    long result = ptrace((enum __ptrace_request)number, tid, (void *)address, (void *)data);
    return result < 0 ? -errno : (int)result;
}

#if defined(__x86_64__)
_Static_assert(sizeof(struct clinux_registers) == sizeof(struct user_regs_struct), "user_regs_struct");

int clinux_ptrace_getregs(int tid, struct clinux_registers *registers) {
    return request(PTRACE_GETREGS, tid, 0, (uintptr_t)registers);
}

int clinux_ptrace_setregs(int tid, const struct clinux_registers *registers) {
    return request(PTRACE_SETREGS, tid, 0, (uintptr_t)registers);
}
#endif

int clinux_ptrace_seize(int tid, uint64_t options) { return request(PTRACE_SEIZE, tid, 0, options); }

int clinux_ptrace_interrupt(int tid) { return request(PTRACE_INTERRUPT, tid, 0, 0); }

int clinux_ptrace_cont(int tid, int signal) { return request(PTRACE_CONT, tid, 0, (uintptr_t)signal); }

int clinux_ptrace_syscall(int tid, int signal) { return request(PTRACE_SYSCALL, tid, 0, (uintptr_t)signal); }

int clinux_ptrace_listen(int tid) { return request(PTRACE_LISTEN, tid, 0, 0); }

int clinux_ptrace_detach(int tid, int signal) { return request(PTRACE_DETACH, tid, 0, (uintptr_t)signal); }

int clinux_ptrace_setoptions(int tid, uint64_t options) { return request(PTRACE_SETOPTIONS, tid, 0, options); }

int clinux_ptrace_geteventmsg(int tid, uint64_t *message) {
    unsigned long word = 0;
    int result = request(PTRACE_GETEVENTMSG, tid, 0, (uintptr_t)&word);
    *message = word;
    return result;
}

int clinux_ptrace_getregset(int tid, int type, void *buffer, size_t *length) {
    struct iovec area = {buffer, *length};
    int result = request(PTRACE_GETREGSET, tid, (uintptr_t)type, (uintptr_t)&area);
    *length = result < 0 ? 0 : area.iov_len;
    return result;
}

int clinux_ptrace_setregset(int tid, int type, const void *buffer, size_t length) {
    struct iovec area = {(void *)buffer, length};
    return request(PTRACE_SETREGSET, tid, (uintptr_t)type, (uintptr_t)&area);
}

int clinux_ptrace_getsigmask(int tid, uint64_t *mask) {
    return request(PTRACE_GETSIGMASK, tid, sizeof *mask, (uintptr_t)mask);
}

int clinux_ptrace_setsigmask(int tid, uint64_t mask) {
    return request(PTRACE_SETSIGMASK, tid, sizeof mask, (uintptr_t)&mask);
}

_Static_assert(sizeof(siginfo_t) == 128, "siginfo_t");

int clinux_ptrace_getsiginfo(int tid, void *siginfo) { return request(PTRACE_GETSIGINFO, tid, 0, (uintptr_t)siginfo); }

int clinux_ptrace_setsiginfo(int tid, const void *siginfo) {
    return request(PTRACE_SETSIGINFO, tid, 0, (uintptr_t)siginfo);
}

int clinux_ptrace_peeksiginfo(int tid, uint64_t offset, int shared, int count, void *siginfos) {
    struct {
        uint64_t offset;
        uint32_t flags;
        int32_t count;
    } argument = {offset, shared ? 1 : 0, count};
    return request(PTRACE_PEEKSIGINFO, tid, (uintptr_t)&argument, (uintptr_t)siginfos);
}

int clinux_ptrace_rseq_configuration(int tid, struct clinux_rseq_configuration *configuration) {
    int result =
        request(CLINUX_PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof *configuration, (uintptr_t)configuration);
    return result < 0 ? result : 0;
}

int clinux_ptrace_syscall_user_dispatch(int tid, uint64_t *mode) {
    struct {
        uint64_t mode;
        uint64_t selector;
        uint64_t offset;
        uint64_t length;
    } configuration = {0, 0, 0, 0};
    int result = request(
        CLINUX_PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, tid, sizeof configuration, (uintptr_t)&configuration);
    *mode = configuration.mode;
    return result < 0 ? result : 0;
}
