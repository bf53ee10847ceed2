// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "clinux_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif

// The descriptor of the channel in our children.
enum { CHANNEL = 3 };
// How long a child may take, in seconds, before it counts as failed.
enum { ANSWER_SECONDS = 20 };

enum message_kind { READY = 1, FAILED = 2, ENDED = 3, RELEASED = 4 };

struct message {
    int32_t kind;
    int32_t step;
    int32_t value;
};

// The system call itself: glibc's fork would run handlers and take locks that another thread may hold.
static pid_t clone_raw(uint64_t flags, pid_t wanted) {
    struct clone_args arguments = {0};
    arguments.flags = flags;
    // With CLONE_PARENT the exit signal is inherited and must not be given.
    arguments.exit_signal = (flags & CLONE_PARENT) ? 0 : SIGCHLD;
    if (wanted > 0) {
        arguments.set_tid = (uintptr_t)&wanted;
        arguments.set_tid_size = 1;
    }
    long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    return pid < 0 ? -errno : (pid_t)pid;
}

static void tell(int channel, enum message_kind kind, int step, int value) {
    struct message message = {kind, step, value};
    while (send(channel, &message, sizeof message, MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
}

_Noreturn static void fail(int channel, int step, int error) {
    tell(channel, FAILED, step, error);
    _exit(127);
}

// The process itself: waits until the tracer takes over.
_Noreturn static void wait_for_tracer(const struct clinux_spawn_request *request, int channel) {
    bool own_session = request->session == request->pid && request->pid > 0;
    if (own_session && setsid() < 0) fail(channel, CLINUX_SPAWN_SESSION, errno);
    if (!own_session && request->group > 0 && request->group != getpgid(0)) {
        bool own_group = request->group == request->pid;
        bool inside = request->flags & CLINUX_SPAWN_NEW_PID_NAMESPACE;
        if ((own_group || inside) && setpgid(0, own_group ? 0 : request->group) < 0) {
            fail(channel, CLINUX_SPAWN_GROUP, errno);
        }
        // The helper has done its work: the group lives by this process now.
        if (!own_group && inside && request->group != 1) kill(request->group, SIGKILL);
    }
    void *stub = mmap((void *)request->stub_address, request->stub_size, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (stub != (void *)request->stub_address) fail(channel, CLINUX_SPAWN_STUB, stub == MAP_FAILED ? errno : EEXIST);
    // As every new process; with the restorer's own 0 its tracer would need CAP_SYS_PTRACE.
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    tell(channel, READY, 0, 0);
    for (;;) pause();
}

static int enter_time_namespace(const char *offsets) {
    if (unshare(CLONE_NEWTIME) < 0) return -errno;
    int file = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
    if (file < 0) return -errno;
    ssize_t written = write(file, offsets, strlen(offsets));
    int error = written < 0 ? errno : 0;
    close(file);
    return -error;
}

// Makes the process from within the namespace, in the session and the group it was in.
static void make_in_session(const struct clinux_spawn_request *request, uint64_t flags) {
    pid_t group = request->group;
    bool helper = group > 1 && group != request->pid && group != getpgid(0);
    if (helper) {
        pid_t holder = clone_raw(0, group);
        if (holder < 0) fail(CHANNEL, CLINUX_SPAWN_GROUP, -holder);
        if (holder == 0) {
            for (;;) pause();
        }
        if (setpgid(holder, holder) < 0) fail(CHANNEL, CLINUX_SPAWN_GROUP, errno);
    }
    pid_t pid = clone_raw(flags, request->pid);
    if (pid < 0) fail(CHANNEL, CLINUX_SPAWN_PROCESS, -pid);
    if (pid == 0) wait_for_tracer(request, CHANNEL);
}

static void make_leader(const struct clinux_spawn_request *request) {
    pid_t session = request->session;
    if (session == 1 && setsid() < 0) fail(CHANNEL, CLINUX_SPAWN_SESSION, errno);
    if (session <= 1 || session == request->pid) {
        make_in_session(request, 0);
        return;
    }
    // A session is entered by birth only: its leader makes the process, with CLONE_PARENT for the init to be the parent.
    pid_t holder = clone_raw(0, session);
    if (holder < 0) fail(CHANNEL, CLINUX_SPAWN_SESSION, -holder);
    if (holder == 0) {
        if (setsid() < 0) fail(CHANNEL, CLINUX_SPAWN_SESSION, errno);
        make_in_session(request, CLONE_PARENT);
        _exit(0);
    }
}

// Reaps until nothing is left; the first wait status of the process goes to the channel.
static void reap(pid_t leader, bool *living) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0) {
        if (pid == leader && (WIFEXITED(status) || WIFSIGNALED(status))) tell(CHANNEL, ENDED, 0, status);
    }
    *living = pid == 0;
}

_Noreturn static void run_init(const struct clinux_spawn_request *request, int channel) {
    prctl(PR_SET_NAME, "thaw-init");
    if (channel != CHANNEL && dup2(channel, CHANNEL) < 0) fail(channel, CLINUX_SPAWN_CHANNEL, errno);
    syscall(SYS_close_range, CHANNEL + 1, ~0u, 0);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) fail(CHANNEL, CLINUX_SPAWN_MOUNT, errno);
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) {
        fail(CHANNEL, CLINUX_SPAWN_MOUNT, errno);
    }
    if (request->time_offsets) {
        int error = enter_time_namespace((const char *)request->time_offsets);
        if (error < 0) fail(CHANNEL, CLINUX_SPAWN_TIME, -error);
    }
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    int events = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    if (events < 0) fail(CHANNEL, CLINUX_SPAWN_NAMESPACE, errno);

    make_leader(request);

    // The streams belong to the process; a reader of its output must not wait for this one.
    for (int stream = 0; stream < 3; stream++) close(stream);
    bool released = false;
    bool living = true;
    while (living) {
        struct pollfd watched[2] = {{events, POLLIN, 0}, {released ? -1 : CHANNEL, POLLIN, 0}};
        if (poll(watched, 2, -1) < 0 && errno != EINTR) _exit(126);
        if (watched[1].revents) {
            struct message message;
            ssize_t count = recv(CHANNEL, &message, sizeof message, MSG_DONTWAIT);
            if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) _exit(125);
            if (count > 0 && message.kind == RELEASED) released = true;
        }
        struct signalfd_siginfo information;
        while (read(events, &information, sizeof information) > 0) {
        }
        reap(request->pid, &living);
    }
    _exit(0);
}

// Makes the process in a new time namespace: unshare(2) acts on children only, so a helper that ends is between.
_Noreturn static void run_time_helper(const struct clinux_spawn_request *request, int channel) {
    int error = enter_time_namespace((const char *)request->time_offsets);
    if (error < 0) fail(channel, CLINUX_SPAWN_TIME, -error);
    pid_t pid = clone_raw(CLONE_PARENT | CLONE_CLEAR_SIGHAND, request->pid);
    if (pid < 0) fail(channel, CLINUX_SPAWN_PROCESS, -pid);
    if (pid == 0) wait_for_tracer(request, channel);
    _exit(0);
}

// Waits for READY; the credentials of the message name the sender in our own namespace.
static int await_answer(int channel, struct clinux_spawn_result *result) {
    struct message message;
    union {
        char space[CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr aligned;
    } control;
    struct iovec vector = {&message, sizeof message};
    struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t count;
    do {
        count = recvmsg(channel, &header, 0);
    } while (count < 0 && errno == EINTR);
    if (count != (ssize_t)sizeof message) {
        result->step = CLINUX_SPAWN_ANSWER;
        return count < 0 ? -(errno == EAGAIN ? ETIMEDOUT : errno) : -ECHILD;
    }
    if (message.kind != READY) {
        result->step = message.step;
        return message.value > 0 ? -message.value : -EPROTO;
    }
    struct cmsghdr *credentials = CMSG_FIRSTHDR(&header);
    if (!credentials || credentials->cmsg_level != SOL_SOCKET || credentials->cmsg_type != SCM_CREDENTIALS) {
        result->step = CLINUX_SPAWN_ANSWER;
        return -EPROTO;
    }
    struct ucred sender;
    memcpy(&sender, CMSG_DATA(credentials), sizeof sender);
    result->pid = sender.pid;
    return 0;
}

static int open_channel(int ends[2]) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return -errno;
    int on = 1;
    struct timeval patience = {ANSWER_SECONDS, 0};
    if (setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0 ||
        setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0) {
        int error = errno;
        close(ends[0]);
        close(ends[1]);
        return -error;
    }
    return 0;
}

// Clones what the request needs: the init, the helper of the time namespace or the process. Returns its pid or -errno.
static pid_t clone_first(const struct clinux_spawn_request *request, int channel, int *step) {
    if (request->flags & CLINUX_SPAWN_NEW_PID_NAMESPACE) {
        *step = CLINUX_SPAWN_NAMESPACE;
        pid_t pid = clone_raw(CLONE_NEWPID | CLONE_NEWNS | CLONE_CLEAR_SIGHAND, 0);
        if (pid == 0) run_init(request, channel);
        return pid;
    }
    *step = CLINUX_SPAWN_PROCESS;
    if (request->time_offsets) {
        pid_t pid = clone_raw(CLONE_CLEAR_SIGHAND, 0);
        if (pid == 0) run_time_helper(request, channel);
        return pid;
    }
    pid_t pid = clone_raw(CLONE_CLEAR_SIGHAND, request->pid);
    if (pid == 0) wait_for_tracer(request, channel);
    return pid;
}

static void reap_one(pid_t pid) {
    while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR) {
    }
}

int clinux_spawn(const struct clinux_spawn_request *request, struct clinux_spawn_result *result) {
    *result = (struct clinux_spawn_result){.channel = -1};
    int ends[2];
    int error = open_channel(ends);
    if (error < 0) {
        result->step = CLINUX_SPAWN_CHANNEL;
        return error;
    }
    // A handler of this program must not run in a child. The raw call blocks the two signals of glibc as well.
    uint64_t all = ~0ull, before = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
    int step = 0;
    pid_t first = clone_first(request, ends[1], &step);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
    close(ends[1]);
    if (first < 0) {
        close(ends[0]);
        result->step = step;
        return first;
    }
    bool namespace = request->flags & CLINUX_SPAWN_NEW_PID_NAMESPACE;
    result->channel = ends[0];
    if (namespace) result->init = first;
    error = await_answer(ends[0], result);
    if (!namespace && request->time_offsets) reap_one(first);
    if (error < 0) {
        if (!namespace && !request->time_offsets) result->pid = first;
        struct clinux_spawn_result failed = *result;
        clinux_spawn_destroy(&failed);
        *result = (struct clinux_spawn_result){.channel = -1, .step = failed.step};
        return error;
    }
    if (!namespace) {
        close(ends[0]);
        result->channel = -1;
    }
    return 0;
}

int clinux_spawn_release(int channel) {
    struct message message = {RELEASED, 0, 0};
    return send(channel, &message, sizeof message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int clinux_spawn_read_status(int channel, int32_t *status) {
    for (;;) {
        struct message message;
        ssize_t count = recv(channel, &message, sizeof message, MSG_DONTWAIT);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno == EAGAIN ? 0 : -errno;
        if (count != (ssize_t)sizeof message) return -EPIPE;
        if (message.kind != ENDED) continue;
        *status = message.value;
        return 1;
    }
}

void clinux_spawn_destroy(const struct clinux_spawn_result *result) {
    if (result->pid > 0) {
        kill(result->pid, SIGKILL);
        // As its tracer or its parent; with ECHILD the init reaps it.
        reap_one(result->pid);
    }
    if (result->init > 0) {
        kill(result->init, SIGKILL);
        reap_one(result->init);
    }
    if (result->channel >= 0) close(result->channel);
}

int clinux_current_cpu(void) {
    int cpu = sched_getcpu();
    return cpu < 0 ? -errno : cpu;
}

int clinux_spawn_wait(int32_t pid, int32_t *status) {
    for (;;) {
        int answer;
        pid_t ended = waitpid(pid, &answer, WNOHANG | __WALL);
        if (ended < 0 && errno == EINTR) continue;
        if (ended < 0) return -errno;
        if (ended == 0) return 0;
        *status = answer;
        return 1;
    }
}
