// SPDX-License-Identifier: Apache-2.0
//
// Programs whose standard streams, signals and exit status the restorer passes on.
#define _GNU_SOURCE
#include "victim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t received[65];
static void note(int number) { received[number] = 1; }

static void write_line(const char *text) {
    char line[256];
    int length = snprintf(line, sizeof line, "%s\n", text);
    if (write(STDOUT_FILENO, line, (size_t)length) != length) {
        _exit(71);
    }
}

/// Prints `signal N` for each signal that it gets; SIGTERM ends it with status 23.
static int run_signals(int argc, char **argv) {
    (void)argc;
    (void)argv;
    const int handled[] = {SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGTERM};
    for (size_t index = 0; index < sizeof handled / sizeof *handled; index++) {
        struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
        sigaction(handled[index], &action, NULL);
    }
    write_line("ready");
    for (;;) {
        for (size_t index = 0; index < sizeof handled / sizeof *handled; index++) {
            if (received[handled[index]]) {
                char text[32];
                received[handled[index]] = 0;
                snprintf(text, sizeof text, "signal %d", handled[index]);
                write_line(text);
                if (handled[index] == SIGTERM) {
                    return 23;
                }
            }
        }
        struct timespec time = {.tv_nsec = 2000000};
        nanosleep(&time, NULL);
    }
}

/// Waits for FOLDER/go and ends by SIGABRT.
static int run_crash(int argc, char **argv) {
    char path[512];
    snprintf(path, sizeof path, "%s/go", argc > 1 ? argv[1] : ".");
    write_line("ready");
    while (access(path, F_OK) != 0) {
        struct timespec time = {.tv_nsec = 2000000};
        nanosleep(&time, NULL);
    }
    abort();
}

/// Answers each line of its input with `got LINE`, and the end of its input with `end`.
static int run_echo(int argc, char **argv) {
    (void)argc;
    (void)argv;
    write_line("ready");
    char buffer[256];
    size_t used = 0;
    for (;;) {
        char byte;
        ssize_t count = read(STDIN_FILENO, &byte, 1);
        if (count < 0) {
            char text[64];
            snprintf(text, sizeof text, "read failed: errno %d", errno);
            write_line(text);
            return 1;
        }
        if (count == 0) {
            write_line("end");
            return 0;
        }
        if (byte != '\n') {
            buffer[used++ % sizeof buffer] = byte;
            continue;
        }
        char text[300];
        snprintf(text, sizeof text, "got %.*s", (int)used, buffer);
        write_line(text);
        used = 0;
    }
}

const struct victim_mode attached_modes[] = {
    {"signals", run_signals},
    {"crash", run_crash},
    {"echo", run_echo},
    {NULL, NULL},
};
