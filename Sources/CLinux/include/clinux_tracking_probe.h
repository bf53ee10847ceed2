// SPDX-License-Identifier: Apache-2.0
//
// Questions about the tracking of writes, asked on scratch mappings of this program itself and undone. In C because they write to
// memory and look at its page tables.
#pragma once

#include <stdint.h>

/// Arms a page of our own and looks for its mark in /proc/self/pagemap (bit 57), once with UFFD_FEATURE_WP_ASYNC and once without.
/// Returns 0, or -errno (ENODATA: the mark is not shown).
int clinux_probe_write_protect(int asynchronous);

/// Whether /proc/self/pagemap shows soft-dirty bits (bit 55). Returns 0, or -EOPNOTSUPP.
int clinux_probe_soft_dirty(void);

/// Whether PAGEMAP_SCAN knows these categories. Returns 0, or -errno (EINVAL: it does not).
int clinux_probe_scan_categories(uint64_t categories);

/// Whether PAGEMAP_SCAN takes a page without a userfaultfd for written. Returns 0, or -ENODATA.
int clinux_probe_written_without_userfaultfd(void);

/// The page frame of the zero page, or 0 when this program may not see frames (CAP_SYS_ADMIN).
uint64_t clinux_zero_page_frame(void);

/// What came of a look for a bug.
enum {
    CLINUX_BUG_FIXED = 0,
    CLINUX_BUG_PRESENT = 1,
};

/// Whether PAGEMAP_SCAN hides an armed huge page that MADV_DONTNEED has thrown away whole. Returns CLINUX_BUG_*, or -errno (ENODEV:
/// no huge page could be had).
int clinux_probe_hidden_huge_hole(void);

/// Whether PAGEMAP_SCAN hides an armed page that MADV_DONTNEED has thrown away, when more is asked for than PAGE_IS_WRITTEN. Returns
/// CLINUX_BUG_*, or -errno.
int clinux_probe_hidden_empty_page(void);
