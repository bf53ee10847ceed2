// SPDX-License-Identifier: Apache-2.0
//
// A program that survives SIGBUS, and counts it.
#define _GNU_SOURCE
#include "victim.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { PAGES = 4096, ZEROS = 1024, PAGE_BYTES = 4096 };

static sigjmp_buf back;
static volatile sig_atomic_t is_touching;
static void *volatile touched;
static volatile bool elsewhere;

static void on_bus(int number, siginfo_t *info, void *context) {
    (void)context;
    if (!is_touching) {
        signal(number, SIG_DFL);
        return;
    }
    // The address names the page.
    if (((uintptr_t)info->si_addr ^ (uintptr_t)touched) >= PAGE_BYTES) elsewhere = true;
    siglongjmp(back, 1);
}

// What read(2) into a page says: 0, or the error.
static int read_into(unsigned char *page) {
    int null = open("/dev/zero", O_RDONLY);
    int error = read(null, page, 1) < 0 ? errno : 0;
    close(null);
    return error;
}

// Everything that the program will touch besides the pages it counts, functions that are bound on their first call among it, so that it
// is here before the source is lost.
static void practise(unsigned char *page) {
    touched = page;
    is_touching = 1;
    if (sigsetjmp(back, 1) == 0) raise(SIGBUS);
    is_touching = 0;
    elsewhere = false;
    (void)read_into(page);
    errno = 0;
    printf("%.0d%s", 0, "");
    fflush(stdout);
}

static bool holds(const unsigned char *page, size_t index) {
    for (size_t byte = 0; byte < PAGE_BYTES; byte += 64) {
        unsigned char wanted = index >= PAGES - ZEROS ? 0 : (unsigned char)(index * 31 + byte / 64 + 1);
        if (page[byte] != wanted) return false;
    }
    return true;
}

// Reads every page; how many raised SIGBUS, or -1 when one was wrong.
static int look(unsigned char *start) {
    volatile int buses = 0;
    for (volatile size_t index = 0; index < PAGES; index++) {
        unsigned char *page = start + index * PAGE_BYTES;
        touched = page;
        is_touching = 1;
        if (sigsetjmp(back, 1) == 0) {
            if (!holds(page, index)) return -1;
        } else {
            buses++;
        }
        is_touching = 0;
    }
    return elsewhere ? -1 : buses;
}

static void wait_for(const char *folder, const char *name, unsigned char *practice) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    while (access(path, F_OK) != 0) {
        practise(practice);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
}

static int bus(int argc, char **argv) {
    if (argc < 2) return 64;
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL);
    unsigned char *start = mmap(NULL, (size_t)PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return 71;
    unsigned char *practice = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (practice == MAP_FAILED) return 71;
    // The last ones exist and are zeros.
    for (size_t index = 0; index < PAGES; index++) {
        for (size_t byte = 0; byte < PAGE_BYTES; byte += 64) {
            *(volatile unsigned char *)(start + index * PAGE_BYTES + byte) =
                index >= PAGES - ZEROS ? 0 : (unsigned char)(index * 31 + byte / 64 + 1);
        }
    }
    puts("ready");
    fflush(stdout);
    wait_for(argv[1], "here", practice);
    practise(practice);
    puts("here");
    fflush(stdout);
    wait_for(argv[1], "look", practice);
    int error = read_into(start + (size_t)(PAGES - 1) * PAGE_BYTES);
    printf("buses %d error %s\n", look(start), error == EFAULT ? "EFAULT" : error == 0 ? "none" : "other");
    fflush(stdout);
    wait_for(argv[1], "go", practice);
    int buses = look(start);
    if (buses != 0) return printf("wrong bus: %d\n", buses), 1;
    return puts("ok bus"), 0;
}

const struct victim_mode bus_modes[] = {{"bus", bus}, {0}};
