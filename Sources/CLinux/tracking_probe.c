// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

enum { page_bytes = 4096, huge_bytes = 2 << 20 };

/// Memory of our own with a userfaultfd and a pagemap.
struct scratch {
    unsigned char *start;
    size_t size;
    int uffd;
    int pagemap;
};

static void discard(struct scratch *scratch) {
    if (scratch->start) munmap(scratch->start, scratch->size);
    if (scratch->uffd >= 0) close(scratch->uffd);
    if (scratch->pagemap >= 0) close(scratch->pagemap);
}

static int prepare(struct scratch *scratch, size_t size) {
    *scratch = (struct scratch){.size = size, .uffd = -1, .pagemap = -1};
    void *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return -errno;
    scratch->start = start;
    scratch->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    return scratch->pagemap < 0 ? -errno : 0;
}

// A user-mode-only userfaultfd is enough: nobody but this program writes here.
static int register_range(struct scratch *scratch, unsigned char *start, size_t size, uint64_t features) {
    uint64_t ioctls = 0;
    features |= clinux_UFFD_FEATURE_PAGEFAULT_FLAG_WP;
    scratch->uffd = clinux_userfaultfd(O_CLOEXEC | O_NONBLOCK | clinux_UFFD_USER_MODE_ONLY);
    if (scratch->uffd < 0) return scratch->uffd;
    int result = clinux_uffd_api(scratch->uffd, &features, &ioctls);
    if (result < 0) return result;
    return clinux_uffd_register(scratch->uffd, (uintptr_t)start, size, clinux_UFFDIO_REGISTER_MODE_WP, &ioctls);
}

static int arm(struct scratch *scratch, unsigned char *start, size_t size) {
    return clinux_uffd_writeprotect(scratch->uffd, (uintptr_t)start, size, 1);
}

static int64_t scan(
    struct scratch *scratch, unsigned char *start, size_t size, uint64_t all, uint64_t returned, uint64_t *categories) {
    struct clinux_page_region region = {0};
    struct clinux_pagemap_scan request = {
        .start = (uintptr_t)start, .end = (uintptr_t)start + size, .category_mask = all, .return_mask = returned};
    int64_t count = clinux_pagemap_scan(scratch->pagemap, &request, &region, 1);
    if (categories) *categories = region.categories;
    return count;
}

// The 64 bits of /proc/self/pagemap for a page; 0 when they cannot be read.
static uint64_t entry(struct scratch *scratch, unsigned char *address) {
    uint64_t bits = 0;
    off_t offset = (off_t)((uintptr_t)address / page_bytes * sizeof bits);
    return pread(scratch->pagemap, &bits, sizeof bits, offset) == sizeof bits ? bits : 0;
}

int clinux_probe_write_protect(int asynchronous) {
    struct scratch scratch;
    uint64_t features = asynchronous ? clinux_UFFD_FEATURE_WP_ASYNC : 0;
    int result = prepare(&scratch, page_bytes);
    if (result == 0) {
        *(volatile unsigned char *)scratch.start = 1;
        result = register_range(&scratch, scratch.start, page_bytes, features);
    }
    if (result == 0) result = arm(&scratch, scratch.start, page_bytes);
    if (result == 0 && !(entry(&scratch, scratch.start) >> 57 & 1)) result = -ENODATA;
    discard(&scratch);
    return result;
}

int clinux_probe_soft_dirty(void) {
    struct scratch scratch;
    int result = prepare(&scratch, page_bytes);
    if (result == 0) {
        *(volatile unsigned char *)scratch.start = 1;
        // A new mapping is dirty as a whole.
        if (!(entry(&scratch, scratch.start) >> 55 & 1)) result = -EOPNOTSUPP;
    }
    discard(&scratch);
    return result;
}

int clinux_probe_scan_categories(uint64_t categories) {
    struct scratch scratch;
    int result = prepare(&scratch, page_bytes);
    if (result == 0) {
        int64_t count = scan(&scratch, scratch.start, page_bytes, 0, categories, NULL);
        result = count < 0 ? (int)count : 0;
    }
    discard(&scratch);
    return result;
}

int clinux_probe_written_without_userfaultfd(void) {
    struct scratch scratch;
    int result = prepare(&scratch, page_bytes);
    if (result == 0) {
        *(volatile unsigned char *)scratch.start = 1;
        uint64_t all = clinux_PAGE_IS_PRESENT | clinux_PAGE_IS_WRITTEN;
        int64_t count = scan(&scratch, scratch.start, page_bytes, all, all, NULL);
        result = count < 0 ? (int)count : count == 1 ? 0 : -ENODATA;
    }
    discard(&scratch);
    return result;
}

uint64_t clinux_zero_page_frame(void) {
    struct scratch scratch;
    uint64_t frame = 0;
    if (prepare(&scratch, page_bytes) == 0) {
        // A huge zero page would have another frame.
        madvise(scratch.start, page_bytes, MADV_NOHUGEPAGE);
        if (*(volatile unsigned char *)scratch.start == 0) {
            frame = entry(&scratch, scratch.start) & ((1ull << 55) - 1);
        }
    }
    discard(&scratch);
    return frame;
}

// An armed huge page of our own, or -ENODEV.
static int prepare_huge(struct scratch *scratch, unsigned char **huge) {
    int result = prepare(scratch, 2 * huge_bytes);
    if (result != 0) return result;
    *huge = (unsigned char *)(((uintptr_t)scratch->start + huge_bytes - 1) & ~(uintptr_t)(huge_bytes - 1));
    if (madvise(*huge, huge_bytes, MADV_HUGEPAGE) != 0) return -ENODEV;
    **(volatile unsigned char **)huge = 1;
    uint64_t categories = 0;
    int64_t count =
        scan(scratch, *huge, huge_bytes, clinux_PAGE_IS_PRESENT, clinux_PAGE_IS_HUGE, &categories);
    if (count < 0) return (int)count;
    if (!(categories & clinux_PAGE_IS_HUGE)) return -ENODEV;
    result = register_range(scratch, *huge, huge_bytes, clinux_UFFD_FEATURE_WP_ASYNC);
    return result != 0 ? result : arm(scratch, *huge, huge_bytes);
}

int clinux_probe_hidden_huge_hole(void) {
    struct scratch scratch;
    unsigned char *huge = NULL;
    int result = prepare_huge(&scratch, &huge);
    if (result == 0 && madvise(huge, huge_bytes, MADV_DONTNEED) != 0) result = -errno;
    if (result == 0) {
        uint64_t written = clinux_PAGE_IS_WRITTEN;
        int64_t count = scan(&scratch, huge, huge_bytes, written, written, NULL);
        result = count < 0 ? (int)count : count > 0 ? CLINUX_BUG_FIXED : CLINUX_BUG_PRESENT;
    }
    discard(&scratch);
    return result;
}

int clinux_probe_hidden_empty_page(void) {
    struct scratch scratch;
    int result = prepare(&scratch, 2 * page_bytes);
    if (result == 0) {
        // The second page keeps the page table.
        ((volatile unsigned char *)scratch.start)[0] = 1;
        ((volatile unsigned char *)scratch.start)[page_bytes] = 1;
        result = register_range(&scratch, scratch.start, scratch.size, clinux_UFFD_FEATURE_WP_ASYNC);
    }
    if (result == 0) result = arm(&scratch, scratch.start, scratch.size);
    if (result == 0 && madvise(scratch.start, page_bytes, MADV_DONTNEED) != 0) result = -errno;
    if (result == 0) {
        uint64_t returned = clinux_PAGE_IS_WRITTEN | clinux_PAGE_IS_PRESENT;
        int64_t count = scan(&scratch, scratch.start, page_bytes, clinux_PAGE_IS_WRITTEN, returned, NULL);
        result = count < 0 ? (int)count : count > 0 ? CLINUX_BUG_FIXED : CLINUX_BUG_PRESENT;
    }
    discard(&scratch);
    return result;
}
