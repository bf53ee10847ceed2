// SPDX-License-Identifier: Apache-2.0
//
// Modes of the CPU and of system calls that cannot be carried: 32-bit code, redirected calls, shadow stacks.
#define _GNU_SOURCE
#include "refused.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined __x86_64__

static pthread_t thread;
static pid_t thread_id;

/// Starts a thread that says its id before it does anything else.
static void start(void *(*body)(void *)) {
    if (pthread_create(&thread, NULL, body, NULL) != 0) {
        absent("pthread_create");
    }
    while (__atomic_load_n(&thread_id, __ATOMIC_ACQUIRE) == 0) {
        usleep(1000);
    }
}
static void say_id(void) { __atomic_store_n(&thread_id, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE); }

// A program of 32 bits that does what every kind does. It is written from here, as not every machine can build one.

extern const char code32_begin[], code32_end[];
__asm__(".pushsection .rodata\n"
        "code32_begin:\n"
        ".code32\n"
        "   call 1f\n"
        "1: pop %ebp\n"
        "   mov $4, %eax\n" // write
        "   mov $1, %ebx\n"
        "   lea ready - 1b(%ebp), %ecx\n"
        "   mov $6, %edx\n"
        "   int $0x80\n"
        "2: mov $162, %eax\n" // nanosleep
        "   lea time - 1b(%ebp), %ebx\n"
        "   xor %ecx, %ecx\n"
        "   int $0x80\n"
        "   test %eax, %eax\n"
        "   jnz 3f\n"
        "   mov $33, %eax\n" // access
        "   lea go - 1b(%ebp), %ebx\n"
        "   int $0x80\n"
        "   test %eax, %eax\n"
        "   jnz 2b\n"
        "   mov $4, %eax\n"
        "   mov $1, %ebx\n"
        "   lea done - 1b(%ebp), %ecx\n"
        "   mov $18, %edx\n"
        "   int $0x80\n"
        "3: mov $1, %eax\n" // exit
        "   xor %ebx, %ebx\n"
        "   int $0x80\n"
        "ready: .ascii \"ready\\n\"\n"
        "done: .ascii \"ok 32-bit-program\\n\"\n"
        "go: .asciz \"go\"\n"
        "   .balign 4\n"
        "time: .long 0, 2000000\n"
        ".code64\n"
        "code32_end:\n"
        ".popsection\n");

static void set_program(void) {
    enum { base = 0x08048000, header = 84 };
    const uint32_t size = header + (uint32_t)(code32_end - code32_begin);
    uint32_t words[header / 4] = {
        // Elf32_Ehdr: executable for EM_386, one program header.
        0x464c457f, 0x00010101, 0, 0, 3 << 16 | 2, 1, base + header, 52, 0, 0, 32 << 16 | 52, 1, 0,
        // Elf32_Phdr: PT_LOAD, all of the file, readable and executable.
        1, 0, base, base, size, size, 5, 4096,
    };
    char path[512];
    snprintf(path, sizeof path, "%s", refused_path("program"));
    int file = have(open(path, O_WRONLY | O_CREAT, 0700), "file");
    check(write(file, words, header) == header, "write");
    check(write(file, code32_begin, size - header) == (ssize_t)(size - header), "write");
    close(file);
    say("object ", "%s", path);
    char *arguments[] = {path, NULL};
    if (chdir(refused_path("")) == 0) {
        execv(path, arguments);
    }
    absent("32-bit programs");
}

// A thread of a 64-bit program in 32-bit code, as emulators have it.

/// Below 4 GiB: where the two modes meet.
struct gate {
    _Atomic uint32_t go;
    _Atomic uint32_t inside;
    uint64_t stack;
    uint32_t way_back;
    uint16_t selector;
    char code[512];
};
static struct gate *gate;

/// Jumps to `code` in 32-bit mode and comes back when `go` is set.
extern void enter_code32(struct gate *gate, const void *code);
extern const char loop32_begin[], loop32_back[], loop32_end[];
__asm__(".text\n"
        "enter_code32:\n"
        "   push %rbx\n"
        "   push %rbp\n"
        "   push %r12\n"
        "   push %r13\n"
        "   push %r14\n"
        "   push %r15\n"
        "   mov %rsp, 8(%rdi)\n"
        "   mov %rdi, %rbx\n"
        "   mov $0x2b, %eax\n" // __USER_DS: 32-bit code cannot read by the null selector
        "   mov %eax, %ds\n"
        "   pushq $0x23\n" // __USER32_CS
        "   push %rsi\n"
        "   lretq\n"
        ".pushsection .rodata\n"
        "loop32_begin:\n"
        ".code32\n"
        "   movl $1, 4(%ebx)\n"
        "1: pause\n"
        "   cmpl $0, (%ebx)\n"
        "   je 1b\n"
        "   ljmp *16(%ebx)\n"
        ".code64\n"
        "loop32_back:\n"
        "   mov %ebx, %ebx\n"
        "   mov 8(%rbx), %rsp\n"
        "   xor %eax, %eax\n"
        "   mov %eax, %ds\n"
        "   pop %r15\n"
        "   pop %r14\n"
        "   pop %r13\n"
        "   pop %r12\n"
        "   pop %rbp\n"
        "   pop %rbx\n"
        "   ret\n"
        "loop32_end:\n"
        ".popsection\n");

static void *run_code32(void *unused) {
    say_id();
    enter_code32(gate, gate->code);
    return unused;
}
static void set_code32(void) {
    const int protection = PROT_READ | PROT_WRITE | PROT_EXEC;
    gate = mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (gate == MAP_FAILED) {
        absent("MAP_32BIT");
    }
    memcpy(gate->code, loop32_begin, (size_t)(loop32_end - loop32_begin));
    gate->way_back = (uint32_t)(uintptr_t)(gate->code + (loop32_back - loop32_begin));
    gate->selector = 0x33; // __USER_CS
    start(run_code32);
    while (!atomic_load(&gate->inside)) {
        usleep(1000);
    }
    say("object ", "thread %d", (int)thread_id);
}
static void check_code32(void) {
    atomic_store(&gate->go, 1);
    check(pthread_join(thread, NULL) == 0, "the thread has not come back");
}

// A thread whose system calls come back to it as SIGSYS, as emulators of other systems have it.

enum { set_dispatch = 59, dispatch_on = 1, allow = 0, block = 1 };
static volatile char selector = allow;
static volatile int dispatched, stop;

static void handle(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    selector = allow;
    dispatched = info->si_syscall;
}
static void *run_dispatched(void *unused) {
    int error = prctl(set_dispatch, dispatch_on, 0, 0, &selector) == 0 ? 0 : errno;
    if (error != 0) {
        errno = error;
        absent("PR_SET_SYSCALL_USER_DISPATCH");
    }
    say_id();
    // From here on each call that the thread is made to do is redirected, whoever makes it.
    selector = block;
    while (!stop) {
        __builtin_ia32_pause();
    }
    long result = SYS_getppid;
    __asm__ volatile("syscall" : "+a"(result) : : "rcx", "r11", "memory");
    return unused;
}
static void set_dispatched(void) {
    sigaction(SIGSYS, &(struct sigaction){.sa_sigaction = handle, .sa_flags = SA_SIGINFO}, NULL);
    start(run_dispatched);
    while (selector != block) {
        usleep(1000);
    }
    say("object ", "thread %d", (int)thread_id);
}
static void check_dispatched(void) {
    check(dispatched == 0, "a call that was not its own came to the handler");
    stop = 1;
    pthread_join(thread, NULL);
    check(dispatched == SYS_getppid, "calls are not redirected any more");
}

// A shadow stack, in a thread that never returns from the function that switched it on.

static volatile int shadow_error = -1;

static void *run_shadowed(void *unused) {
    enum { shadow_enable = 0x5001, shadow_stack = 1 };
    long result = SYS_arch_prctl;
    say_id();
    __asm__ volatile("syscall"
                     : "+a"(result)
                     : "D"((long)shadow_enable), "S"((long)shadow_stack)
                     : "rcx", "r11", "memory");
    shadow_error = (int)-result;
    for (;;) {
        pause();
    }
    return unused;
}
static void set_shadowed(void) {
    start(run_shadowed);
    while (shadow_error < 0) {
        usleep(1000);
    }
    if (shadow_error > 0) {
        errno = shadow_error;
        absent("ARCH_SHSTK_ENABLE: the CPU or the kernel (CONFIG_X86_USER_SHADOW_STACK) has no shadow stacks");
    }
    say("object ", "thread %d", (int)thread_id);
}

const struct refused_kind refused_code_kinds[] = {
    {"32-bit-program", set_program, NULL},
    {"32-bit-thread", set_code32, check_code32},
    {"syscall-dispatch", set_dispatched, check_dispatched},
    {"shadow-stack", set_shadowed, NULL},
    {NULL, NULL, NULL},
};

#else

const struct refused_kind refused_code_kinds[] = {{NULL, NULL, NULL}};

#endif
