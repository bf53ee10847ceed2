// SPDX-License-Identifier: Apache-2.0
//
// The wait for each page, in scattered order, from the moment on at which the process finds itself elsewhere.
#define _GNU_SOURCE
#include "victim.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PER_OCTAVE = 32, BUCKETS = 40 * PER_OCTAVE };
// A touch that takes longer has waited for a page; one of a page that is there takes well below a microsecond.
enum { WAITED_NANOSECONDS = 4000 };

static uint64_t buckets[BUCKETS], waits, longest;

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

int measure_touches(const char *start) {
    char name[64];
    do {
        usleep(200);
        ssize_t length = readlink("/proc/self/ns/pid", name, sizeof name - 1);
        if (length < 0) return 2;
        name[length] = 0;
    } while (strcmp(name, start) == 0 && !asked_to_end);
    int bits = bits_of_pages();
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
