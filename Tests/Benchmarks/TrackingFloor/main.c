// SPDX-License-Identifier: Apache-2.0
//
// What tracking costs the kernel alone, and a process for Thaw to track next to it.
//
//   TrackingFloor dense MIB      all pages of a mapping written
//   TrackingFloor sparse GIB     1000 pages of a mapping written, evenly spread
//   TrackingFloor mappings N     N mappings of one page, every second one writable and written
//
// Registers its memory with a userfaultfd of its own for asynchronous write protection, arms all written pages, looks
// again when nothing and when a tenth was written, and unregisters: one UFFDIO_REGISTER, and one walk of PAGEMAP_SCAN
// for each look, as Thaw's tracker does, with nothing around them. Each figure is the median of three runs.
//
// Prints a line with the seconds, and stays: SIGUSR2 writes a tenth of the pages and prints `written`, SIGUSR1 checks
// and ends it. Exit status: 0 every page right, 1 a wrong page, 2 a call failed, 64 usage.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, SPARSE_PAGES = 1000, RUNS = 3, REGIONS = 512, PART_WRITTEN = 10 };
enum step { REGISTER, ARM, CLEAN, WRITTEN, UNREGISTER, STEPS };
static const char *const names[STEPS] = {"register", "arm", "clean", "written", "unregister"};

// Headers older than Linux 6.7 lack these.
enum { FEATURE_WP_SHMEM = 1 << 12, FEATURE_WP_ASYNC = 1 << 15, USER_MODE_ONLY = 1 };
enum { IS_WRITTEN = 2, IS_PRESENT = 8, IS_SWAPPED = 16, IS_PFNZERO = 32 };
enum { SCAN_WP_MATCHING = 1, SCAN_CHECK_WPASYNC = 2 };
struct region {
    uint64_t start, end, categories;
};
struct scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, any, returned;
};
#define SCAN _IOWR('f', 16, struct scan)

static char *memory;
static uint64_t size, count, stride, nanoseconds_of[STEPS][RUNS];
static int pagemap;

static void require(bool holds, const char *call) {
    if (holds) return;
    perror(call);
    _exit(2);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

// ---- Memory ----

static volatile uint64_t *page(uint64_t i) {
    return (volatile uint64_t *)(memory + i * stride);
}

static uint64_t content(uint64_t i) {
    return (i + 1) * 0x9e3779b97f4a7c15u | 1;
}

static void write_pages(uint64_t step) {
    for (uint64_t i = 0; i < count; i += step) *page(i) = content(i);
}

static uint64_t count_wrong(void) {
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < count; i++) wrong += *page(i) != content(i);
    return wrong;
}

static bool lay_out(const char *kind, uint64_t amount) {
    if (strcmp(kind, "dense") == 0) {
        size = amount << 20;
        stride = PAGE;
    } else if (strcmp(kind, "sparse") == 0) {
        size = amount << 30;
        stride = size / SPARSE_PAGES / PAGE * PAGE;
    } else if (strcmp(kind, "mappings") == 0) {
        size = amount * PAGE;
        stride = 2 * PAGE;
    } else {
        return false;
    }
    if (amount == 0) return false;
    count = size / stride;
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    require(memory != MAP_FAILED, "mmap");
    require(madvise(memory, size, MADV_NOHUGEPAGE) == 0, "madvise");
    write_pages(1);
    if (strcmp(kind, "mappings") != 0) return true;
    for (uint64_t i = 1; i < amount; i += 2) {
        require(mprotect(memory + i * PAGE, PAGE, PROT_READ) == 0, "mprotect (sysctl vm.max_map_count limits mappings)");
    }
    return true;
}

// ---- Tracking ----

// One walk over everything; returns how many pages were found and armed.
static uint64_t look(uint64_t mask) {
    static struct region regions[REGIONS];
    struct scan scan = {
        .size = sizeof scan, .flags = SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC, .start = (uintptr_t)memory,
        .end = (uintptr_t)memory + size, .vec = (uintptr_t)regions, .vec_len = REGIONS,
        .inverted = IS_PFNZERO, .mask = IS_PFNZERO | mask, .any = IS_PRESENT | IS_SWAPPED, .returned = IS_WRITTEN,
    };
    uint64_t found = 0;
    while (scan.start < scan.end) {
        int filled = ioctl(pagemap, SCAN, &scan);
        require(filled >= 0, "PAGEMAP_SCAN (Linux 6.7)");
        for (int i = 0; i < filled; i++) found += (regions[i].end - regions[i].start) / PAGE;
        scan.start = scan.walk_end;
    }
    return found;
}

static int make_userfaultfd(void) {
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY);
    require(uffd >= 0, "userfaultfd");
    struct uffdio_api api = {
        .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | FEATURE_WP_SHMEM | FEATURE_WP_ASYNC,
    };
    require(ioctl(uffd, UFFDIO_API, &api) == 0, "UFFDIO_API (Linux 6.7)");
    return uffd;
}

static void measure(int run) {
    uint64_t moments[STEPS + 1];
    int uffd = make_userfaultfd();
    moments[REGISTER] = now();
    struct uffdio_register all = {.range = {(uintptr_t)memory, size}, .mode = UFFDIO_REGISTER_MODE_WP};
    require(ioctl(uffd, UFFDIO_REGISTER, &all) == 0, "UFFDIO_REGISTER");
    moments[ARM] = now();
    uint64_t armed = look(0);
    moments[CLEAN] = now();
    uint64_t clean = look(IS_WRITTEN);
    moments[WRITTEN] = now();
    write_pages(PART_WRITTEN);
    uint64_t writing = now() - moments[WRITTEN];
    uint64_t written = look(IS_WRITTEN);
    moments[UNREGISTER] = now();
    struct uffdio_range range = all.range;
    require(ioctl(uffd, UFFDIO_UNREGISTER, &range) == 0, "UFFDIO_UNREGISTER");
    moments[STEPS] = now();
    close(uffd);
    if (armed != count || clean != 0 || written != (count + PART_WRITTEN - 1) / PART_WRITTEN) {
        fprintf(stderr, "the kernel has not found what was written\n");
        exit(1);
    }
    for (int step = 0; step < STEPS; step++) nanoseconds_of[step][run] = moments[step + 1] - moments[step];
    nanoseconds_of[WRITTEN][run] -= writing;
}

static int by_value(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

int main(int argc, char **argv) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGUSR2);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    require(pagemap >= 0, "/proc/self/pagemap");
    if (argc != 3 || !lay_out(argv[1], strtoull(argv[2], NULL, 10))) {
        fprintf(stderr, "usage: %s dense MIB|sparse GIB|mappings N\n", argv[0]);
        return 64;
    }
    for (int run = 0; run < RUNS; run++) measure(run);
    // A process that is moved must not have it open.
    close(pagemap);
    printf("{");
    for (int step = 0; step < STEPS; step++) {
        qsort(nanoseconds_of[step], RUNS, sizeof **nanoseconds_of, by_value);
        printf("\"%s\":%.9f,", names[step], (double)nanoseconds_of[step][RUNS / 2] / 1e9);
    }
    printf("\"pages\":%llu}\n", (unsigned long long)count);
    fflush(stdout);
    for (int number = 0; sigwait(&signals, &number) == 0 && number == SIGUSR2;) {
        write_pages(PART_WRITTEN);
        puts("written");
        fflush(stdout);
    }
    uint64_t wrong = count_wrong();
    printf("{\"wrong\":%llu}\n", (unsigned long long)wrong);
    return wrong != 0;
}
