// SPDX-License-Identifier: Apache-2.0
//
// Descriptors: files, devices, pipes, counters, epoll.
#define _GNU_SOURCE
#include "carried.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int opened(const char *path, int flags) {
    int descriptor = open(path, flags, 0640);
    if (descriptor < 0) {
        broken("open of %s", path);
    }
    return descriptor;
}

/// What fcntl(2) and lseek(2) say about a descriptor.
struct state {
    int descriptor, flags, descriptor_flags;
    off_t offset;
    struct stat status;
};

static void note(struct state *state, int descriptor) {
    *state = (struct state){.descriptor = descriptor};
    state->flags = fcntl(descriptor, F_GETFL);
    state->descriptor_flags = fcntl(descriptor, F_GETFD);
    state->offset = lseek(descriptor, 0, SEEK_CUR);
    fstat(descriptor, &state->status);
}

static void compare(const char *what, const struct state *old) {
    struct state new;
    note(&new, old->descriptor);
    if (new.flags != old->flags || new.descriptor_flags != old->descriptor_flags || new.offset != old->offset) {
        wrong("%s: flags %#x close-on-exec %d offset %ld, were %#x %d %ld", what, new.flags, new.descriptor_flags,
              (long)new.offset, old->flags, old->descriptor_flags, (long)old->offset);
    }
    if (new.status.st_ino != old->status.st_ino || new.status.st_dev != old->status.st_dev ||
        new.status.st_mode != old->status.st_mode) {
        wrong("%s leads to another file", what);
    }
}

static void expect_write(int descriptor, const char *text) {
    ssize_t count = write(descriptor, text, strlen(text));
    if (count != (ssize_t)strlen(text)) {
        wrong("writing '%s' to descriptor %d answered %zd, errno %d", text, descriptor, count, errno);
    }
}

static void expect_read(int descriptor, const char *text) {
    char buffer[256] = {0};
    ssize_t count = read(descriptor, buffer, strlen(text));
    if (count != (ssize_t)strlen(text) || strcmp(buffer, text) != 0) {
        wrong("descriptor %d read '%s' (%zd), not '%s'", descriptor, buffer, count, text);
    }
}

// Regular files and directories.

enum {
    file_reading, file_again, file_shared, file_appending, file_writing, file_high, file_path, file_folder,
    file_exact, file_count
};
static struct state files[file_count];
static int folder_left;

static void files_set_up(void) {
    const char *path = in_folder("file");
    int writer = opened(path, O_RDWR | O_CREAT | O_TRUNC);
    expect_write(writer, "abcdefghijklmnopqrstuvwxyz");
    int descriptors[file_count];
    descriptors[file_writing] = writer;
    descriptors[file_reading] = opened(path, O_RDONLY | O_CLOEXEC);
    descriptors[file_again] = opened(path, O_RDONLY);
    lseek(descriptors[file_reading], 3, SEEK_SET);
    lseek(descriptors[file_again], 10, SEEK_SET);
    descriptors[file_shared] = dup(descriptors[file_reading]);
    descriptors[file_appending] = opened(in_folder("log"), O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC);
    expect_write(descriptors[file_appending], "first ");
    descriptors[file_high] = fcntl(opened(path, O_RDONLY | O_NOFOLLOW), F_DUPFD_CLOEXEC, 700);
    descriptors[file_path] = opened(path, O_PATH | O_CLOEXEC);
    descriptors[file_exact] = opened(in_folder("exact"), O_RDWR | O_CREAT | O_DSYNC | O_NOATIME);
    mkdir(in_folder("many"), 0755);
    for (int number = 0; number < 40; number++) {
        char name[64];
        snprintf(name, sizeof name, "many/a-file-with-a-longer-name-%d", number);
        close(opened(in_folder(name), O_WRONLY | O_CREAT));
    }
    descriptors[file_folder] = opened(in_folder("many"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char entries[1024];
    long bytes = syscall(SYS_getdents64, descriptors[file_folder], entries, sizeof entries);
    folder_left = 42;
    for (long at = 0; at < bytes; folder_left--) {
        unsigned short length;
        memcpy(&length, entries + at + 16, sizeof length);
        at += length;
    }
    for (size_t index = 0; index < file_count; index++) {
        note(&files[index], descriptors[index]);
    }
}

static void files_verify(void) {
    static const char *const names[file_count] = {
        "file for reading", "file opened again", "file by dup",    "file for appending", "file for writing",
        "high descriptor",  "O_PATH descriptor", "directory",      "file with O_DSYNC",
    };
    for (size_t index = 0; index < file_count; index++) {
        compare(names[index], &files[index]);
    }
}

static void files_finish(void) {
    expect_read(files[file_reading].descriptor, "def");
    expect_read(files[file_shared].descriptor, "ghi");
    expect_read(files[file_again].descriptor, "klm");
    expect_read(files[file_high].descriptor, "abc");
    expect_write(files[file_writing].descriptor, "0123");
    if (pwrite(files[file_writing].descriptor, "X", 1, 0) != 1) {
        wrong("pwrite to a file");
    }
    struct stat status;
    fstat(files[file_path].descriptor, &status);
    if (status.st_size != 30) {
        wrong("the file is %ld bytes long, not 30", (long)status.st_size);
    }
    lseek(files[file_appending].descriptor, 0, SEEK_SET);
    expect_write(files[file_appending].descriptor, "second");
    int log = opened(in_folder("log"), O_RDONLY | O_CLOEXEC);
    expect_read(log, "first second");
    close(log);
    int left = 0;
    char entries[1024];
    long bytes;
    while ((bytes = syscall(SYS_getdents64, files[file_folder].descriptor, entries, sizeof entries)) > 0) {
        for (long at = 0; at < bytes; left++) {
            unsigned short length;
            memcpy(&length, entries + at + 16, sizeof length);
            at += length;
        }
    }
    if (left != folder_left) {
        wrong("%d entries of the directory are left to read, not %d", left, folder_left);
    }
}

static void files_spoil(void) {
    // A second description instead of the shared one.
    int other = opened(in_folder("file"), O_RDONLY);
    lseek(other, 3, SEEK_SET);
    dup2(other, files[file_shared].descriptor);
    close(other);
}

// Devices.

static const char *const device_paths[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"};
static struct state devices[5];

static void devices_set_up(void) {
    for (size_t index = 0; index < 5; index++) {
        note(&devices[index], opened(device_paths[index], index == 3 ? O_RDONLY | O_CLOEXEC : O_RDWR));
    }
}

static void devices_verify(void) {
    char bytes[64];
    for (size_t index = 0; index < 5; index++) {
        compare(device_paths[index], &devices[index]);
    }
    if (read(devices[0].descriptor, bytes, sizeof bytes) != 0 || write(devices[0].descriptor, bytes, 3) != 3) {
        wrong("/dev/null does not work");
    }
    memset(bytes, 1, sizeof bytes);
    if (read(devices[1].descriptor, bytes, sizeof bytes) != sizeof bytes || bytes[63] != 0) {
        wrong("/dev/zero does not work");
    }
    if (write(devices[2].descriptor, bytes, 1) != -1 || errno != ENOSPC) {
        wrong("/dev/full does not work");
    }
    if (read(devices[3].descriptor, bytes, 8) != 8 || read(devices[4].descriptor, bytes, 8) != 8) {
        wrong("/dev/random or /dev/urandom does not work");
    }
}

static void devices_spoil(void) { dup2(devices[0].descriptor, devices[2].descriptor); }

// Pipes and FIFOs.

static int full[2], packets[2], ended, orphan, copies[2], fifo_both, fifo_read, fifo_write;
static int full_size, full_used;

static void make_pipe(int ends[2], int flags) {
    if (pipe2(ends, flags) != 0) {
        broken("pipe2");
    }
}

static void pipes_set_up(void) {
    make_pipe(full, O_NONBLOCK | O_CLOEXEC);
    full_size = fcntl(full[1], F_SETPIPE_SZ, 32768);
    char chunk[1000];
    for (ssize_t count = 0; count >= 0; full_used += (int)(count > 0 ? count : 0)) {
        for (size_t index = 0; index < sizeof chunk; index++) {
            chunk[index] = (char)((full_used + (int)index) % 251);
        }
        count = write(full[1], chunk, sizeof chunk);
        if (count == 0) {
            break;
        }
    }
    make_pipe(packets, O_DIRECT | O_CLOEXEC);
    expect_write(packets[1], "one");
    expect_write(packets[1], "three");
    int ends[2];
    make_pipe(ends, 0);
    expect_write(ends[1], "rest");
    close(ends[1]);
    ended = ends[0];
    make_pipe(ends, 0);
    close(ends[0]);
    orphan = ends[1];
    make_pipe(ends, O_CLOEXEC);
    copies[0] = fcntl(ends[0], F_DUPFD, 600);
    copies[1] = dup(ends[1]);
    close(ends[0]);
    expect_write(ends[1], "dup");
    signal(SIGPIPE, SIG_IGN);
    if (mkfifo(in_folder("both"), 0600) != 0 || mkfifo(in_folder("ends"), 0600) != 0) {
        broken("mkfifo");
    }
    fifo_both = opened(in_folder("both"), O_RDWR | O_NONBLOCK);
    expect_write(fifo_both, "in the FIFO");
    fifo_read = opened(in_folder("ends"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    fifo_write = opened(in_folder("ends"), O_WRONLY);
    expect_write(fifo_write, "from end to end");
}

static void pipes_verify(void) {
    if (fcntl(full[0], F_GETPIPE_SZ) != full_size) {
        wrong("a pipe is %d bytes large, was %d", fcntl(full[0], F_GETPIPE_SZ), full_size);
    }
    if (fcntl(full[1], F_GETFL) != (O_WRONLY | O_NONBLOCK) || fcntl(copies[0], F_GETFD) != 0) {
        wrong("the flags of a pipe differ");
    }
}

static void pipes_finish(void) {
    char chunk[1000];
    int seen = 0;
    ssize_t count;
    while ((count = read(full[0], chunk, sizeof chunk)) > 0) {
        for (ssize_t index = 0; index < count; index++) {
            if (chunk[index] != (char)((seen + (int)index) % 251)) {
                wrong("byte %d of a full pipe is wrong", seen + (int)index);
                return;
            }
        }
        seen += (int)count;
    }
    if (seen != full_used) {
        wrong("a full pipe holds %d bytes, not %d", seen, full_used);
    }
    char packet[64] = {0};
    if (read(packets[0], packet, sizeof packet) != 3 || read(packets[0], packet, sizeof packet) != 5) {
        wrong("the packets of a pipe have lost their borders");
    }
    expect_read(ended, "rest");
    if (read(ended, packet, 1) != 0) {
        wrong("no end of file behind a closed pipe");
    }
    if (write(orphan, "x", 1) != -1 || errno != EPIPE) {
        wrong("no EPIPE from a pipe without reader");
    }
    expect_read(copies[0], "dup");
    expect_write(copies[1], "more");
    expect_read(copies[0], "more");
    expect_read(fifo_both, "in the FIFO");
    expect_write(fifo_write, "!");
    expect_read(fifo_read, "from end to end!");
    int late = opened(in_folder("ends"), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    expect_write(late, "by path");
    expect_read(fifo_read, "by path");
    close(late);
}

static void pipes_spoil(void) {
    char packet[64];
    if (read(packets[0], packet, sizeof packet) != 3) {
        broken("read of a pipe");
    }
}

// Counters, signals and epoll.

static int counter, counting_semaphore, signals;
static int poller, outer, pair[2], quiet[2], once_pair[2], edge[2];
static struct state watched[7];

static void watch(int instance, int descriptor, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    if (epoll_ctl(instance, EPOLL_CTL_ADD, descriptor, &event) != 0) {
        broken("epoll_ctl");
    }
}

static void events_set_up(void) {
    counter = eventfd(17, EFD_NONBLOCK);
    counting_semaphore = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal_file_descriptor);
    sigaddset(&set, 63);
    signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    union sigval value = {.sival_int = 31337};
    sigqueue(getpid(), signal_file_descriptor, value);

    make_pipe(pair, O_NONBLOCK);
    make_pipe(quiet, O_NONBLOCK);
    make_pipe(once_pair, O_NONBLOCK);
    make_pipe(edge, O_NONBLOCK);
    poller = epoll_create1(EPOLL_CLOEXEC);
    outer = epoll_create1(0);
    watch(poller, pair[0], EPOLLIN, UINT64_C(0x1111222233334444));
    watch(poller, quiet[0], EPOLLIN | EPOLLRDHUP, 2);
    watch(poller, once_pair[0], EPOLLIN | EPOLLONESHOT, 3);
    watch(poller, edge[0], EPOLLIN | EPOLLET, 4);
    watch(poller, counter, 0, 5);
    watch(outer, poller, EPOLLIN, 6);
    // The one-shot watch has fired: it stays silent until it is armed again.
    expect_write(once_pair[1], "x");
    struct epoll_event event;
    if (epoll_wait(poller, &event, 1, 0) != 1 || event.data.u64 != 3) {
        broken("the one-shot watch did not fire");
    }
    // Input of a pipe asks for a signal of its own.
    fcntl(quiet[0], F_SETOWN, getpid());
    fcntl(quiet[0], F_SETSIG, signal_descriptor_owner);
    fcntl(quiet[0], F_SETFL, O_NONBLOCK | O_ASYNC);
    const int all[7] = {counter, counting_semaphore, signals, poller, outer, pair[0], edge[0]};
    for (size_t index = 0; index < 7; index++) {
        note(&watched[index], all[index]);
        // Anonymous inodes and pipes are others after a move.
        watched[index].status = (struct stat){0};
    }
}

static void events_verify(void) {
    for (size_t index = 0; index < 7; index++) {
        struct state now;
        note(&now, watched[index].descriptor);
        if (now.flags != watched[index].flags || now.descriptor_flags != watched[index].descriptor_flags) {
            wrong("descriptor %d has the flags %#x and %d, had %#x and %d", now.descriptor, now.flags,
                  now.descriptor_flags, watched[index].flags, watched[index].descriptor_flags);
        }
    }
    if (fcntl(quiet[0], F_GETOWN) != getpid() || fcntl(quiet[0], F_GETSIG) != signal_descriptor_owner) {
        wrong("the owner of a descriptor is %d with signal %d", fcntl(quiet[0], F_GETOWN), fcntl(quiet[0], F_GETSIG));
    }
    struct epoll_event event;
    if (epoll_wait(outer, &event, 1, 0) != 0) {
        wrong("epoll reports an event where there is none");
    }
}

static void expect_event(uint64_t data, uint32_t events) {
    struct epoll_event list[8];
    int count = epoll_wait(poller, list, 8, 0);
    if (count != 1 || list[0].data.u64 != data || list[0].events != events) {
        wrong("epoll reports %d events, the first with data %#llx and events %#x; expected data %#llx and events %#x",
              count, (unsigned long long)(count > 0 ? list[0].data.u64 : 0), count > 0 ? list[0].events : 0,
              (unsigned long long)data, events);
    }
}

static void events_finish(void) {
    uint64_t value = 0;
    if (read(counter, &value, 8) != 8 || value != 17) {
        wrong("an eventfd holds %llu, not 17", (unsigned long long)value);
    }
    for (int turn = 0; turn < 3; turn++) {
        if (read(counting_semaphore, &value, 8) != 8 || value != 1) {
            wrong("an eventfd semaphore does not count");
        }
    }
    if (read(counting_semaphore, &value, 8) != -1 || errno != EAGAIN) {
        wrong("an eventfd semaphore counts too far");
    }
    struct signalfd_siginfo info = {0};
    if (read(signals, &info, sizeof info) != sizeof info || info.ssi_int != 31337) {
        wrong("a signalfd does not show the signal that was pending");
    }
    expect_write(pair[1], "a");
    expect_event(UINT64_C(0x1111222233334444), EPOLLIN);
    struct epoll_event event;
    if (epoll_wait(outer, &event, 1, 0) != 1 || event.data.u64 != 6) {
        wrong("an epoll inside of an epoll is not seen");
    }
    expect_read(pair[0], "a");
    expect_write(quiet[1], "c");
    expect_event(2, EPOLLIN);
    sigset_t asked;
    siginfo_t asynchronous = {0};
    struct timespec none = {0};
    sigemptyset(&asked);
    sigaddset(&asked, signal_descriptor_owner);
    if (sigtimedwait(&asked, &asynchronous, &none) != signal_descriptor_owner || asynchronous.si_fd != quiet[0]) {
        wrong("no signal comes for input of a pipe");
    }
    expect_read(quiet[0], "c");
    close(quiet[1]);
    expect_event(2, EPOLLHUP);
    epoll_ctl(poller, EPOLL_CTL_DEL, quiet[0], NULL);
    expect_write(edge[1], "b");
    expect_event(4, EPOLLIN);
    if (epoll_wait(poller, &event, 1, 0) != 0) {
        wrong("an edge-triggered watch reports twice");
    }
    event = (struct epoll_event){.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 33};
    epoll_ctl(poller, EPOLL_CTL_MOD, once_pair[0], &event);
    expect_event(33, EPOLLIN);
}

static void events_spoil(void) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 1};
    epoll_ctl(poller, EPOLL_CTL_MOD, pair[0], &event);
}

const struct part file_parts[] = {
    {"files", files_set_up, NULL, files_verify, files_finish, files_spoil, false},
    {"devices", devices_set_up, NULL, devices_verify, NULL, devices_spoil, false},
    {"pipes", pipes_set_up, NULL, pipes_verify, pipes_finish, pipes_spoil, false},
    {"events", events_set_up, NULL, events_verify, events_finish, events_spoil, false},
    {NULL, NULL, NULL, NULL, NULL, NULL, false},
};
