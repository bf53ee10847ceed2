// SPDX-License-Identifier: Apache-2.0
//
// Private memory of every flavour.
#define _GNU_SOURCE
#include "carried.h"
#include "pattern.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { advice_guard_install = 102, advice_guard_remove = 103 };

static void spoil_page(const struct region *region) { memset(region->start, 0, page_size); }

// Heap: blocks below malloc's threshold for mmap, so that they come from brk.

enum { heap_blocks = 96, heap_block_pages = 16 };
static struct region heap[heap_blocks];
static unsigned char *heap_raw[heap_blocks];
static void *heap_break;

static void heap_set_up(void) {
    for (size_t index = 0; index < heap_blocks; index++) {
        heap_raw[index] = malloc((heap_block_pages + 1) * page_size);
        unsigned char *aligned = (unsigned char *)(((uintptr_t)heap_raw[index] + page_size - 1) & ~(uintptr_t)4095);
        heap[index] = (struct region){"heap block", aligned, heap_block_pages, 1, 0x1000 + index};
        fill_region(&heap[index]);
    }
    heap_break = sbrk(0);
}

static void heap_verify(void) {
    for (size_t index = 0; index < heap_blocks; index++) {
        check_region(&heap[index]);
    }
    if (!in_child && sbrk(0) != heap_break) {
        wrong("the break is %p, was %p", sbrk(0), heap_break);
    }
}

static void heap_finish(void) {
    unsigned char *fresh = sbrk(1 << 20);
    if (fresh == (void *)-1 || fresh != heap_break) {
        wrong("sbrk answered %p, not %p", (void *)fresh, heap_break);
        return;
    }
    for (size_t number = 0; number < 256; number++) {
        check_zero("new heap page", fresh + number * page_size, number);
        fill_page(fresh + number * page_size, 77, number);
    }
    for (size_t number = 0; number < 256; number++) {
        check_page("new heap page", fresh + number * page_size, 77, number);
    }
    for (size_t index = 0; index < heap_blocks; index++) {
        free(heap_raw[index]);
    }
    unsigned char *again = malloc(1 << 20);
    memset(again, 7, 1 << 20);
    free(again);
}

static void heap_spoil(void) { spoil_page(&heap[40]); }

// Anonymous mappings: dense, with holes, read-only, executable.

static struct region dense, holes, read_only;
static unsigned char *code;

static void anonymous_set_up(void) {
    dense = (struct region){"dense mapping", map_pages(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE), 4096, 1, 1};
    holes = (struct region){"mapping with holes", map_pages(1200, PROT_READ | PROT_WRITE, MAP_PRIVATE), 1200, 3, 2};
    read_only = (struct region){"read-only mapping", map_pages(64, PROT_READ | PROT_WRITE, MAP_PRIVATE), 64, 1, 3};
    fill_region(&dense);
    fill_region(&holes);
    fill_region(&read_only);
    mprotect(read_only.start, read_only.pages * page_size, PROT_READ);
    // mov eax, 0x2a; ret
    const unsigned char program[] = {0xb8, 0x2a, 0, 0, 0, 0xc3};
    code = map_pages(1, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    memcpy(code, program, sizeof program);
    mprotect(code, page_size, PROT_READ | PROT_EXEC);
}

static void anonymous_verify(void) {
    check_region(&holes);
    check_region(&read_only);
    int (*function)(void);
    memcpy(&function, &code, sizeof function);
    if (function() != 0x2a) {
        wrong("the code in a mapping answers %d", function());
    }
    check_region(&dense);
}

static void anonymous_finish(void) {
    for (size_t number = 0; number < holes.pages; number++) {
        fill_page(holes.start + number * page_size, 9, number);
    }
    for (size_t number = 0; number < holes.pages; number++) {
        if (!check_page("page written after the move", holes.start + number * page_size, 9, number)) {
            return;
        }
    }
    if (signal_of_access(read_only.start, true) != SIGSEGV) {
        wrong("a read-only mapping can be written");
    }
}

static void anonymous_spoil(void) { memset(dense.start + 4000 * page_size + 100, 0, 1); }

// 16 TiB of which 64 pages exist.

enum { sparse_pages = 64 };
static unsigned char *sparse;
static const size_t sparse_size = (size_t)16 << 40;

static unsigned char *sparse_page(size_t number) {
    return sparse + (sparse_size / sparse_pages * number + number * 7 * page_size);
}

static void sparse_set_up(void) {
    sparse = mmap(NULL, sparse_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (sparse == MAP_FAILED) {
        broken("mmap of 16 TiB");
    }
    for (size_t number = 0; number < sparse_pages; number++) {
        fill_page(sparse_page(number), 4, number);
    }
}

static void sparse_verify(void) {
    for (size_t number = 0; number < sparse_pages; number++) {
        check_page("sparse mapping", sparse_page(number), 4, number);
        check_zero("hole of the sparse mapping", sparse_page(number) + page_size, number);
    }
}

static void sparse_spoil(void) { memset(sparse_page(20), 0, page_size); }

// MAP_GROWSDOWN far away from everything, so that there is room below.

static struct region growing;

static void growing_set_up(void) {
    void *wanted = (void *)UINT64_C(0x100010000000);
    unsigned char *start = mmap(wanted, 16 * page_size, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
    if (start == MAP_FAILED) {
        broken("mmap with MAP_GROWSDOWN");
    }
    growing = (struct region){"growing mapping", start, 16, 1, 5};
    fill_region(&growing);
}

static void growing_verify(void) { check_region(&growing); }

static void growing_finish(void) {
    for (size_t number = 1; number <= 64; number++) {
        unsigned char *page = growing.start - number * page_size;
        if (signal_of_access(page, false) != 0) {
            wrong("the mapping does not grow to %zu pages below its start", number);
            return;
        }
        check_zero("page that the mapping grew by", page, number);
        fill_page(page, 6, number);
    }
    for (size_t number = 1; number <= 64; number++) {
        check_page("page that the mapping grew by", growing.start - number * page_size, 6, number);
    }
    check_region(&growing);
}

static void growing_spoil(void) { spoil_page(&growing); }

// Data behind PROT_NONE, PROT_WRITE and PROT_EXEC alone.

static struct region hidden[3];
static const int hidden_rights[3] = {PROT_NONE, PROT_WRITE, PROT_EXEC};

static void hidden_set_up(void) {
    const char *const names[3] = {"PROT_NONE mapping", "PROT_WRITE mapping", "PROT_EXEC mapping"};
    for (size_t index = 0; index < 3; index++) {
        unsigned char *start = map_pages(40, PROT_READ | PROT_WRITE, MAP_PRIVATE);
        hidden[index] = (struct region){names[index], start, 40, 2, 0x70 + index};
        fill_region(&hidden[index]);
        if (mprotect(start, 40 * page_size, hidden_rights[index]) != 0) {
            broken("mprotect");
        }
    }
}

static void hidden_verify(void) {
    for (size_t index = 0; index < 3; index++) {
        if (hidden_rights[index] == PROT_NONE && !in_child && signal_of_access(hidden[index].start, false) != SIGSEGV) {
            wrong("a PROT_NONE mapping can be read");
        }
        mprotect(hidden[index].start, 40 * page_size, PROT_READ | PROT_WRITE);
        check_region(&hidden[index]);
        mprotect(hidden[index].start, 40 * page_size, hidden_rights[index]);
    }
}

static void hidden_spoil(void) {
    mprotect(hidden[0].start, 40 * page_size, PROT_READ | PROT_WRITE);
    spoil_page(&hidden[0]);
    mprotect(hidden[0].start, 40 * page_size, PROT_NONE);
}

// Guard pages (MADV_GUARD_INSTALL): every fourth page, with data between.

static struct region guarded;
static bool has_guards;

static void guard_set_up(void) {
    guarded = (struct region){"mapping with guards", map_pages(64, PROT_READ | PROT_WRITE, MAP_PRIVATE), 64, 1, 8};
    fill_region(&guarded);
    has_guards = true;
    for (size_t number = 3; number < 64 && has_guards; number += 4) {
        if (madvise(guarded.start + number * page_size, page_size, advice_guard_install) != 0) {
            skipped("no MADV_GUARD_INSTALL before Linux 6.13");
            has_guards = false;
        }
    }
}

static void guard_verify(void) {
    if (!has_guards) {
        return;
    }
    for (size_t number = 0; number < 64; number++) {
        if (number % 4 != 3) {
            check_page("mapping with guards", guarded.start + number * page_size, 8, number);
        } else if (signal_of_access(guarded.start + number * page_size, number % 8 == 3) != SIGSEGV) {
            wrong("guard page %zu can be touched", number);
        }
    }
}

static void guard_finish(void) {
    if (!has_guards) {
        return;
    }
    madvise(guarded.start, 64 * page_size, advice_guard_remove);
    for (size_t number = 0; number < 64; number++) {
        if (number % 4 == 3) {
            check_zero("page that was a guard", guarded.start + number * page_size, number);
        } else {
            check_page("mapping with guards", guarded.start + number * page_size, 8, number);
        }
    }
}

static void guard_spoil(void) {
    if (has_guards) {
        madvise(guarded.start + 7 * page_size, page_size, advice_guard_remove);
    }
}

// Locked memory; the flag itself is looked at by the layout.

static struct region locked, locked_on_fault;

static long locked_kibibytes(void) {
    char line[256];
    long value = -1;
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        sscanf(line, "VmLck: %ld", &value);
    }
    if (file != NULL) {
        fclose(file);
    }
    return value;
}

static long locked_before;

static void locked_set_up(void) {
    locked = (struct region){"locked mapping", map_pages(16, PROT_READ | PROT_WRITE, MAP_PRIVATE), 16, 1, 11};
    fill_region(&locked);
    locked_on_fault =
        (struct region){"mapping locked on fault", map_pages(16, PROT_READ | PROT_WRITE, MAP_PRIVATE), 16, 4, 12};
    fill_region(&locked_on_fault);
    if (mlock(locked.start, 16 * page_size) != 0 ||
        mlock2(locked_on_fault.start, 16 * page_size, MLOCK_ONFAULT) != 0) {
        broken("mlock");
    }
    locked_before = locked_kibibytes();
}

static void locked_verify(void) {
    check_region(&locked);
    check_region(&locked_on_fault);
    if (!in_child && locked_kibibytes() != locked_before) {
        wrong("%ld KiB are locked, were %ld", locked_kibibytes(), locked_before);
    }
}

static void locked_spoil(void) { munlock(locked.start, 16 * page_size); }

// madvise flags and names; the layout sees them, the child sees what fork does with them.

static struct region advised[9];
static const int advice[9] = {MADV_DONTFORK, MADV_WIPEONFORK, MADV_DONTDUMP,   MADV_HUGEPAGE, MADV_NOHUGEPAGE,
                              MADV_MERGEABLE, MADV_SEQUENTIAL, MADV_RANDOM, -1};

static void advice_set_up(void) {
    for (size_t index = 0; index < 9; index++) {
        unsigned char *start = map_pages(24, PROT_READ | PROT_WRITE, MAP_PRIVATE);
        advised[index] = (struct region){"advised mapping", start, 24, 1, 0x20 + index};
        fill_region(&advised[index]);
        if (advice[index] == -1) {
            prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, start, 24 * page_size, "a name");
        } else if (madvise(start, 24 * page_size, advice[index]) != 0 && errno != EINVAL) {
            broken("madvise %d", advice[index]);
        }
    }
}

static void advice_verify(void) {
    for (size_t index = 0; index < 9; index++) {
        if (in_child && advice[index] == MADV_DONTFORK) {
            if (signal_of_access(advised[index].start, false) != SIGSEGV) {
                wrong("a MADV_DONTFORK mapping exists in the child");
            }
        } else if (in_child && advice[index] == MADV_WIPEONFORK) {
            for (size_t number = 0; number < 24; number++) {
                check_zero("MADV_WIPEONFORK in the child", advised[index].start + number * page_size, number);
            }
        } else {
            check_region(&advised[index]);
        }
    }
}

static void advice_spoil(void) { madvise(advised[0].start, 24 * page_size, MADV_DOFORK); }

// Huge pages.

static struct region huge;

static void huge_set_up(void) {
    size_t pages = 4 * 512;
    unsigned char *raw = map_pages(pages + 512, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    unsigned char *start = (unsigned char *)(((uintptr_t)raw + (2 << 20) - 1) & ~(uintptr_t)((2 << 20) - 1));
    madvise(start, pages * page_size, MADV_HUGEPAGE);
    huge = (struct region){"huge mapping", start, pages, 1, 13};
    fill_region(&huge);
    // The last block has one page only, and the rest of its huge page is zeros.
    madvise(start + 3 * 512 * page_size, 512 * page_size, MADV_DONTNEED);
    fill_page(start + 3 * 512 * page_size, 13, 3 * 512);
}

static void huge_verify(void) {
    for (size_t number = 0; number <= 3 * 512; number++) {
        if (!check_page("huge mapping", huge.start + number * page_size, 13, number)) {
            return;
        }
    }
    for (size_t number = 3 * 512 + 1; number < 4 * 512; number++) {
        if (!check_zero("huge mapping", huge.start + number * page_size, number)) {
            return;
        }
    }
}

static void huge_spoil(void) { memset(huge.start + 700 * page_size, 0, page_size); }

// mlockall(MCL_FUTURE) is a property of the process that no mapping shows.

static void lock_future_set_up(void) {
    if (mlockall(MCL_FUTURE | MCL_ONFAULT) != 0) {
        broken("mlockall");
    }
}

static void lock_future_finish(void) {
    long before = locked_kibibytes();
    map_pages(8, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    if (locked_kibibytes() - before != 32) {
        wrong("a new mapping of 32 KiB made %ld KiB more locked", locked_kibibytes() - before);
    }
    munlockall();
}

static void lock_future_spoil(void) { munlockall(); }

const struct part memory_parts[] = {
    {"heap", heap_set_up, NULL, heap_verify, heap_finish, heap_spoil, true},
    {"anonymous", anonymous_set_up, NULL, anonymous_verify, anonymous_finish, anonymous_spoil, true},
    {"sparse", sparse_set_up, NULL, sparse_verify, NULL, sparse_spoil, true},
    {"growsdown", growing_set_up, NULL, growing_verify, growing_finish, growing_spoil, true},
    {"hidden", hidden_set_up, NULL, hidden_verify, NULL, hidden_spoil, true},
    {"guard", guard_set_up, NULL, guard_verify, guard_finish, guard_spoil, true},
    {"locked", locked_set_up, NULL, locked_verify, NULL, locked_spoil, true},
    {"advice", advice_set_up, NULL, advice_verify, NULL, advice_spoil, true},
    {"huge", huge_set_up, NULL, huge_verify, NULL, huge_spoil, true},
    {NULL, NULL, NULL, NULL, NULL, NULL, false},
};

// 256 MiB, so that the move takes a while.

static struct region large;

static void large_set_up(void) {
    large = (struct region){"large mapping", map_pages(65536, PROT_READ | PROT_WRITE, MAP_PRIVATE), 65536, 1, 14};
    fill_region(&large);
}

static void large_verify(void) { check_region(&large); }
static void large_spoil(void) { memset(large.start + 60000 * page_size, 0, page_size); }

// The first would lock what the other parts map, beyond the limit of an ordinary user.
const struct part lone_parts[] = {
    {"lock-future", lock_future_set_up, NULL, NULL, lock_future_finish, lock_future_spoil, false},
    {"large", large_set_up, NULL, large_verify, NULL, large_spoil, true},
    {NULL, NULL, NULL, NULL, NULL, NULL, false},
};
