// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "pattern.h"
#include "carried.h"

#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

unsigned char *map_pages(size_t pages, int protection, int flags) {
    void *start = mmap(NULL, pages * page_size, protection, flags | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) {
        broken("mmap of %zu pages", pages);
    }
    return start;
}

/// splitmix64: no two places share their contents.
static uint64_t mix(uint64_t value) {
    value += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

void fill_page(unsigned char *page, uint64_t seed, size_t number) {
    uint64_t value = mix(seed ^ (number << 20));
    for (size_t index = 0; index < page_size / 8; index++) {
        uint64_t word = value + index * UINT64_C(0x9e3779b97f4a7c15);
        memcpy(page + index * 8, &word, 8);
    }
}

void fill_region(const struct region *region) {
    for (size_t number = 0; number < region->pages; number += region->step) {
        fill_page(region->start + number * page_size, region->seed, number);
    }
}

bool check_zero(const char *what, const unsigned char *page, size_t number) {
    for (size_t index = 0; index < page_size; index++) {
        if (page[index] != 0) {
            wrong("%s: page %zu is not zero at byte %zu", what, number, index);
            return false;
        }
    }
    return true;
}

static bool is_zero(const unsigned char *page) {
    for (size_t index = 0; index < page_size; index++) {
        if (page[index] != 0) {
            return false;
        }
    }
    return true;
}

bool check_page(const char *what, const unsigned char *page, uint64_t seed, size_t number) {
    uint64_t value = mix(seed ^ (number << 20));
    for (size_t index = 0; index < page_size / 8; index++) {
        uint64_t word;
        memcpy(&word, page + index * 8, 8);
        if (word != value + index * UINT64_C(0x9e3779b97f4a7c15)) {
            wrong("%s: page %zu is wrong from byte %zu on%s", what, number, index * 8,
                  is_zero(page) ? ": it is all zeros" : "");
            return false;
        }
    }
    return true;
}

void check_region(const struct region *region) {
    for (size_t number = 0; number < region->pages; number++) {
        const unsigned char *page = region->start + number * page_size;
        bool right = number % region->step == 0 ? check_page(region->what, page, region->seed, number)
                                                : check_zero(region->what, page, number);
        if (!right) {
            return;
        }
    }
}

static sigjmp_buf after_fault;
static void leave(int number) { siglongjmp(after_fault, number); }

int signal_of_access(volatile unsigned char *address, bool write) {
    struct sigaction action = {.sa_handler = leave}, bus, segment;
    sigaction(SIGBUS, &action, &bus);
    sigaction(SIGSEGV, &action, &segment);
    int number = sigsetjmp(after_fault, 1);
    if (number == 0) {
        if (write) {
            *address = 1;
        } else {
            (void)*address;
        }
    }
    sigaction(SIGBUS, &bus, NULL);
    sigaction(SIGSEGV, &segment, NULL);
    return number;
}
