// SPDX-License-Identifier: Apache-2.0
//
// A victim is a program that tests freeze, move or examine. `Victim MODE [ARGUMENTS]` runs one mode; `Victim --list`
// prints the names of all. A mode lives in a table of the file of its subject; main.c only looks names up.
#pragma once

/// One mode of the program.
struct victim_mode {
    /// The first argument that selects it.
    const char *name;
    /// What it does; `argv[0]` is the name, `argv[1]` the first argument after it. Returns the exit status.
    int (*run)(int argc, char **argv);
};

// Tables, each ended by a row without a name. Those of files that may be absent are weak: the address is NULL then.
extern const struct victim_mode trace_modes[] __attribute__((weak));
extern const struct victim_mode checkpoint_modes[] __attribute__((weak));
extern const struct victim_mode restore_modes[] __attribute__((weak));
extern const struct victim_mode uffd_modes[] __attribute__((weak));
extern const struct victim_mode uffd_owner_modes[] __attribute__((weak));
extern const struct victim_mode session_modes[] __attribute__((weak));
extern const struct victim_mode carried_modes[] __attribute__((weak));
extern const struct victim_mode refused_modes[] __attribute__((weak));
extern const struct victim_mode attached_modes[] __attribute__((weak));
extern const struct victim_mode tracked_modes[] __attribute__((weak));
extern const struct victim_mode churn_modes[] __attribute__((weak));
extern const struct victim_mode vast_modes[] __attribute__((weak));
extern const struct victim_mode heapy_modes[] __attribute__((weak));
extern const struct victim_mode bus_modes[] __attribute__((weak));
extern const struct victim_mode paced_modes[] __attribute__((weak));
extern const struct victim_mode retracked_modes[] __attribute__((weak));
