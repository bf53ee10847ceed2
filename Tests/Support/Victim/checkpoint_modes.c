// SPDX-License-Identifier: Apache-2.0
//
// Victims of the tests of Checkpoint alone.
#define _GNU_SOURCE
#include "victim.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int wait_for_end(void) {
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
    }
    return 0;
}

static void ready(void) {
    puts("ready");
    fflush(stdout);
}

/// A mount namespace of its own in which all is as outside.
static int run_equal_mounts(int argc, char **argv) {
    (void)argc;
    (void)argv;
    if (unshare(CLONE_NEWNS) != 0) {
        return 71;
    }
    ready();
    return wait_for_end();
}

const struct victim_mode checkpoint_modes[] = {
    {"equal-mounts", run_equal_mounts},
    {NULL, NULL},
};
