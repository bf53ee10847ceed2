// SPDX-License-Identifier: Apache-2.0
//
// Values held in registers alone while a thread spins: general, x87 and MXCSR, SSE, AVX, AVX-512 with its masks.
#define _GNU_SOURCE
#include "carried.h"

#include <cpuid.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

struct bank {
    unsigned char general[8 * 8] __attribute__((aligned(64)));
    unsigned char vectors[32 * 64] __attribute__((aligned(64)));
    unsigned char masks[8 * 8] __attribute__((aligned(64)));
    unsigned char x87[128] __attribute__((aligned(64)));
    uint32_t mxcsr;
};

enum level { level_sse, level_avx, level_avx512, level_count };

static struct bank given[level_count], found[level_count];
static unsigned long spinners[level_count];
static int started[level_count], stop_spinning;
static bool available[level_count];

static void detect(void) {
    unsigned a = 0, b = 0, c = 0, d = 0, low = 0, high = 0;
    available[level_sse] = true;
    __get_cpuid(1, &a, &b, &c, &d);
    if ((c & (1u << 27)) == 0) {
        return;
    }
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    available[level_avx] = (low & 6) == 6;
    b = 0;
    __get_cpuid_count(7, 0, &a, &b, &c, &d);
    // AVX512F and AVX512BW (64-bit masks).
    available[level_avx512] = (low & 0xe6) == 0xe6 && (b & (1u << 16)) != 0 && (b & (1u << 30)) != 0;
    if (in_company) {
        // One thread that spins is enough where time is wanted for other parts: the one with the most registers.
        available[level_avx] = available[level_avx] && !available[level_avx512];
        available[level_sse] = !available[level_avx] && !available[level_avx512];
    }
}

#define each16(macro) \
    macro(0) macro(1) macro(2) macro(3) macro(4) macro(5) macro(6) macro(7) macro(8) macro(9) macro(10) macro(11) \
    macro(12) macro(13) macro(14) macro(15)
#define each16_high(macro) \
    macro(16) macro(17) macro(18) macro(19) macro(20) macro(21) macro(22) macro(23) macro(24) macro(25) macro(26) \
    macro(27) macro(28) macro(29) macro(30) macro(31)
#define each_mask(macro) macro(0) macro(1) macro(2) macro(3) macro(4) macro(5) macro(6) macro(7)

#define load_xmm(n) "movups " #n "*64(%%rax), %%xmm" #n "\n"
#define store_xmm(n) "movups %%xmm" #n ", " #n "*64(%%rax)\n"
#define load_ymm(n) "vmovups " #n "*64(%%rax), %%ymm" #n "\n"
#define store_ymm(n) "vmovups %%ymm" #n ", " #n "*64(%%rax)\n"
#define load_zmm(n) "vmovups " #n "*64(%%rax), %%zmm" #n "\n"
#define store_zmm(n) "vmovups %%zmm" #n ", " #n "*64(%%rax)\n"
#define load_mask(n) "kmovq " #n "*8(%%rcx), %%k" #n "\n"
#define store_mask(n) "kmovq %%k" #n ", " #n "*8(%%rcx)\n"

// General registers: rbx and r8 to r14 come from the bank; rax, rcx, rdx, rsi, rdi are the loop's own.
#define spin_loop                                                                                        \
    "movq 0(%%rdx), %%rbx\n movq 8(%%rdx), %%r8\n movq 16(%%rdx), %%r9\n movq 24(%%rdx), %%r10\n"        \
    "movq 32(%%rdx), %%r11\n movq 40(%%rdx), %%r12\n movq 48(%%rdx), %%r13\n movq 56(%%rdx), %%r14\n"    \
    "movl $1, (%[started])\n"                                                                            \
    "1: pause\n cmpl $0, (%[stop])\n je 1b\n"                                                            \
    "movq %[result], %%rdx\n"                                                                            \
    "movq %%rbx, 0(%%rdx)\n movq %%r8, 8(%%rdx)\n movq %%r9, 16(%%rdx)\n movq %%r10, 24(%%rdx)\n"        \
    "movq %%r11, 32(%%rdx)\n movq %%r12, 40(%%rdx)\n movq %%r13, 48(%%rdx)\n movq %%r14, 56(%%rdx)\n"

#define clobbers "rbx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "memory", "cc"

#define spin(load, store)                                                                                       \
    do {                                                                                                        \
        unsigned char *vectors = give->vectors, *masks = give->masks, *general = give->general;                 \
        unsigned char *outcome = take->general;                                                                 \
        __asm__ volatile(load spin_loop                                                                         \
                         "leaq %c[vectors_at](%%rdx), %%rax\n"                                                  \
                         "leaq %c[masks_at](%%rdx), %%rcx\n" store                                              \
                         : "+a"(vectors), "+c"(masks), "+d"(general)                                            \
                         : [started] "S"(&started[level]), [stop] "D"(&stop_spinning), [result] "m"(outcome),   \
                           [vectors_at] "i"(__builtin_offsetof(struct bank, vectors)),                          \
                           [masks_at] "i"(__builtin_offsetof(struct bank, masks))                               \
                         : clobbers);                                                                           \
    } while (0)

static __attribute__((target("sse2"))) void spin_sse(struct bank *give, struct bank *take) {
    enum level level = level_sse;
    spin(each16(load_xmm), each16(store_xmm));
}

static __attribute__((target("avx"))) void spin_avx(struct bank *give, struct bank *take) {
    enum level level = level_avx;
    spin(each16(load_ymm), each16(store_ymm));
    __asm__ volatile("vzeroupper");
}

static __attribute__((target("avx512f,avx512bw"))) void spin_avx512(struct bank *give, struct bank *take) {
    enum level level = level_avx512;
    spin(each16(load_zmm) each16_high(load_zmm) each_mask(load_mask),
         each16(store_zmm) each16_high(store_zmm) each_mask(store_mask));
    __asm__ volatile("vzeroupper");
}

static void *spin_main(void *argument) {
    size_t level = (size_t)argument;
    static void (*const functions[])(struct bank *, struct bank *) = {spin_sse, spin_avx, spin_avx512};
    // The spinning is not to take time from those who move the process.
    setpriority(PRIO_PROCESS, 0, 19);
    // x87: two values on the stack and another rounding mode; MXCSR: flush to zero.
    uint16_t control = 0x0c7f;
    uint32_t flushing = 0x9f80 | (uint32_t)level << 13;
    uint32_t usual = 0x1f80;
    __asm__ volatile("fninit\n fldcw %0\n fldpi\n fldln2\n" : : "m"(control));
    __asm__ volatile("ldmxcsr %0" : : "m"(flushing));
    given[level].mxcsr = flushing;
    __asm__ volatile("fnsave %0\n frstor %0" : "=m"(given[level].x87));
    functions[level](&given[level], &found[level]);
    __asm__ volatile("fnsave %0" : "=m"(found[level].x87));
    __asm__ volatile("stmxcsr %0" : "=m"(found[level].mxcsr));
    __asm__ volatile("ldmxcsr %0" : : "m"(usual));
    return NULL;
}

static void registers_set_up(void) {
    detect();
    for (size_t level = 0; level < level_count; level++) {
        if (!available[level]) {
            continue;
        }
        unsigned char *bytes = (unsigned char *)&given[level];
        for (size_t index = 0; index < __builtin_offsetof(struct bank, x87); index++) {
            bytes[index] = (unsigned char)(index * 31 + level * 7 + 1);
        }
        start_thread(&spinners[level], spin_main, (void *)level);
    }
    for (size_t level = 0; level < level_count; level++) {
        if (available[level]) {
            await_word(&started[level], 1, "a spinning thread");
        }
    }
}

static void compare_bank(size_t level) {
    static const char *const names[] = {"SSE", "AVX", "AVX-512"};
    const size_t count[] = {16, 16, 32};
    const size_t width[] = {16, 32, 64};
    for (size_t index = 0; index < count[level]; index++) {
        if (memcmp(given[level].vectors + index * 64, found[level].vectors + index * 64, width[level]) != 0) {
            wrong("%s register %zu has another value", names[level], index);
        }
    }
    if (memcmp(given[level].general, found[level].general, sizeof given[level].general) != 0) {
        wrong("%s: a general register has another value", names[level]);
    }
    if (level == level_avx512 && memcmp(given[level].masks, found[level].masks, 64) != 0) {
        wrong("an AVX-512 mask register has another value");
    }
    // Control, status and tag word, then the eight values; the addresses of the last instruction are left out.
    if (memcmp(given[level].x87, found[level].x87, 12) != 0 ||
        memcmp(given[level].x87 + 28, found[level].x87 + 28, 80) != 0) {
        wrong("%s: the x87 state differs", names[level]);
    }
    if ((given[level].mxcsr & ~0x3fu) != (found[level].mxcsr & ~0x3fu)) {
        wrong("%s: MXCSR is %#x, was %#x", names[level], found[level].mxcsr, given[level].mxcsr);
    }
}

static void registers_finish(void) {
    __atomic_store_n(&stop_spinning, 1, __ATOMIC_RELEASE);
    for (size_t level = 0; level < level_count; level++) {
        if (available[level]) {
            pthread_join(spinners[level], NULL);
            compare_bank(level);
        }
    }
}

static void registers_spoil(void) {
    for (size_t level = 0; level < level_count; level++) {
        given[level].vectors[3] ^= 1;
    }
}

const struct part register_parts[] = {
    {"registers", registers_set_up, NULL, NULL, registers_finish, registers_spoil, false},
    {NULL, NULL, NULL, NULL, NULL, NULL, false},
};
