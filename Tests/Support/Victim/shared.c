// SPDX-License-Identifier: Apache-2.0
//
// Shared memory that nothing but its mapping leads to, which arrives page by page, and what a program does with it meanwhile.
#define _GNU_SOURCE
#include "carried.h"
#include "pattern.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const int read_write = PROT_READ | PROT_WRITE;

// Contents: dense, with holes, with pages of zeros that were written, of a memfd whose descriptor is closed; all of it without an entry in
// the page tables, so that only the objects tell what is there.

enum { dense_pages = 8192, sparse_pages = 8192, closed_pages = 700, small_pages = 5 };
static struct region dense, sparse, closed, small;

static void shared_pages_set_up(void) {
    dense = (struct region){"dense shared memory", map_pages(dense_pages, read_write, MAP_SHARED), dense_pages, 1, 60};
    fill_region(&dense);
    sparse =
        (struct region){"sparse shared memory", map_pages(sparse_pages, read_write, MAP_SHARED), sparse_pages, 7, 61};
    fill_region(&sparse);
    for (size_t number = 3; number < sparse_pages; number += 7) {
        memset(sparse.start + number * page_size, 0, page_size);
    }
    int memfd = memfd_create("closed", MFD_CLOEXEC);
    if (memfd < 0 || ftruncate(memfd, closed_pages * page_size) != 0) {
        broken("memfd_create");
    }
    unsigned char *mapped = mmap(NULL, closed_pages * page_size, read_write, MAP_SHARED, memfd, 0);
    closed = (struct region){"memfd without a descriptor", mapped, closed_pages, 2, 62};
    fill_region(&closed);
    close(memfd);
    small = (struct region){"little shared memory", map_pages(small_pages, read_write, MAP_SHARED), small_pages, 2, 63};
    fill_region(&small);
    const struct region *all[] = {&dense, &sparse, &closed, &small};
    for (size_t index = 0; index < sizeof all / sizeof *all; index++) {
        if (madvise(all[index]->start, all[index]->pages * page_size, MADV_DONTNEED) != 0) {
            broken("MADV_DONTNEED of %s", all[index]->what);
        }
    }
}

static void shared_pages_verify(void) {
    check_region(&closed);
    check_region(&sparse);
    check_region(&small);
    check_region(&dense);
}

static void shared_pages_finish(void) {
    fill_page(sparse.start + page_size, 64, 1);
    fill_page(dense.start + 100 * page_size, 64, 100);
    check_page("hole that was written", sparse.start + page_size, 64, 1);
    check_page("page that was written", dense.start + 100 * page_size, 64, 100);
}

static void shared_pages_spoil(void) { memset(dense.start + 4000 * page_size, 0, page_size); }

// Forks, removals, moves and unmappings of shared memory that has not come yet.

enum { life_pages = 2048 };
static struct region common, dropped, punched, moved, doubled, cut;

static void region_set_up(struct region *region, const char *what, uint64_t seed) {
    *region = (struct region){what, map_pages(life_pages, read_write, MAP_SHARED), life_pages, 1, seed};
    fill_region(region);
}

static void shared_life_set_up(void) {
    region_set_up(&common, "memory shared with a child", 70);
    region_set_up(&dropped, "shared memory after MADV_DONTNEED", 71);
    region_set_up(&punched, "shared memory after MADV_REMOVE", 72);
    region_set_up(&moved, "shared memory that was moved", 73);
    region_set_up(&doubled, "shared memory that was mapped twice", 74);
    region_set_up(&cut, "shared memory with a hole", 75);
}

static bool right_common(const char *who, size_t number, uint64_t seed) {
    return check_page(who, common.start + number * page_size, seed, number);
}

static int child_of_shared_memory(int from_parent, int to_parent) {
    char word = 0;
    for (size_t number = 0; number < life_pages; number += 2) {
        if (number % 4 != 0 && !right_common("child before it writes", number, 70)) {
            return 1;
        }
        fill_page(common.start + number * page_size, 76, number);
    }
    if (write(to_parent, "w", 1) != 1 || read(from_parent, &word, 1) != 1) {
        return 2;
    }
    for (size_t number = 1; number < life_pages; number += 2) {
        if (!right_common("what the parent wrote, in the child", number, 77)) {
            return 3;
        }
    }
    check_region(&dropped);
    return 0;
}

static void fork_and_exchange(void) {
    int down[2], up[2];
    if (pipe(down) != 0 || pipe(up) != 0) {
        broken("pipe");
    }
    pid_t child = fork();
    if (child == 0) {
        alarm(0);
        close(down[1]);
        close(up[0]);
        _exit(child_of_shared_memory(down[0], up[1]));
    }
    close(down[0]);
    close(up[1]);
    for (size_t number = 1; number < life_pages; number += 2) {
        if (number % 4 != 1 && !right_common("parent before it writes", number, 70)) {
            break;
        }
        fill_page(common.start + number * page_size, 77, number);
    }
    char word = 0;
    if (read(up[0], &word, 1) != 1 || write(down[1], "p", 1) != 1) {
        wrong("the child of shared memory has ended");
    }
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (child < 0 || status != 0) {
        wrong("the child of shared memory ended with status %#x", status);
    }
    close(down[1]);
    close(up[0]);
}

static void drop_shared(void) {
    if (madvise(dropped.start, life_pages * page_size, MADV_DONTNEED) != 0) {
        wrong("MADV_DONTNEED: errno %d", errno);
    }
    if (madvise(punched.start + 512 * page_size, 1024 * page_size, MADV_REMOVE) != 0) {
        wrong("MADV_REMOVE: errno %d", errno);
    }
    for (size_t number = 600; number < 610; number++) {
        fill_page(punched.start + number * page_size, 78, number);
    }
}

static void move_shared(void) {
    unsigned char *target = map_pages(life_pages, PROT_NONE, MAP_PRIVATE);
    void *result =
        mremap(moved.start, life_pages * page_size, life_pages * page_size, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    if (result != target) {
        wrong("mremap: errno %d", errno);
    }
    moved.start = target;
    unsigned char *second = mremap(doubled.start, 0, life_pages * page_size, MREMAP_MAYMOVE);
    if (second == MAP_FAILED) {
        wrong("mremap of size 0: errno %d", errno);
        return;
    }
    struct region view = doubled;
    view.what = "second view";
    view.start = second;
    check_region(&view);
}

static void cut_shared(void) {
    unsigned char *middle = cut.start + 100 * page_size;
    if (munmap(middle, 1000 * page_size) != 0) {
        wrong("munmap: errno %d", errno);
    }
    mmap(middle, 50 * page_size, read_write, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (size_t number = 0; number < 50; number++) {
        check_zero("page mapped where shared memory was", middle + number * page_size, number);
    }
}

static void shared_life_arrive(void) {
    // A few pages by faults first, some of them behind the others.
    check_page(punched.what, punched.start + 700 * page_size, 72, 700);
    check_page(moved.what, moved.start + 2000 * page_size, 73, 2000);
    cut_shared();
    fork_and_exchange();
    drop_shared();
    move_shared();
    // A test may wait for this.
    close(open(in_folder("shared-life"), O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
}

static void shared_life_finish(void) {
    check_region(&dropped);
    check_region(&moved);
    check_region(&doubled);
    for (size_t number = 0; number < life_pages; number++) {
        const unsigned char *page = punched.start + number * page_size;
        bool inside = number >= 512 && number < 1536;
        bool fresh = number >= 600 && number < 610;
        bool right = fresh ? check_page("page written after MADV_REMOVE", page, 78, number)
            : inside       ? check_zero("page after MADV_REMOVE", page, number)
                           : check_page(punched.what, page, 72, number);
        if (!right) {
            break;
        }
    }
    for (size_t number = 0; number < life_pages; number++) {
        if (!right_common("shared memory after both wrote", number, number % 2 ? 77 : 76)) {
            break;
        }
    }
    for (size_t number = 1100; number < life_pages; number++) {
        if (!check_page(cut.what, cut.start + number * page_size, 75, number)) {
            break;
        }
    }
}

static void shared_life_spoil(void) { memset(dropped.start + 999 * page_size, 0, page_size); }

const struct part shared_parts[] = {
    {"shared-pages", shared_pages_set_up, NULL, shared_pages_verify, shared_pages_finish, shared_pages_spoil, true},
    {"shared-life", shared_life_set_up, shared_life_arrive, NULL, shared_life_finish, shared_life_spoil, false},
    {NULL, NULL, NULL, NULL, NULL, NULL, false},
};
