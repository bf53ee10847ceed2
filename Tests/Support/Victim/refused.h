// SPDX-License-Identifier: Apache-2.0
//
// Kinds of things that cannot be carried, each as a function that makes it and one that tries whether it still works.
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/// One kind.
struct refused_kind {
    const char *name;
    /// Makes the thing and names what a message about it has to contain, by the `object_` functions.
    void (*set)(void);
    /// Tries whether it works as before; NULL where nothing can be tried.
    void (*check)(void);
};

// Tables by subject, each ended by a row without a name.
extern const struct refused_kind refused_code_kinds[];
extern const struct refused_kind refused_path_kinds[];
extern const struct refused_kind refused_relation_kinds[];

/// Prints one line that begins with `word`.
void say(const char *word, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Say what a message about the thing has to contain.
void object_descriptor(int descriptor);
void object_address(const void *address);

/// Ends with the line `skip`: the machine does not have it, because of errno.
void absent(const char *what) __attribute__((noreturn));
/// Returns a descriptor that was got; else the machine does not have it.
int have(int descriptor, const char *what);
/// The same for a descriptor that a message has to name.
int have_object(int descriptor, const char *what);

/// Remembers the first thing that does not work any more.
void check(bool right, const char *what);

/// Runs `body` in a process that is no child of this one and ends with it.
void as_stranger(void (*body)(int end, pid_t victim));
/// Tells the victim that the stranger has done its part.
void stranger_ready(int end);

/// Prints `ready` and waits for the file `go`.
void wait_for_go(void);
/// Prints `ok NAME`, or `wrong NAME:` and what `check` has remembered; returns the exit status.
int refused_end(const char *name);

/// Sets the folder of the run.
void refused_in(const char *folder);
/// Path of `name` in the folder of the run; the text lives until the next call.
char *refused_path(const char *name);
