// SPDX-License-Identifier: Apache-2.0
//
// PAGEMAP_SCAN on /proc/PID/pagemap (Linux 6.7), ioctl_pagemap_scan(2). Headers of 6.1 lack it.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// What a page can be.
static const uint64_t clinux_PAGE_IS_WPALLOWED = 1 << 0;
static const uint64_t clinux_PAGE_IS_WRITTEN = 1 << 1;
static const uint64_t clinux_PAGE_IS_FILE = 1 << 2;
static const uint64_t clinux_PAGE_IS_PRESENT = 1 << 3;
static const uint64_t clinux_PAGE_IS_SWAPPED = 1 << 4;
static const uint64_t clinux_PAGE_IS_PFNZERO = 1 << 5;
static const uint64_t clinux_PAGE_IS_HUGE = 1 << 6;
static const uint64_t clinux_PAGE_IS_SOFT_DIRTY = 1 << 7;
static const uint64_t clinux_PAGE_IS_GUARD = 1 << 8;

/// Write-protect the pages that match.
static const uint64_t clinux_PM_SCAN_WP_MATCHING = 1 << 0;
/// Fail with EPERM where a VMA is not registered for asynchronous write protection.
static const uint64_t clinux_PM_SCAN_CHECK_WPASYNC = 1 << 1;

/// `struct page_region`: half-open range of addresses whose pages share their categories.
struct clinux_page_region {
    uint64_t start;
    uint64_t end;
    uint64_t categories;
};

/// `struct pm_scan_arg`, without the size that the shim fills in.
struct clinux_pagemap_scan {
    uint64_t flags;
    uint64_t start;
    uint64_t end;
    uint64_t max_pages;
    uint64_t category_inverted;
    uint64_t category_mask;
    uint64_t category_anyof_mask;
    uint64_t return_mask;
    /// Written: the address at which the walk stopped.
    uint64_t walk_end;
};

/// Fills up to `capacity` regions. Returns how many were filled, or -errno.
int64_t clinux_pagemap_scan(
    int pagemap, struct clinux_pagemap_scan *_Nonnull scan, struct clinux_page_region *_Nullable regions, size_t capacity);

/// PROCMAP_QUERY on /proc/PID/maps (Linux 6.11): the mapping that holds `*start`, or the next one behind it.
///
/// Returns 0 with its first and last address + 1, or -errno (ENOENT: no more; ENOTTY: the kernel has no such query).
int clinux_procmap_query(int maps, uint64_t *_Nonnull start, uint64_t *_Nonnull end);
