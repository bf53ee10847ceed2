// SPDX-License-Identifier: Apache-2.0
//
// Counts the system calls of single threads by ptrace(2), which is there on every machine on which Thaw runs.
//
//   CallCounter TID...    prints `ready`, and at SIGTERM {"TID":{"CALL":NUMBER,...},...}
//
// Exit status: 0, 2 a thread cannot be traced, 64 usage.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { MOST_THREADS = 16, MOST_CALLS = 512 };

struct thread {
    pid_t tid;
    uint64_t calls[MOST_CALLS];
};

static struct thread threads[MOST_THREADS];
static int thread_count;

// Calls that the threads of a move make; others are shown by their number.
static const struct {
    int number;
    const char *name;
} names[] = {
    {SYS_clock_nanosleep, "clock_nanosleep"},
    {SYS_epoll_wait, "epoll_wait"},
    {SYS_futex, "futex"},
    {SYS_gettid, "gettid"},
    {SYS_ioctl, "ioctl"},
    {SYS_poll, "poll"},
    {SYS_process_vm_readv, "process_vm_readv"},
    {SYS_read, "read"},
    {SYS_recvfrom, "recvfrom"},
    {SYS_sched_getattr, "sched_getattr"},
    {SYS_sched_setattr, "sched_setattr"},
    {SYS_sched_yield, "sched_yield"},
    {SYS_sendto, "sendto"},
    {SYS_write, "write"},
    {SYS_pread64, "pread64"},
};

static struct thread *find(pid_t tid) {
    for (int i = 0; i < thread_count; i++) {
        if (threads[i].tid == tid) return &threads[i];
    }
    return NULL;
}

static void count(struct thread *thread) {
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, thread->tid, sizeof info, &info) <= 0 || info.op != PTRACE_SYSCALL_INFO_ENTRY) return;
    if (info.entry.nr < MOST_CALLS) thread->calls[info.entry.nr]++;
}

// Lets every thread that has stopped go on.
static void look(void) {
    int status;
    pid_t tid;
    while ((tid = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
        struct thread *thread = find(tid);
        if (thread == NULL || !WIFSTOPPED(status)) continue;
        int signal = WSTOPSIG(status), is_event = status >> 16 != 0;
        if (signal == (SIGTRAP | 0x80)) count(thread);
        ptrace(PTRACE_SYSCALL, tid, NULL, is_event || signal == (SIGTRAP | 0x80) ? 0L : (long)signal);
    }
}

static void print(const struct thread *thread) {
    const char *between = "";
    printf("\"%d\":{", thread->tid);
    for (int number = 0; number < MOST_CALLS; number++) {
        if (thread->calls[number] == 0) continue;
        const char *name = NULL;
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            if (names[i].number == number) name = names[i].name;
        }
        printf("%s\"", between);
        if (name) printf("%s", name); else printf("call %d", number);
        printf("\":%llu", (unsigned long long)thread->calls[number]);
        between = ",";
    }
    printf("}");
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > MOST_THREADS + 1) {
        fprintf(stderr, "usage: %s TID...\n", argv[0]);
        return 64;
    }
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    sigaddset(&awaited, SIGTERM);
    sigprocmask(SIG_BLOCK, &awaited, NULL);
    for (int i = 1; i < argc; i++) {
        pid_t tid = (pid_t)strtol(argv[i], NULL, 10);
        if (ptrace(PTRACE_SEIZE, tid, NULL, PTRACE_O_TRACESYSGOOD) < 0 || ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0) {
            perror(argv[i]);
            return 2;
        }
        // From its first stop on it stops at every call.
        int status;
        if (waitpid(tid, &status, __WALL) != tid || ptrace(PTRACE_SYSCALL, tid, NULL, NULL) < 0) {
            perror(argv[i]);
            return 2;
        }
        threads[thread_count++].tid = tid;
    }
    puts("ready");
    fflush(stdout);
    while (sigwaitinfo(&awaited, NULL) != SIGTERM) look();
    printf("{");
    for (int i = 0; i < thread_count; i++) {
        if (i > 0) printf(",");
        print(&threads[i]);
    }
    printf("}\n");
    // The kernel lets go of the threads when this one ends.
    return 0;
}
