// SPDX-License-Identifier: Apache-2.0
//
// The mappings of the process: addresses, rights, offsets, names, flags. Neighbours that are alike count as one, since
// the kernel may or may not merge them.
#define _GNU_SOURCE
#include "layout.h"
#include "carried.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { maximum_mappings = 2048, maximum_text = 2 << 20 };

struct mapping {
    uint64_t start, end, offset;
    char rights[5];
    char name[160];
    char flags[96];
};

struct layout {
    size_t count;
    struct mapping list[maximum_mappings];
};

static struct layout before, after;
static char text[maximum_text];

static void read_text(void) {
    int descriptor = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        broken("/proc/self/smaps");
    }
    size_t used = 0;
    ssize_t count;
    while ((count = read(descriptor, text + used, sizeof text - 1 - used)) > 0) {
        used += (size_t)count;
    }
    close(descriptor);
    text[used] = 0;
}

/// Whether a flag says what the process is like rather than what happens to it: registrations of a page service,
/// accounting, soft-dirty marks and the mark of guard pages, which merged neighbours inherit, are left out.
static bool is_kept(const char *flag) {
    const char *const left_out[] = {"um", "uw", "ui", "ac", "sd", "gu"};
    for (size_t index = 0; index < sizeof left_out / sizeof *left_out; index++) {
        if (strncmp(flag, left_out[index], 2) == 0) {
            return false;
        }
    }
    return true;
}

static void parse_flags(const char *line, char *flags) {
    flags[0] = 0;
    for (const char *at = line; at[0] > ' ' && at[1] > ' '; at += at[2] == ' ' ? 3 : 2) {
        if (is_kept(at)) {
            strncat(flags, at, 2);
            strcat(flags, " ");
        }
    }
}

/// Whether `next` goes on where `last` ends, with everything alike.
static bool continues(const struct mapping *last, const struct mapping *next) {
    bool contiguous = next->offset == last->offset + (last->end - last->start) || last->name[0] != '/';
    return last->end == next->start && contiguous && strcmp(last->rights, next->rights) == 0 &&
           strcmp(last->name, next->name) == 0 && strcmp(last->flags, next->flags) == 0;
}

static void read_layout(struct layout *layout) {
    read_text();
    layout->count = 0;
    struct mapping mapping = {0};
    char *state = NULL;
    for (char *line = strtok_r(text, "\n", &state); line != NULL; line = strtok_r(NULL, "\n", &state)) {
        unsigned long start, end, offset;
        int consumed = 0;
        char rights[5];
        if (sscanf(line, "%lx-%lx %4s %lx %*s %*s %n", &start, &end, rights, &offset, &consumed) >= 4) {
            mapping = (struct mapping){.start = start, .end = end, .offset = offset};
            strcpy(mapping.rights, rights);
            snprintf(mapping.name, sizeof mapping.name, "%.150s", consumed > 0 ? line + consumed : "");
        } else if (strncmp(line, "VmFlags: ", 9) == 0) {
            parse_flags(line + 9, mapping.flags);
            struct mapping *last = layout->count > 0 ? &layout->list[layout->count - 1] : NULL;
            if (last != NULL && continues(last, &mapping)) {
                last->end = mapping.end;
            } else if (layout->count < maximum_mappings) {
                layout->list[layout->count++] = mapping;
            } else {
                broken("more mappings than the table holds");
            }
        }
    }
}

void layout_remember(void) { read_layout(&before); }

static void describe(const struct mapping *mapping, char *line, size_t size) {
    snprintf(line, size, "%lx-%lx %s %lx '%s' %s", mapping->start, mapping->end, mapping->rights, mapping->offset,
             mapping->name, mapping->flags);
}

static bool is_same(const struct mapping *old, const struct mapping *new) {
    // A stack may grow while the process runs.
    bool stack = strcmp(old->name, "[stack]") == 0;
    bool start = stack ? new->start <= old->start : new->start == old->start;
    bool offset = old->name[0] != '/' || old->offset == new->offset;
    return start && offset && old->end == new->end && strcmp(old->rights, new->rights) == 0 &&
           strcmp(old->name, new->name) == 0 && strcmp(old->flags, new->flags) == 0;
}

/// The first mapping that differs, or -1.
static ptrdiff_t difference(void) {
    for (size_t index = 0; index < before.count || index < after.count; index++) {
        bool both = index < before.count && index < after.count;
        if (!both || !is_same(&before.list[index], &after.list[index])) {
            return (ptrdiff_t)index;
        }
    }
    return -1;
}

void layout_compare(void) {
    read_layout(&after);
    // The list is not read at one moment, and the kernel splits and merges mappings when a page service comes and goes: what differs
    // for longer than that is a difference.
    for (int tries = 0; tries < 10 && difference() >= 0; tries++) {
        rest(20000000);
        read_layout(&after);
    }
    ptrdiff_t index = difference();
    if (index < 0) {
        return;
    }
    char old[300] = "nothing", new[300] = "nothing";
    if ((size_t)index < before.count) {
        describe(&before.list[index], old, sizeof old);
    }
    if ((size_t)index < after.count) {
        describe(&after.list[index], new, sizeof new);
    }
    wrong("a mapping was %s and is %s", old, new);
}
