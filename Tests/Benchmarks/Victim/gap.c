// SPDX-License-Identifier: Apache-2.0
//
// The longest time between two readings of the clock: the pause as the process itself sees it.
#define _GNU_SOURCE
#include "victim.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static const uint64_t TEBIBYTE = UINT64_C(1) << 40;

static uint64_t count_wrong(void) {
    uint64_t wrong = 0;
    for (uint64_t page = 0; page < pages; page += stride) wrong += memory[page * WORDS] != first_word(page);
    return wrong;
}

int reserve(long tebibytes) {
    for (long i = 0; i < tebibytes; i++) {
        char *mapping = mmap(NULL, TEBIBYTE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mapping == MAP_FAILED) return -1;
        // A page here and there, so that it is more than an empty mapping.
        for (uint64_t place = 0; place < TEBIBYTE; place += TEBIBYTE / 64) mapping[place] = 1;
    }
    return 0;
}

int measure_gap(int sleeps) {
    uint64_t last = now(), gap = 0;
    while (!asked_to_end) {
        if (sleeps) usleep(10000);
        uint64_t moment = now();
        if (moment - last > gap) gap = moment - last;
        last = moment;
    }
    uint64_t wrong = count_wrong();
    printf("{\"gap\":%.9f,\"wrong\":%llu}\n", (double)gap / 1e9, (unsigned long long)wrong);
    return wrong != 0;
}
