// SPDX-License-Identifier: Apache-2.0
//
// `Victim churn FOLDER SEED THREADS STEPS [spoil]`: threads that change their memory in every way they can, about STEPS times a millisecond each
// (0: as fast as they can), until FOLDER/go appears. What the memory must hold follows from the seed and the number of steps alone, so
// at the end everything is played again without the memory, and compared.
//
// Prints `ready`, now and then `steps N` (never less than before), and one line `ok churn` or `wrong churn: what`.
#define _GNU_SOURCE
#include "victim.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, SLOTS = 24, MOST_PAGES = 256, MOST_THREADS = 64, GUARD_INSTALL = 102, GUARD_REMOVE = 103 };
static const uintptr_t area = 0x200000000000, area_of_thread = 1ul << 36, area_of_slot = 16ul << 20, area_of_home = 8ul << 20;

// What one page must be.
struct page {
    uint32_t stamp; // the step that wrote it, 0 for zeros
    uint8_t mapped, protection, guarded;
};

struct slot {
    struct page pages[MOST_PAGES];
    uint32_t home;
};

struct worker {
    struct slot slots[SLOTS];
    uint64_t random;
    uint32_t step, number;
    char *failed;
    pthread_t thread;
};

static struct worker workers[MOST_THREADS];
static int worker_count;
static long steps_per_millisecond;
static atomic_bool stopping;
static atomic_uint_fast64_t published[MOST_THREADS];

static uint64_t next(struct worker *worker) {
    worker->random ^= worker->random << 13;
    worker->random ^= worker->random >> 7;
    worker->random ^= worker->random << 17;
    return worker->random * 0x2545f4914f6cdd1du >> 11;
}

static char *place(const struct worker *worker, uint32_t slot, uint32_t home, uint32_t page) {
    return (char *)(area + worker->number * area_of_thread + slot * area_of_slot + home * area_of_home + page * (uintptr_t)PAGE);
}

static uint64_t word(uint32_t stamp, uint32_t page, uint32_t index) {
    return stamp == 0 ? 0 : ((uint64_t)stamp << 32 | page << 10 | index) * 0x9e3779b97f4a7c15u;
}

// ---- steps: `real` does them, else only the books are kept ----

// A call that fails is a bug of this program, or memory that is not what it must be.
static void must(struct worker *worker, bool is_right, const char *what) {
    if (!is_right && worker->failed == NULL && asprintf(&worker->failed, "step %u: %s: %m", worker->step, what) < 0) abort();
}

static void fill(struct worker *worker, uint32_t slot, uint32_t page, bool real) {
    struct page *entry = &worker->slots[slot].pages[page];
    if (!entry->mapped || entry->guarded || entry->protection != (PROT_READ | PROT_WRITE)) return;
    entry->stamp = worker->step;
    if (!real) return;
    uint64_t *words = (uint64_t *)place(worker, slot, worker->slots[slot].home, page);
    for (uint32_t i = 0; i < WORDS; i++) words[i] = word(entry->stamp, page, i);
}

static void fill_range(struct worker *worker, uint32_t slot, uint32_t first, uint32_t count, bool real) {
    for (uint32_t i = first; i < first + count; i++) fill(worker, slot, i, real);
}

static bool is_mapped(const struct slot *slot, uint32_t first, uint32_t count) {
    for (uint32_t i = first; i < first + count; i++) {
        if (!slot->pages[i].mapped) return false;
    }
    return true;
}

// The slot is one mapping from its first page on: so long, or 0.
static uint32_t whole_length(const struct slot *slot) {
    uint32_t length = 0;
    while (length < MOST_PAGES && slot->pages[length].mapped) length++;
    for (uint32_t i = 0; i < MOST_PAGES; i++) {
        bool differs = slot->pages[i].mapped != (i < length);
        if (differs || (i < length && slot->pages[i].protection != slot->pages[0].protection)) return 0;
    }
    return length;
}

static void map(struct worker *worker, uint32_t slot, uint32_t first, uint32_t count, bool real) {
    struct slot *it = &worker->slots[slot];
    for (uint32_t i = first; i < first + count; i++) it->pages[i] = (struct page){.mapped = 1, .protection = PROT_READ | PROT_WRITE};
    char *at = place(worker, slot, it->home, first);
    if (real) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
        must(worker, mmap(at, (size_t)count * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0) == at, "mmap");
    }
}

static void unmap(struct worker *worker, uint32_t slot, uint32_t first, uint32_t count, bool real) {
    struct slot *it = &worker->slots[slot];
    memset(&it->pages[first], 0, count * sizeof it->pages[0]);
    if (real) must(worker, munmap(place(worker, slot, it->home, first), (size_t)count * PAGE) == 0, "munmap");
}

static void protect(struct worker *worker, uint32_t slot, uint32_t first, uint32_t count, uint8_t protection, bool real) {
    struct slot *it = &worker->slots[slot];
    if (!is_mapped(it, first, count)) return;
    for (uint32_t i = first; i < first + count; i++) it->pages[i].protection = protection;
    char *at = place(worker, slot, it->home, first);
    if (real) must(worker, mprotect(at, (size_t)count * PAGE, protection) == 0, "mprotect");
}

static void move(struct worker *worker, uint32_t slot, bool real) {
    struct slot *it = &worker->slots[slot];
    uint32_t length = whole_length(it);
    if (length == 0) return;
    char *from = place(worker, slot, it->home, 0);
    it->home = 1 - it->home;
    char *to = place(worker, slot, it->home, 0);
    size_t bytes = (size_t)length * PAGE;
    if (!real || mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to) return;
    // To the kernel it is more than one mapping: what has been moved and what was mapped beside it later do not merge. Linux 6.17 moves
    // several, but none that is registered with a userfaultfd, and stops in the middle then.
    for (size_t offset = 0; offset < bytes; offset += PAGE) {
        unsigned char resident;
        char *moved = mremap(from + offset, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + offset);
        if (moved != to + offset) must(worker, mincore(to + offset, PAGE, &resident) == 0, "mremap to move a page");
    }
}

static void grow(struct worker *worker, uint32_t slot, uint32_t by, bool real) {
    struct slot *it = &worker->slots[slot];
    uint32_t length = whole_length(it);
    if (length == 0 || length + by > MOST_PAGES) return;
    for (uint32_t i = length; i < length + by; i++) it->pages[i] = (struct page){.mapped = 1, .protection = it->pages[0].protection};
    char *at = place(worker, slot, it->home, 0);
    size_t bytes = (size_t)length * PAGE, more = (size_t)by * PAGE;
    if (!real || mremap(at, bytes, bytes + more, 0) == at) return;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    must(worker, mmap(at + bytes, more, it->pages[0].protection, flags, -1, 0) == at + bytes, "mmap to grow");
}

// Fills pages whatever their protection is.
static void overwrite(struct worker *worker, uint32_t slot, uint32_t first, uint32_t count, bool real) {
    struct slot *it = &worker->slots[slot];
    for (uint32_t i = first; i < first + count; i++) {
        struct page *page = &it->pages[i];
        if (page->protection == (PROT_READ | PROT_WRITE)) continue;
        if (real) must(worker, mprotect(place(worker, slot, it->home, i), PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect");
        page->protection = PROT_READ | PROT_WRITE;
    }
    fill_range(worker, slot, first, count, real);
}

static void advise(struct worker *worker, uint32_t slot, uint32_t first, uint32_t count, int advice, bool real) {
    struct slot *it = &worker->slots[slot];
    if (!is_mapped(it, first, count)) return;
    for (uint32_t i = first; i < first + count; i++) {
        struct page *page = &it->pages[i];
        if (advice == MADV_DONTNEED || advice == GUARD_INSTALL) page->stamp = 0;
        if (advice == GUARD_INSTALL) page->guarded = 1;
        if (advice == GUARD_REMOVE) page->guarded = 0;
    }
    if (real) must(worker, madvise(place(worker, slot, it->home, first), (size_t)count * PAGE, advice) == 0, "madvise");
    // What is written afterwards is not lazily freed any more; and what was there before a guard may be there again behind it, since
    // the kernel tells a restorer neither when a guard comes nor when it goes (WhatIsCarried, "Limits that are not refusals").
    if (advice == MADV_FREE || advice == GUARD_REMOVE) overwrite(worker, slot, first, count, real);
}

static void step(struct worker *worker, bool real) {
    worker->step++;
    uint32_t slot = (uint32_t)(next(worker) % SLOTS), choice = (uint32_t)(next(worker) % 100);
    uint32_t first = (uint32_t)(next(worker) % MOST_PAGES), most = MOST_PAGES - first;
    uint32_t count = 1 + (uint32_t)(next(worker) % (next(worker) % 8 == 0 ? most : most < 12 ? most : 12));
    if (choice < 70) {
        fill_range(worker, slot, first, count, real);
    } else if (choice < 76) {
        map(worker, slot, first, count, real);
        if (choice % 2 == 0) fill_range(worker, slot, first, count, real);
    } else if (choice < 79) {
        unmap(worker, slot, first, count, real);
    } else if (choice < 85) {
        const uint8_t protections[] = {PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE};
        protect(worker, slot, first, count, protections[next(worker) % 4], real);
    } else if (choice < 87) {
        move(worker, slot, real);
    } else if (choice < 89) {
        grow(worker, slot, count, real);
    } else if (choice < 93) {
        advise(worker, slot, first, count, MADV_DONTNEED, real);
    } else if (choice < 95) {
        advise(worker, slot, first, count, MADV_FREE, real);
    } else if (choice < 96) {
        advise(worker, slot, first, count, next(worker) % 2 == 0 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE, real);
    } else if (choice < 97) {
        advise(worker, slot, first, count, GUARD_INSTALL, real);
    } else if (choice < 98) {
        advise(worker, slot, first, count, GUARD_REMOVE, real);
    } else {
        map(worker, slot, 0, MOST_PAGES, real);
        fill_range(worker, slot, first, most, real);
    }
}

static void begin(struct worker *worker, uint32_t number, uint64_t seed) {
    memset(worker, 0, sizeof *worker);
    worker->number = number;
    worker->random = seed * 0x9e3779b97f4a7c15u + number + 1;
}

static void *work(void *argument) {
    struct worker *worker = argument;
    while (!atomic_load(&stopping) && worker->failed == NULL) {
        long steps = steps_per_millisecond > 0 ? steps_per_millisecond : 64;
        for (long i = 0; i < steps; i++) step(worker, true);
        atomic_store(&published[worker->number], worker->step);
        if (steps_per_millisecond > 0) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return NULL;
}

// ---- the comparison ----

static sigjmp_buf after_fault;

static void faulted(int signal) {
    siglongjmp(after_fault, signal);
}

// Says what the last steps did to a page, by playing them once more.
static void tell_history(const struct worker *worker, uint64_t seed, uint32_t slot, uint32_t page) {
    enum { LAST = 6 };
    char lines[LAST][100] = {""};
    struct worker *again = malloc(sizeof *again);
    begin(again, worker->number, seed);
    uint32_t count = 0;
    while (again->step < worker->step) {
        struct page before = again->slots[slot].pages[page];
        uint32_t home = again->slots[slot].home;
        struct worker ahead = {.random = again->random};
        next(&ahead);
        uint32_t choice = (uint32_t)(next(&ahead) % 100);
        step(again, false);
        const struct page *now = &again->slots[slot].pages[page];
        if (memcmp(&before, now, sizeof before) == 0 && home == again->slots[slot].home) continue;
        snprintf(lines[count++ % LAST], sizeof lines[0], "step %u, choice %u: stamp %u mapped %d guarded %d protection %d home %u",
                 again->step, choice, now->stamp, now->mapped, now->guarded, now->protection, again->slots[slot].home);
    }
    for (uint32_t i = count < LAST ? 0 : count - LAST; i < count; i++) fprintf(stderr, "%s\n", lines[i % LAST]);
    fprintf(stderr, "all %u steps\n", worker->step);
    free(again);
}

// 0 right, else what is wrong is printed.
static int compare_page(const struct worker *worker, uint64_t seed, uint32_t slot, uint32_t page) {
    const struct page *entry = &worker->slots[slot].pages[page];
    uint64_t *words = (uint64_t *)place(worker, slot, worker->slots[slot].home, page);
    int signal = sigsetjmp(after_fault, 1);
    uint32_t i = 0;
    if (signal == 0) {
        if (entry->mapped && entry->protection == PROT_NONE) mprotect(words, PAGE, PROT_READ);
        for (; i < WORDS; i++) {
            if (((volatile uint64_t *)words)[i] != word(entry->stamp, page, i)) break;
        }
    }
    bool must_fault = !entry->mapped || entry->guarded;
    if (must_fault ? signal == SIGSEGV : signal == 0 && i == WORDS) return 0;
    tell_history(worker, seed, slot, page);
    printf("wrong churn: thread %u slot %u page %u (stamp %u, mapped %d, guarded %d, protection %d): signal %d, word %u\n",
           worker->number, slot, page, entry->stamp, entry->mapped, entry->guarded, entry->protection, signal, i);
    return 1;
}

static int compare(struct worker *worker, uint64_t seed) {
    if (worker->failed != NULL) {
        printf("wrong churn: thread %u: %s\n", worker->number, worker->failed);
        return 1;
    }
    struct worker *again = malloc(sizeof *again);
    begin(again, worker->number, seed);
    while (again->step < worker->step) step(again, false);
    if (again->random != worker->random || memcmp(again->slots, worker->slots, sizeof again->slots) != 0) {
        printf("wrong churn: thread %u: the books differ after %u steps\n", worker->number, worker->step);
        return 1;
    }
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        for (uint32_t page = 0; page < MOST_PAGES; page++) {
            if (compare_page(again, seed, slot, page) != 0) return 1;
        }
    }
    free(again);
    return 0;
}

static void say_steps(void) {
    uint64_t sum = 0;
    for (int i = 0; i < worker_count; i++) sum += atomic_load(&published[i]);
    printf("steps %llu\n", (unsigned long long)sum);
    fflush(stdout);
}

// For the proof that the comparison compares.
static void spoil(struct worker *worker) {
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        for (uint32_t page = 0; page < MOST_PAGES; page++) {
            const struct page *entry = &worker->slots[slot].pages[page];
            if (!entry->mapped || entry->guarded || entry->protection != (PROT_READ | PROT_WRITE)) continue;
            place(worker, slot, worker->slots[slot].home, page)[PAGE - 1] ^= 1;
            return;
        }
    }
}

static int churn(int argc, char **argv) {
    if (argc < 5) return 64;
    char go[4096];
    snprintf(go, sizeof go, "%s/go", argv[1]);
    uint64_t seed = strtoull(argv[2], NULL, 10);
    worker_count = atoi(argv[3]);
    steps_per_millisecond = atol(argv[4]);
    if (worker_count < 1 || worker_count > MOST_THREADS) return 64;
    for (int i = 0; i < worker_count; i++) {
        begin(&workers[i], (uint32_t)i, seed);
        // Something is there from the beginning.
        for (int n = 0; n < 2000; n++) step(&workers[i], true);
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) return 71;
    }
    puts("ready");
    fflush(stdout);
    while (access(go, F_OK) != 0) {
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        say_steps();
    }
    atomic_store(&stopping, true);
    for (int i = 0; i < worker_count; i++) pthread_join(workers[i].thread, NULL);
    say_steps();
    if (argc > 5 && strcmp(argv[5], "spoil") == 0) spoil(&workers[worker_count - 1]);
    struct sigaction action = {.sa_handler = faulted};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    for (int i = 0; i < worker_count; i++) {
        if (compare(&workers[i], seed) != 0) return 1;
    }
    puts("ok churn");
    return 0;
}

const struct victim_mode churn_modes[] = {{"churn", churn}, {0}};
