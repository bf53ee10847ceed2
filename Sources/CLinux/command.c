// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

int clinux_command_again(const char *name, int number, struct clinux_command *command) {
    *command = (struct clinux_command){0};
    size_t length, arguments = 0, variables = 0, name_length = strlen(name);
    char *bytes = command->bytes = read_arguments(&length);
    if (!bytes) return -EIO;
    for (size_t i = 0; i < length; i++) arguments += bytes[i] == 0;
    while (environ[variables]) variables++;
    command->arguments = calloc(arguments + 1, sizeof *command->arguments);
    command->environment = calloc(variables + 2, sizeof *command->environment);
    if (!command->arguments || !command->environment || asprintf(&command->variable, "%s=%d", name, number) < 0) {
        command->variable = NULL;
        clinux_command_free(command);
        return -ENOMEM;
    }
    for (size_t i = 0, at = 0; i < arguments; i++, at += strlen(bytes + at) + 1) command->arguments[i] = bytes + at;
    size_t kept = 0;
    for (size_t i = 0; i < variables; i++) {
        int is_same = strncmp(environ[i], name, name_length) == 0 && environ[i][name_length] == '=';
        if (!is_same) command->environment[kept++] = environ[i];
    }
    command->environment[kept] = command->variable;
    return 0;
}

void clinux_command_free(struct clinux_command *command) {
    free(command->bytes);
    free(command->variable);
    free(command->arguments);
    free(command->environment);
    *command = (struct clinux_command){0};
}
