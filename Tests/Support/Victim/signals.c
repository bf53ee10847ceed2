// SPDX-License-Identifier: Apache-2.0
//
// Signal actions, signals that are pending or queued, handlers that run during the move.
#define _GNU_SOURCE
#include "carried.h"
#include "pattern.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// Actions of all signals, as the kernel keeps them.

struct kernel_action {
    uint64_t handler, flags, restorer, mask;
};

static struct kernel_action actions_before[65];

static void read_actions(struct kernel_action *actions) {
    for (int number = 1; number <= 64; number++) {
        memset(&actions[number], 0, sizeof *actions);
        syscall(SYS_rt_sigaction, number, NULL, &actions[number], 8);
    }
}

static void do_nothing(int number) { (void)number; }
static void do_nothing_more(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)info;
    (void)context;
}

static void actions_set_up(void) {
    struct sigaction action = {0};
    action.sa_sigaction = do_nothing_more;
    action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaddset(&action.sa_mask, 63);
    sigaction(SIGWINCH, &action, NULL);
    action = (struct sigaction){.sa_handler = do_nothing, .sa_flags = SA_NODEFER | SA_RESETHAND};
    sigaction(SIGTTIN, &action, NULL);
    action = (struct sigaction){.sa_handler = SIG_IGN};
    sigaction(SIGHUP, &action, NULL);
    sigaction(SIGTTOU, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL);
    sigaction(60, &action, NULL);
    action = (struct sigaction){.sa_handler = do_nothing, .sa_flags = SA_NOCLDSTOP};
    sigfillset(&action.sa_mask);
    sigaction(SIGTSTP, &action, NULL);
    // SIGTRAP ignored: who injects system calls must not lose that.
    action = (struct sigaction){.sa_handler = SIG_IGN};
    sigaction(SIGTRAP, &action, NULL);
    read_actions(actions_before);
}

static void actions_verify(void) {
    struct kernel_action now[65];
    read_actions(now);
    for (int number = 1; number <= 64; number++) {
        if (number == 32 || number == 33) {
            // glibc's own; it sets them up when the first thread starts.
            continue;
        }
        // Other parts set actions up after this one; they say so by a handler that was none before.
        if (actions_before[number].handler != 0 && memcmp(&now[number], &actions_before[number], sizeof *now) != 0) {
            wrong("the action of signal %d is %#lx flags %#lx mask %#lx, was %#lx flags %#lx mask %#lx", number,
                  (unsigned long)now[number].handler, (unsigned long)now[number].flags,
                  (unsigned long)now[number].mask, (unsigned long)actions_before[number].handler,
                  (unsigned long)actions_before[number].flags, (unsigned long)actions_before[number].mask);
        }
    }
}

static void actions_spoil(void) { signal(SIGTRAP, SIG_DFL); }

// Signals that wait in the queues of the process and of a thread, with their values and in their order.

enum { queued = 12 };
static unsigned long queue_thread;
static int queue_ready, queue_go, queue_seen;

static void queue_signal(int number, int value) {
    union sigval payload = {.sival_int = value};
    if (sigqueue(getpid(), number, payload) != 0) {
        broken("sigqueue");
    }
}

static void expect_signal(const char *queue, int number, int code, int value) {
    sigset_t set;
    siginfo_t info = {0};
    struct timespec none = {0};
    sigemptyset(&set);
    sigaddset(&set, number);
    // Not sigtimedwait(3), which changes SI_TKILL to SI_USER.
    int got = (int)syscall(SYS_rt_sigtimedwait, &set, &info, &none, 8);
    if (got != number) {
        wrong("signal %d of the %s queue (value %d) is not pending", number, queue, value);
        return;
    }
    if (info.si_code != code || (code == SI_QUEUE && info.si_value.sival_int != value) || info.si_pid != getpid() ||
        info.si_uid != getuid()) {
        wrong("signal %d of the %s queue has code %d value %d pid %d uid %d, not code %d value %d", number, queue,
              info.si_code, info.si_value.sival_int, (int)info.si_pid, (int)info.si_uid, code, value);
    }
}

static void *queue_main(void *unused) {
    (void)unused;
    queue_ready = 1;
    while (__atomic_load_n(&queue_go, __ATOMIC_ACQUIRE) == 0) {
        rest(1000000);
    }
    expect_signal("thread", SIGUSR2, SI_TKILL, 0);
    for (int value = 0; value < queued; value++) {
        expect_signal("thread", signal_thread_queued, SI_QUEUE, 500 + value);
    }
    queue_seen = 1;
    return NULL;
}

static void queue_set_up(void) {
    for (int value = 0; value < queued; value++) {
        queue_signal(signal_queued_first, 100 + value);
        queue_signal(signal_queued_second, 200 + value);
    }
    kill(getpid(), SIGUSR1);
    start_thread(&queue_thread, queue_main, NULL);
    await_word(&queue_ready, 1, "a thread");
    for (int value = 0; value < queued; value++) {
        union sigval payload = {.sival_int = 500 + value};
        pthread_sigqueue(queue_thread, signal_thread_queued, payload);
    }
    pthread_kill(queue_thread, SIGUSR2);
}

static void queue_finish(void) {
    sigset_t pending;
    sigpending(&pending);
    if (!sigismember(&pending, SIGUSR1) || !sigismember(&pending, signal_queued_first)) {
        wrong("signals that were pending are not");
    }
    for (int value = 0; value < queued; value++) {
        expect_signal("process", signal_queued_first, SI_QUEUE, 100 + value);
        expect_signal("process", signal_queued_second, SI_QUEUE, 200 + value);
    }
    expect_signal("process", SIGUSR1, SI_USER, 0);
    struct timespec none = {0};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal_queued_first);
    sigaddset(&set, signal_queued_second);
    sigaddset(&set, SIGUSR1);
    if (sigtimedwait(&set, NULL, &none) > 0) {
        wrong("a signal came twice");
    }
    __atomic_store_n(&queue_go, 1, __ATOMIC_RELEASE);
    pthread_join(queue_thread, NULL);
    if (!queue_seen) {
        wrong("the thread did not look at its queue");
    }
}

static void queue_spoil(void) {
    struct timespec none = {0};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal_queued_second);
    sigtimedwait(&set, NULL, &none);
}

// A handler that runs on its alternate stack during the move and then returns into the interrupted code.

static unsigned char handler_stack[65536] __attribute__((aligned(4096)));
static volatile int handler_running, handler_go, handler_done, handler_started;
static unsigned long handler_thread;
static volatile uintptr_t handler_frame;

static void stay(int number) {
    volatile unsigned char local[2000];
    for (size_t index = 0; index < sizeof local; index++) {
        local[index] = (unsigned char)(index * 3);
    }
    handler_frame = (uintptr_t)local;
    handler_running = 1;
    while (__atomic_load_n(&handler_go, __ATOMIC_ACQUIRE) == 0) {
        struct timespec while_ = {.tv_nsec = 1000000};
        syscall(SYS_nanosleep, &while_, NULL);
    }
    for (size_t index = 0; index < sizeof local; index++) {
        if (local[index] != (unsigned char)(index * 3)) {
            wrong("byte %zu of a handler's frame is wrong", index);
            break;
        }
    }
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    if (!sigismember(&mask, number) || !sigismember(&mask, 62)) {
        wrong("the mask inside of a handler is not as before");
    }
}

static void *handler_main(void *unused) {
    (void)unused;
    stack_t stack = {.ss_sp = handler_stack, .ss_size = sizeof handler_stack};
    sigaltstack(&stack, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal_in_handler);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    // Values in registers while the handler runs; it is entered from a loop that makes no call.
    uint64_t spun = 0, a = 0x1111111111111111, b = 0x2222222222222222;
    double value[2] = {3.25, -7.5};
    __asm__ volatile("movupd %[value], %%xmm9\n"
                     "movq %[a], %%r12\n movq %[b], %%r13\n"
                     "movl $1, %[started]\n"
                     "1: incq %[spun]\n pause\n cmpl $0, %[go]\n je 1b\n"
                     "movq %%r12, %[a]\n movq %%r13, %[b]\n"
                     "movupd %%xmm9, %[value]\n"
                     : [value] "+m"(value), [a] "+m"(a), [b] "+m"(b), [spun] "+m"(spun), [started] "=m"(handler_started)
                     : [go] "m"(handler_go)
                     : "r12", "r13", "xmm9", "memory", "cc");
    if (a != 0x1111111111111111 || b != 0x2222222222222222 || value[0] != 3.25 || value[1] != -7.5) {
        wrong("registers under a handler have other values");
    }
    handler_done = 1;
    return NULL;
}

static void handler_set_up(void) {
    struct sigaction action = {.sa_handler = stay, .sa_flags = SA_ONSTACK | SA_RESTART};
    sigaddset(&action.sa_mask, 62);
    sigaction(signal_in_handler, &action, NULL);
    start_thread(&handler_thread, handler_main, NULL);
    await_word(&handler_started, 1, "a spinning thread");
    pthread_kill(handler_thread, signal_in_handler);
    await_word(&handler_running, 1, "a handler");
    if (handler_frame < (uintptr_t)handler_stack || handler_frame >= (uintptr_t)handler_stack + sizeof handler_stack) {
        broken("the handler does not run on its alternate stack");
    }
}

static void handler_finish(void) {
    __atomic_store_n(&handler_go, 1, __ATOMIC_RELEASE);
    pthread_join(handler_thread, NULL);
    if (!handler_done) {
        wrong("the interrupted code did not go on");
    }
}

static void handler_spoil(void) { memset((void *)handler_frame, 0, 100); }

// A handler on an alternate stack that is first used after the move.

static unsigned char late_stack[65536] __attribute__((aligned(4096)));
static volatile uintptr_t late_frame;
static volatile int late_value;

static void note_frame(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    late_frame = (uintptr_t)__builtin_frame_address(0);
    late_value = info->si_value.sival_int;
}

static void alternate_set_up(void) {
    stack_t stack = {.ss_sp = late_stack, .ss_size = sizeof late_stack};
    if (sigaltstack(&stack, NULL) != 0) {
        broken("sigaltstack");
    }
    struct sigaction action = {0};
    action.sa_sigaction = note_frame;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigaction(signal_alternate_stack, &action, NULL);
}

static void alternate_verify(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal_alternate_stack);
    late_frame = 0;
    union sigval payload = {.sival_int = 4242};
    pthread_sigqueue(pthread_self(), signal_alternate_stack, payload);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (late_frame < (uintptr_t)late_stack || late_frame >= (uintptr_t)late_stack + sizeof late_stack) {
        wrong("the handler ran at %#lx, not on the alternate stack", (unsigned long)late_frame);
    }
    if (late_value != 4242) {
        wrong("the handler saw the value %d", late_value);
    }
}

static void alternate_spoil(void) {
    stack_t none = {.ss_flags = SS_DISABLE};
    sigaltstack(&none, NULL);
}

const struct part signal_parts[] = {
    {"actions", actions_set_up, NULL, actions_verify, NULL, actions_spoil, false},
    {"queue", queue_set_up, NULL, NULL, queue_finish, queue_spoil, false},
    {"handler", handler_set_up, NULL, NULL, handler_finish, handler_spoil, false},
    {"alternate-stack", alternate_set_up, NULL, alternate_verify, NULL, alternate_spoil, false},
    {NULL, NULL, NULL, NULL, NULL, NULL, false},
};
