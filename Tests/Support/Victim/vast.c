// SPDX-License-Identifier: Apache-2.0
//
// `Victim vast FOLDER GIB PAGES MAPPINGS [direct]`: GIB of reserved address space with PAGES pages of data spread over it, and MAPPINGS mappings of
// one page each that cannot be merged; with FOLDER/direct open for O_DIRECT. Waits for FOLDER/go, then looks at everything: `ok vast` or `wrong vast: what`.
#define _GNU_SOURCE
#include "victim.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096 };

static uint64_t value(uint64_t number) {
    return (number + 1) * 0x9e3779b97f4a7c15u | 1;
}

static int look(const char *reserved, uint64_t stride, uint64_t pages, const char *small, uint64_t mappings) {
    for (uint64_t i = 0; i < pages; i++) {
        const uint64_t *words = (const uint64_t *)(reserved + i * stride);
        if (words[0] != value(i) || words[511] != value(i)) return printf("wrong vast: page %lu holds %lx\n", i, words[0]), 1;
    }
    for (uint64_t i = 0; i < mappings; i++) {
        const uint64_t *words = (const uint64_t *)(small + i * PAGE);
        if (words[7] != value(~i)) return printf("wrong vast: mapping %lu holds %lx\n", i, words[7]), 1;
    }
    return puts("ok vast"), 0;
}

static int vast(int argc, char **argv) {
    if (argc < 5) return 64;
    char go[4096];
    snprintf(go, sizeof go, "%s/go", argv[1]);
    uint64_t bytes = strtoull(argv[2], NULL, 10) << 30, pages = strtoull(argv[3], NULL, 10), mappings = strtoull(argv[4], NULL, 10);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *reserved = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    char *small = mmap(NULL, (mappings + 1) * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (reserved == MAP_FAILED || small == MAP_FAILED) return 71;
    uint64_t stride = pages > 0 ? (bytes / pages) & ~(uint64_t)(PAGE - 1) : 0;
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t *words = (uint64_t *)(reserved + i * stride);
        words[0] = words[511] = value(i);
    }
    for (uint64_t i = 0; i < mappings; i++) {
        ((uint64_t *)(small + i * PAGE))[7] = value(~i);
        // Every second one is read-only, so that no two are one mapping to the kernel.
        if (i % 2 == 1 && mprotect(small + i * PAGE, PAGE, PROT_READ) != 0) return 71;
    }
    if (argc > 5) {
        char file[4096];
        snprintf(file, sizeof file, "%s/direct", argv[1]);
        if (open(file, O_RDWR | O_CREAT | O_DIRECT, 0600) < 0) return 71;
    }
    puts("ready");
    fflush(stdout);
    while (access(go, F_OK) != 0) nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    return look(reserved, stride, pages, small, mappings);
}

const struct victim_mode vast_modes[] = {{"vast", vast}, {0}};
