// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "clinux_daemon.h"
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <unistd.h>

static int spawn(const struct clinux_command *command, int report, int closed, pid_t *pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    // A descriptor duplicated onto itself loses its close-on-exec flag.
    int error = posix_spawn_file_actions_adddup2(&actions, report, report);
    if (error == 0) error = posix_spawn_file_actions_addclose(&actions, closed);
    if (error == 0) error = posix_spawn(pid, "/proc/self/exe", &actions, &attributes, command->arguments, command->environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return -error;
}

int64_t clinux_daemon_start(const char *name) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
    struct clinux_command command;
    pid_t pid = 0;
    int result = clinux_command_again(name, ends[1], &command);
    if (result == 0) {
        result = spawn(&command, ends[1], ends[0], &pid);
        clinux_command_free(&command);
    }
    close(ends[1]);
    if (result < 0) close(ends[0]);
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
