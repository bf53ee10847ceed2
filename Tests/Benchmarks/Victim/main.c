// SPDX-License-Identifier: Apache-2.0
//
// What the benchmarks move: a given amount of memory, a given number of threads, and one thread that measures.
//
//   BenchmarkVictim MIB THREADS gap     the longest time between two instructions, until SIGUSR1
//   BenchmarkVictim MIB THREADS touch   once it finds itself in another pid namespace: the wait for each page, in scattered order
//
// Prints `ready`, and one JSON object at the end. Exit status: 0 every page right, 1 a wrong page, 2 a call failed, 64 usage.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, STACK = 64 << 10, PER_OCTAVE = 32, BUCKETS = 40 * PER_OCTAVE };
// A touch that takes longer has waited for a page; one of a page that is there takes well below a microsecond.
enum { WAITED_NANOSECONDS = 4000 };

static uint64_t *memory, pages;
static uint64_t buckets[BUCKETS], waits, longest;
static atomic_int asked_to_end;

static void end(int signal) {
    (void)signal;
    atomic_store(&asked_to_end, 1);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

// The first word of a page follows from its number alone and is never zero.
static uint64_t first_word(uint64_t page) {
    return (page + 1) * 0x9e3779b97f4a7c15u | 1;
}

static void fill(void) {
    for (uint64_t page = 0; page < pages; page++) {
        uint64_t *words = memory + page * WORDS, word = first_word(page);
        for (int i = 0; i < WORDS; i++) words[i] = word + (uint64_t)i;
    }
}

static uint64_t count_wrong(void) {
    uint64_t wrong = 0;
    for (uint64_t page = 0; page < pages; page++) wrong += memory[page * WORDS] != first_word(page);
    return wrong;
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

// ---- gap ----

static int measure_gap(void) {
    uint64_t last = now(), gap = 0;
    while (!atomic_load(&asked_to_end)) {
        uint64_t moment = now();
        if (moment - last > gap) gap = moment - last;
        last = moment;
    }
    uint64_t wrong = count_wrong();
    printf("{\"gap\":%.9f,\"wrong\":%llu}\n", (double)gap / 1e9, (unsigned long long)wrong);
    return wrong != 0;
}

// ---- touch ----

static int bucket_of(uint64_t nanoseconds) {
    int octave = 63 - __builtin_clzll(nanoseconds | PER_OCTAVE);
    int bucket = (octave - 5) * PER_OCTAVE + (int)(nanoseconds >> (octave - 5));
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static double upper_microseconds(int bucket) {
    int octave = bucket / PER_OCTAVE + 4;
    uint64_t nanoseconds = bucket < 2 * PER_OCTAVE ? (uint64_t)bucket + 1
        : (uint64_t)(bucket % PER_OCTAVE + PER_OCTAVE + 1) << (octave - 5);
    return (double)nanoseconds / 1000;
}

static double percentile(double share) {
    uint64_t rank = (uint64_t)(share * (double)waits), seen = 0;
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        seen += buckets[bucket];
        if (seen > rank) return upper_microseconds(bucket);
    }
    return (double)longest / 1000;
}

// Every number below a power of two once, without a table: odd multiplications and shifts are invertible.
static uint64_t scattered(uint64_t i, uint64_t mask, int bits) {
    uint64_t x = i * 0x9e3779b97f4a7c15u & mask;
    x ^= x >> (bits + 1) / 2;
    x = x * 0xd1342543de82ef95u & mask;
    x ^= x >> (bits + 1) / 2;
    return x;
}

static int measure_touches(const char *start) {
    char name[64];
    do {
        usleep(200);
        ssize_t length = readlink("/proc/self/ns/pid", name, sizeof name - 1);
        if (length < 0) return 2;
        name[length] = 0;
    } while (strcmp(name, start) == 0 && !atomic_load(&asked_to_end));
    int bits = 0;
    while (UINT64_C(1) << bits < pages) bits++;
    uint64_t wrong = 0, begin = now();
    for (uint64_t i = 0; i < UINT64_C(1) << bits; i++) {
        uint64_t page = scattered(i, (UINT64_C(1) << bits) - 1, bits);
        if (page >= pages) continue;
        uint64_t before = now(), word = *(volatile uint64_t *)(memory + page * WORDS), waited = now() - before;
        wrong += word != first_word(page);
        if (waited < WAITED_NANOSECONDS) continue;
        buckets[bucket_of(waited)]++;
        waits++;
        if (waited > longest) longest = waited;
    }
    printf("{\"seconds\":%.6f,\"touches\":%llu,\"waits\":%llu,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,"
        "\"max\":%.1f,\"wrong\":%llu}\n",
        (double)(now() - begin) / 1e9, (unsigned long long)pages, (unsigned long long)waits, percentile(0.5),
        percentile(0.9), percentile(0.99), percentile(0.999), (double)longest / 1000, (unsigned long long)wrong);
    return wrong != 0;
}

int main(int argc, char **argv) {
    if (argc != 4 || (strcmp(argv[3], "gap") != 0 && strcmp(argv[3], "touch") != 0)) {
        fprintf(stderr, "usage: %s MIB THREADS gap|touch\n", argv[0]);
        return 64;
    }
    pages = strtoull(argv[1], NULL, 10) * 256;
    memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct sigaction action = {.sa_handler = end};
    char start[64] = {0};
    if (memory == MAP_FAILED || sigaction(SIGUSR1, &action, NULL) < 0 || start_threads(strtol(argv[2], NULL, 10)) < 0
        || readlink("/proc/self/ns/pid", start, sizeof start - 1) < 0) {
        perror(argv[0]);
        return 2;
    }
    fill();
    puts("ready");
    fflush(stdout);
    return strcmp(argv[3], "gap") == 0 ? measure_gap() : measure_touches(start);
}
