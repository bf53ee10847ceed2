// SPDX-License-Identifier: Apache-2.0
//
// `Victim paced THREADS PAGES RATE`: threads that together write to RATE pages a second, by the clock: what a busy machine has kept them
// from they make up for. Each goes round through PAGES pages of its own. Prints `ready`.
#define _GNU_SOURCE
#include "victim.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { page_bytes = 4096, most_threads = 64, nanoseconds = 1000000000 };

struct paced {
    char *start;
    uint64_t pages;
    double rate;
    pthread_t thread;
};

// All threads have begun.
static pthread_barrier_t begun;

static double seconds_since(const struct timespec *begin) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - begin->tv_sec) + (double)(now.tv_nsec - begin->tv_nsec) / nanoseconds;
}

static void *write_paced(void *argument) {
    const struct paced *paced = argument;
    const struct timespec breath = {.tv_nsec = 2000000};
    pthread_barrier_wait(&begun);
    struct timespec begin;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (uint64_t written = 0;;) {
        uint64_t due = (uint64_t)(seconds_since(&begin) * paced->rate);
        for (; written < due; written++) {
            volatile uint64_t *word = (volatile uint64_t *)(paced->start + written % paced->pages * page_bytes);
            *word = written;
        }
        nanosleep(&breath, NULL);
    }
    return NULL;
}

static int run(int argc, char **argv) {
    static struct paced threads[most_threads];
    int count = argc > 1 ? atoi(argv[1]) : 1;
    uint64_t pages = argc > 2 ? strtoull(argv[2], NULL, 10) : 16384;
    double rate = argc > 3 ? strtod(argv[3], NULL) : 1000;
    if (count < 1 || count > most_threads || pages < 1) return 64;
    if (pthread_barrier_init(&begun, NULL, (unsigned)count + 1) != 0) return 71;
    for (int index = 0; index < count; index++) {
        char *start = mmap(NULL, pages * page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        // A huge page is written as one.
        if (start == MAP_FAILED || madvise(start, pages * page_bytes, MADV_NOHUGEPAGE) != 0) return 71;
        memset(start, 1, pages * page_bytes);
        threads[index] = (struct paced){.start = start, .pages = pages, .rate = rate / count};
        if (pthread_create(&threads[index].thread, NULL, write_paced, &threads[index]) != 0) return 71;
    }
    pthread_barrier_wait(&begun);
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}

const struct victim_mode paced_modes[] = {
    {"paced", run},
    {NULL, NULL},
};
