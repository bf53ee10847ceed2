// SPDX-License-Identifier: Apache-2.0
//
// Threads that are inside of a system call during the move. None of them may see EINTR, none may return early, none may
// start its time-out over again.
#define _GNU_SOURCE
#include "carried.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static const int64_t second = 1000000000;
/// How long the calls with a time-out wait.
static const int64_t timeout = 2 * 1000000000LL;

struct call {
    const char *name;
    /// Makes the call; its result, or -errno.
    long (*make)(void);
    /// What it answers.
    long expected;
    /// Makes a call without time-out return; NULL for calls with a time-out.
    void (*release)(void);
    /// Whether the kernel makes an interrupted call fail with EINTR instead of starting it again. Such a call is started
    /// over with all of its time by whoever hides the interruption.
    bool starts_over;
    unsigned long thread;
    int state;
    long result;
    int64_t took;
};

static struct timespec span(int64_t nanoseconds) {
    return (struct timespec){.tv_sec = nanoseconds / second, .tv_nsec = nanoseconds % second};
}

static struct timespec end_on(clockid_t clock) {
    struct timespec end;
    clock_gettime(clock, &end);
    end.tv_sec += timeout / second;
    return end;
}

static long answer(long result) { return result < 0 ? -errno : result; }

// Sleeps.

static long call_nanosleep(void) {
    struct timespec time = span(timeout);
    return answer(nanosleep(&time, NULL));
}
static long call_clock_relative(void) {
    struct timespec time = span(timeout);
    return -clock_nanosleep(CLOCK_BOOTTIME, 0, &time, NULL);
}
static long call_clock_absolute(void) {
    struct timespec time = end_on(CLOCK_MONOTONIC);
    return -clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}
static long call_clock_real(void) {
    struct timespec time = end_on(CLOCK_REALTIME);
    return -clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &time, NULL);
}

// Waiting for descriptors. One pipe that stays empty for the calls with a time-out, one each for the others.

static int idle[2], poll_pipe[2], select_pipe[2], epoll_pipe[2], read_pipe[2], full_pipe[2];
static int idle_epoll, ready_epoll;

static void write_byte(int descriptor) {
    if (write(descriptor, "x", 1) != 1) {
        wrong("a pipe cannot be written: errno %d", errno);
    }
}

static long call_poll_timed(void) {
    struct pollfd watch = {.fd = idle[0], .events = POLLIN};
    return answer(poll(&watch, 1, (int)(timeout / 1000000)));
}
static long call_poll(void) {
    struct pollfd watch = {.fd = poll_pipe[0], .events = POLLIN};
    return answer(poll(&watch, 1, -1));
}
static void release_poll(void) { write_byte(poll_pipe[1]); }
static long call_ppoll_timed(void) {
    struct pollfd watch = {.fd = idle[0], .events = POLLIN};
    struct timespec time = span(timeout);
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    sigaddset(&mask, 61);
    return answer(ppoll(&watch, 1, &time, &mask));
}
static long call_select_timed(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(idle[0], &set);
    struct timeval time = {.tv_sec = timeout / second};
    return answer(select(idle[0] + 1, &set, NULL, NULL, &time));
}
static long call_select(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(select_pipe[0], &set);
    return answer(select(select_pipe[0] + 1, &set, NULL, NULL, NULL));
}
static void release_select(void) { write_byte(select_pipe[1]); }
static long call_pselect_timed(void) {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    struct timespec time = span(timeout);
    return answer(pselect(0, NULL, NULL, NULL, &time, &mask));
}
static long call_epoll_timed(void) {
    struct epoll_event event;
    return answer(epoll_wait(idle_epoll, &event, 1, (int)(timeout / 1000000)));
}
static long call_epoll_precise(void) {
    struct epoll_event event;
    struct timespec time = span(timeout);
    return answer(syscall(441 /* epoll_pwait2 */, idle_epoll, &event, 1, &time, NULL, 0));
}
static long call_epoll(void) {
    struct epoll_event event;
    return answer(epoll_wait(ready_epoll, &event, 1, -1));
}
static void release_epoll(void) { write_byte(epoll_pipe[1]); }
static long call_read(void) {
    char byte;
    return answer(read(read_pipe[0], &byte, 1));
}
static void release_read(void) { write_byte(read_pipe[1]); }
static long call_write(void) {
    char bytes[4096] = {0};
    return answer(write(full_pipe[1], bytes, sizeof bytes));
}
static void release_write(void) {
    char bytes[4096];
    if (read(full_pipe[0], bytes, sizeof bytes) != sizeof bytes) {
        wrong("a full pipe cannot be read");
    }
}

// Counters, timers and signals behind descriptors.

static int event_counter, expiring_timer, signal_descriptor;

static long call_eventfd(void) {
    uint64_t value = 0;
    long result = answer(read(event_counter, &value, 8));
    return result == 8 ? (long)value : result;
}
static void release_eventfd(void) {
    uint64_t value = 5;
    if (write(event_counter, &value, 8) != 8) {
        wrong("an eventfd cannot be written");
    }
}
static long call_timerfd(void) {
    struct itimerspec time = {.it_value = span(timeout)};
    timerfd_settime(expiring_timer, 0, &time, NULL);
    uint64_t ticks = 0;
    long result = answer(read(expiring_timer, &ticks, 8));
    return result == 8 ? (long)ticks : result;
}
static void send_signal(int number) {
    union sigval value = {.sival_int = 99};
    sigqueue(getpid(), number, value);
}
static long call_signalfd(void) {
    struct signalfd_siginfo info = {0};
    long result = answer(read(signal_descriptor, &info, sizeof info));
    return result == (long)sizeof info && info.ssi_int == 99 ? (long)info.ssi_signo : result;
}
static void release_signalfd(void) { send_signal(signal_call_descriptor); }

// Signals.

static sigset_t only(int number) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    return set;
}
static long call_sigwaitinfo(void) {
    sigset_t set = only(signal_call_wait);
    siginfo_t info = {0};
    long result = answer(sigwaitinfo(&set, &info));
    return result > 0 && info.si_value.sival_int != 99 ? -1000 : result;
}
static void release_sigwaitinfo(void) { send_signal(signal_call_wait); }
static long call_sigtimedwait(void) {
    sigset_t set = only(signal_call_timed);
    struct timespec time = span(timeout);
    return answer(sigtimedwait(&set, NULL, &time));
}

static volatile int pause_handled, suspend_handled;
static unsigned long pause_thread, suspend_thread;
static void count_pause(int number) {
    if (number == signal_call_pause) {
        pause_handled++;
    } else {
        suspend_handled++;
    }
}
static long call_pause(void) {
    sigset_t set = only(signal_call_pause);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    pause_thread = pthread_self();
    long result = answer(pause());
    return pause_handled == 1 ? result : -1000 - pause_handled;
}
static void release_pause(void) { pthread_kill(pause_thread, signal_call_pause); }
static long call_suspend(void) {
    sigset_t set;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    sigdelset(&set, signal_call_suspend);
    suspend_thread = pthread_self();
    long result = answer(sigsuspend(&set));
    sigset_t after;
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    if (!sigismember(&after, signal_call_suspend)) {
        return -2000;
    }
    return suspend_handled == 1 ? result : -1000 - suspend_handled;
}
static void release_suspend(void) { pthread_kill(suspend_thread, signal_call_suspend); }

// Futexes.

static int futex_words[4];
static long futex(int *word, int operation, const struct timespec *time) {
    long result = syscall(SYS_futex, word, operation, 0, time, NULL, ~0u);
    return result < 0 ? -errno : result;
}
static long call_futex(void) { return futex(&futex_words[0], FUTEX_WAIT_PRIVATE, NULL); }
static void release_futex(void) { syscall(SYS_futex, &futex_words[0], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }
static long call_futex_timed(void) {
    struct timespec time = span(timeout);
    return futex(&futex_words[1], FUTEX_WAIT_PRIVATE, &time);
}
static long call_futex_absolute(void) {
    struct timespec time = end_on(CLOCK_MONOTONIC);
    return futex(&futex_words[2], FUTEX_WAIT_BITSET_PRIVATE, &time);
}
static long call_condition_timed(void) {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    struct timespec time = end_on(CLOCK_REALTIME);
    pthread_mutex_lock(&mutex);
    long result = 0;
    while (result == 0) {
        result = -pthread_cond_timedwait(&condition, &mutex, &time);
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

// Opening a FIFO whose other end nobody has opened.

// The path stays where it is: a call that is started again reads it again.
static char fifo_path[512];

static long call_open(void) {
    long descriptor = answer(open(fifo_path, O_RDONLY | O_CLOEXEC));
    if (descriptor >= 0) {
        close((int)descriptor);
    }
    return descriptor < 0 ? descriptor : 0;
}
static void release_open(void) {
    // ENXIO while no reader waits: the call may just be starting again.
    int descriptor = -1;
    int64_t end = monotonic() + 20 * second;
    do {
        descriptor = open(fifo_path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
    } while (descriptor < 0 && errno == ENXIO && monotonic() < end);
    if (descriptor < 0) {
        wrong("a FIFO cannot be opened for writing: errno %d", errno);
    }
    close(descriptor);
}

static struct call calls[] = {
    {.name = "nanosleep", .make = call_nanosleep},
    {.name = "clock_nanosleep", .make = call_clock_relative},
    {.name = "clock_nanosleep TIMER_ABSTIME", .make = call_clock_absolute},
    {.name = "clock_nanosleep CLOCK_REALTIME", .make = call_clock_real},
    {.name = "poll with a time-out", .make = call_poll_timed},
    {.name = "poll", .make = call_poll, .expected = 1, .release = release_poll},
    {.name = "ppoll with a time-out", .make = call_ppoll_timed},
    {.name = "select with a time-out", .make = call_select_timed},
    {.name = "select", .make = call_select, .expected = 1, .release = release_select},
    {.name = "pselect with a time-out", .make = call_pselect_timed},
    {.name = "epoll_wait with a time-out", .make = call_epoll_timed},
    {.name = "epoll_pwait2 with a time-out", .make = call_epoll_precise, .starts_over = true},
    {.name = "epoll_wait", .make = call_epoll, .expected = 1, .release = release_epoll},
    {.name = "read of a pipe", .make = call_read, .expected = 1, .release = release_read},
    {.name = "write to a full pipe", .make = call_write, .expected = 4096, .release = release_write},
    {.name = "read of an eventfd", .make = call_eventfd, .expected = 5, .release = release_eventfd},
    {.name = "read of a timerfd", .make = call_timerfd, .expected = 1},
    {.name = "read of a signalfd",
     .make = call_signalfd,
     .expected = signal_call_descriptor,
     .release = release_signalfd},
    {.name = "sigwaitinfo", .make = call_sigwaitinfo, .expected = signal_call_wait, .release = release_sigwaitinfo},
    {.name = "sigtimedwait", .make = call_sigtimedwait, .expected = -EAGAIN, .starts_over = true},
    {.name = "pause", .make = call_pause, .expected = -EINTR, .release = release_pause},
    {.name = "sigsuspend", .make = call_suspend, .expected = -EINTR, .release = release_suspend},
    {.name = "futex", .make = call_futex, .release = release_futex},
    {.name = "futex with a time-out", .make = call_futex_timed, .expected = -ETIMEDOUT},
    {.name = "futex with an absolute time-out", .make = call_futex_absolute, .expected = -ETIMEDOUT},
    {.name = "pthread_cond_timedwait", .make = call_condition_timed, .expected = -ETIMEDOUT},
    {.name = "open of a FIFO", .make = call_open, .release = release_open},
};
enum { call_count = sizeof calls / sizeof *calls };

static void *call_main(void *argument) {
    struct call *call = argument;
    int64_t start = monotonic();
    __atomic_store_n(&call->state, 1, __ATOMIC_RELEASE);
    call->result = call->make();
    call->took = monotonic() - start;
    __atomic_store_n(&call->state, 2, __ATOMIC_RELEASE);
    return NULL;
}

static void make_descriptors(void) {
    int *const pipes[] = {idle, poll_pipe, select_pipe, epoll_pipe, read_pipe, full_pipe};
    for (size_t index = 0; index < sizeof pipes / sizeof *pipes; index++) {
        if (pipe2(pipes[index], O_CLOEXEC) != 0) {
            broken("pipe2");
        }
    }
    char bytes[4096] = {0};
    fcntl(full_pipe[1], F_SETPIPE_SZ, 8192);
    for (int count = 0; count < 2; count++) {
        if (write(full_pipe[1], bytes, sizeof bytes) != sizeof bytes) {
            broken("write to a pipe");
        }
    }
    idle_epoll = epoll_create1(EPOLL_CLOEXEC);
    ready_epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = 1};
    epoll_ctl(idle_epoll, EPOLL_CTL_ADD, idle[0], &event);
    epoll_ctl(ready_epoll, EPOLL_CTL_ADD, epoll_pipe[0], &event);
    event_counter = eventfd(0, EFD_CLOEXEC);
    expiring_timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    sigset_t set = only(signal_call_descriptor);
    signal_descriptor = signalfd(-1, &set, SFD_CLOEXEC);
    strcpy(fifo_path, in_folder("opened"));
    if (mkfifo(fifo_path, 0600) != 0) {
        broken("mkfifo");
    }
}

static void calls_set_up(void) {
    make_descriptors();
    struct sigaction action = {.sa_handler = count_pause};
    sigaction(signal_call_pause, &action, NULL);
    sigaction(signal_call_suspend, &action, NULL);
    for (size_t index = 0; index < call_count; index++) {
        start_thread(&calls[index].thread, call_main, &calls[index]);
        await_word(&calls[index].state, 1, "a thread");
    }
    // Half of the time passes before the move: a call that is started over then returns noticeably late.
    rest(timeout / 2);
}

static void check_call(struct call *call, int64_t standing) {
    if (call->result != call->expected) {
        wrong("%s answered %ld, not %ld", call->name, call->result, call->expected);
        return;
    }
    if (call->release != NULL) {
        return;
    }
    if (call->took < timeout) {
        wrong("%s returned %lld us early", call->name, (long long)(timeout - call->took) / 1000);
    }
    // Started over it would last longer by the time it had waited before. What the whole process missed does not count.
    int64_t late = call->took - timeout - standing;
    int64_t most = timeout * (call->starts_over ? 14 : 4) / 10;
    if (late > most) {
        wrong("%s returned %lld us late", call->name, (long long)late / 1000);
    }
}

static void calls_verify(void) {
    for (size_t index = 0; index < call_count; index++) {
        if (calls[index].release != NULL && __atomic_load_n(&calls[index].state, __ATOMIC_ACQUIRE) != 1) {
            wrong("%s returned by itself with %ld", calls[index].name, calls[index].result);
        }
    }
}

static void calls_finish(void) {
    for (size_t index = 0; index < call_count; index++) {
        if (calls[index].release != NULL) {
            calls[index].release();
        }
    }
    for (size_t index = 0; index < call_count; index++) {
        await_word(&calls[index].state, 2, calls[index].name);
    }
    for (size_t index = 0; index < call_count; index++) {
        check_call(&calls[index], time_stood_still());
    }
}

static void calls_spoil(void) {
    // A release without its cause, as a wrong restart would show it.
    release_futex();
    rest(50000000);
}

// System V semaphores and messages: the objects belong to the IPC namespace, the waiting to the process.

static int semaphores, messages;
static long call_semop_timed(void) {
    struct sembuf down = {.sem_num = 0, .sem_op = -1};
    struct timespec time = span(timeout);
    return answer(semtimedop(semaphores, &down, 1, &time));
}
static long call_semop(void) {
    struct sembuf down = {.sem_num = 1, .sem_op = -1};
    return answer(semop(semaphores, &down, 1));
}
static void release_semop(void) {
    struct sembuf up = {.sem_num = 1, .sem_op = 1};
    semop(semaphores, &up, 1);
}
struct message {
    long type;
    char text[8];
};
static long call_msgrcv(void) {
    struct message message;
    return answer(msgrcv(messages, &message, sizeof message.text, 0, 0));
}
static void release_msgrcv(void) {
    struct message message = {.type = 1};
    msgsnd(messages, &message, 4, 0);
}

static struct call ipc_calls[] = {
    {.name = "semtimedop", .make = call_semop_timed, .expected = -EAGAIN, .starts_over = true},
    {.name = "semop", .make = call_semop, .release = release_semop},
    {.name = "msgrcv", .make = call_msgrcv, .expected = 4, .release = release_msgrcv},
};

static void ipc_set_up(void) {
    semaphores = semget(IPC_PRIVATE, 2, 0600);
    messages = msgget(IPC_PRIVATE, 0600);
    if (semaphores < 0 || messages < 0) {
        broken("semget or msgget");
    }
    // For whoever cleans up after a victim that was killed.
    FILE *note = fopen(in_folder("ipc"), "we");
    fprintf(note, "%d %d\n", semaphores, messages);
    fclose(note);
    for (size_t index = 0; index < 3; index++) {
        start_thread(&ipc_calls[index].thread, call_main, &ipc_calls[index]);
        await_word(&ipc_calls[index].state, 1, "a thread");
    }
    rest(20000000);
}

static void ipc_finish(void) {
    release_semop();
    release_msgrcv();
    for (size_t index = 0; index < 3; index++) {
        await_word(&ipc_calls[index].state, 2, ipc_calls[index].name);
        check_call(&ipc_calls[index], time_stood_still());
    }
    semctl(semaphores, 0, IPC_RMID);
    msgctl(messages, IPC_RMID, NULL);
    unlink(in_folder("ipc"));
}

static void ipc_spoil(void) { semctl(semaphores, 0, IPC_RMID); }

const struct part call_parts[] = {
    {"calls", calls_set_up, NULL, calls_verify, calls_finish, calls_spoil, false},
    {"ipc-calls", ipc_set_up, NULL, NULL, ipc_finish, ipc_spoil, false},
    {NULL, NULL, NULL, NULL, NULL, NULL, false},
};
