// SPDX-License-Identifier: Apache-2.0
//
// A victim that does to its memory what it is told, for the tests of DirtyTracking.
#define _GNU_SOURCE
#include "victim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { page = 4096, huge = 2 << 20, map_noreserve = 1, map_huge = 2, map_small = 4 };

static long errno_of(long result) { return result < 0 ? -errno : result; }

static long long nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long map(uint64_t pages, uint64_t how) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (how & map_noreserve ? MAP_NORESERVE : 0);
    uint64_t size = pages * page;
    unsigned char *start = mmap(NULL, size + (how & map_huge ? huge : 0), PROT_READ | PROT_WRITE, flags, -1, 0);
    if (start == MAP_FAILED) return -errno;
    if (how & map_huge) {
        unsigned char *aligned = (unsigned char *)(((uintptr_t)start + huge - 1) & ~(uintptr_t)(huge - 1));
        if (aligned > start) munmap(start, (size_t)(aligned - start));
        munmap(aligned + size, (size_t)(start + huge - aligned));
        start = aligned;
        madvise(start, size, MADV_HUGEPAGE);
    }
    if (how & map_small) madvise(start, size, MADV_NOHUGEPAGE);
    return (long)start;
}

static long map_at(void *address, uint64_t pages, int kind) {
    int flags = MAP_FIXED | MAP_ANONYMOUS | (kind == 0 ? MAP_PRIVATE : MAP_SHARED);
    return errno_of((long)mmap(address, pages * page, PROT_READ | PROT_WRITE, flags, -1, 0));
}

// Every word of the pages.
static long fill(uint64_t *words, uint64_t pages, uint64_t value) {
    for (uint64_t index = 0; index < pages * page / sizeof *words; index++) words[index] = value;
    return 0;
}

static sigjmp_buf after_fault;

static void on_fault(int signal) { siglongjmp(after_fault, signal); }

// Fills pages until one cannot be written (0), or reads them until one cannot be read (1); returns how many went well.
static long try_pages(unsigned char *start, uint64_t pages, uint64_t value, int reads) {
    volatile uint64_t done = 0;
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    if (sigsetjmp(after_fault, 0) == 0) {
        for (; done < pages; done++) {
            if (reads) (void)*(volatile unsigned char *)(start + done * page);
            else fill((uint64_t *)(void *)(start + done * page), 1, value);
        }
    }
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    return (long)done;
}

// A child writes; returns how many pages it could.
static long fork_fill(unsigned char *start, uint64_t pages, uint64_t value) {
    pid_t child = fork();
    if (child == 0) _exit((int)try_pages(start, pages, value, 0) & 0x7f);
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
}

// The kernel writes the pages, all bytes alike; returns how many it wrote.
static long kernel_fill(unsigned char *start, uint64_t pages, unsigned char value) {
    static unsigned char bytes[page];
    int ends[2];
    if (pipe(ends) != 0) return -errno;
    uint64_t done = 0;
    for (; done < pages; done++) {
        memset(bytes, value, page);
        if (write(ends[1], bytes, page) != page) break;
        if (read(ends[0], start + done * page, page) != page) break;
    }
    close(ends[0]);
    close(ends[1]);
    return (long)done;
}

static long fork_write(volatile uint64_t *address, uint64_t value) {
    pid_t child = fork();
    if (child == 0) {
        *address = value;
        _exit(*address == value ? 7 : 1);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
}

// The kernel writes there.
static long read_into(uint64_t address, uint64_t count) {
    int zero = open("/dev/zero", O_RDONLY);
    long result = errno_of(read(zero, (void *)(uintptr_t)address, count));
    close(zero);
    return result;
}

static uint64_t random_state;

static uint64_t next_random(void) {
    random_state += 0x9e3779b97f4a7c15;
    uint64_t value = random_state;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

// Writes to `count` random pages of a range.
static long scatter(unsigned char *start, uint64_t pages, uint64_t count) {
    for (uint64_t index = 0; index < count; index++) start[next_random() % pages * page] = (unsigned char)(index | 1);
    return 0;
}

// `count` mappings of one page each that cannot be merged, with data.
static long mappings(uint64_t count) {
    unsigned char *start = mmap(NULL, 2 * count * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) return -errno;
    for (uint64_t index = 0; index < count; index++) {
        unsigned char *one = start + 2 * index * page;
        if (mprotect(one, page, PROT_READ | PROT_WRITE) != 0) return -errno;
        one[0] = 1;
    }
    return (long)start;
}

// One write to every page; the time in nanoseconds.
static long write_all(volatile unsigned char *start, uint64_t pages, uint64_t value) {
    long long began = nanoseconds();
    for (uint64_t index = 0; index < pages; index++) start[index * page] = (unsigned char)value;
    return (long)(nanoseconds() - began);
}

// From now on userfaultfd(2) kills the process.
static long forbid_userfaultfd(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -errno;
    return errno_of(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static int own_uffd = -1;

// A userfaultfd of the program's own over a range.
static long register_own(uint64_t address, uint64_t pages, uint64_t mode, uint64_t features) {
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    struct uffdio_register argument = {.range = {address, pages * page}, .mode = mode};
    own_uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1);
    if (own_uffd < 0 || ioctl(own_uffd, UFFDIO_API, &api) != 0) return -errno;
    return errno_of(ioctl(own_uffd, UFFDIO_REGISTER, &argument));
}

// Serves missing faults of its own with a byte, in a thread.
static void *serve_own(void *argument) {
    unsigned char *source = argument;
    struct uffd_msg message;
    while (read(own_uffd, &message, sizeof message) == sizeof message) {
        struct uffdio_copy copy = {
            .dst = message.arg.pagefault.address & ~(uint64_t)(page - 1), .src = (uintptr_t)source, .len = page};
        ioctl(own_uffd, UFFDIO_COPY, &copy);
    }
    return NULL;
}

static long start_serving(unsigned char value) {
    unsigned char *source = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(source, value, page);
    pthread_t thread;
    return -pthread_create(&thread, NULL, serve_own, source);
}

static long run(const char *command, const uint64_t *words) {
    uint64_t a = words[0], b = words[1], c = words[2];
    void *address = (void *)(uintptr_t)a;
    if (strcmp(command, "map") == 0) return map(a, b);
    if (strcmp(command, "map-at") == 0) return map_at(address, b, (int)c);
    if (strcmp(command, "fill") == 0) return fill(address, b, c);
    if (strcmp(command, "peek") == 0) return (long)*(volatile uint64_t *)address;
    if (strcmp(command, "write-all") == 0) return write_all(address, b, c);
    if (strcmp(command, "read-into") == 0) return read_into(a, b);
    if (strcmp(command, "try-fill") == 0) return try_pages(address, b, c, 0);
    if (strcmp(command, "try-peek") == 0) return try_pages(address, b, 0, 1);
    if (strcmp(command, "fork-fill") == 0) return fork_fill(address, b, c);
    if (strcmp(command, "kernel-fill") == 0) return kernel_fill(address, b, (unsigned char)c);
    if (strcmp(command, "become") == 0) return errno_of(setresuid((uid_t)a, (uid_t)a, (uid_t)a));
    if (strcmp(command, "fork-write") == 0) return fork_write(address, b);
    if (strcmp(command, "move") == 0) {
        return errno_of((long)mremap(address, b * page, b * page, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(uintptr_t)c));
    }
    if (strcmp(command, "resize") == 0) return errno_of((long)mremap(address, b * page, c * page, 0));
    if (strcmp(command, "unmap") == 0) return errno_of(munmap(address, b * page));
    if (strcmp(command, "protect") == 0) return errno_of(mprotect(address, b * page, (int)c));
    if (strcmp(command, "advise") == 0) return errno_of(madvise(address, b * page, (int)c));
    if (strcmp(command, "break") == 0) return errno_of((long)sbrk((intptr_t)(a * page)));
    if (strcmp(command, "seed") == 0) return (long)(random_state = a);
    if (strcmp(command, "scatter") == 0) return scatter(address, b, c);
    if (strcmp(command, "mappings") == 0) return mappings(a);
    if (strcmp(command, "register") == 0) return register_own(a, b, c, words[3]);
    if (strcmp(command, "serve") == 0) return start_serving((unsigned char)a);
    if (strcmp(command, "forbid") == 0) return forbid_userfaultfd();
    if (strcmp(command, "ring") == 0) {
        unsigned char parameters[256] = {0};
        return errno_of(syscall(SYS_io_uring_setup, 4, parameters));
    }
    if (strcmp(command, "exec") == 0) {
        return errno_of(execl("/proc/self/exe", "Victim", "tracked-commands", (char *)NULL));
    }
    return -ENOSYS;
}

// Each line `COMMAND A B C D` (hexadecimal numbers) is answered by a line with the result in hexadecimal.
static int commands(int argc, char **argv) {
    (void)argc;
    (void)argv;
    puts("ready");
    fflush(stdout);
    char line[160], command[32];
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned long long words[4] = {0, 0, 0, 0};
        if (sscanf(line, "%31s %llx %llx %llx %llx", command, &words[0], &words[1], &words[2], &words[3]) < 1) return 1;
        uint64_t arguments[4] = {words[0], words[1], words[2], words[3]};
        printf("%lx\n", (unsigned long)run(command, arguments));
        fflush(stdout);
    }
    return 0;
}

enum { writer_limit = 32 };

static struct writer {
    volatile uint64_t *start;
    uint64_t pages;
    uint64_t wrong;
    uint64_t turns;
    uint64_t mark;
} writers[writer_limit];

// Counts up in every page, and looks whether somebody else has written there.
static void *write_for_ever(void *argument) {
    struct writer *writer = argument;
    for (uint64_t turn = 1;; turn++) {
        for (uint64_t index = 0; index < writer->pages; index++) {
            volatile uint64_t *word = writer->start + index * (page / sizeof *word);
            if (*word != turn - 1) __atomic_add_fetch(&writer->wrong, 1, __ATOMIC_RELAXED);
            *word = turn;
        }
        __atomic_store_n(&writer->turns, turn, __ATOMIC_RELAXED);
    }
    return NULL;
}

// THREADS PAGES: each thread writes to pages of its own without a pause. For each line
// `turns N wrong N`: the turns of the slowest since the last line `mark`, and pages that somebody else has written.
static int writing(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 1;
    uint64_t pages = argc > 2 ? strtoull(argv[2], NULL, 10) : 16;
    if (count < 1 || count > writer_limit) return 1;
    for (int index = 0; index < count; index++) {
        writers[index].start = (volatile uint64_t *)map(pages, map_small);
        writers[index].pages = pages;
        pthread_t thread;
        if (pthread_create(&thread, NULL, write_for_ever, &writers[index]) != 0) return 1;
    }
    puts("ready");
    fflush(stdout);
    char line[16];
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint64_t turns = UINT64_MAX, wrong = 0;
        for (int index = 0; index < count; index++) {
            uint64_t own = __atomic_load_n(&writers[index].turns, __ATOMIC_RELAXED);
            if (strcmp(line, "mark\n") == 0) writers[index].mark = own;
            turns = own - writers[index].mark < turns ? own - writers[index].mark : turns;
            wrong += __atomic_load_n(&writers[index].wrong, __ATOMIC_RELAXED);
        }
        printf("turns %lu wrong %lu\n", turns, wrong);
        fflush(stdout);
    }
    return 0;
}

// FILE FILE PAGES: reads the files by turns, each into all of its pages by one direct read a line `N`, answered by `done`.
static int reading(int argc, char **argv) {
    if (argc < 4) return 1;
    uint64_t pages = strtoull(argv[3], NULL, 10);
    unsigned char *start = (unsigned char *)map(pages, map_small);
    memset(start, 1, pages * page);
    int files[2];
    for (int index = 0; index < 2; index++) {
        files[index] = open(argv[1 + index], O_RDONLY | O_DIRECT);
        if (files[index] < 0) return 1;
    }
    printf("%lx\n", (unsigned long)(uintptr_t)start);
    puts("ready");
    fflush(stdout);
    char line[16];
    for (int turn = 0; fgets(line, sizeof line, stdin) != NULL; turn++) {
        if (pread(files[turn & 1], start, pages * page, 0) != (ssize_t)(pages * page)) return 1;
        puts("done");
        fflush(stdout);
    }
    return 0;
}

const struct victim_mode tracked_modes[] = {
    {"tracked-direct-reads", reading},
    {"tracked-commands", commands},
    {"tracked-writers", writing},
    {NULL, NULL},
};
