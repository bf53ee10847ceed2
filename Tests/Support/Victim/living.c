// SPDX-License-Identifier: Apache-2.0
//
// What a program does with its memory while pages are still on their way: it forks, moves and drops mappings, lets its
// stack grow, hands missing pages to the kernel.
#define _GNU_SOURCE
#include "carried.h"
#include "pattern.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static const int read_write = PROT_READ | PROT_WRITE;

// The stack grows by 1.5 MiB.

static bool __attribute__((noinline)) recurse(int depth) {
    volatile unsigned char frame[page_size];
    for (size_t index = 0; index < sizeof frame; index += 64) {
        frame[index] = (unsigned char)(depth + (int)index);
    }
    bool right = depth == 0 || recurse(depth - 1);
    for (size_t index = 0; index < sizeof frame; index += 64) {
        right = right && frame[index] == (unsigned char)(depth + (int)index);
    }
    return right;
}

static void stack_set_up(void) {}

static void stack_arrive(void) {
    if (!recurse(380)) {
        wrong("a grown stack does not hold its contents");
    }
}

static void *recurse_in_thread(void *unused) {
    (void)unused;
    return recurse(50) ? NULL : (void *)1;
}

static void stack_finish(void) {
    unsigned long thread;
    void *result = NULL;
    start_thread(&thread, recurse_in_thread, NULL);
    pthread_join(thread, &result);
    if (result != NULL) {
        wrong("the stack of a new thread does not hold its contents");
    }
}

// Children see every page of their parent as it was at the fork.

enum { fork_pages = 3000 };
static struct region forked;
static pid_t children[2];

static void fork_set_up(void) {
    forked = (struct region){"page before the fork", map_pages(fork_pages, read_write, MAP_PRIVATE), fork_pages, 1, 20};
    fill_region(&forked);
}

static int child_main(bool again) {
    check_region(&forked);
    bool right = verify_memory();
    check_region(&forked);
    if (again) {
        pid_t grandchild = fork();
        if (grandchild == 0) {
            _exit(child_main(false));
        }
        int status = -1;
        if (waitpid(grandchild, &status, 0) != grandchild || status != 0) {
            return 3;
        }
    }
    return right ? 0 : 2;
}

static void fork_arrive(void) {
    for (size_t index = 0; index < 2; index++) {
        children[index] = fork();
        if (children[index] == 0) {
            alarm(0);
            _exit(child_main(index == 0));
        }
        if (children[index] < 0) {
            wrong("fork: errno %d", errno);
        }
    }
    // The parent's stores are not to be seen by the children.
    for (size_t number = 0; number < fork_pages; number += 2) {
        fill_page(forked.start + number * page_size, 21, number);
    }
}

/// Waits for the children before any part finishes: they hold copies of its pipes.
static void fork_verify(void) {
    if (children[0] <= 0) {
        return;
    }
    for (size_t index = 0; index < 2; index++) {
        int status = -1;
        pid_t ended;
        do {
            ended = waitpid(children[index], &status, 0);
        } while (ended < 0 && errno == EINTR);
        if (ended != children[index] || status != 0) {
            wrong("child %d ended with status %#x (its words are on standard error)", (int)children[index], status);
        }
        children[index] = 0;
    }
}

static void fork_finish(void) {
    for (size_t number = 0; number < fork_pages; number++) {
        if (!check_page("parent after the fork", forked.start + number * page_size, number % 2 ? 20 : 21, number)) {
            return;
        }
    }
}

static void fork_spoil(void) { memset(forked.start + 999 * page_size, 0, page_size); }

// mremap, munmap and madvise of pages that have not come yet.

enum { life_pages = 1024 };
static struct region moved, grown, dropped, freed, kept, unmapped, replaced;

static void region_set_up(struct region *region, const char *what, uint64_t seed) {
    *region = (struct region){what, map_pages(life_pages, read_write, MAP_PRIVATE), life_pages, 1, seed};
    fill_region(region);
}

static void remap_set_up(void) {
    region_set_up(&moved, "moved mapping", 30);
    region_set_up(&grown, "grown mapping", 31);
    region_set_up(&dropped, "dropped pages", 32);
    region_set_up(&freed, "freed pages", 33);
    region_set_up(&kept, "mapping moved with MREMAP_DONTUNMAP", 34);
    region_set_up(&unmapped, "mapping with a hole", 35);
    region_set_up(&replaced, "replaced mapping", 36);
}

static void *remapped(void *start, size_t pages, size_t new_pages, int flags, void *target) {
    void *result = mremap(start, pages * page_size, new_pages * page_size, flags, target);
    if (result == MAP_FAILED) {
        wrong("mremap: errno %d", errno);
        return start;
    }
    return result;
}

static void move_mappings(void) {
    // The upper half of `moved` goes elsewhere, over a reserved range.
    unsigned char *target = map_pages(life_pages / 2, PROT_NONE, MAP_PRIVATE);
    remapped(moved.start + life_pages / 2 * page_size, life_pages / 2, life_pages / 2, MREMAP_MAYMOVE | MREMAP_FIXED,
             target);
    struct region lower = moved;
    lower.pages = life_pages / 2;
    check_region(&lower);
    for (size_t number = life_pages / 2; number < life_pages; number++) {
        check_page("moved mapping", target + (number - life_pages / 2) * page_size, moved.seed, number);
    }
    grown.start = remapped(grown.start, life_pages, life_pages + 64, MREMAP_MAYMOVE, NULL);
    check_region(&grown);
    for (size_t number = life_pages; number < life_pages + 64; number++) {
        check_zero("page that a mapping was grown by", grown.start + number * page_size, number);
    }
    unsigned char *old = kept.start;
    kept.start = remapped(kept.start, life_pages, life_pages, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    check_region(&kept);
    for (size_t number = 0; number < life_pages && old != kept.start; number += 7) {
        check_zero("place that MREMAP_DONTUNMAP left", old + number * page_size, number);
    }
}

static void drop_pages(void) {
    madvise(dropped.start + 100 * page_size, 500 * page_size, MADV_DONTNEED);
    for (size_t number = 0; number < life_pages; number++) {
        const unsigned char *page = dropped.start + number * page_size;
        bool gone = number >= 100 && number < 600;
        bool right = gone ? check_zero("dropped page", page, number) : check_page("kept page", page, 32, number);
        if (!right) {
            break;
        }
    }
    // A page dropped, written and read again holds what was written.
    madvise(dropped.start + 700 * page_size, page_size, MADV_DONTNEED);
    fill_page(dropped.start + 700 * page_size, 40, 700);
    check_page("page written after it was dropped", dropped.start + 700 * page_size, 40, 700);
    madvise(freed.start, life_pages / 2 * page_size, MADV_FREE);
    for (size_t number = 0; number < life_pages / 2; number++) {
        const unsigned char *page = freed.start + number * page_size;
        // Old contents and zeros are both allowed.
        bool zero = page[0] == 0 && page[8] == 0 && page[16] == 0;
        bool right = zero ? check_zero("freed page", page, number) : check_page("freed page", page, 33, number);
        if (!right) {
            break;
        }
    }
}

static void unmap_pages(void) {
    munmap(unmapped.start + 200 * page_size, 300 * page_size);
    void *fresh = mmap(unmapped.start + 250 * page_size, 100 * page_size, read_write,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (fresh == MAP_FAILED) {
        wrong("mmap into a hole: errno %d", errno);
        return;
    }
    for (size_t number = 0; number < life_pages; number++) {
        const unsigned char *page = unmapped.start + number * page_size;
        bool hole = (number >= 200 && number < 250) || (number >= 350 && number < 500);
        if (hole) {
            continue;
        }
        bool new = number >= 250 && number < 350;
        bool right = new ? check_zero("page mapped anew", page, number) : check_page(unmapped.what, page, 35, number);
        if (!right) {
            break;
        }
    }
    mmap(replaced.start + 10 * page_size, 50 * page_size, read_write, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (size_t number = 0; number < life_pages; number++) {
        const unsigned char *page = replaced.start + number * page_size;
        bool new = number >= 10 && number < 60;
        bool right = new ? check_zero("page mapped over", page, number) : check_page(replaced.what, page, 36, number);
        if (!right) {
            break;
        }
    }
}

static void remap_arrive(void) {
    move_mappings();
    drop_pages();
    unmap_pages();
}

static void remap_spoil(void) { memset(moved.start + 800 * page_size, 0, page_size); }

// The kernel touches missing pages itself: read(2) and write(2) with buffers there, while signals arrive.

enum { kernel_pages = 512 };
static struct region source_pages;
static unsigned char *target_pages;

static void kernel_set_up(void) {
    source_pages =
        (struct region){"buffer of write(2)", map_pages(kernel_pages, read_write, MAP_PRIVATE), kernel_pages, 1, 50};
    fill_region(&source_pages);
    target_pages = map_pages(kernel_pages, read_write, MAP_PRIVATE);
    memset(target_pages, 0xee, kernel_pages * page_size);
}

static void kernel_arrive(void) {
    int descriptor = open(in_folder("kernel"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    ssize_t size = (ssize_t)kernel_pages * page_size;
    ssize_t written = write(descriptor, source_pages.start, (size_t)size);
    if (written != size) {
        wrong("write(2) from missing pages answered %zd, errno %d", written, errno);
    }
    ssize_t count = pread(descriptor, target_pages, (size_t)size, 0);
    if (count != size) {
        wrong("read(2) into missing pages answered %zd, errno %d", count, errno);
    }
    close(descriptor);
    for (size_t number = 0; number < kernel_pages; number++) {
        if (!check_page("file written from missing pages", target_pages + number * page_size, 50, number)) {
            return;
        }
    }
}

static void kernel_spoil(void) { memset(source_pages.start + 5 * page_size, 0, page_size); }

const struct part living_parts[] = {
    {"stack", stack_set_up, stack_arrive, NULL, stack_finish, NULL, false},
    {"fork", fork_set_up, fork_arrive, fork_verify, fork_finish, fork_spoil, false},
    {"remap", remap_set_up, remap_arrive, NULL, NULL, remap_spoil, false},
    {"kernel", kernel_set_up, kernel_arrive, NULL, NULL, kernel_spoil, false},
    {NULL, NULL, NULL, NULL, NULL, NULL, false},
};
