// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// A restorer that ends sooner than this counts as failed, and so many in a row are enough.
enum { SHORT_LIFE = 5, MOST_FAILURES = 5, FIRST_PAUSE_MILLISECONDS = 100 };
enum { INBOX_CAPACITY = 64 };
// States of the inbox.
enum { ENTERED = 0, READING = 1 };

static const uint64_t magic = 0x3130766e6c776874; // "thwlnv01"

struct header {
    uint64_t magic, size;
    _Atomic uint64_t count;
    _Atomic uint32_t phase;
    // Whether something could not be noted: nobody can take over any more.
    _Atomic uint32_t is_full;
    // Whether the restorer has its hands in the process: nobody can take over before it has let go.
    _Atomic uint32_t is_at_work;
    // Which restorer is the present one: whoever raises it starts the next.
    _Atomic uint32_t generation;
    // The keeper that has started the present restorer.
    _Atomic int32_t parent;
    // When that was, in milliseconds of CLOCK_MONOTONIC, and how many before it have not lived long.
    uint64_t began;
    uint32_t failures;
    // The messages in the inbox: of which space, and the number of the read, which their records carry.
    uint32_t inbox_space;
    uint32_t inbox_number;
    uint32_t inbox_count;
    _Atomic uint32_t inbox_state;
    struct clinux_journal_facts facts;
};

_Static_assert(sizeof(struct uffd_msg) == 32, "a message is four words");

static struct clinux_journal_record *records(const void *journal) {
    return (struct clinux_journal_record *)((char *)journal + clinux_journal_header_size);
}

static struct uffd_msg *inbox(const void *journal) {
    return (struct uffd_msg *)((char *)journal + clinux_journal_inbox_offset);
}

void clinux_journal_begin(void *journal, size_t size) {
    struct header *header = journal;
    header->size = size;
    header->magic = magic;
}

int clinux_journal_is_valid(const void *journal, size_t size) {
    const struct header *header = journal;
    return size >= clinux_journal_header_size && header->magic == magic && header->size == size &&
        header->count <= (size - clinux_journal_header_size) / sizeof(struct clinux_journal_record);
}

struct clinux_journal_facts clinux_journal_read_facts(const void *journal) { return ((const struct header *)journal)->facts; }

void clinux_journal_write_facts(void *journal, struct clinux_journal_facts facts) { ((struct header *)journal)->facts = facts; }

void clinux_journal_set_phase(void *journal, enum clinux_journal_phase phase) {
    atomic_store_explicit(&((struct header *)journal)->phase, phase, memory_order_release);
}

enum clinux_journal_phase clinux_journal_phase(const void *journal) {
    return atomic_load_explicit(&((struct header *)journal)->phase, memory_order_acquire);
}

void clinux_journal_set_at_work(void *journal, int is_at_work) {
    atomic_store(&((struct header *)journal)->is_at_work, is_at_work != 0);
}

int clinux_journal_can_be_taken_over(const void *journal) {
    const struct header *header = journal;
    return clinux_journal_phase(header) == CLINUX_JOURNAL_OWED && !atomic_load(&header->is_full) && !atomic_load(&header->is_at_work);
}

int clinux_journal_is_full(const void *journal) {
    return atomic_load_explicit(&((struct header *)journal)->is_full, memory_order_acquire) != 0;
}

uint64_t clinux_journal_count(const void *journal) {
    return atomic_load_explicit(&((struct header *)journal)->count, memory_order_acquire);
}

struct clinux_journal_record clinux_journal_read(const void *journal, uint64_t index) { return records(journal)[index]; }

static int append_all(struct header *header, const struct clinux_journal_record *added, size_t number) {
    uint64_t count = atomic_load_explicit(&header->count, memory_order_relaxed);
    if (count + number > (header->size - clinux_journal_header_size) / sizeof *added) {
        atomic_store_explicit(&header->is_full, 1, memory_order_release);
        return -ENOSPC;
    }
    memcpy(records(header) + count, added, number * sizeof *added);
    atomic_store_explicit(&header->count, count + number, memory_order_release);
    return 0;
}

int clinux_journal_append(void *journal, struct clinux_journal_record record) { return append_all(journal, &record, 1); }

void clinux_journal_amend(void *journal, struct clinux_journal_record record) {
    uint64_t *words = records(journal)[clinux_journal_count(journal) - 1].words;
    for (size_t i = 4; i > 0; i--) __atomic_store_n(words + i, record.words[i], __ATOMIC_RELAXED);
    __atomic_store_n(words, record.words[0], __ATOMIC_RELEASE);
}

// Makes records of the messages that are no page faults: those who wait for a page ask again when they are woken.
static size_t enter_inbox(struct header *header, size_t count) {
    struct clinux_journal_record entered[INBOX_CAPACITY];
    size_t number = 0;
    for (size_t i = 0; i < count; i++) {
        const struct uffd_msg *message = inbox(header) + i;
        if (message->event == 0) break;
        if (message->event == UFFD_EVENT_PAGEFAULT) continue;
        entered[number].words[0] =
            clinux_journal_first_word(clinux_journal_event, header->inbox_number, header->inbox_space);
        memcpy(entered[number++].words + 1, message, sizeof *message);
    }
    if (number > 0) append_all(header, entered, number);
    return number;
}

int64_t clinux_journal_read_events(void *journal, int uffd, uint32_t space, size_t count) {
    struct header *header = journal;
    if (count > INBOX_CAPACITY) count = INBOX_CAPACITY;
    memset(inbox(journal), 0, header->inbox_count * sizeof(struct uffd_msg));
    header->inbox_count = 0;
    header->inbox_space = space;
    header->inbox_number++;
    atomic_store_explicit(&header->inbox_state, READING, memory_order_release);
    // The kernel stores the messages before it looks at a signal: who is killed in this call leaves them here.
    ssize_t length = read(uffd, inbox(journal), count * sizeof(struct uffd_msg));
    size_t messages = length > 0 ? (size_t)length / sizeof(struct uffd_msg) : 0;
    header->inbox_count = (uint32_t)messages;
    if (messages > 0) enter_inbox(header, messages);
    atomic_store_explicit(&header->inbox_state, ENTERED, memory_order_release);
    return length < 0 ? -errno : (int64_t)messages;
}

int64_t clinux_journal_recover_inbox(void *journal) {
    struct header *header = journal;
    if (header->inbox_state == ENTERED) return 0;
    uint64_t count = clinux_journal_count(header);
    uint64_t last = count > 0 ? records(header)[count - 1].words[0] : 0;
    // All messages of a read are entered in one step, and nothing else before the state says so.
    uint64_t expected = clinux_journal_first_word(clinux_journal_event, header->inbox_number, header->inbox_space);
    int64_t number = last == expected ? 0 : (int64_t)enter_inbox(header, INBOX_CAPACITY);
    header->inbox_count = INBOX_CAPACITY;
    atomic_store_explicit(&header->inbox_state, ENTERED, memory_order_release);
    return number;
}

// MARK: The keeper

// What the kernel needs to start the program again; made before the clone, since nothing may be allocated behind it.
struct watch {
    struct header *header;
    int descriptor;
    pid_t restorer;
    uint32_t generation;
    struct clinux_command command;
};

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

static void keep_open(int descriptor) {
    int flags = descriptor < 0 ? -1 : fcntl(descriptor, F_GETFD);
    if (flags >= 0) fcntl(descriptor, F_SETFD, flags & ~FD_CLOEXEC);
}

// The next restorer gets what it needs and nothing else: connections end with the table that is not its own.
static void pass_on(const struct watch *watch) {
    struct clinux_journal_facts facts = clinux_journal_read_facts(watch->header);
    keep_open(watch->descriptor);
    keep_open(facts.pidfd);
    keep_open(facts.uffd);
    keep_open(facts.guardian_channel);
    keep_open(facts.staged);
    keep_open(facts.objects);
    uint64_t count = clinux_journal_count(watch->header);
    for (uint64_t i = 0; i < count; i++) {
        struct clinux_journal_record record = clinux_journal_read(watch->header, i);
        if ((record.words[0] & 0xff) == clinux_journal_descriptor) keep_open((int)record.words[1]);
        if ((record.words[0] & 0xff) != clinux_journal_event) continue;
        struct uffd_msg message;
        memcpy(&message, record.words + 1, sizeof message);
        if (message.event == UFFD_EVENT_FORK) keep_open((int)message.arg.fork.ufd);
    }
}

static pid_t start_restorer(const struct watch *watch) {
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid != 0) return pid;
    pass_on(watch);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve("/proc/self/exe", watch->command.arguments, watch->command.environment);
    _exit(127);
}

static void wait_for_end(pid_t pid, int pidfd) {
    struct pollfd state = {.fd = pidfd, .events = POLLIN};
    while (poll(&state, 1, -1) < 0 && errno == EINTR) {
    }
    waitpid(pid, NULL, WNOHANG | __WALL);
}

// One keeper of two, when a new one has been started and the old one still lives, starts the next restorer.
static bool claims(struct watch *watch) {
    uint32_t expected = watch->generation;
    return clinux_journal_can_be_taken_over(watch->header) &&
        atomic_compare_exchange_strong(&watch->header->generation, &expected, ++watch->generation);
}

__attribute__((noreturn)) static void keep(struct watch *watch, int pidfd) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    prctl(PR_SET_NAME, "thaw-keeper");
    setsid();
    for (;;) {
        wait_for_end(watch->restorer, pidfd);
        close(pidfd);
        struct header *header = watch->header;
        if (!claims(watch)) _exit(0);
        header->failures = now() - header->began < SHORT_LIFE * 1000 ? header->failures + 1 : 0;
        // With the last holder of the guardian's channel gone that one kills the process.
        if (header->failures > MOST_FAILURES) _exit(1);
        if (header->failures > 1) poll(NULL, 0, FIRST_PAUSE_MILLISECONDS << header->failures);
        clinux_journal_recover_inbox(header);
        header->began = now();
        atomic_store(&header->parent, getpid());
        watch->restorer = start_restorer(watch);
        pidfd = watch->restorer < 0 ? -1 : clinux_pidfd_open(watch->restorer, 0);
        if (pidfd < 0) _exit(1);
    }
}

int32_t clinux_keeper_start(void *journal, int32_t descriptor, const char *variable) {
    struct watch watch = {.header = journal, .descriptor = descriptor, .restorer = getpid()};
    watch.generation = atomic_load(&watch.header->generation);
    int error = clinux_command_again(variable, descriptor, &watch.command);
    if (error < 0) return error;
    int pidfd = clinux_pidfd_open(watch.restorer, 0);
    if (pidfd >= 0) {
        // The table of descriptors is shared, and nothing else: what this program opens the keeper has, and closes nothing.
        pid_t pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
        if (pid == 0) keep(&watch, pidfd);
        error = pid < 0 ? -errno : pid;
        if (pid < 0) close(pidfd);
    } else {
        error = pidfd;
    }
    clinux_command_free(&watch.command);
    return error;
}

int32_t clinux_keeper_parent(const void *journal) {
    pid_t parent = atomic_load(&((const struct header *)journal)->parent);
    return parent > 0 && parent == getppid() ? parent : 0;
}

int clinux_keeper_end(int32_t pid) {
    int pidfd = clinux_pidfd_open(pid, 0);
    if (pidfd < 0) return pidfd;
    int result = clinux_pidfd_send_signal(pidfd, SIGKILL);
    if (result == 0) wait_for_end(pid, pidfd);
    close(pidfd);
    return result == -ESRCH ? 0 : result;
}
