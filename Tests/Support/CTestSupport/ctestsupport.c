// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "ctestsupport.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { maximum_strings = 512, maximum_descriptors = 16 };

/// Points `list` at the strings in `bytes` and ends it by NULL. Returns 0 or -E2BIG.
static int32_t split(const char *bytes, size_t size, char **list) {
    size_t count = 0;
    for (size_t at = 0; at < size; at += strlen(bytes + at) + 1) {
        if (count == maximum_strings - 1) {
            return -E2BIG;
        }
        list[count++] = (char *)(bytes + at);
    }
    list[count] = NULL;
    return 0;
}

/// Sessions, default signal actions and an empty signal mask.
static int set_attributes(posix_spawnattr_t *attributes, int new_session) {
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    if (new_session) {
        flags |= POSIX_SPAWN_SETSID;
    }
    int error = posix_spawnattr_setflags(attributes, flags);
    error = error ? error : posix_spawnattr_setsigmask(attributes, &none);
    return error ? error : posix_spawnattr_setsigdefault(attributes, &all);
}

int32_t ctest_spawn(const struct ctest_spawn_request *request) {
    char *arguments[maximum_strings];
    char *environment[maximum_strings];
    int copies[maximum_descriptors];
    size_t copied = 0;
    if (request->descriptor_count > maximum_descriptors) {
        return -E2BIG;
    }
    int32_t bad = split(request->arguments, request->arguments_size, arguments);
    bad = bad ? bad : split(request->environment, request->environment_size, environment);
    if (bad) {
        return bad;
    }
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    int error = set_attributes(&attributes, request->new_session);
    // Copies above every target number, so that no dup2 overwrites the source of a later one.
    for (; !error && copied < request->descriptor_count; copied++) {
        copies[copied] = fcntl(request->descriptors[copied], F_DUPFD_CLOEXEC, 64);
        if (copies[copied] < 0) {
            error = errno;
            break;
        }
        error = posix_spawn_file_actions_adddup2(&actions, copies[copied], (int)copied);
    }
    error = error ? error : posix_spawn_file_actions_addclosefrom_np(&actions, (int)request->descriptor_count);
    if (!error && request->directory) {
        error = posix_spawn_file_actions_addchdir_np(&actions, request->directory);
    }
    pid_t pid = 0;
    error = error ? error : posix_spawn(&pid, request->path, &actions, &attributes, arguments, environment);
    for (size_t index = 0; index < copied; index++) {
        close(copies[index]);
    }
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error ? -error : pid;
}

int32_t ctest_pidfd_open(int32_t pid) {
    int descriptor = (int)syscall(SYS_pidfd_open, pid, 0);
    return descriptor < 0 ? -errno : descriptor;
}

int32_t ctest_pidfd_wait(int32_t pidfd, int32_t milliseconds) {
    struct pollfd watch = {.fd = pidfd, .events = POLLIN};
    int ready = poll(&watch, 1, milliseconds);
    return ready < 0 ? -errno : ready;
}

int32_t ctest_reap(int32_t pid, int32_t *status) {
    int word = 0;
    pid_t found = waitpid(pid, &word, WNOHANG);
    if (found < 0) {
        return -errno;
    }
    *status = word;
    return found == pid;
}
