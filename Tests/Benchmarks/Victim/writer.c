// SPDX-License-Identifier: Apache-2.0
//
// A writer that knows at the end what every byte must be.
//
//   RATE         MiB of pages a second, `max` for as fast as it can; 0 looks at the clock only
//   random|walk  any page each time, or all pages in turn, scattered: so that a tenth of the memory is a tenth of the pages
//   page|word    what is written of a page
//   small|huge   pages of the kernel
//   PLANT        a wrong state at the end: byte (of a page), stale (a page and its counter), table (two counters)
//
// What a page holds follows from its number and from how often it was written, which is kept in a table. The table is
// checked as well: its sum, and its sum with a weight for each page, must be those that were counted with each write; the
// plain count is kept a second time on the stack. So a page, a piece of the table, or both together, that are older than
// they should be, do not go unseen.
//
// On SIGUSR2 it prints a line on the time since it was ready or since the last such line; on SIGUSR1 it checks, prints the
// last line and ends.
#define _GNU_SOURCE
#include "victim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

// A pause is no reason to write faster after it, so time beyond this is not made up for.
enum { NANOSECONDS_MADE_UP_FOR = 20000000, NANOSECONDS_OF_SLEEP = 100000, WORDS_BETWEEN_CLOCKS = 16 };

struct phase {
    uint64_t began, last, gap, writes;
};

static int is_unlimited, is_walk, is_page;
static double pages_per_nanosecond;
static uint16_t *table;
static struct {
    uint64_t count, weighted;
} told;

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t seed_of(uint64_t page, uint64_t count) {
    return mix(page << 16 | count);
}

static uint64_t word_of(uint64_t seed, int i) {
    return seed + (uint64_t)i * 0x9e3779b97f4a7c15u;
}

static uint64_t weight_of(uint64_t page) {
    return mix(~page) | 1;
}

static void store(uint64_t page, uint64_t count, int words) {
    uint64_t *start = memory + page * WORDS, seed = seed_of(page, count);
    for (int i = 0; i < words; i++) start[i] = word_of(seed, i);
}

static void write_once(uint64_t page) {
    if (table[page] == UINT16_MAX) {
        fprintf(stderr, "page %llu was written too often to count\n", (unsigned long long)page);
        exit(2);
    }
    uint64_t count = ++table[page];
    told.count++;
    told.weighted += weight_of(page);
    store(page, count, is_page ? WORDS : 1);
}

static uint64_t next_page(void) {
    static uint64_t state, turn;
    if (!is_walk) {
        state += 0x9e3779b97f4a7c15u;
        return (uint64_t)((unsigned __int128)mix(state) * pages >> 64);
    }
    int bits = bits_of_pages();
    for (;;) {
        uint64_t page = scattered(turn++ & ((UINT64_C(1) << bits) - 1), (UINT64_C(1) << bits) - 1, bits);
        if (page < pages) return page;
    }
}

// ---- Checking ----

static int is_right(uint64_t page) {
    uint64_t *start = memory + page * WORDS, first = seed_of(page, table[page]);
    uint64_t rest = is_page ? first : seed_of(page, 0), different = start[0] ^ word_of(first, 0);
    for (int i = 1; i < WORDS; i++) different |= start[i] ^ word_of(rest, i);
    return different == 0;
}

static uint64_t count_wrong(uint64_t count) {
    uint64_t wrong = 0, sum = 0, weighted = 0;
    for (uint64_t page = 0; page < pages; page++) {
        wrong += !is_right(page);
        sum += table[page];
        weighted += table[page] * weight_of(page);
    }
    return wrong + (sum != count) + (told.count != count) + (told.weighted != weighted);
}

static void plant(const char *what) {
    uint64_t page = 0;
    while (page < pages - 1 && table[page] == 0) page++;
    if (strcmp(what, "byte") == 0) ((char *)(memory + page * WORDS))[PAGE - 1] ^= 1;
    if (strcmp(what, "stale") == 0) store(page, --table[page], is_page ? WORDS : 1);
    // Two that make up for each other in the plain sum.
    if (strcmp(what, "table") == 0) {
        store(page, ++table[page], is_page ? WORDS : 1);
        uint64_t other = page + 1;
        while (other < pages - 1 && table[other] == 0) other++;
        store(other, --table[other], is_page ? WORDS : 1);
    }
}

// ---- Writing ----

static void look_at_clock(struct phase *phase) {
    uint64_t moment = now();
    if (moment - phase->last > phase->gap) phase->gap = moment - phase->last;
    phase->last = moment;
}

static void print_phase(const struct phase *phase, const char *rest) {
    printf("{\"seconds\":%.9f,\"writes\":%llu,\"gap\":%.9f%s}\n", (double)(phase->last - phase->began) / 1e9,
        (unsigned long long)phase->writes, (double)phase->gap / 1e9, rest);
    fflush(stdout);
}

static void sleep_a_little(void) {
    struct timespec time = {.tv_nsec = NANOSECONDS_OF_SLEEP};
    nanosleep(&time, NULL);
}

// Writes what the time since the last look allows.
static void write_some(struct phase *phase, double *allowed) {
    if (is_unlimited) {
        for (int i = 0; i < (is_page ? 1 : WORDS_BETWEEN_CLOCKS); i++, phase->writes++) write_once(next_page());
        return look_at_clock(phase);
    }
    uint64_t before = phase->last;
    look_at_clock(phase);
    uint64_t passed = phase->last - before;
    *allowed += pages_per_nanosecond * (double)(passed < NANOSECONDS_MADE_UP_FOR ? passed : NANOSECONDS_MADE_UP_FOR);
    if (*allowed < 1) return sleep_a_little();
    *allowed -= 1;
    write_once(next_page());
    phase->writes++;
}

// Returns how often it has written.
static uint64_t write_until_told(struct phase *phase) {
    double allowed = 0;
    uint64_t earlier = 0;
    while (!asked_to_end) {
        write_some(phase, &allowed);
        if (!asked_to_mark) continue;
        asked_to_mark = 0;
        print_phase(phase, "");
        earlier += phase->writes;
        *phase = (struct phase){.began = phase->last, .last = phase->last};
    }
    // The pause may have been the last thing that happened.
    look_at_clock(phase);
    return earlier + phase->writes;
}

static int allocate(const char *size) {
    table = mmap(NULL, pages * sizeof *table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (table == MAP_FAILED) return -1;
    return madvise(memory, pages * PAGE, strcmp(size, "huge") == 0 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

int measure_writes(char **words) {
    is_unlimited = strcmp(words[0], "max") == 0;
    pages_per_nanosecond = strtod(words[0], NULL) * 256 / 1e9;
    is_walk = strcmp(words[1], "walk") == 0;
    is_page = strcmp(words[2], "page") == 0;
    if (allocate(words[3]) < 0) {
        perror("madvise");
        return 2;
    }
    // The table is there from the beginning, as the rest is.
    memset(table, 1, pages * sizeof *table);
    memset(table, 0, pages * sizeof *table);
    for (uint64_t page = 0; page < pages; page++) store(page, 0, WORDS);
    puts("ready");
    fflush(stdout);
    uint64_t began = now();
    struct phase phase = {.began = began, .last = began};
    uint64_t count = write_until_told(&phase);
    if (words[4] != NULL) plant(words[4]);
    uint64_t wrong = count_wrong(count);
    char rest[48];
    snprintf(rest, sizeof rest, ",\"wrong\":%llu", (unsigned long long)wrong);
    print_phase(&phase, rest);
    return wrong != 0;
}
