// SPDX-License-Identifier: Apache-2.0
//
// Victims of the tests of Checkpoint alone.
#define _GNU_SOURCE
#include "victim.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int wait_for_end(void) {
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
    }
    return 0;
}

static void ready(void) {
    puts("ready");
    fflush(stdout);
}

/// A mount namespace of its own in which all is as outside.
static int run_equal_mounts(int argc, char **argv) {
    (void)argc;
    (void)argv;
    if (unshare(CLONE_NEWNS) != 0) {
        return 71;
    }
    ready();
    return wait_for_end();
}

/// Eight pages in known states; prints `at ADDRESS` of the first: data, untouched, zeros written, read only once, data
/// without protection, guard, data, untouched.
static int run_pages(int argc, char **argv) {
    (void)argc;
    (void)argv;
    char *start = mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) {
        return 71;
    }
    memset(start, 'a', 4096);
    memset(start + 2 * 4096, 1, 4096);
    memset(start + 2 * 4096, 0, 4096);
    (void)*(volatile char *)(start + 3 * 4096);
    memset(start + 4 * 4096, 'e', 4096);
    mprotect(start + 4 * 4096, 4096, PROT_NONE);
    madvise(start + 5 * 4096, 4096, 102 /* MADV_GUARD_INSTALL */);
    memset(start + 6 * 4096, 'g', 4096);
    printf("at %lx\n", (unsigned long)start);
    ready();
    return wait_for_end();
}

static char *map_shared(int descriptor, size_t pages) {
    int flags = MAP_SHARED | (descriptor < 0 ? MAP_ANONYMOUS : 0);
    return mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, flags, descriptor, 0);
}

static void tell_shared(const char *kind, char *start) {
    memset(start, 's', 16 * 4096);
    printf("%s %lx\n", kind, (unsigned long)start);
}

/// Shared memory of every kind, told by `KIND ADDRESS`; that of kind `lazy` has 32 pages, which no page table shows: data, hole, zeros
/// written, hole, data, and data again from page 20 on.
static int run_objects(int argc, char **argv) {
    (void)argc;
    (void)argv;
    char *lazy = map_shared(-1, 32);
    memset(lazy, 'a', 4096);
    memset(lazy + 2 * 4096, 0, 4096);
    memset(lazy + 4 * 4096, 'e', 4096);
    memset(lazy + 20 * 4096, 'u', 12 * 4096);
    madvise(lazy, 32 * 4096, MADV_DONTNEED);
    printf("lazy %lx\n", (unsigned long)lazy);
    int memfd = memfd_create("objects", MFD_CLOEXEC);
    if (ftruncate(memfd, 16 * 4096) != 0) {
        return 71;
    }
    tell_shared("opened", map_shared(memfd, 16));
    char *small = map_shared(-1, 15);
    memset(small, 's', 15 * 4096);
    printf("small %lx\n", (unsigned long)small);
    char *twice = map_shared(-1, 16);
    tell_shared("twice", twice);
    mremap(twice, 0, 4 * 4096, MREMAP_MAYMOVE);
    char *locked = map_shared(-1, 16);
    tell_shared("locked", locked);
    mlock(locked + 4096, 4096);
    char *outside = map_shared(-1, 32);
    tell_shared("outside", outside);
    munmap(outside + 4 * 4096, 4 * 4096);
    // What is mapped of it holds all that there is.
    char *cut = map_shared(-1, 32);
    tell_shared("cut", cut);
    munmap(cut + 20 * 4096, 4 * 4096);
    ready();
    return wait_for_end();
}

/// Prints a line for every tenth of a second that has passed, and one for every call that was interrupted.
static int run_ticking(int argc, char **argv) {
    (void)argc;
    (void)argv;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event;
    ready();
    for (int tick = 1;; tick++) {
        if (epoll_wait(epoll, &event, 1, 100) < 0) {
            puts("interrupted");
        }
        printf("tick %d\n", tick);
        fflush(stdout);
    }
}

// Sleeps of different lengths, none of which ends during a test.

static int word;

static void *sleep_in_poll(void *unused) {
    struct pollfd entry = {.fd = -1};
    poll(&entry, 1, 400 * 1000);
    return unused;
}
static void *sleep_without_rest(void *unused) {
    struct timespec time = {.tv_sec = 500};
    // The C library makes clock_nanosleep of it.
    syscall(SYS_nanosleep, &time, NULL);
    return unused;
}
static void *sleep_with_rest(void *unused) {
    struct timespec time = {.tv_sec = 600};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &time, &time);
    return unused;
}
static void *sleep_in_futex(void *unused) {
    struct timespec time = {.tv_sec = 700};
    syscall(SYS_futex, &word, FUTEX_WAIT, 0, &time, NULL, 0);
    return unused;
}
static void *sleep_in_epoll(void *unused) {
    struct epoll_event event;
    epoll_wait(epoll_create1(EPOLL_CLOEXEC), &event, 1, 800 * 1000);
    return unused;
}

static void *sleep_for_signal(void *unused) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    struct timespec time = {.tv_sec = 900};
    sigtimedwait(&set, NULL, &time);
    return unused;
}
static void *sleep_in_precise_epoll(void *unused) {
    struct epoll_event event;
    struct timespec time = {.tv_sec = 1000};
    syscall(441 /* epoll_pwait2 */, epoll_create1(EPOLL_CLOEXEC), &event, 1, &time, NULL, 0);
    return unused;
}

static int run_sleeping(int argc, char **argv) {
    (void)argc;
    (void)argv;
    void *(*const bodies[])(void *) = {sleep_in_poll,  sleep_without_rest, sleep_with_rest,       sleep_in_futex,
                                       sleep_in_epoll, sleep_for_signal,   sleep_in_precise_epoll};
    for (size_t index = 0; index < sizeof bodies / sizeof *bodies; index++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, bodies[index], NULL) != 0) {
            return 71;
        }
    }
    ready();
    return wait_for_end();
}

// One-shot timers, each armed when the signal of the last one has been taken; `PERIOD` microseconds at most.
static int run_one_shots(int argc, char **argv) {
    (void)argc;
    long most = atol(argv[1]);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) {
        return 71;
    }
    ready();
    for (unsigned seed = 1;;) {
        struct itimerspec time = {.it_value.tv_nsec = 1000 * (1 + rand_r(&seed) % most)};
        siginfo_t info;
        timer_settime(timer, 0, &time, NULL);
        while (sigwaitinfo(&set, &info) < 0) {
        }
    }
}

const struct victim_mode checkpoint_modes[] = {
    {"one-shots", run_one_shots},
    {"sleeping", run_sleeping},
    {"pages", run_pages},
    {"objects", run_objects},
    {"ticking", run_ticking},
    {"equal-mounts", run_equal_mounts},
    {NULL, NULL},
};
