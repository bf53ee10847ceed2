// SPDX-License-Identifier: Apache-2.0
//
// Victims of the session tests: they keep using their memory while it is still on its way.
#define _GNU_SOURCE
#include "victim.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Blocks of 64 KiB. The lower half is only read, by a thread of its own; the upper half is dropped, moved, unmapped and forked.
enum { PAGE = 4096, PAGES = 16, WORDS = PAGE / 8, MOST_BLOCKS = 8192 };

static char *blocks[MOST_BLOCKS];
static uint8_t dropped[MOST_BLOCKS][PAGES];
static int block_count;
static uint64_t state = 7;

static uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static uint64_t word_of(int block, int page, int word) {
    return ((uint64_t)block << 40 | (uint64_t)page << 20 | (uint64_t)word) * 0x9e3779b97f4a7c15u;
}

static int is_wrong(int block, int page) {
    const uint64_t *words = (const uint64_t *)(blocks[block] + page * PAGE);
    for (int word = 0; word < WORDS; word += 31) {
        uint64_t wanted = dropped[block][page] ? 0 : word_of(block, page, word);
        if (words[word] != wanted) {
            printf("wrong: block %d page %d word %d holds %lx, not %lx\n", block, page, word, words[word], wanted);
            fflush(stdout);
            return 1;
        }
    }
    return 0;
}

static void *keep_reading(void *unused) {
    uint64_t seed = 99;
    for (;;) {
        uint64_t random = next_random(&seed);
        if (is_wrong((int)(random % (uint64_t)(block_count / 2)), (int)(random >> 40) % PAGES)) _exit(3);
    }
    return unused;
}

static void drop(int block, int page) {
    int count = 1 + (int)(next_random(&state) % (uint64_t)(PAGES - page));
    if (madvise(blocks[block] + page * PAGE, (size_t)count * PAGE, MADV_DONTNEED) != 0) _exit(4);
    memset(&dropped[block][page], 1, (size_t)count);
}

static void move(int block) {
    char *to = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mremap(blocks[block], PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to) _exit(5);
    blocks[block] = to;
}

// The child compares pages that nobody has touched yet, and writes one; the parent sees nothing of that.
static void fork_reader(int block, int page) {
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 100; i++) {
            int other = (int)(next_random(&state) % (uint64_t)block_count);
            if (blocks[other] != NULL && is_wrong(other, (int)(next_random(&state) % PAGES))) _exit(1);
        }
        memset(blocks[block] + page * PAGE, 0x55, PAGE);
        _exit(0);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) _exit(6);
}

static void change(int block, int page) {
    if (blocks[block] == NULL) return;
    switch (next_random(&state) % 16) {
        case 0: drop(block, page); break;
        case 1: move(block); break;
        case 2:
            munmap(blocks[block], PAGES * PAGE);
            blocks[block] = NULL;
            break;
        case 3: fork_reader(block, page); break;
        default:
            if (is_wrong(block, page)) _exit(8);
    }
}

// memory-events FILE BLOCKS CHANGES: waits for FILE, changes its memory, compares all of it; exit status 5 when all is right.
static int memory_events(int argc, char **argv) {
    if (argc != 4) return 64;
    block_count = atoi(argv[2]);
    int changes = atoi(argv[3]);
    if (block_count < 2 || block_count > MOST_BLOCKS) return 64;
    for (int block = 0; block < block_count; block++) {
        blocks[block] = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int page = 0; page < PAGES; page++) {
            uint64_t *words = (uint64_t *)(blocks[block] + page * PAGE);
            for (int word = 0; word < WORDS; word++) words[word] = word_of(block, page, word);
        }
    }
    puts("ready");
    fflush(stdout);
    while (access(argv[1], F_OK) != 0) nanosleep(&(struct timespec){ 0, 2000000 }, NULL);
    pthread_t reader;
    if (pthread_create(&reader, NULL, keep_reading, NULL) != 0) return 70;
    int half = block_count / 2;
    for (int i = 0; i < changes; i++) {
        change(half + (int)(next_random(&state) % (uint64_t)(block_count - half)), (int)(next_random(&state) % PAGES));
    }
    for (int block = 0; block < block_count; block++) {
        for (int page = 0; page < PAGES && blocks[block] != NULL; page++) {
            if (is_wrong(block, page)) _exit(9);
        }
    }
    puts("right");
    return 5;
}

// counting: prints a line every ten milliseconds.
static int counting(int argc, char **argv) {
    (void)argc, (void)argv;
    puts("ready");
    for (unsigned long count = 0;; count++) {
        printf("%lu\n", count);
        fflush(stdout);
        nanosleep(&(struct timespec){ 0, 10000000 }, NULL);
    }
}

// Guard pages (MADV_GUARD_INSTALL) among pages that were written: every third of twelve.
enum { GUARDED = 12, GUARD_INSTALL = 102, GUARD_REMOVE = 103 };

static char *guarded;
static sigjmp_buf back;

static void go_back(int signal) {
    siglongjmp(back, signal);
}

static int is_guard(int page) {
    return page % 3 == 1;
}

// The signal that reading a page raises, 0 for none.
static int signal_of(int page) {
    int signal = sigsetjmp(back, 1);
    if (signal == 0) (void)*(volatile char *)(guarded + page * PAGE);
    return signal;
}

static int fail(const char *what, int page, int value) {
    printf("wrong: %s, page %d, %d\n", what, page, value);
    fflush(stdout);
    return 1;
}

// One byte into each page by read(2): the kernel touches it then, and says EFAULT for a guard.
static int fill_by_kernel(void) {
    int zero = open("/dev/zero", O_RDONLY);
    for (int page = 0; page < GUARDED; page++) {
        long got = read(zero, guarded + page * PAGE + 1, 1);
        if (is_guard(page) ? got != -1 || errno != EFAULT : got != 1) return fail("read(2)", page, (int)got);
    }
    close(zero);
    return 0;
}

// The child sees the guards as well, by whatever signal; data and zeros it sees as they are.
static int look_in_child(void) {
    pid_t child = fork();
    if (child == 0) {
        for (int page = 0; page < GUARDED; page++) {
            int signal = signal_of(page);
            if (is_guard(page) ? signal != SIGSEGV && signal != SIGBUS : signal != 0) _exit(1 + page);
            if (!is_guard(page) && guarded[page * PAGE] != 'a' + page) _exit(20 + page);
        }
        _exit(0);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) return fail("child", status >> 8, status & 127);
    return 0;
}

static int look_at_guards(void) {
    for (int page = 0; page < GUARDED; page++) {
        int signal = signal_of(page);
        if (signal != (is_guard(page) ? SIGSEGV : 0)) return fail("signal", page, signal);
        if (!is_guard(page) && guarded[page * PAGE] != 'a' + page) return fail("byte", page, guarded[page * PAGE]);
    }
    return 0;
}

// guards FILE touch|read|fork|rest: waits for FILE, does that with its guards, takes one off; exit status 5 when all is right.
static int guards(int argc, char **argv) {
    if (argc != 3) return 64;
    guarded = mmap(NULL, GUARDED * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int page = 0; page < GUARDED; page++) memset(guarded + page * PAGE, 'a' + page, PAGE);
    for (int page = 0; page < GUARDED; page++) {
        if (is_guard(page) && madvise(guarded + page * PAGE, PAGE, GUARD_INSTALL) != 0) return 77;
    }
    signal(SIGSEGV, go_back);
    signal(SIGBUS, go_back);
    puts("ready");
    fflush(stdout);
    while (access(argv[1], F_OK) != 0) nanosleep(&(struct timespec){ 0, 2000000 }, NULL);
    int result = 0;
    if (strcmp(argv[2], "read") == 0) result = fill_by_kernel();
    if (strcmp(argv[2], "fork") == 0) result = look_in_child();
    if (result == 0 && strcmp(argv[2], "read") != 0) result = look_at_guards();
    if (result != 0) return result;
    // It reads zeros then, as a page that was never touched.
    if (madvise(guarded + PAGE, PAGE, GUARD_REMOVE) != 0) return 6;
    int signal = signal_of(1);
    if (strcmp(argv[2], "read") != 0 && (signal != 0 || guarded[PAGE] != 0)) return fail("guard taken off", 1, signal);
    puts("right");
    return 5;
}

const struct victim_mode session_modes[] = {
    { "guards", guards },
    { "memory-events", memory_events },
    { "counting", counting },
    { NULL, NULL },
};
