// SPDX-License-Identifier: Apache-2.0
//
// What belongs to a thread: ids, name, TLS, signal mask, alternate stack, rseq, robust list, scheduling, credentials.
#define _GNU_SOURCE
#include "carried.h"
#include "pattern.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// 32 threads, each with a state of its own, asleep in a futex without time-out until the move is over.

enum { thread_count = 32, no_thread = -1 };

struct observation {
    pid_t id;
    char name[16];
    sigset_t mask;
    stack_t alternate_stack;
    void *robust_head;
    size_t robust_size;
    int nice_value;
    int policy;
    int priority;
    int fs_user;
    int slack;
    int io_priority;
    cpu_set_t affinity;
};

struct thread {
    unsigned long handle;
    size_t number;
    int wake;
    int state;
    struct observation before;
    unsigned char stack[16384];
};

static struct thread threads[thread_count];
static __thread uint64_t local_word;
static __thread unsigned char local_bytes[3000];

static void observe(struct observation *seen) {
    memset(seen, 0, sizeof *seen);
    seen->id = (pid_t)syscall(SYS_gettid);
    prctl(PR_GET_NAME, seen->name);
    pthread_sigmask(SIG_SETMASK, NULL, &seen->mask);
    sigaltstack(NULL, &seen->alternate_stack);
    syscall(SYS_get_robust_list, 0, &seen->robust_head, &seen->robust_size);
    seen->nice_value = getpriority(PRIO_PROCESS, 0);
    seen->policy = sched_getscheduler(0);
    struct sched_param parameters;
    sched_getparam(0, &parameters);
    seen->priority = parameters.sched_priority;
    seen->fs_user = setfsuid((uid_t)-1);
    seen->slack = prctl(PR_GET_TIMERSLACK);
    seen->io_priority = (int)syscall(SYS_ioprio_get, 1, 0);
    sched_getaffinity(0, sizeof seen->affinity, &seen->affinity);
}

static void compare(const struct observation *old, const struct observation *new, size_t number) {
#define same(field, format)                                                                          \
    if (old->field != new->field) {                                                                  \
        wrong("thread %zu: " #field " is " format ", was " format, number, new->field, old->field); \
    }
    same(id, "%d");
    same(robust_head, "%p");
    same(robust_size, "%zu");
    same(nice_value, "%d");
    same(policy, "%d");
    same(priority, "%d");
    same(fs_user, "%d");
    same(slack, "%d");
    same(io_priority, "%#x");
    same(alternate_stack.ss_sp, "%p");
    same(alternate_stack.ss_size, "%zu");
    same(alternate_stack.ss_flags, "%d");
#undef same
    if (strcmp(old->name, new->name) != 0) {
        wrong("thread %zu: the name is '%s', was '%s'", number, new->name, old->name);
    }
    if (memcmp(&old->mask, &new->mask, 8) != 0) {
        wrong("thread %zu: the signal mask differs", number);
    }
    if (!CPU_EQUAL(&old->affinity, &new->affinity)) {
        wrong("thread %zu: the affinity differs", number);
    }
}

/// Gives the calling thread a state that no other thread has.
static void differ(struct thread *self) {
    char name[16];
    snprintf(name, sizeof name, "victim %zu", self->number);
    prctl(PR_SET_NAME, name);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, signal_last + (int)(self->number % 10));
    pthread_sigmask(SIG_BLOCK, &mask, NULL);
    stack_t stack = {.ss_sp = self->stack, .ss_size = sizeof self->stack};
    if (self->number % 2 == 0 && sigaltstack(&stack, NULL) != 0) {
        broken("sigaltstack");
    }
    local_word = 0x1234567800000000 + self->number;
    fill_page(self->stack + page_size, 60, self->number);
    for (size_t index = 0; index < sizeof local_bytes; index++) {
        local_bytes[index] = (unsigned char)(index * 7 + self->number);
    }
    if (self->number % 3 == 1) {
        setpriority(PRIO_PROCESS, 0, (int)self->number % 10);
        prctl(PR_SET_TIMERSLACK, 1000UL + self->number);
    }
    struct sched_param parameters = {0};
    if (self->number == 3) {
        sched_setscheduler(0, SCHED_BATCH, &parameters);
    } else if (self->number == 5) {
        sched_setscheduler(0, SCHED_IDLE, &parameters);
    } else if (self->number == 6) {
        parameters.sched_priority = 3;
        sched_setscheduler(0, SCHED_RR, &parameters);
    } else if (self->number == 8) {
        syscall(SYS_ioprio_set, 1, 0, (2 << 13) | 5);
    } else if (self->number == 9) {
        syscall(SYS_setfsuid, 4711);
    }
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    if (self->number % 5 == 2) {
        sched_setaffinity(0, sizeof one, &one);
    }
}

static bool rseq_works(void) {
#ifdef RSEQ_SIG
    if (__rseq_size == 0) {
        return true;
    }
    struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
    // The kernel writes the CPU in when a thread comes back from being moved to another one.
    for (int attempt = 0; attempt < 1000; attempt++) {
        unsigned cpu = ~0u;
        syscall(SYS_getcpu, &cpu, NULL, NULL);
        if (__atomic_load_n(&area->cpu_id, __ATOMIC_RELAXED) == cpu) {
            return true;
        }
        sched_yield();
    }
    return false;
#else
    return true;
#endif
}

static void look_at_self(struct thread *self) {
    struct observation now;
    observe(&now);
    compare(&self->before, &now, self->number);
    if (local_word != 0x1234567800000000 + self->number) {
        wrong("thread %zu: a thread-local word is %#lx", self->number, (unsigned long)local_word);
    }
    for (size_t index = 0; index < sizeof local_bytes; index++) {
        if (local_bytes[index] != (unsigned char)(index * 7 + self->number)) {
            wrong("thread %zu: thread-local byte %zu is wrong", self->number, index);
            break;
        }
    }
    check_page("page of a thread's alternate stack", self->stack + page_size, 60, self->number);
    if (!rseq_works()) {
        wrong("thread %zu: rseq does not show the CPU", self->number);
    }
}

static int futex(int *word, int operation, int value) {
    return (int)syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static void *thread_main(void *argument) {
    struct thread *self = argument;
    volatile uint64_t on_stack[512];
    differ(self);
    observe(&self->before);
    for (size_t index = 0; index < 512; index++) {
        on_stack[index] = self->number * 1000 + index;
    }
    for (int round = 1;; round++) {
        __atomic_store_n(&self->state, round, __ATOMIC_RELEASE);
        while (__atomic_load_n(&self->wake, __ATOMIC_ACQUIRE) == round - 1) {
            if (futex(&self->wake, FUTEX_WAIT, round - 1) != 0 && errno != EAGAIN) {
                wrong("thread %zu: a futex wait without time-out answered errno %d", self->number, errno);
            }
        }
        look_at_self(self);
        for (size_t index = 0; index < 512; index++) {
            if (on_stack[index] != self->number * 1000 + index) {
                wrong("thread %zu: word %zu of its stack is %#lx", self->number, index, (unsigned long)on_stack[index]);
                break;
            }
        }
        if (self->wake < 0) {
            return self;
        }
    }
}

static void threads_set_up(void) {
    for (size_t number = 0; number < thread_count; number++) {
        threads[number].number = number;
        start_thread(&threads[number].handle, thread_main, &threads[number]);
    }
    for (size_t number = 0; number < thread_count; number++) {
        await_word(&threads[number].state, 1, "a thread");
    }
}

static int thread_round = 1;

static void threads_verify(void) {
    for (size_t number = 0; number < thread_count; number++) {
        __atomic_store_n(&threads[number].wake, thread_round, __ATOMIC_RELEASE);
        futex(&threads[number].wake, FUTEX_WAKE, 1);
    }
    thread_round++;
    for (size_t number = 0; number < thread_count; number++) {
        await_word(&threads[number].state, thread_round, "a thread that was woken");
    }
}

static void *answer(void *argument) { return (char *)argument + 1; }

static void threads_finish(void) {
    char some[2];
    for (size_t number = 0; number < thread_count; number++) {
        __atomic_store_n(&threads[number].wake, no_thread, __ATOMIC_RELEASE);
        futex(&threads[number].wake, FUTEX_WAKE, 1);
        void *result = NULL;
        // Joining waits for the kernel to clear the thread id (set_tid_address).
        if (pthread_join(threads[number].handle, &result) != 0 || result != &threads[number]) {
            wrong("thread %zu cannot be joined", number);
        }
    }
    unsigned long fresh;
    void *result = NULL;
    start_thread(&fresh, answer, some);
    if (pthread_join(fresh, &result) != 0 || result != some + 1) {
        wrong("a new thread does not work");
    }
}

static void *spoil_one(void *argument) {
    struct sched_param parameters = {0};
    sched_setscheduler(*(pid_t *)argument, SCHED_OTHER, &parameters);
    return NULL;
}

static void threads_spoil(void) { spoil_one(&threads[3].before.id); }

// Locks that are held or waited for during the move.

static pthread_mutex_t robust_mutex, held_mutex, inheriting_mutex;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t condition_mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t semaphore;
static pthread_barrier_t barrier;
static int lock_ready[6], lock_go, condition_value;
static unsigned long lock_threads[6];

static void *hold_robust(void *unused) {
    (void)unused;
    pthread_mutex_lock(&robust_mutex);
    lock_ready[0] = 1;
    await_word(&lock_go, 1, "the word to die with a robust mutex");
    return NULL;
}

static void *take(void *argument) {
    pthread_mutex_t *mutex = argument;
    lock_ready[mutex == &held_mutex ? 1 : 2] = 1;
    int error = pthread_mutex_lock(mutex);
    if (error != 0) {
        wrong("pthread_mutex_lock answered %d", error);
    }
    pthread_mutex_unlock(mutex);
    return NULL;
}

static void *wait_for_condition(void *unused) {
    (void)unused;
    pthread_mutex_lock(&condition_mutex);
    lock_ready[3] = 1;
    while (condition_value == 0) {
        pthread_cond_wait(&condition, &condition_mutex);
    }
    pthread_mutex_unlock(&condition_mutex);
    return NULL;
}

static void *wait_for_semaphore(void *unused) {
    (void)unused;
    lock_ready[4] = 1;
    if (sem_wait(&semaphore) != 0) {
        wrong("sem_wait answered errno %d", errno);
    }
    return NULL;
}

static void *wait_at_barrier(void *unused) {
    (void)unused;
    lock_ready[5] = 1;
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void locks_set_up(void) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust_mutex, &attributes);
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&inheriting_mutex, &attributes);
    pthread_mutex_init(&held_mutex, NULL);
    sem_init(&semaphore, 0, 0);
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_mutex_lock(&held_mutex);
    pthread_mutex_lock(&inheriting_mutex);
    start_thread(&lock_threads[0], hold_robust, NULL);
    start_thread(&lock_threads[1], take, &held_mutex);
    start_thread(&lock_threads[2], take, &inheriting_mutex);
    start_thread(&lock_threads[3], wait_for_condition, NULL);
    start_thread(&lock_threads[4], wait_for_semaphore, NULL);
    start_thread(&lock_threads[5], wait_at_barrier, NULL);
    for (size_t index = 0; index < 6; index++) {
        await_word(&lock_ready[index], 1, "a thread at a lock");
    }
}

static void locks_finish(void) {
    pthread_mutex_unlock(&held_mutex);
    pthread_mutex_unlock(&inheriting_mutex);
    pthread_mutex_lock(&condition_mutex);
    condition_value = 1;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&condition_mutex);
    sem_post(&semaphore);
    pthread_barrier_wait(&barrier);
    __atomic_store_n(&lock_go, 1, __ATOMIC_RELEASE);
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 20;
    for (size_t index = 0; index < 6; index++) {
        if (pthread_timedjoin_np(lock_threads[index], NULL, &end) != 0) {
            wrong("the thread at lock %zu does not end", index);
            return;
        }
    }
    int error = pthread_mutex_timedlock(&robust_mutex, &end);
    if (error != EOWNERDEAD) {
        wrong("a robust mutex of a dead thread answered %d", error);
    }
}

static void locks_spoil(void) {
    // Without its robust list a dead owner is not noticed.
    pthread_mutex_init(&robust_mutex, NULL);
}

const struct part thread_parts[] = {
    {"threads", threads_set_up, NULL, threads_verify, threads_finish, threads_spoil, false},
    {"locks", locks_set_up, NULL, NULL, locks_finish, locks_spoil, false},
    {NULL, NULL, NULL, NULL, NULL, NULL, false},
};
