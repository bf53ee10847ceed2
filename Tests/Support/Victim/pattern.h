// SPDX-License-Identifier: Apache-2.0
//
// Pages with contents that are computed from a seed and their place.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { page_size = 4096 };

/// Pages of which every `step`-th, from page 0 on, was filled from `seed`; the others were never touched.
struct region {
    const char *what;
    unsigned char *start;
    size_t pages;
    size_t step;
    uint64_t seed;
};

/// Maps private anonymous memory or ends the program.
unsigned char *map_pages(size_t pages, int protection, int flags);

/// Fills one page from a seed and its number.
void fill_page(unsigned char *page, uint64_t seed, size_t number);

/// Fills the pages of a region.
void fill_region(const struct region *region);

/// Whether a page holds what `fill_page` wrote; reports when not.
bool check_page(const char *what, const unsigned char *page, uint64_t seed, size_t number);

/// Whether a page holds zeros only; reports when not.
bool check_zero(const char *what, const unsigned char *page, size_t number);

/// Looks at every page of a region, the untouched ones too, and reports the first wrong one.
void check_region(const struct region *region);

/// Whether reading (or writing) a byte raises `number`; 0 for no signal. Only the first thread may ask.
int signal_of_access(volatile unsigned char *address, bool write);
