// SPDX-License-Identifier: Apache-2.0
//
// How this program is started again with the same arguments.
#pragma once

#include <stddef.h>

struct clinux_command {
    char **arguments;
    char **environment;
    // What the two are made of.
    char *bytes, *variable;
};

// The arguments of this program, and its environment with `name` set to `number`. Returns 0, or -errno; the caller frees.
int clinux_command_again(const char *name, int number, struct clinux_command *command);
void clinux_command_free(struct clinux_command *command);
