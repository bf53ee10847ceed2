// SPDX-License-Identifier: Apache-2.0
//
// Memory with an object behind it: files, shared memory, memfds.
#define _GNU_SOURCE
#include "carried.h"
#include "pattern.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int make_file(const char *name, size_t pages, uint64_t seed) {
    int descriptor = open(in_folder(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    unsigned char page[page_size];
    if (descriptor < 0) {
        broken("%s", in_folder(name));
    }
    for (size_t number = 0; number < pages; number++) {
        fill_page(page, seed, number);
        if (write(descriptor, page, page_size) != page_size) {
            broken("write");
        }
    }
    return descriptor;
}

static unsigned char *map_object(int descriptor, size_t pages, int protection, int flags, off_t offset) {
    unsigned char *start = mmap(NULL, pages * page_size, protection, flags, descriptor, offset);
    if (start == MAP_FAILED) {
        broken("mmap of an object");
    }
    return start;
}

// A private mapping of a file with clean and written pages, reaching beyond the end of the file.

enum { file_pages = 64 };
static unsigned char *private_file, *private_constant;

static void private_file_set_up(void) {
    int descriptor = make_file("private", file_pages, 1);
    private_file = map_object(descriptor, file_pages + 8, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
    private_constant = map_object(descriptor, 16, PROT_READ, MAP_PRIVATE, 16 * page_size);
    for (size_t number = 0; number < file_pages; number += 3) {
        fill_page(private_file + number * page_size, 2, number);
    }
    close(descriptor);
}

static void private_file_verify(void) {
    for (size_t number = 0; number < file_pages; number++) {
        const unsigned char *page = private_file + number * page_size;
        check_page("private file mapping", page, number % 3 == 0 ? 2 : 1, number);
    }
    for (size_t number = 0; number < 16; number++) {
        check_page("constant file mapping", private_constant + number * page_size, 1, number + 16);
    }
    if (!in_child && signal_of_access(private_file + (file_pages + 2) * page_size, false) != SIGBUS) {
        wrong("no SIGBUS beyond the end of the file");
    }
}

static void private_file_finish(void) {
    unsigned char page[page_size];
    fill_page(private_file + 1 * page_size, 3, 1);
    int descriptor = open(in_folder("private"), O_RDONLY | O_CLOEXEC);
    for (size_t number = 0; number < file_pages; number++) {
        if (pread(descriptor, page, page_size, (off_t)(number * page_size)) != page_size) {
            wrong("the file is shorter than before");
        }
        check_page("file behind the private mapping", page, 1, number);
    }
    close(descriptor);
}

static void private_file_spoil(void) { fill_page(private_file + 3 * page_size, 1, 3); }

// A shared mapping of a file.

static unsigned char *shared_file, *shared_constant;
static int shared_file_descriptor;

static void shared_file_set_up(void) {
    shared_file_descriptor = make_file("shared", file_pages, 4);
    int constant = open(in_folder("shared"), O_RDONLY | O_CLOEXEC);
    shared_file = map_object(shared_file_descriptor, file_pages, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    shared_constant = map_object(constant, 8, PROT_READ, MAP_SHARED, 8 * page_size);
    close(constant);
    for (size_t number = 0; number < file_pages; number += 2) {
        fill_page(shared_file + number * page_size, 5, number);
    }
}

static void shared_file_verify(void) {
    for (size_t number = 0; number < file_pages; number++) {
        check_page("shared file mapping", shared_file + number * page_size, number % 2 == 0 ? 5 : 4, number);
    }
    check_page("constant shared mapping", shared_constant, 5, 8);
}

static void shared_file_finish(void) {
    unsigned char page[page_size];
    fill_page(shared_file + 9 * page_size, 6, 9);
    if (pread(shared_file_descriptor, page, page_size, 9 * page_size) != page_size) {
        wrong("the shared file cannot be read");
    }
    check_page("page of the file after a store through the mapping", page, 6, 9);
    check_page("second mapping of the file after the store", shared_constant + page_size, 6, 9);
}

static void shared_file_spoil(void) {
    mmap(shared_file, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

// Shared anonymous memory, seen through two mappings, and a shared mapping of /dev/zero.

static struct region shared_memory, shared_zero;
static unsigned char *second_view;

static void shared_memory_set_up(void) {
    shared_memory = (struct region){"shared memory", map_pages(600, PROT_READ | PROT_WRITE, MAP_SHARED), 600, 3, 7};
    fill_region(&shared_memory);
    second_view = mremap(shared_memory.start, 0, 600 * page_size, MREMAP_MAYMOVE);
    if (second_view == MAP_FAILED) {
        broken("second mapping of shared memory");
    }
    int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
    shared_zero = (struct region){"shared mapping of /dev/zero",
                                  map_object(zero, 20, PROT_READ | PROT_WRITE, MAP_SHARED, 0), 20, 2, 8};
    fill_region(&shared_zero);
    close(zero);
}

static void shared_memory_verify(void) {
    // The second view first: its pages have to come just as those of the first.
    struct region view = shared_memory;
    view.what = "second view of shared memory";
    view.start = second_view;
    view.pages = 300;
    check_region(&view);
    check_region(&shared_memory);
    check_region(&shared_zero);
}

static void shared_memory_finish(void) {
    fill_page(shared_memory.start + 500 * page_size, 9, 500);
    check_page("second view after a store through the first", second_view + 500 * page_size, 9, 500);
    fill_page(second_view + 501 * page_size, 9, 501);
    check_page("first view after a store through the second", shared_memory.start + 501 * page_size, 9, 501);
}

static void shared_memory_spoil(void) { memset(second_view + 3 * page_size, 0, page_size); }

// A memfd: shared and private mapping, descriptor with its offset, seals, holes, name.

enum { memfd_pages = 96 };
static int memfd, memfd_alone;
static unsigned char *memfd_shared, *memfd_private;
static int memfd_seals;

static void memfd_set_up(void) {
    unsigned char page[page_size];
    memfd = memfd_create("a memfd", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    memfd_alone = memfd_create("another", MFD_ALLOW_SEALING);
    if (memfd < 0 || memfd_alone < 0 || ftruncate(memfd, memfd_pages * page_size) != 0) {
        broken("memfd_create");
    }
    memfd_shared = map_object(memfd, memfd_pages, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    memfd_private = map_object(memfd, memfd_pages, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
    for (size_t number = 0; number < memfd_pages; number += 2) {
        fill_page(memfd_shared + number * page_size, 10, number);
    }
    for (size_t number = 0; number < memfd_pages; number += 3) {
        fill_page(memfd_private + number * page_size, 11, number);
    }
    memfd_seals = F_SEAL_SHRINK | F_SEAL_GROW;
    fcntl(memfd, F_ADD_SEALS, memfd_seals);
    lseek(memfd, 4 * page_size, SEEK_SET);
    for (size_t number = 0; number < 20; number++) {
        fill_page(page, 12, number);
        if (write(memfd_alone, page, page_size) != page_size) {
            broken("write to a memfd");
        }
    }
    fcntl(memfd_alone, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL);
}

static void memfd_verify(void) {
    unsigned char page[page_size];
    for (size_t number = 0; number < memfd_pages; number++) {
        bool filled = number % 2 == 0;
        const unsigned char *shared = memfd_shared + number * page_size;
        (void)(filled ? check_page("memfd", shared, 10, number) : check_zero("hole of a memfd", shared, number));
        const unsigned char *private = memfd_private + number * page_size;
        if (number % 3 == 0) {
            check_page("private mapping of a memfd", private, 11, number);
        } else if (filled) {
            check_page("private mapping of a memfd", private, 10, number);
        } else {
            check_zero("private mapping of a memfd", private, number);
        }
    }
    for (size_t number = 0; number < 20; number++) {
        if (pread(memfd_alone, page, page_size, (off_t)(number * page_size)) != page_size) {
            wrong("a memfd without mapping cannot be read");
            return;
        }
        check_page("memfd without mapping", page, 12, number);
    }
    if (fcntl(memfd, F_GET_SEALS) != memfd_seals || fcntl(memfd_alone, F_GET_SEALS) != (F_SEAL_WRITE | F_SEAL_SEAL)) {
        wrong("seals are %#x and %#x", fcntl(memfd, F_GET_SEALS), fcntl(memfd_alone, F_GET_SEALS));
    }
    if (lseek(memfd, 0, SEEK_CUR) != 4 * page_size || lseek(memfd_alone, 0, SEEK_CUR) != 20 * page_size) {
        wrong("offsets are %ld and %ld", (long)lseek(memfd, 0, SEEK_CUR), (long)lseek(memfd_alone, 0, SEEK_CUR));
    }
    if (!in_child && ((fcntl(memfd, F_GETFD) & FD_CLOEXEC) == 0 || (fcntl(memfd_alone, F_GETFD) & FD_CLOEXEC) != 0)) {
        wrong("close-on-exec is not as before");
    }
    char link[64] = {0};
    char path[64];
    __builtin_snprintf(path, sizeof path, "/proc/self/fd/%d", memfd);
    if (readlink(path, link, sizeof link - 1) < 0 || strncmp(link, "/memfd:a memfd", 14) != 0) {
        wrong("the memfd is called '%s'", link);
    }
}

static void memfd_finish(void) {
    unsigned char page[page_size];
    fill_page(page, 13, 50);
    if (pwrite(memfd, page, page_size, 50 * page_size) != page_size) {
        wrong("the memfd cannot be written");
    }
    check_page("mapping after a write to the descriptor", memfd_shared + 50 * page_size, 13, 50);
    if (ftruncate(memfd, page_size) == 0) {
        wrong("the sealed memfd can be truncated");
    }
}

static void memfd_spoil(void) { lseek(memfd, 0, SEEK_SET); }

const struct part object_parts[] = {
    {"private-file", private_file_set_up, NULL, private_file_verify, private_file_finish, private_file_spoil, true},
    {"shared-file", shared_file_set_up, NULL, shared_file_verify, shared_file_finish, shared_file_spoil, true},
    {"shared-memory", shared_memory_set_up, NULL, shared_memory_verify, shared_memory_finish, shared_memory_spoil, true},
    {"memfd", memfd_set_up, NULL, memfd_verify, memfd_finish, memfd_spoil, true},
    {NULL, NULL, NULL, NULL, NULL, NULL, false},
};
