// SPDX-License-Identifier: Apache-2.0
//
// Victims of the tests of ProcessTrace: threads in every kind of blocking call, threads that come and go, SIGTRAP in every state.
#define _GNU_SOURCE
#include "victim.h"

#include <errno.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// Length of the calls with a time-out, the first argument of trace-blocked.
static long timeout_milliseconds = 1500;
static struct timespec timeout_span;

static int wait_pipe[2];
static int accept_socket;
static int futex_word;
static volatile int finish;

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

// Waits for a line on standard input; false at its end.
static int await_line(char *line, size_t size) {
    return fgets(line, (int)size, stdin) != NULL;
}

static void say(const char *text) {
    puts(text);
    fflush(stdout);
}

// --- trace-blocked: one thread a row of the table of interrupted calls ---

static long call_read(void) {
    char byte;
    return read(wait_pipe[0], &byte, 1);
}

static long call_nanosleep(void) { return syscall(SYS_nanosleep, &timeout_span, NULL); }

static long call_clock_nanosleep(void) {
    return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &timeout_span, NULL);
}

static long call_clock_nanosleep_absolute(void) {
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += timeout_span.tv_sec;
    end.tv_nsec += timeout_span.tv_nsec;
    if (end.tv_nsec >= 1000000000L) {
        end.tv_sec++;
        end.tv_nsec -= 1000000000L;
    }
    return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
}

static long call_futex(void) { return syscall(SYS_futex, &futex_word, FUTEX_WAIT, 0, NULL, NULL, 0); }

static long call_futex_timed(void) {
    static int word;
    long result = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &timeout_span, NULL, 0);
    return result < 0 && errno == ETIMEDOUT ? 0 : result;
}

static long call_poll(void) {
    int unused[2];
    if (pipe(unused) != 0) return -1;
    struct pollfd watch = {unused[0], POLLIN, 0};
    return syscall(SYS_poll, &watch, 1, timeout_milliseconds);
}

static long call_ppoll(void) {
    uint64_t mask = 0;
    struct timespec span = timeout_span;
    return syscall(SYS_ppoll, NULL, 0, &span, &mask, sizeof mask);
}

static long call_select(void) {
    struct timespec span = timeout_span;
    return syscall(SYS_pselect6, 0, NULL, NULL, NULL, &span, NULL);
}

static long call_pause(void) {
    long result = syscall(SYS_pause);
    // A handler ends it, that of SIGUSR1.
    return result < 0 && errno == EINTR && finish ? 0 : -2;
}

static long call_epoll(void) {
    struct epoll_event event;
    return syscall(SYS_epoll_wait, epoll_create1(0), &event, 1, timeout_milliseconds);
}

static long call_sigtimedwait(void) {
    uint64_t mask = 1ull << (SIGUSR2 - 1);
    long result = syscall(SYS_rt_sigtimedwait, &mask, NULL, &timeout_span, sizeof mask);
    return result < 0 && errno == EAGAIN ? 0 : result;
}

static long call_semtimedop(void) {
    int id = semget(IPC_PRIVATE, 1, 0600);
    struct sembuf down = {0, -1, 0};
    long result = semtimedop(id, &down, 1, &timeout_span);
    int error = errno;
    semctl(id, 0, IPC_RMID);
    errno = error;
    return result < 0 && errno == EAGAIN ? 0 : result;
}

static long call_recv(void) {
    int ends[2];
    struct timeval limit = {timeout_milliseconds / 1000, timeout_milliseconds % 1000 * 1000};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return -1;
    setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    char byte;
    long result = recv(ends[0], &byte, 1, 0);
    return result < 0 && errno == EAGAIN ? 0 : result;
}

static long call_accept(void) {
    int connection = accept(accept_socket, NULL, NULL);
    return connection >= 0 ? 0 : -1;
}

#if defined(__x86_64__)
// Holds patterns in registers that injected calls have to leave alone, until `finish` is set.
static long call_user(void) {
    uint64_t general = 0, vector = 0;
    __asm__ volatile(
        "mov $0x1234567890abcdef, %%r13\n"
        "movq %%r13, %%xmm11\n"
        "pshufd $0x44, %%xmm11, %%xmm11\n"
        "1: cmpl $0, %[flag]\n"
        "je 1b\n"
        "mov %%r13, %[general]\n"
        "movq %%xmm11, %[vector]\n"
        : [general] "=r"(general), [vector] "=r"(vector)
        : [flag] "m"(finish)
        : "r13", "xmm11", "cc", "memory");
    return general == 0x1234567890abcdef && vector == general ? 0 : -1;
}
#endif

struct row {
    const char *name;
    long (*call)(void);
    long number;
    pid_t tid;
    long result;
    int error;
    double elapsed;
    pthread_t thread;
};

static struct row rows[] = {
    {"read", call_read, SYS_read, 0, 0, 0, 0, 0},
    {"accept", call_accept, SYS_accept, 0, 0, 0, 0, 0},
    {"futex", call_futex, SYS_futex, 0, 0, 0, 0, 0},
    {"pselect6", call_select, SYS_pselect6, 0, 0, 0, 0, 0},
    {"pause", call_pause, SYS_pause, 0, 0, 0, 0, 0},
    {"clock_nanosleep-absolute", call_clock_nanosleep_absolute, SYS_clock_nanosleep, 0, 0, 0, 0, 0},
    {"ppoll", call_ppoll, SYS_ppoll, 0, 0, 0, 0, 0},
    {"nanosleep", call_nanosleep, SYS_nanosleep, 0, 0, 0, 0, 0},
    {"clock_nanosleep", call_clock_nanosleep, SYS_clock_nanosleep, 0, 0, 0, 0, 0},
    {"futex-timed", call_futex_timed, SYS_futex, 0, 0, 0, 0, 0},
    {"poll", call_poll, SYS_poll, 0, 0, 0, 0, 0},
    {"epoll_wait", call_epoll, SYS_epoll_wait, 0, 0, 0, 0, 0},
    {"sigtimedwait", call_sigtimedwait, SYS_rt_sigtimedwait, 0, 0, 0, 0, 0},
    {"semtimedop", call_semtimedop, SYS_semtimedop, 0, 0, 0, 0, 0},
    {"recv", call_recv, SYS_recvfrom, 0, 0, 0, 0, 0},
    {"user", call_user, -1, 0, 0, 0, 0, 0},
};
enum { row_count = sizeof rows / sizeof *rows };

static void *run_row(void *argument) {
    struct row *row = argument;
    __atomic_store_n(&row->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
    double start = seconds();
    errno = 0;
    row->result = row->call();
    row->error = errno;
    row->elapsed = seconds() - start;
    return NULL;
}

static void on_signal(int signal) { (void)signal; }

// Prints `thread NAME TID NUMBER` a row, waits for a line, wakes everybody, prints `row NAME RESULT ERRNO MILLISECONDS` a row.
static int blocked(int argc, char **argv) {
    if (argc > 1) timeout_milliseconds = atol(argv[1]);
    timeout_span = (struct timespec){timeout_milliseconds / 1000, timeout_milliseconds % 1000 * 1000000L};
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    if (pipe(wait_pipe) != 0) return 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    accept_socket = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(accept_socket, (struct sockaddr *)&address, length) != 0 || listen(accept_socket, 1) != 0) return 1;
    getsockname(accept_socket, (struct sockaddr *)&address, &length);
    for (int index = 0; index < row_count; index++) {
        pthread_create(&rows[index].thread, NULL, run_row, &rows[index]);
    }
    for (int index = 0; index < row_count; index++) {
        while (__atomic_load_n(&rows[index].tid, __ATOMIC_ACQUIRE) == 0) usleep(1000);
        printf("thread %s %d %ld\n", rows[index].name, rows[index].tid, rows[index].number);
    }
    say("ready");
    char line[16];
    if (!await_line(line, sizeof line)) return 1;
    finish = 1;
    if (write(wait_pipe[1], "x", 1) != 1) return 1;
    __atomic_store_n(&futex_word, 1, __ATOMIC_RELEASE);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(client, (struct sockaddr *)&address, length) != 0) return 1;
    for (int index = 0; index < row_count; index++) {
        struct row *row = &rows[index];
        while (pthread_tryjoin_np(row->thread, NULL) != 0) {
            // Again and again, because a wake-up before the wait begins is lost.
            syscall(SYS_futex, &futex_word, FUTEX_WAKE, 100, NULL, NULL, 0);
            if (row->call == call_pause) pthread_kill(row->thread, SIGUSR1);
            usleep(2000);
        }
        printf("row %s %ld %d %.0f\n", row->name, row->result, row->error, row->elapsed * 1000);
    }
    say("end");
    return 0;
}

// --- trace-spawner: threads that make and join threads without a pause ---

static void *nothing(void *argument) { return argument; }

static void *spawner(void *argument) {
    unsigned long *made = argument;
    while (!finish) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, nothing, NULL) == 0) {
            pthread_join(thread, NULL);
            __atomic_add_fetch(made, 1, __ATOMIC_RELAXED);
        }
    }
    return NULL;
}

// Prints `ready`; for each line `made N`; ends at the end of input.
static int spawner_main(int argc, char **argv) {
    (void)argc;
    (void)argv;
    unsigned long made = 0;
    pthread_t threads[3];
    for (int index = 0; index < 3; index++) pthread_create(&threads[index], NULL, spawner, &made);
    say("ready");
    char line[16];
    while (await_line(line, sizeof line)) {
        printf("made %lu\n", __atomic_load_n(&made, __ATOMIC_RELAXED));
        fflush(stdout);
    }
    finish = 1;
    for (int index = 0; index < 3; index++) pthread_join(threads[index], NULL);
    return 0;
}

// --- trace-trap: SIGTRAP ignored, blocked and pending, handled, or left alone ---

static volatile sig_atomic_t traps;

static void on_trap(int signal) {
    (void)signal;
    traps++;
}

// Prints `ready`; for each line `ignored I pending P handled N`.
static int trap(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "default";
    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_RESTART};
    if (strcmp(how, "ignored") == 0) action.sa_handler = SIG_IGN;
    if (strcmp(how, "pending") == 0 || strcmp(how, "handled") == 0) action.sa_handler = on_trap;
    sigaction(SIGTRAP, &action, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTRAP);
    if (strcmp(how, "pending") == 0) {
        sigprocmask(SIG_BLOCK, &set, NULL);
        raise(SIGTRAP);
    }
    say("ready");
    char line[16];
    while (await_line(line, sizeof line)) {
        struct sigaction now;
        sigaction(SIGTRAP, NULL, &now);
        sigset_t waiting;
        sigpending(&waiting);
        int pending = sigismember(&waiting, SIGTRAP);
        if (strcmp(line, "unblock\n") == 0) sigprocmask(SIG_UNBLOCK, &set, NULL);
        printf("ignored %d pending %d handled %d\n", now.sa_handler == SIG_IGN, pending, (int)traps);
        fflush(stdout);
    }
    return 0;
}

// --- trace-memory: pages of every protection ---

enum { page = 4096, dense_pages = 64 };

static unsigned char *pages(size_t count) {
    unsigned char *start = mmap(NULL, count * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) exit(1);
    return start;
}

// Prints `NAME ADDRESS` a mapping, `ready`, and waits for the end of input. Byte 0 of page n is n + 1.
static int memory(int argc, char **argv) {
    (void)argc;
    (void)argv;
    // Holes between them keep the mappings apart.
    unsigned char *dense = pages(dense_pages + 1);
    munmap(dense + dense_pages * page, page);
    for (size_t index = 0; index < dense_pages; index++) dense[index * page] = (unsigned char)(index + 1);
    unsigned char *sparse = pages(dense_pages);
    for (size_t index = 0; index < dense_pages; index += 8) sparse[index * page] = (unsigned char)(index + 1);
    unsigned char *hidden = pages(4);
    unsigned char *written = pages(4);
    unsigned char *readonly = pages(4);
    for (size_t index = 0; index < 4; index++) {
        hidden[index * page] = written[index * page] = readonly[index * page] = (unsigned char)(index + 1);
    }
    mprotect(hidden, 4 * page, PROT_NONE);
    mprotect(written, 4 * page, PROT_WRITE);
    mprotect(readonly, 4 * page, PROT_READ);
    unsigned char *guarded = pages(4);
    for (size_t index = 0; index < 4; index++) guarded[index * page] = (unsigned char)(index + 1);
    // MADV_GUARD_INSTALL, Linux 6.13.
    int has_guard = madvise(guarded + 2 * page, page, 102) == 0;
    printf("dense %p\nsparse %p\nhidden %p\nwritten %p\nreadonly %p\n", dense, sparse, hidden, written, readonly);
    printf("guarded %p\nguard %d\n", guarded, has_guard);
    say("ready");
    char line[16];
    while (await_line(line, sizeof line)) {
    }
    return 0;
}

// --- trace-rseq: a restartable sequence that spins ---

#if defined(__x86_64__)
static volatile long generation;
static volatile long restarts;

// A sequence that takes `generation` at its beginning and ends when `finish` is set. Whoever stops the thread in it must make it
// begin again, as the kernel does at every preemption.
static long sequence(void) {
    struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
    volatile uint64_t *section = (volatile uint64_t *)(void *)&area->rseq_cs;
    long seen = 0;
    __asm__ volatile(
        ".pushsection .data.sequences, \"aw\"\n"
        ".balign 32\n"
        "3: .long 0, 0\n"
        ".quad 1f, 2f - 1f, 4f\n"
        ".popsection\n"
        "0: leaq 3b(%%rip), %%rax\n"
        "movq %%rax, %[section]\n"
        "1: movq %[generation], %[seen]\n"
        "5: cmpl $0, %[finish]\n"
        "je 5b\n"
        "2: movq $0, %[section]\n"
        "jmp 6f\n"
        ".byte 0x0f, 0xb9, 0x3d\n"
        ".long 0x53053053\n"
        "4: incq %[restarts]\n"
        "jmp 0b\n"
        "6:\n"
        : [seen] "=&r"(seen), [restarts] "+m"(restarts)
        : [section] "m"(*section), [generation] "m"(generation), [finish] "m"(finish)
        : "rax", "cc", "memory");
    return seen;
}

static void *run_sequence(void *argument) {
    *(long *)argument = sequence();
    return NULL;
}

// Prints the address of `generation` and `ready`; after a line `seen N restarts N`.
static int rseq_main(int argc, char **argv) {
    (void)argc;
    (void)argv;
    long seen = -1;
    pthread_t thread;
    pthread_create(&thread, NULL, run_sequence, &seen);
    printf("generation %p\n", (void *)&generation);
    say("ready");
    char line[16];
    if (!await_line(line, sizeof line)) return 1;
    finish = 1;
    pthread_join(thread, NULL);
    printf("seen %ld restarts %ld\n", seen, restarts);
    fflush(stdout);
    return 0;
}
#endif

// --- trace-leaderless: the first thread ends before the others ---

static void *wait_for_end(void *argument) {
    char line[16];
    while (await_line(line, sizeof line)) {
    }
    _exit(argument == NULL ? 0 : 1);
}

static int leaderless(int argc, char **argv) {
    (void)argc;
    (void)argv;
    pthread_t thread;
    pthread_create(&thread, NULL, wait_for_end, NULL);
    say("ready");
    pthread_exit(NULL);
}

const struct victim_mode trace_modes[] = {
#if defined(__x86_64__)
    {"trace-rseq", rseq_main},
#endif
    {"trace-leaderless", leaderless},
    {"trace-blocked", blocked},
    {"trace-spawner", spawner_main},
    {"trace-trap", trap},
    {"trace-memory", memory},
    {NULL, NULL},
};
