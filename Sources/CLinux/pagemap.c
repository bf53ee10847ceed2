// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <linux/ioctl.h>
#include <sys/ioctl.h>

struct clinux_pm_scan_arg {
    uint64_t size;
    uint64_t flags;
    uint64_t start;
    uint64_t end;
    uint64_t walk_end;
    uint64_t vec;
    uint64_t vec_len;
    uint64_t max_pages;
    uint64_t category_inverted;
    uint64_t category_mask;
    uint64_t category_anyof_mask;
    uint64_t return_mask;
};
#define CLINUX_PAGEMAP_SCAN _IOWR('f', 16, struct clinux_pm_scan_arg)

_Static_assert(sizeof(struct clinux_pm_scan_arg) == 96, "pm_scan_arg");
_Static_assert(CLINUX_PAGEMAP_SCAN == 0xc0606610, "PAGEMAP_SCAN");

int64_t clinux_pagemap_scan(
    int pagemap, struct clinux_pagemap_scan *scan, struct clinux_page_region *regions, size_t capacity) {
    struct clinux_pm_scan_arg argument = {
        .size = sizeof argument,
        .flags = scan->flags,
        .start = scan->start,
        .end = scan->end,
        .vec = (uintptr_t)regions,
        .vec_len = capacity,
        .max_pages = scan->max_pages,
        .category_inverted = scan->category_inverted,
        .category_mask = scan->category_mask,
        .category_anyof_mask = scan->category_anyof_mask,
        .return_mask = scan->return_mask,
    };
    int result = ioctl(pagemap, CLINUX_PAGEMAP_SCAN, &argument);
    if (result < 0) return -errno;
    scan->walk_end = argument.walk_end;
    return result;
}

struct clinux_procmap_query_argument {
    uint64_t size;
    uint64_t query_flags;
    uint64_t query_addr;
    uint64_t vma_start;
    uint64_t vma_end;
    uint64_t vma_flags;
    uint64_t vma_page_size;
    uint64_t vma_offset;
    uint64_t inode;
    uint32_t dev_major;
    uint32_t dev_minor;
    uint32_t vma_name_size;
    uint32_t build_id_size;
    uint64_t vma_name_addr;
    uint64_t build_id_addr;
};
#define CLINUX_PROCMAP_QUERY _IOWR('f', 17, struct clinux_procmap_query_argument)
#define CLINUX_PROCMAP_QUERY_COVERING_OR_NEXT_VMA 0x10

_Static_assert(sizeof(struct clinux_procmap_query_argument) == 104, "procmap_query");

int clinux_procmap_query(int maps, uint64_t *start, uint64_t *end) {
    struct clinux_procmap_query_argument argument = {
        .size = sizeof argument,
        .query_flags = CLINUX_PROCMAP_QUERY_COVERING_OR_NEXT_VMA,
        .query_addr = *start,
    };
    if (ioctl(maps, CLINUX_PROCMAP_QUERY, &argument) < 0) return -errno;
    *start = argument.vma_start;
    *end = argument.vma_end;
    return 0;
}
