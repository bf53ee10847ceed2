// SPDX-License-Identifier: Apache-2.0
//
// `Victim heapy FOLDER THREADS`: threads that allocate, reallocate and free blocks of every size, so that the allocator maps, unmaps, moves
// and throws away memory (malloc_trim is MADV_DONTNEED), and write about 100 MiB a second together. Every block knows what it holds.
// When FOLDER/go appears: `ok heapy` or `wrong heapy: what`.
#define _GNU_SOURCE
#include "victim.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCKS = 64, MOST_THREADS = 64 };

struct block {
    uint64_t *words;
    size_t count;
    uint64_t seed;
};

static struct block blocks[MOST_THREADS][BLOCKS];
static atomic_bool stopping, wrong;
static int thread_count;

static uint64_t next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static bool holds(const struct block *block, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (block->words[i] != (block->seed ^ i * 0x9e3779b97f4a7c15u)) return false;
    }
    return true;
}

static void fill(struct block *block, uint64_t seed) {
    block->seed = seed;
    for (size_t i = 0; i < block->count; i++) block->words[i] = seed ^ i * 0x9e3779b97f4a7c15u;
}

// Blocks of 16 bytes to 1 MiB, small ones more often.
static size_t size(uint64_t *state) {
    return (size_t)2 + (next(state) >> 20) % ((size_t)1 << (4 + next(state) % 14));
}

static void *work(void *argument) {
    struct block *own = argument;
    uint64_t state = (uint64_t)(own - blocks[0]) * 2654435761u + 99;
    while (!atomic_load(&stopping)) {
        struct block *block = &own[next(&state) % BLOCKS];
        size_t count = size(&state);
        if (block->words != NULL && next(&state) % 3 == 0) {
            size_t kept = count < block->count ? count : block->count;
            block->words = realloc(block->words, count * sizeof *block->words);
            if (block->words == NULL || !holds(block, kept)) atomic_store(&wrong, true);
        } else {
            if (block->words != NULL && !holds(block, block->count)) atomic_store(&wrong, true);
            free(block->words);
            block->words = malloc(count * sizeof *block->words);
        }
        if (block->words == NULL) break;
        block->count = count;
        fill(block, next(&state));
        if (next(&state) % 200 == 0) malloc_trim(0);
        // All threads together write about 25,000 pages a second.
        nanosleep(&(struct timespec){.tv_nsec = (long)(count / 512 + 1) * 40000 * thread_count}, NULL);
    }
    return NULL;
}

static int heapy(int argc, char **argv) {
    if (argc < 3) return 64;
    char go[4096];
    snprintf(go, sizeof go, "%s/go", argv[1]);
    thread_count = atoi(argv[2]);
    if (thread_count < 1 || thread_count > MOST_THREADS) return 64;
    pthread_t threads[MOST_THREADS];
    for (int i = 0; i < thread_count; i++) {
        if (pthread_create(&threads[i], NULL, work, blocks[i]) != 0) return 71;
    }
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    puts("ready");
    fflush(stdout);
    while (access(go, F_OK) != 0) nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    atomic_store(&stopping, true);
    for (int i = 0; i < thread_count; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < thread_count; i++) {
        for (int n = 0; n < BLOCKS; n++) {
            if (blocks[i][n].words == NULL || holds(&blocks[i][n], blocks[i][n].count)) continue;
            return printf("wrong heapy: thread %d block %d\n", i, n), 1;
        }
    }
    if (atomic_load(&wrong)) return puts("wrong heapy: on the way"), 1;
    return puts("ok heapy"), 0;
}

const struct victim_mode heapy_modes[] = {{"heapy", heapy}, {0}};
