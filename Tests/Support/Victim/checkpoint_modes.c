// SPDX-License-Identifier: Apache-2.0
//
// Victims of the tests of Checkpoint alone.
#define _GNU_SOURCE
#include "victim.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
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

const struct victim_mode checkpoint_modes[] = {
    {"pages", run_pages},
    {"ticking", run_ticking},
    {"equal-mounts", run_equal_mounts},
    {NULL, NULL},
};
