// SPDX-License-Identifier: Apache-2.0
//
// What the modes of the victim share.
#pragma once

#include <signal.h>
#include <stdint.h>

enum { PAGE = 4096, WORDS = PAGE / 8 };

// The memory that is moved, and how many pages it has.
extern uint64_t *memory, pages;
// One page in so many is filled, from the first on.
extern uint64_t stride;
// SIGUSR1 and SIGUSR2 have come.
extern volatile sig_atomic_t asked_to_end, asked_to_mark;

// Nanoseconds of CLOCK_MONOTONIC.
uint64_t now(void);

// Every number below a power of two once, without a table: odd multiplications and shifts are invertible.
uint64_t scattered(uint64_t i, uint64_t mask, int bits);

// How many bits the number of a page has.
int bits_of_pages(void);

// Memory whose pages each show their number in the first word.
void fill(void);
uint64_t first_word(uint64_t page);

// Modes; they return the exit status.
int measure_gap(int sleeps);

// Address space that is hardly used. Returns 0, or -1.
int reserve(long tebibytes);
int measure_touches(const char *start, const char *order, long threads, int is_told);
int measure_writes(char **words);
