// SPDX-License-Identifier: Apache-2.0
//
// The longest time between two readings of the clock: the pause as the process itself sees it.
#include "victim.h"

#include <stdio.h>

static uint64_t count_wrong(void) {
    uint64_t wrong = 0;
    for (uint64_t page = 0; page < pages; page++) wrong += memory[page * WORDS] != first_word(page);
    return wrong;
}

int measure_gap(void) {
    uint64_t last = now(), gap = 0;
    while (!asked_to_end) {
        uint64_t moment = now();
        if (moment - last > gap) gap = moment - last;
        last = moment;
    }
    uint64_t wrong = count_wrong();
    printf("{\"gap\":%.9f,\"wrong\":%llu}\n", (double)gap / 1e9, (unsigned long long)wrong);
    return wrong != 0;
}
