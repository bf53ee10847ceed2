// SPDX-License-Identifier: Apache-2.0
//
// The wait for each page, from the moment on at which the process finds itself elsewhere.
#define _GNU_SOURCE
#include "victim.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PER_OCTAVE = 32, BUCKETS = 40 * PER_OCTAVE };
// A touch that takes longer has waited for a page; one of a page that is there takes well below a microsecond.
enum { WAITED_NANOSECONDS = 4000 };

// Pages between two touches of the strided order.
enum { STRIDE = 16 };
// Pages of a piece of the clustered order, as a power of two.
enum { CLUSTER_BITS = 8 };

struct toucher {
    pthread_t thread;
    uint64_t first, buckets[BUCKETS], waits, longest, wrong;
};

// How all touchers together go through the pages: the page at a place of the order, `pages` for none.
static uint64_t (*page_at)(uint64_t place);
static uint64_t places, touchers, buckets[BUCKETS], waits, longest, wrong, half_way;
static int bits;

static uint64_t scattered_page(uint64_t place) {
    return scattered(place, (UINT64_C(1) << bits) - 1, bits);
}

// One piece of 1 MiB after the other, in no order, and in no order inside of each.
static uint64_t clustered_page(uint64_t place) {
    if (bits <= CLUSTER_BITS) return scattered_page(place);
    uint64_t inside = (UINT64_C(1) << CLUSTER_BITS) - 1, pieces = (UINT64_C(1) << (bits - CLUSTER_BITS)) - 1;
    return scattered(place >> CLUSTER_BITS, pieces, bits - CLUSTER_BITS) << CLUSTER_BITS
        | scattered(place & inside, inside, CLUSTER_BITS);
}

static uint64_t next_page(uint64_t place) {
    return place;
}

static uint64_t strided_page(uint64_t place) {
    return place % (pages / STRIDE) * STRIDE + place / (pages / STRIDE);
}

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

static void *touch(void *own) {
    struct toucher *toucher = own;
    for (uint64_t place = toucher->first; place < places; place += touchers) {
        uint64_t page = page_at(place);
        if (place == places / 2) half_way = now();
        if (page >= pages) continue;
        uint64_t before = now(), word = *(volatile uint64_t *)(memory + page * WORDS), waited = now() - before;
        toucher->wrong += word != first_word(page);
        if (waited < WAITED_NANOSECONDS) continue;
        toucher->buckets[bucket_of(waited)]++;
        toucher->waits++;
        if (waited > toucher->longest) toucher->longest = waited;
    }
    return NULL;
}

static int touch_all(void) {
    struct toucher *all = calloc(touchers, sizeof *all);
    if (all == NULL) return -1;
    for (uint64_t i = 0; i < touchers; i++) {
        all[i].first = i;
        if (i > 0 && pthread_create(&all[i].thread, NULL, touch, &all[i]) != 0) return -1;
    }
    touch(&all[0]);
    for (uint64_t i = 0; i < touchers; i++) {
        if (i > 0) pthread_join(all[i].thread, NULL);
        for (int bucket = 0; bucket < BUCKETS; bucket++) buckets[bucket] += all[i].buckets[bucket];
        waits += all[i].waits;
        wrong += all[i].wrong;
        if (all[i].longest > longest) longest = all[i].longest;
    }
    return 0;
}

// Pairs: microseconds, and the percentage of waits that were no longer.
static void print_curve(void) {
    printf("\"curve\":[");
    uint64_t seen = 0;
    for (int bucket = 0, first = 1; bucket < BUCKETS; bucket++) {
        if (buckets[bucket] == 0) continue;
        seen += buckets[bucket];
        printf("%s[%.1f,%.3f]", first ? "" : ",", upper_microseconds(bucket), 100 * (double)seen / (double)waits);
        first = 0;
    }
    printf("],");
}

int measure_touches(const char *start, const char *order, long threads, int is_told) {
    char name[64];
    do {
        usleep(200);
        ssize_t length = readlink("/proc/self/ns/pid", name, sizeof name - 1);
        if (length < 0) return 2;
        name[length] = 0;
    } while ((strcmp(name, start) == 0 || (is_told && !asked_to_mark)) && !asked_to_end);
    bits = bits_of_pages();
    places = pages;
    page_at = strcmp(order, "strided") == 0 ? strided_page : next_page;
    if (strcmp(order, "scattered") == 0 || strcmp(order, "clustered") == 0) {
        places = UINT64_C(1) << bits;
        page_at = strcmp(order, "scattered") == 0 ? scattered_page : clustered_page;
    }
    touchers = (uint64_t)threads;
    uint64_t begin = now();
    if (touch_all() < 0) return 2;
    double seconds = (double)(now() - begin) / 1e9;
    printf("{\"seconds\":%.6f,\"half\":%.6f,\"touches\":%llu,\"waits\":%llu,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,"
        "\"max\":%.1f,", seconds, (double)(half_way - begin) / 1e9, (unsigned long long)pages, (unsigned long long)waits, percentile(0.5),
        percentile(0.9), percentile(0.99), percentile(0.999), (double)longest / 1000);
    print_curve();
    printf("\"wrong\":%llu}\n", (unsigned long long)wrong);
    return wrong != 0;
}
