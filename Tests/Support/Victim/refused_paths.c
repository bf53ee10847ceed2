// SPDX-License-Identifier: Apache-2.0
//
// Files whose path cannot be carried: it is not text, or it does not lead to the file any more.
#define _GNU_SOURCE
#include "refused.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int file;
static char *mapping;

static void create(const char *path) {
    file = have(open(path, O_RDWR | O_CREAT | O_EXCL, 0600), "file");
    check(write(file, "text", 4) == 4, "write");
}

/// Maps the file and closes it.
static void map(int kind) {
    mapping = mmap(NULL, 4096, PROT_READ | PROT_WRITE, kind, file, 0);
    if (mapping == MAP_FAILED) {
        absent("mmap");
    }
    close(file);
    object_address(mapping);
}

static void check_file(void) {
    char text[8] = {0};
    check(pread(file, text, 4, 0) == 4 && strcmp(text, "text") == 0, "the file has lost its contents");
}
static void check_mapping(void) { check(memcmp(mapping, "text", 4) == 0, "the mapped file has lost its contents"); }

// Latin-1, as names of old files are.

static const char *latin(void) { return refused_path("caf\xe9"); }

static void set_latin_file(void) {
    create(latin());
    object_descriptor(file);
}
static void set_latin_mapping(void) {
    create(latin());
    map(MAP_PRIVATE);
}
static void set_latin_directory(void) {
    if (mkdir(latin(), 0700) != 0 || chdir(latin()) != 0) {
        absent("mkdir");
    }
    create("inside");
    close(file);
    unlink("inside");
    say("object ", "%s", "working directory");
}
static void check_directory(void) {
    check(mkdir("inside", 0700) == 0 && rmdir("inside") == 0, "the working directory is gone");
}

// Deleted, and mapped by a shared mapping only.

static void set_deleted(void) {
    create(refused_path("gone"));
    map(MAP_SHARED);
    unlink(refused_path("gone"));
}

// Another file has its path; it lives on by a second name.

static void replace(void) {
    char first[512];
    snprintf(first, sizeof first, "%s", refused_path("replaced"));
    create(first);
    if (link(first, refused_path("second-name")) != 0) {
        absent("link");
    }
    int ours = file;
    create(refused_path("new"));
    close(file);
    file = ours;
    if (rename(refused_path("new"), first) != 0) {
        absent("rename");
    }
}
static void set_replaced_file(void) {
    replace();
    object_descriptor(file);
}
static void set_replaced_mapping(void) {
    replace();
    map(MAP_SHARED);
}

const struct refused_kind refused_path_kinds[] = {
    {"latin-file", set_latin_file, check_file},
    {"latin-mapping", set_latin_mapping, check_mapping},
    {"latin-directory", set_latin_directory, check_directory},
    {"deleted-shared-mapping", set_deleted, check_mapping},
    {"replaced-file", set_replaced_file, check_file},
    {"replaced-mapping", set_replaced_mapping, check_mapping},
    {NULL, NULL, NULL},
};
