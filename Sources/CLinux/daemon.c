// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "clinux_daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ARGUMENTS_LIMIT = 1 << 20 };

// The bytes of /proc/self/cmdline with a NUL behind them; NULL when they cannot be read. The caller frees.
static char *read_arguments(size_t *length) {
    char *bytes = malloc(ARGUMENTS_LIMIT + 1);
    int file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t count = -1;
    *length = 0;
    while (bytes && file >= 0 && (count = read(file, bytes + *length, ARGUMENTS_LIMIT - *length)) > 0) *length += (size_t)count;
    if (file >= 0) close(file);
    if (count != 0 || *length == ARGUMENTS_LIMIT) {
        free(bytes);
        return NULL;
    }
    bytes[*length] = 0;
    return bytes;
}

static int spawn(const char *name, int report, int closed, char *bytes, size_t length, pid_t *pid) {
    size_t arguments = 0, variables = 0;
    for (size_t i = 0; i < length; i++) arguments += bytes[i] == 0;
    while (environ[variables]) variables++;
    char **argv = calloc(arguments + 1, sizeof *argv), **envp = calloc(variables + 2, sizeof *envp);
    char *variable = NULL;
    int error = ENOMEM;
    if (argv && envp && asprintf(&variable, "%s=%d", name, report) > 0) {
        for (size_t i = 0, at = 0; i < arguments; i++, at += strlen(bytes + at) + 1) argv[i] = bytes + at;
        memcpy(envp, environ, variables * sizeof *envp);
        envp[variables] = variable;
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attributes);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
        // A descriptor duplicated onto itself loses its close-on-exec flag.
        error = posix_spawn_file_actions_adddup2(&actions, report, report);
        if (error == 0) error = posix_spawn_file_actions_addclose(&actions, closed);
        if (error == 0) error = posix_spawn(pid, "/proc/self/exe", &actions, &attributes, argv, envp);
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attributes);
    }
    free(variable);
    free(argv);
    free(envp);
    return -error;
}

int64_t clinux_daemon_start(const char *name) {
    size_t length;
    char *bytes = read_arguments(&length);
    if (!bytes) return -EIO;
    int ends[2];
    pid_t pid = 0;
    int result = pipe2(ends, O_CLOEXEC) < 0 ? -errno : 0;
    if (result == 0) {
        result = spawn(name, ends[1], ends[0], bytes, length, &pid);
        close(ends[1]);
        if (result < 0) close(ends[0]);
    }
    free(bytes);
    return result < 0 ? result : (int64_t)ends[0] << 32 | pid;
}

int clinux_daemon_close_streams(void) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) return -errno;
    int result = 0;
    for (int stream = 0; stream < 3; stream++) {
        struct stat status;
        int leads_away = fstat(stream, &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode) || isatty(stream));
        if (leads_away && dup2(null, stream) < 0) result = -errno;
    }
    if (null > 2) close(null);
    return result;
}
