// SPDX-License-Identifier: Apache-2.0
//
// Interval timers, POSIX timers and timers behind descriptors.
#define _GNU_SOURCE
#include "carried.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static struct timespec span(int64_t milliseconds) {
    return (struct timespec){.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000};
}

// setitimer(2): the three timers tick, and one thread counts them.

static volatile int ticks[3];
static unsigned long ticker;
static const int tick_signals[3] = {SIGALRM, SIGVTALRM, SIGPROF};
static const int tick_timers[3] = {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF};
static const int tick_period[3] = {41000, 23000, 29000};

static void count_tick(int number) {
    for (size_t index = 0; index < 3; index++) {
        if (tick_signals[index] == number) {
            __atomic_fetch_add(&ticks[index], 1, __ATOMIC_RELAXED);
        }
    }
}

static void *tick_main(void *unused) {
    (void)unused;
    sigset_t set;
    sigemptyset(&set);
    for (size_t index = 0; index < 3; index++) {
        sigaddset(&set, tick_signals[index]);
    }
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    for (;;) {
        // Virtual time passes only while the process computes.
        for (volatile int turn = 0; turn < 300000; turn++) {
        }
        struct timespec pause_ = span(4);
        syscall(SYS_nanosleep, &pause_, NULL);
    }
    return NULL;
}

static void itimers_set_up(void) {
    start_thread(&ticker, tick_main, NULL);
    for (size_t index = 0; index < 3; index++) {
        struct sigaction action = {.sa_handler = count_tick, .sa_flags = SA_RESTART};
        sigaction(tick_signals[index], &action, NULL);
        struct itimerval value = {.it_interval = {0, tick_period[index]}, .it_value = {0, tick_period[index]}};
        setitimer(tick_timers[index], &value, NULL);
    }
}

static void itimers_verify(void) {
    int before[3];
    for (size_t index = 0; index < 3; index++) {
        struct itimerval value;
        getitimer(tick_timers[index], &value);
        // The kernel counts virtual time in ticks of its clock, so that it may round the period.
        if (labs(value.it_interval.tv_usec - tick_period[index]) > 12000 || value.it_interval.tv_sec != 0) {
            wrong("interval timer %zu has the period %ld us, not %d", index, (long)value.it_interval.tv_usec,
                  tick_period[index]);
            return;
        }
        before[index] = ticks[index];
    }
    int64_t end = monotonic() + INT64_C(20000000000);
    for (size_t index = 0; index < 3; index++) {
        while (__atomic_load_n(&ticks[index], __ATOMIC_RELAXED) < before[index] + 3) {
            if (monotonic() > end) {
                wrong("interval timer %zu does not tick any more", index);
                return;
            }
            rest(1000000);
        }
    }
}

static void itimers_spoil(void) {
    struct itimerval none = {0};
    setitimer(ITIMER_VIRTUAL, &none, NULL);
}

// timer_create(2), without glibc's wrapper, so that the ids are the kernel's.

enum { timer_once, timer_thread, timer_far, timer_counting, timer_idle, timer_processor, timer_count };

struct timer_plan {
    clockid_t clock;
    int notify;
    int number;
    int64_t value, period;
};
static const struct timer_plan plans[timer_count] = {
    [timer_once] = {CLOCK_MONOTONIC, SIGEV_SIGNAL, signal_timer_counted, 1500, 0},
    [timer_thread] = {CLOCK_BOOTTIME, SIGEV_THREAD_ID, signal_timer_thread, 50, 50},
    [timer_far] = {CLOCK_REALTIME, SIGEV_NONE, 0, 1000000, 5000},
    [timer_counting] = {CLOCK_MONOTONIC, SIGEV_SIGNAL, signal_timer_pending, 10, 10},
    [timer_idle] = {CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0},
    [timer_processor] = {CLOCK_PROCESS_CPUTIME_ID, SIGEV_NONE, 0, 1000000, 0},
};
static int timer_ids[timer_count], deleted_id;
static int64_t armed_at;
static unsigned long timer_waiter;
static int waiter_id, waiter_ticks, waiter_stop;

static int create_timer(const struct timer_plan *plan, int value) {
    struct sigevent event = {.sigev_notify = plan->notify, .sigev_signo = plan->number};
    event.sigev_value.sival_int = value;
    if (plan->notify == SIGEV_THREAD_ID) {
        event._sigev_un._tid = waiter_id;
    }
    int id = -1;
    if (syscall(SYS_timer_create, plan->clock, &event, &id) != 0) {
        broken("timer_create");
    }
    return id;
}

static void *wait_for_timer(void *unused) {
    (void)unused;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal_timer_thread);
    __atomic_store_n(&waiter_id, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
    while (__atomic_load_n(&waiter_stop, __ATOMIC_ACQUIRE) == 0) {
        siginfo_t info;
        if (sigwaitinfo(&set, &info) != signal_timer_thread) {
            wrong("sigwaitinfo for a timer's signal answered errno %d", errno);
        } else if (info.si_code != SI_TIMER || info.si_value.sival_int != 1000 + timer_thread) {
            wrong("a timer's signal has code %d and value %d", info.si_code, info.si_value.sival_int);
        }
        __atomic_fetch_add(&waiter_ticks, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void timers_set_up(void) {
    start_thread(&timer_waiter, wait_for_timer, NULL);
    while (__atomic_load_n(&waiter_id, __ATOMIC_ACQUIRE) == 0) {
        rest(1000000);
    }
    for (size_t index = 0; index < timer_count; index++) {
        // Ids with gaps.
        for (size_t gap = 0; gap < index; gap++) {
            deleted_id = create_timer(&plans[timer_idle], 0);
            syscall(SYS_timer_delete, deleted_id);
        }
        timer_ids[index] = create_timer(&plans[index], 1000 + (int)index);
    }
    armed_at = monotonic();
    for (size_t index = 0; index < timer_count; index++) {
        struct itimerspec value = {.it_value = span(plans[index].value), .it_interval = span(plans[index].period)};
        syscall(SYS_timer_settime, timer_ids[index], 0, &value, NULL);
    }
}

static void timers_verify(void) {
    int before = waiter_ticks;
    for (size_t index = 0; index < timer_count; index++) {
        struct itimerspec value;
        if (syscall(SYS_timer_gettime, timer_ids[index], &value) != 0) {
            wrong("timer %d does not exist", timer_ids[index]);
            continue;
        }
        int64_t period = value.it_interval.tv_sec * 1000 + value.it_interval.tv_nsec / 1000000;
        if (period != plans[index].period) {
            wrong("timer %d has the period %lld ms", timer_ids[index], (long long)period);
        }
        if (index == timer_idle && (value.it_value.tv_sec != 0 || value.it_value.tv_nsec != 0)) {
            wrong("a timer that was not armed is");
        }
        if ((index == timer_far || index == timer_processor) &&
            (value.it_value.tv_sec > 1000 || value.it_value.tv_sec < 700)) {
            wrong("timer %zu goes off in %lld s", index, (long long)value.it_value.tv_sec);
        }
    }
    struct itimerspec value;
    if (syscall(SYS_timer_gettime, deleted_id, &value) == 0) {
        wrong("timer %d was deleted and exists", deleted_id);
    }
    int64_t end = monotonic() + INT64_C(20000000000);
    while (__atomic_load_n(&waiter_ticks, __ATOMIC_RELAXED) < before + 3) {
        if (monotonic() > end) {
            wrong("the timer of a thread does not go off any more");
            return;
        }
        rest(1000000);
    }
}

static void expect_timer(size_t index, int64_t limit) {
    sigset_t set;
    siginfo_t info = {0};
    struct timespec time = span(limit);
    sigemptyset(&set);
    sigaddset(&set, plans[index].number);
    int got = sigtimedwait(&set, &info, &time);
    if (got != plans[index].number || info.si_code != SI_TIMER || info.si_value.sival_int != 1000 + (int)index) {
        wrong("timer %zu: signal %d with code %d and value %d", index, got, info.si_code, info.si_value.sival_int);
    }
}

static void timers_finish(void) {
    expect_timer(timer_once, 20000);
    if (monotonic() - armed_at < 1500000000) {
        wrong("a timer went off early");
    }
    rest(20000000);
    sigset_t set;
    struct timespec none = {0};
    sigemptyset(&set);
    sigaddset(&set, signal_timer_counted);
    if (sigtimedwait(&set, NULL, &none) > 0) {
        wrong("a timer without period went off twice");
    }
    expect_timer(timer_counting, 20000);
    expect_timer(timer_counting, 20000);
    expect_timer(timer_counting, 20000);
    int another = create_timer(&plans[timer_idle], 7);
    for (size_t index = 0; index < timer_count; index++) {
        if (another == timer_ids[index]) {
            wrong("a new timer got the id of another one");
        }
    }
    __atomic_store_n(&waiter_stop, 1, __ATOMIC_RELEASE);
    pthread_join(timer_waiter, NULL);
    for (size_t index = 0; index < timer_count; index++) {
        syscall(SYS_timer_delete, timer_ids[index]);
    }
}

static void timers_spoil(void) { syscall(SYS_timer_delete, timer_ids[timer_far]); }

// timerfd_create(2).

static int periodic, once, cancelled, never, disarmed, expired;

static int make_timer(clockid_t clock, int flags, int64_t value, int64_t period, int set_flags) {
    int descriptor = timerfd_create(clock, TFD_CLOEXEC | flags);
    struct itimerspec time = {.it_value = span(value), .it_interval = span(period)};
    if (set_flags & TFD_TIMER_ABSTIME) {
        struct timespec now;
        clock_gettime(clock, &now);
        time.it_value.tv_sec += now.tv_sec;
    }
    if (descriptor < 0 || timerfd_settime(descriptor, set_flags, &time, NULL) != 0) {
        broken("timerfd");
    }
    return descriptor;
}

static void timerfd_set_up(void) {
    periodic = make_timer(CLOCK_MONOTONIC, TFD_NONBLOCK, 5, 20, 0);
    once = make_timer(CLOCK_BOOTTIME, 0, 1200, 0, 0);
    cancelled = make_timer(CLOCK_REALTIME, TFD_NONBLOCK, 500000, 0, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
    // As a program does that wants to hear when the clock is set: the time itself never comes.
    struct itimerspec end = {.it_value = {.tv_sec = INT64_MAX}};
    never = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (never < 0 || timerfd_settime(never, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &end, NULL) != 0) {
        broken("timerfd");
    }
    disarmed = make_timer(CLOCK_MONOTONIC, TFD_NONBLOCK, 0, 0, 0);
    expired = make_timer(CLOCK_MONOTONIC, TFD_NONBLOCK, 1, 0, 0);
    rest(60000000);
}

static void timerfd_verify(void) {
    struct itimerspec value;
    timerfd_gettime(periodic, &value);
    if (value.it_interval.tv_nsec != 20000000 || (value.it_value.tv_nsec == 0 && value.it_value.tv_sec == 0)) {
        wrong("a periodic timerfd has the period %ld ns", value.it_interval.tv_nsec);
    }
    timerfd_gettime(cancelled, &value);
    if (value.it_value.tv_sec > 500 || value.it_value.tv_sec < 300) {
        wrong("a timerfd goes off in %lld s, not 500", (long long)value.it_value.tv_sec);
    }
    timerfd_gettime(never, &value);
    if (value.it_value.tv_sec < INT32_MAX) {
        wrong("a timerfd that never goes off does in %lld s", (long long)value.it_value.tv_sec);
    }
    timerfd_gettime(disarmed, &value);
    if (value.it_value.tv_nsec != 0 || value.it_value.tv_sec != 0) {
        wrong("a timerfd that was not armed is");
    }
}

static void timerfd_finish(void) {
    uint64_t count = 0;
    if (read(expired, &count, 8) != 8 || count != 1) {
        wrong("an expired timerfd has %llu ticks, not 1", (unsigned long long)count);
    }
    if (read(expired, &count, 8) != -1 || errno != EAGAIN) {
        wrong("an expired timerfd ticks twice");
    }
    count = 0;
    if (read(periodic, &count, 8) != 8 || count < 2) {
        wrong("a periodic timerfd has %llu ticks", (unsigned long long)count);
    }
    count = 0;
    if (read(once, &count, 8) != 8 || count != 1) {
        wrong("a timerfd without period has %llu ticks", (unsigned long long)count);
    }
    if (read(disarmed, &count, 8) != -1 || errno != EAGAIN) {
        wrong("a timerfd that was not armed has ticks");
    }
}

static void timerfd_spoil(void) {
    uint64_t count;
    if (read(expired, &count, 8) != 8) {
        broken("read of a timerfd");
    }
}

const struct part timer_parts[] = {
    {"itimers", itimers_set_up, NULL, itimers_verify, NULL, itimers_spoil, false},
    {"posix-timers", timers_set_up, NULL, timers_verify, timers_finish, timers_spoil, false},
    {"timerfd", timerfd_set_up, NULL, timerfd_verify, timerfd_finish, timerfd_spoil, false},
    {NULL, NULL, NULL, NULL, NULL, NULL, false},
};
