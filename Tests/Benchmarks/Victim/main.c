// SPDX-License-Identifier: Apache-2.0
//
// What the benchmarks move: a given amount of memory, a given number of threads, and one thread that measures.
//
//   BenchmarkVictim MIB THREADS gap [TIB|shared|sparse|asleep]
//                                       the longest time between two instructions, until SIGUSR1, with so much address space besides,
//                                       or with shared memory, or with one page of 64, or with a hundredth of a second of sleep in between
//   BenchmarkVictim MIB THREADS touch [scattered|clustered|sequential|strided [TOUCHERS [told]]]
//                                       once it finds itself in another pid namespace (told: and gets SIGUSR2 there): the wait for
//                                       each page
//   BenchmarkVictim MIB THREADS write RATE random|walk page|word small|huge [PLANT]
//                                       writes at a rate, and checks every byte at the end: writer.c
//
// Prints `ready`, and one JSON object at the end. Exit status: 0 every page right, 1 a wrong page, 2 a call failed, 64 usage.
#define _GNU_SOURCE
#include "victim.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { STACK = 64 << 10, HUGE = 2 << 20 };

uint64_t *memory, pages, stride = 1;
volatile sig_atomic_t asked_to_end, asked_to_mark;

static void note(int signal) {
    if (signal == SIGUSR1) asked_to_end = 1; else asked_to_mark = 1;
}

uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t scattered(uint64_t i, uint64_t mask, int bits) {
    uint64_t x = i * 0x9e3779b97f4a7c15u & mask;
    x ^= x >> (bits + 1) / 2;
    x = x * 0xd1342543de82ef95u & mask;
    x ^= x >> (bits + 1) / 2;
    return x;
}

int bits_of_pages(void) {
    int bits = 0;
    while (UINT64_C(1) << bits < pages) bits++;
    return bits;
}

// The first word of a page follows from its number alone and is never zero.
uint64_t first_word(uint64_t page) {
    return (page + 1) * 0x9e3779b97f4a7c15u | 1;
}

void fill(void) {
    for (uint64_t page = 0; page < pages; page += stride) {
        uint64_t *words = memory + page * WORDS, word = first_word(page);
        for (int i = 0; i < WORDS; i++) words[i] = word + (uint64_t)i;
    }
}

static void *wait_for_ever(void *unused) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (;;) pause();
    return unused;
}

static int start_threads(long threads) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    for (long i = 1; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, wait_for_ever, NULL) != 0) return -1;
    }
    return 0;
}

// Starts at a border of huge pages, so that all of it can be huge.
static uint64_t *map(uint64_t size, int is_shared) {
    if (is_shared) {
        void *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        return shared == MAP_FAILED ? NULL : shared;
    }
    char *mapping = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) return NULL;
    uint64_t before = -(uintptr_t)mapping % HUGE;
    if (before > 0) munmap(mapping, before);
    munmap(mapping + before + size, HUGE - before);
    return (uint64_t *)(mapping + before);
}

static int usage(const char *name) {
    fprintf(stderr, "usage: %s MIB THREADS gap [TIB|shared|sparse|asleep]|touch [ORDER [TOUCHERS [told]]]|write RATE random|walk page|word small|huge [PLANT]\n", name);
    return 64;
}

int main(int argc, char **argv) {
    const char *mode = argc >= 4 ? argv[3] : "";
    int writes = strcmp(mode, "write") == 0, touches = strcmp(mode, "touch") == 0;
    const char *order = argc >= 5 ? argv[4] : "scattered";
    long touchers = argc >= 6 ? strtol(argv[5], NULL, 10) : 1;
    if (writes ? argc != 8 && argc != 9 : touches ? argc > 7 || touchers < 1 : argc > 5 || strcmp(mode, "gap") != 0) {
        return usage(argv[0]);
    }
    pages = strtoull(argv[1], NULL, 10) * 256;
    int has_kind = !writes && !touches && argc == 5, is_shared = has_kind && strcmp(argv[4], "shared") == 0;
    int sleeps = has_kind && strcmp(argv[4], "asleep") == 0;
    if (has_kind && strcmp(argv[4], "sparse") == 0) stride = 64;
    memory = map(pages * PAGE, is_shared);
    struct sigaction action = {.sa_handler = note};
    char start[64] = {0};
    if (memory == NULL || sigaction(SIGUSR1, &action, NULL) < 0 || sigaction(SIGUSR2, &action, NULL) < 0
        || start_threads(strtol(argv[2], NULL, 10)) < 0 || readlink("/proc/self/ns/pid", start, sizeof start - 1) < 0) {
        perror(argv[0]);
        return 2;
    }
    if (writes) return measure_writes(argv + 4);
    if (has_kind && !is_shared && !sleeps && stride == 1 && reserve(strtol(argv[4], NULL, 10)) < 0) {
        perror("mmap");
        return 2;
    }
    fill();
    puts("ready");
    fflush(stdout);
    return strcmp(mode, "gap") == 0 ? measure_gap(sleeps) : measure_touches(start, order, touchers, argc == 7);
}
