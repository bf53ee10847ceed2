// SPDX-License-Identifier: Apache-2.0
//
// `Victim retracked FOLDER PAGES`: a program that is told what to do with its memory while somebody counts the pages that it writes.
// PAGES pages of private memory, a few of shared memory, all with data. For N = 1, 2, ... it waits for FOLDER/do.N, a line
// `COMMAND A`, does that, and prints `N RESULT`: 0 unless something is wrong.
#define _GNU_SOURCE
#include "victim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { page_bytes = 4096, words_in_page = page_bytes / 8, shared_pages = 32 };

static uint64_t *private_memory, *shared_memory;
static uint64_t count;
// How often a page was written.
static uint64_t *ages;

static uint64_t value(uint64_t page, uint64_t age) {
    return (page + 1) * 0x9e3779b97f4a7c15u ^ age;
}

static void put(uint64_t *memory, uint64_t page, uint64_t age) {
    for (int word = 0; word < words_in_page; word++) memory[page * words_in_page + (uint64_t)word] = value(page, age);
}

static int is_right(const uint64_t *memory, uint64_t page, uint64_t age) {
    for (int word = 0; word < words_in_page; word++) {
        if (memory[page * words_in_page + (uint64_t)word] != value(page, age)) return 0;
    }
    return 1;
}

// Pages that are wrong.
static long read_all(void) {
    long wrong = 0;
    for (uint64_t page = 0; page < count; page++) {
        wrong += !is_right(private_memory, page, ages[page]);
    }
    for (uint64_t page = 0; page < shared_pages; page++) wrong += !is_right(shared_memory, page, 0);
    return wrong;
}

static long write_pages(uint64_t pages) {
    for (uint64_t page = 0; page < pages && page < count; page++) put(private_memory, page, ++ages[page]);
    return 0;
}

// The child sees what the parent has, and what it writes is its own.
static long fork_and_write(void) {
    pid_t child = fork();
    if (child == 0) {
        if (read_all() != 0) _exit(1);
        for (uint64_t page = 0; page < count; page++) put(private_memory, page, ages[page] + 1);
        for (uint64_t page = 0; page < count; page++) {
            if (!is_right(private_memory, page, ages[page] + 1)) _exit(2);
        }
        _exit(0);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child) return -1;
    return status + read_all();
}

static long move(void) {
    size_t bytes = count * page_bytes;
    void *to = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mremap(private_memory, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to) return -errno;
    private_memory = to;
    return read_all();
}

// Gives the last pages back; they read zeros.
static long drop(uint64_t pages) {
    unsigned char *start = (unsigned char *)private_memory + (count - pages) * page_bytes;
    if (madvise(start, pages * page_bytes, MADV_DONTNEED) != 0) return -errno;
    long wrong = 0;
    for (uint64_t byte = 0; byte < pages * page_bytes; byte++) wrong += start[byte] != 0;
    count -= pages;
    return wrong + read_all();
}

static long unmap(uint64_t pages) {
    count -= pages;
    if (munmap((unsigned char *)private_memory + count * page_bytes, pages * page_bytes) != 0) return -errno;
    return read_all();
}

static long run(const char *command, uint64_t argument) {
    if (strcmp(command, "read") == 0) return read_all();
    if (strcmp(command, "write") == 0) return write_pages(argument);
    if (strcmp(command, "fork") == 0) return fork_and_write();
    if (strcmp(command, "move") == 0) return move();
    if (strcmp(command, "drop") == 0) return drop(argument);
    if (strcmp(command, "unmap") == 0) return unmap(argument);
    if (strcmp(command, "exit") == 0) exit((int)argument);
    if (strcmp(command, "exec") == 0) {
        execl("/proc/self/exe", "Victim", "counting", (char *)NULL);
        return -errno;
    }
    return -ENOSYS;
}

// Waits for a file with a whole line and reads it; without the buffers of the C library, so that waiting writes no more than the stack.
static void next_line(const char *folder, int number, char *line, size_t size) {
    char path[4096];
    snprintf(path, sizeof path, "%s/do.%d", folder, number);
    for (;;) {
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            ssize_t length = read(file, line, size - 1);
            close(file);
            line[length > 0 ? length : 0] = 0;
            if (strchr(line, '\n') != NULL) return;
        }
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
}

static int retracked(int argc, char **argv) {
    if (argc != 3) return 64;
    count = strtoull(argv[2], NULL, 10);
    size_t bytes = count * page_bytes;
    int access = PROT_READ | PROT_WRITE;
    private_memory = mmap(NULL, bytes, access, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    shared_memory = mmap(NULL, shared_pages * page_bytes, access, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ages = calloc(count, sizeof *ages);
    if (private_memory == MAP_FAILED || shared_memory == MAP_FAILED || ages == NULL) return 71;
    // A huge page is written as one.
    madvise(private_memory, bytes, MADV_NOHUGEPAGE);
    for (uint64_t page = 0; page < count; page++) put(private_memory, page, 0);
    for (uint64_t page = 0; page < shared_pages; page++) put(shared_memory, page, 0);
    puts("ready");
    fflush(stdout);
    for (int number = 1;; number++) {
        char line[64], command[16];
        unsigned long argument = 0;
        next_line(argv[1], number, line, sizeof line);
        if (sscanf(line, "%15s %lu", command, &argument) < 1) return 64;
        printf("%d %ld\n", number, run(command, argument));
        fflush(stdout);
    }
}

const struct victim_mode retracked_modes[] = {
    {"retracked", retracked},
    {NULL, NULL},
};
