// SPDX-License-Identifier: Apache-2.0
//
// Counts allocations by thread. A test builds it as a shared object and names it in LD_PRELOAD:
//
//   cc -O2 -shared -fPIC -o counter.so counter.c
//   ALLOCATION_COUNTS=FILE LD_PRELOAD=counter.so PROGRAM
//
// FILE holds a struct slot for each thread that has allocated. What OpenSSL asks for is counted apart: it is not the program's to
// avoid.
#define _GNU_SOURCE
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SLOTS = 256, RANGES = 16 };

struct slot {
    _Atomic uint64_t tid, openssl, others;
};

// glibc's own, which no other library can replace.
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static struct slot *slots;
static _Atomic int used;
static __thread struct slot *own __attribute__((tls_model("initial-exec")));
static struct {
    uintptr_t start, end;
} ranges[RANGES];
static int range_count;

static int note_openssl(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size;
    (void)unused;
    if (!strstr(info->dlpi_name, "libcrypto") && !strstr(info->dlpi_name, "libssl")) return 0;
    for (int i = 0; i < info->dlpi_phnum && range_count < RANGES; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X)) continue;
        ranges[range_count].start = info->dlpi_addr + part->p_vaddr;
        ranges[range_count++].end = info->dlpi_addr + part->p_vaddr + part->p_memsz;
    }
    return 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("ALLOCATION_COUNTS");
    int file = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (file < 0 || ftruncate(file, SLOTS * sizeof(struct slot)) < 0) return;
    void *shared = mmap(NULL, SLOTS * sizeof(struct slot), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    dl_iterate_phdr(note_openssl, NULL);
    if (shared != MAP_FAILED) slots = shared;
}

static void count(const void *caller) {
    if (!slots) return;
    if (!own) {
        int number = atomic_fetch_add(&used, 1);
        if (number >= SLOTS) return;
        own = &slots[number];
        own->tid = (uint64_t)gettid();
    }
    for (int i = 0; i < range_count; i++) {
        if ((uintptr_t)caller >= ranges[i].start && (uintptr_t)caller < ranges[i].end) {
            own->openssl++;
            return;
        }
    }
    own->others++;
}

void *malloc(size_t size) {
    count(__builtin_return_address(0));
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    count(__builtin_return_address(0));
    return __libc_calloc(number, size);
}

void *realloc(void *before, size_t size) {
    count(__builtin_return_address(0));
    return __libc_realloc(before, size);
}

void *memalign(size_t alignment, size_t size) {
    count(__builtin_return_address(0));
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    count(__builtin_return_address(0));
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size) {
    count(__builtin_return_address(0));
    *result = __libc_memalign(alignment, size);
    return *result ? 0 : 12;
}
