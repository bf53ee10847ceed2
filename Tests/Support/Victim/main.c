// SPDX-License-Identifier: Apache-2.0
//
// Looks a mode up and runs it. Modes are in the other files, by subject.
#define _GNU_SOURCE
#include "victim.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    // Volatile, so that the comparison of a weak symbol with NULL is made at run time.
    const struct victim_mode *const volatile tables[] = {
        trace_modes,   checkpoint_modes, restore_modes, uffd_modes,
        session_modes, carried_modes,    refused_modes, attached_modes,
        tracked_modes, uffd_owner_modes, churn_modes,   vast_modes,
        heapy_modes,   paced_modes,      retracked_modes, bus_modes,
    };
    const size_t table_count = sizeof tables / sizeof *tables;
    if (argc < 2) {
        fprintf(stderr, "usage: %s MODE [ARGUMENTS] | --list\n", argv[0]);
        return 64;
    }
    int list = strcmp(argv[1], "--list") == 0;
    for (size_t index = 0; index < table_count; index++) {
        for (const struct victim_mode *mode = tables[index]; mode != NULL && mode->name != NULL; mode++) {
            if (list) {
                puts(mode->name);
            } else if (strcmp(mode->name, argv[1]) == 0) {
                return mode->run(argc - 1, argv + 1);
            }
        }
    }
    if (list) {
        return 0;
    }
    fprintf(stderr, "no mode '%s': '%s --list' prints all\n", argv[1], argv[0]);
    return 64;
}
