// SPDX-License-Identifier: Apache-2.0
//
// A victim that does to its memory what it is told, for the tests of Userfaultfd.
#define _GNU_SOURCE
#include "victim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { page = 4096 };

static long peek(uint64_t address) { return *(volatile unsigned char *)(uintptr_t)address; }

// The caller's frame and `depth` more pages of the stack are touched.
static __attribute__((noinline)) long descend(uint64_t depth) {
    volatile unsigned char frame[page];
    frame[0] = (unsigned char)depth;
    frame[page - 1] = 1;
    return depth == 0 ? frame[0] : descend(depth - 1) + frame[page - 1];
}

static long fork_and_peek(uint64_t address) {
    pid_t child = fork();
    if (child == 0) _exit((int)peek(address));
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
}

// The kernel writes `count` bytes there.
static long read_into(uint64_t address, uint64_t count) {
    int zero = open("/dev/zero", O_RDONLY);
    long result = read(zero, (void *)(uintptr_t)address, count);
    if (result < 0) result = -errno;
    close(zero);
    return result;
}

static long errno_of(long result) { return result < 0 ? -errno : result; }

static long run(const char *command, uint64_t a, uint64_t b, uint64_t c) {
    void *address = (void *)(uintptr_t)a;
    if (strcmp(command, "map") == 0) {
        return (long)mmap(NULL, a * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (strcmp(command, "map-shared") == 0) {
        return (long)mmap(NULL, a * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    }
    if (strcmp(command, "peek") == 0) return peek(a);
    if (strcmp(command, "poke") == 0) {
        *(volatile unsigned char *)address = (unsigned char)b;
        return 0;
    }
    if (strcmp(command, "read-into") == 0) return read_into(a, b);
    if (strcmp(command, "fork-peek") == 0) return fork_and_peek(a);
    if (strcmp(command, "move") == 0) {
        return (long)mremap(address, b * page, b * page, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(uintptr_t)c);
    }
    if (strcmp(command, "remove") == 0) return errno_of(madvise(address, b * page, MADV_DONTNEED));
    if (strcmp(command, "punch") == 0) return errno_of(madvise(address, b * page, MADV_REMOVE));
    if (strcmp(command, "unmap") == 0) return errno_of(munmap(address, b * page));
    if (strcmp(command, "protect") == 0) return errno_of(mprotect(address, b * page, (int)c));
    // MADV_GUARD_INSTALL and MADV_GUARD_REMOVE, Linux 6.13.
    if (strcmp(command, "guard") == 0) return errno_of(madvise(address, b * page, 102));
    if (strcmp(command, "unguard") == 0) return errno_of(madvise(address, b * page, 103));
    if (strcmp(command, "descend") == 0) return descend(a);
    return -ENOSYS;
}

// Each line `COMMAND A B C` (hexadecimal numbers) is answered by a line with the result in hexadecimal.
static int commands(int argc, char **argv) {
    (void)argc;
    (void)argv;
    // Both streams' buffers are made before anything is registered.
    printf("ready %lx\n", (unsigned long)syscall(SYS_gettid));
    fflush(stdout);
    char line[128], command[32];
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned long long a = 0, b = 0, c = 0;
        if (sscanf(line, "%31s %llx %llx %llx", command, &a, &b, &c) < 1) return 1;
        printf("%lx\n", (unsigned long)run(command, a, b, c));
        fflush(stdout);
    }
    return 0;
}

const struct victim_mode uffd_modes[] = {
    {"uffd-commands", commands},
    {NULL, NULL},
};
