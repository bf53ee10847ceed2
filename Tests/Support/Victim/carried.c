// SPDX-License-Identifier: Apache-2.0
//
// Runs parts: `Victim PART FOLDER [spoil]`, `Victim carried FOLDER [spoil] PART...`, `Victim everything FOLDER [spoil]`.
//
// Prints `ready` when all is set up, `round N ok` for each file FOLDER/round.N that appears, and, when FOLDER/go has
// appeared, exactly one line `ok NAME` or `wrong NAME: what`.
#define _GNU_SOURCE
#include "carried.h"
#include "layout.h"
#include "victim.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct part *const tables[] = {
    // Credentials first: glibc interrupts every other thread when they change.
    process_parts, memory_parts, object_parts, shared_parts, thread_parts, register_parts, signal_parts,
    timer_parts,   file_parts,   living_parts, call_parts,   lone_parts,     NULL,
};

enum { maximum_parts = 128 };
static const struct part *chosen[maximum_parts];
static size_t chosen_count;
static const char *folder;
static const char *current = "start";
static const char *run_name;
static char first_deviation[512];
bool in_child;
bool in_company;

// Reporting.

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
    char line[1024];
    va_list list;
    va_start(list, format);
    int length = vsnprintf(line, sizeof line - 1, format, list);
    va_end(list);
    if (length > (int)sizeof line - 2) {
        length = sizeof line - 2;
    }
    line[length++] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)length) != length) {
        _exit(71);
    }
}

void wrong(const char *format, ...) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    va_list list;
    pthread_mutex_lock(&lock);
    if (first_deviation[0] == 0) {
        int used = snprintf(first_deviation, sizeof first_deviation, "%s%s: ", current, in_child ? " (child)" : "");
        va_start(list, format);
        vsnprintf(first_deviation + used, sizeof first_deviation - (size_t)used, format, list);
        va_end(list);
    }
    pthread_mutex_unlock(&lock);
}

void broken(const char *format, ...) {
    char text[512];
    int number = errno;
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    say("broken %s: %s (%s)", current, text, strerror(number));
    _exit(71);
}

void skipped(const char *format, ...) {
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    say("skip %s: %s", current, text);
}

const char *in_folder(const char *name) {
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

// Time.

static int64_t clock_value(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int64_t monotonic(void) { return clock_value(CLOCK_MONOTONIC); }

void rest(int64_t nanoseconds) {
    struct timespec left = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    int64_t start = monotonic();
    if (nanosleep(&left, NULL) != 0) {
        wrong("nanosleep was interrupted (errno %d)", errno);
    }
    int64_t took = monotonic() - start;
    if (took < nanoseconds) {
        wrong("nanosleep of %lld ns took %lld ns", (long long)nanoseconds, (long long)took);
    }
}

static volatile int64_t stood_still;
int64_t time_stood_still(void) { return stood_still; }

/// Never rests for long, so that a longer gap is a time during which the process stood still.
static int watching;
static void *watch_time(void *unused) {
    (void)unused;
    __atomic_store_n(&watching, 1, __ATOMIC_RELEASE);
    int64_t monotonic_before = monotonic();
    int64_t boot_before = clock_value(CLOCK_BOOTTIME);
    for (;;) {
        rest(5000000);
        int64_t now = monotonic();
        int64_t boot = clock_value(CLOCK_BOOTTIME);
        if (now < monotonic_before || boot < boot_before) {
            wrong("a clock went backwards: monotonic by %lld ns, boot by %lld ns",
                  (long long)(monotonic_before - now), (long long)(boot_before - boot));
        }
        if (now - monotonic_before > 30000000) {
            stood_still += now - monotonic_before - 5000000;
        }
        monotonic_before = now;
        boot_before = boot;
    }
    return NULL;
}

void await_word(const volatile int *word, int value, const char *what) {
    int64_t end = monotonic() + INT64_C(300000000000);
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value) {
        if (monotonic() > end) {
            wrong("%s did not come", what);
            return;
        }
        rest(1000000);
    }
}

void start_thread(unsigned long *handle, void *(*body)(void *), void *argument) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    if (pthread_create(handle, &attributes, body, argument) != 0) {
        broken("pthread_create");
    }
    pthread_attr_destroy(&attributes);
}

// The run.

static void choose(const struct part *part) {
    if (chosen_count == maximum_parts) {
        broken("too many parts");
    }
    chosen[chosen_count++] = part;
}

static const struct part *find(const char *name) {
    for (size_t table = 0; tables[table] != NULL; table++) {
        for (const struct part *part = tables[table]; part->name != NULL; part++) {
            if (strcmp(part->name, name) == 0) {
                return part;
            }
        }
    }
    return NULL;
}

enum step { step_set_up, step_arrive, step_verify, step_finish, step_spoil };

static void run_step(enum step step, bool memory_only) {
    for (size_t index = 0; index < chosen_count; index++) {
        const struct part *part = chosen[index];
        void (*const functions[])(void) = {part->set_up, part->arrive, part->verify, part->finish, part->spoil};
        if (functions[step] == NULL || (memory_only && !part->memory)) {
            continue;
        }
        current = part->name;
        functions[step]();
    }
}

bool verify_memory(void) {
    in_child = true;
    first_deviation[0] = 0;
    run_step(step_verify, true);
    if (first_deviation[0] != 0) {
        dprintf(STDERR_FILENO, "%s\n", first_deviation);
    }
    return first_deviation[0] == 0;
}

static void compare_layout(void) {
    current = "layout";
    layout_compare();
}

/// Waits for rounds and for the end of the moves, with a deep stack whose contents have to survive.
static void __attribute__((noinline)) wait_for_moves(void) {
    volatile uint32_t deep[64 << 10];
    for (size_t index = 0; index < sizeof deep / sizeof *deep; index++) {
        deep[index] = (uint32_t)(index * 2654435761u);
    }
    int round = 1;
    say("ready");
    while (access(in_folder("go"), F_OK) != 0) {
        char name[32];
        snprintf(name, sizeof name, "round.%d", round);
        if (access(in_folder(name), F_OK) == 0) {
            compare_layout();
            run_step(step_verify, false);
            say(first_deviation[0] ? "round %d wrong: %s" : "round %d ok", round, first_deviation);
            round++;
        }
        rest(2000000);
    }
    for (size_t index = 0; index < sizeof deep / sizeof *deep; index++) {
        if (deep[index] != (uint32_t)(index * 2654435761u)) {
            current = "stack";
            wrong("word %zu of the deep stack is %#x", index, deep[index]);
            break;
        }
    }
}

static int run(bool spoil) {
    sigset_t blocked;
    sigemptyset(&blocked);
    for (int number = signal_queued_first; number < signal_last; number++) {
        sigaddset(&blocked, number);
    }
    const int standard[] = {SIGALRM, SIGVTALRM, SIGPROF, SIGUSR1, SIGUSR2, SIGURG, SIGIO};
    for (size_t index = 0; index < sizeof standard / sizeof *standard; index++) {
        sigaddset(&blocked, standard[index]);
    }
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    run_step(step_set_up, false);
    unsigned long watcher;
    start_thread(&watcher, watch_time, NULL);
    // A thread that is only starting looks different from one that runs.
    await_word(&watching, 1, "a thread");
    layout_remember();
    wait_for_moves();
    if (spoil) {
        run_step(step_spoil, false);
    }
    compare_layout();
    run_step(step_arrive, false);
    run_step(step_verify, false);
    run_step(step_finish, false);
    if (first_deviation[0] != 0) {
        say("wrong %s: %s", run_name, first_deviation);
        return 1;
    }
    say("ok %s", run_name);
    return 0;
}

static int usage(void) {
    fprintf(stderr, "usage: Victim PART FOLDER [spoil] | carried FOLDER [spoil] PART... | everything FOLDER [spoil]\n");
    return 64;
}

static int run_carried(int argc, char **argv) {
    if (argc < 2) {
        return usage();
    }
    run_name = argv[0];
    folder = argv[1];
    bool spoil = argc > 2 && strcmp(argv[2], "spoil") == 0;
    if (strcmp(run_name, "everything") == 0) {
        in_company = true;
        for (size_t table = 0; tables[table] != lone_parts; table++) {
            for (const struct part *part = tables[table]; part->name != NULL; part++) {
                choose(part);
            }
        }
        return run(spoil);
    }
    for (int index = spoil ? 3 : 2; index < argc; index++) {
        const struct part *part = find(argv[index]);
        if (part == NULL) {
            fprintf(stderr, "no part '%s': 'Victim parts' prints all\n", argv[index]);
            return 64;
        }
        choose(part);
    }
    return run(spoil);
}

/// Prints the names of all parts; those whose wrong state can be planted with `spoil` behind them.
static int print_parts(int argc, char **argv) {
    (void)argc;
    (void)argv;
    for (size_t table = 0; tables[table] != NULL; table++) {
        for (const struct part *part = tables[table]; part->name != NULL; part++) {
            printf("%s%s\n", part->name, part->spoil != NULL ? " spoil" : "");
        }
    }
    return 0;
}

const struct victim_mode carried_modes[] = {
    {"carried", run_carried},
    {"everything", run_carried},
    {"parts", print_parts},
    {NULL, NULL},
};
