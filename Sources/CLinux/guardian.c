// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_HELD = 4096, MAX_KILLED = 64, MAX_DESCENDANTS = 8192, PASSES = 64, RELEASE = 'r', RELEASED = 'd', GREET = 'g', GREETED = 'h' };

struct order {
    int32_t message;
    int32_t pid;
};

// All of this is used in the guardian only, one thread.
static int held[MAX_HELD];
static int held_count;
static struct {
    int pidfd;
    int32_t pid;
} doomed[MAX_KILLED];
static int doomed_count;
static int32_t descendants[MAX_DESCENDANTS];

static void append_number(char *text, int32_t number) {
    char digits[12];
    int count = 0;
    do digits[count++] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    char *end = text + strlen(text);
    while (count > 0) *end++ = digits[--count];
    *end = 0;
}

// Appends the pids in /proc/PID/task/TID/children to the list; `count` is its length.
static int append_children(int32_t pid, const char *tid, int count) {
    char path[64] = "/proc/", text[4096];
    append_number(path, pid);
    strcat(path, "/task/");
    strncat(path, tid, 12);
    strcat(path, "/children");
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return count;
    int32_t number = 0;
    for (ssize_t length; (length = read(file, text, sizeof text)) > 0;) {
        for (ssize_t i = 0; i < length; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                number = number * 10 + (text[i] - '0');
            } else if (number > 0) {
                if (count < MAX_DESCENDANTS) descendants[count++] = number;
                number = 0;
            }
        }
    }
    close(file);
    return count;
}

struct entry {  // linux_dirent64, getdents64(2)
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[];
};

// Appends the children of every thread of `pid`.
static int append_children_of_threads(int32_t pid, int count) {
    char path[64] = "/proc/";
    _Alignas(struct entry) char entries[4096];
    append_number(path, pid);
    strcat(path, "/task");
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return count;
    for (long length; (length = syscall(SYS_getdents64, folder, entries, sizeof entries)) > 0;) {
        for (long i = 0; i < length;) {
            const struct entry *entry = (const struct entry *)(entries + i);
            if (entry->name[0] >= '0' && entry->name[0] <= '9') count = append_children(pid, entry->name, count);
            i += entry->length;
        }
    }
    close(folder);
    return count;
}

static int list_descendants(int32_t pid) {
    int count = append_children_of_threads(pid, 0);
    for (int i = 0; i < count; i++) count = append_children_of_threads(descendants[i], count);
    return count;
}

static bool has_ended(int pidfd) {
    struct pollfd state = { .fd = pidfd, .events = POLLIN };
    return poll(&state, 1, 0) == 1;
}

// Children first: once their parent is dead they cannot be found any more. The parent is stopped before, so that it neither forks nor
// makes anything of their deaths; a thread that waits for a page inside of a system call does not stop, but goes nowhere either.
static void kill_with_descendants(int pidfd, int32_t pid) {
    int previous = -1;
    syscall(SYS_pidfd_send_signal, pidfd, SIGSTOP, NULL, 0);
    for (int pass = 0; pass < PASSES && !has_ended(pidfd); pass++) {
        int count = list_descendants(pid);
        for (int i = count - 1; i >= 0; i--) kill(descendants[i], SIGKILL);
        if (count == previous) break;
        previous = count;
    }
    syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

// A process that was not found may still wait for a page: its userfaultfd is held as long as its memory exists.
static void hold_while_anything_lives(void) {
    while (held_count > 0) {
        for (int i = 0; i < held_count;) {
            // Changes nothing, since nothing is mapped on the last page below the kernel; only asks whether the memory still exists.
            struct uffdio_writeprotect ask = { .range = { .start = 0x7fffffffe000, .len = 0x1000 } };
            if (ioctl(held[i], UFFDIO_WRITEPROTECT, &ask) < 0 && (errno == ESRCH || errno == ENOTTY)) {
                close(held[i]);
                held[i] = held[--held_count];
            } else {
                i++;
            }
        }
        if (held_count > 0) poll(NULL, 0, 200);
    }
}

static int take(int channel, struct order *order, int *descriptor) {
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct iovec bytes = { order, sizeof *order };
    struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    ssize_t length;
    do length = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
    while (length < 0 && errno == EINTR);
    *descriptor = -1;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
            memcpy(descriptor, CMSG_DATA(header), sizeof(int));
        }
    }
    return length == sizeof *order;
}

static bool obey(const struct order *order, int descriptor) {
    if (order->message == CLINUX_GUARDIAN_HOLD && descriptor >= 0 && held_count < MAX_HELD) {
        held[held_count++] = descriptor;
        return true;
    }
    if (order->message == CLINUX_GUARDIAN_KILL && descriptor >= 0 && doomed_count < MAX_KILLED) {
        doomed[doomed_count].pidfd = descriptor;
        doomed[doomed_count++].pid = order->pid;
        return true;
    }
    return false;
}

__attribute__((noreturn)) static void guard(int channel) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    prctl(PR_SET_NAME, "thaw-guardian");
    setsid();
    if (chdir("/") != 0) _exit(1);
    int nothing = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3; i++) dup2(nothing, i);
    if (channel != 3) dup2(channel, 3);
    syscall(SYS_close_range, 4u, ~0u, 0u);
    struct order order;
    for (int descriptor; take(3, &order, &descriptor);) {
        if (order.message == RELEASE) {
            for (int i = 0; i < held_count; i++) close(held[i]);
            char done = RELEASED;
            send(3, &done, 1, MSG_NOSIGNAL);
            _exit(0);
        }
        char answer = order.message == GREET ? GREETED : obey(&order, descriptor) ? 1 : 0;
        send(3, &answer, 1, MSG_NOSIGNAL);
    }
    // End of file: the restorer died with pages still owed.
    for (int i = 0; i < doomed_count; i++) kill_with_descendants(doomed[i].pidfd, doomed[i].pid);
    hold_while_anything_lives();
    _exit(0);
}

int64_t clinux_guardian_start(void) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return -errno;
    pid_t pid = fork();
    if (pid == 0) guard(ends[1]);
    int error = pid < 0 ? errno : 0;
    close(ends[1]);
    if (error == 0) return (int64_t)pid << 32 | ends[0];
    close(ends[0]);
    return -error;
}

int clinux_guardian_reap(int32_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) return -errno;
    }
    return 0;
}

static int ask(int channel, const struct order *order, int descriptor, char wanted) {
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct iovec bytes = { (void *)order, sizeof *order };
    struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1 };
    if (descriptor >= 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    }
    ssize_t length;
    do length = sendmsg(channel, &message, MSG_NOSIGNAL);
    while (length < 0 && errno == EINTR);
    if (length < 0) return -errno;
    char answer = 0;
    do length = recv(channel, &answer, 1, 0);
    while (length < 0 && errno == EINTR);
    if (length < 0) return -errno;
    return length == 0 ? -EPIPE : answer == wanted ? 0 : -ENOSPC;
}

int clinux_guardian_tell(int channel, enum clinux_guardian_message message, int descriptor, int32_t pid) {
    struct order order = { (int32_t)message, pid };
    return ask(channel, &order, descriptor, 1);
}

int clinux_guardian_release(int channel) {
    struct order order = { RELEASE, 0 };
    return ask(channel, &order, -1, RELEASED);
}

int clinux_guardian_greet(int channel) {
    struct order order = { GREET, 0 };
    int result = ask(channel, &order, -1, GREETED);
    char answer = 0;
    while (result == -ENOSPC && answer != GREETED) {
        ssize_t length = recv(channel, &answer, 1, 0);
        if (length < 0 && errno == EINTR) continue;
        if (length <= 0) return length < 0 ? -errno : -EPIPE;
    }
    return answer == GREETED ? 0 : result;
}
