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
