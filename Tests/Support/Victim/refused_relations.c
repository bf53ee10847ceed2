// SPDX-License-Identifier: Apache-2.0
//
// What cannot be carried because another process, or a thread, has a part in it or has it for itself.
#define _GNU_SOURCE
#include "refused.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// A child that shares memory or descriptors with its parent is the victim; the parent waits for it.

static int run_as_victim(void *name) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    say("victim ", "%d", (int)getpid());
    wait_for_go();
    _exit(refused_end(name));
}
static void share(int flags, char *name) {
    static char stack[256 << 10] __attribute__((aligned(16)));
    pid_t child = have(clone(run_as_victim, stack + sizeof stack, flags | SIGCHLD, name), "clone");
    int status = 1;
    waitpid(child, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}
static void set_shared_space(void) { share(CLONE_VM, "shared-space"); }
static void set_shared_table(void) { share(CLONE_FILES, "shared-table"); }

// Threads that have left what the others share.

static void (*leave)(void);
static volatile pid_t thread_id;
static pthread_t thread;

static void *leave_and_wait(void *unused) {
    leave();
    thread_id = (pid_t)syscall(SYS_gettid);
    for (;;) {
        pause();
    }
    return unused;
}
static void start(void (*body)(void)) {
    leave = body;
    if (pthread_create(&thread, NULL, leave_and_wait, NULL) != 0) {
        absent("pthread_create");
    }
    while (thread_id == 0) {
        usleep(1000);
    }
    say("object ", "thread %d", (int)thread_id);
}
static void leave_table(void) {
    if (unshare(CLONE_FILES) != 0) {
        absent("unshare");
    }
}
static void leave_directory(void) {
    if (unshare(CLONE_FS) != 0 || chdir("/") != 0) {
        absent("unshare");
    }
}
static void ask_for_death_signal(void) { prctl(PR_SET_PDEATHSIG, SIGUSR1); }
static void set_thread_table(void) { start(leave_table); }
static void set_thread_directory(void) { start(leave_directory); }
static void set_thread_signal(void) { start(ask_for_death_signal); }

static void set_no_gain(void) {
    if (prctl(65 /* PR_SET_MDWE, Linux 6.3 */, 1, 0, 0, 0) != 0) {
        absent("PR_SET_MDWE");
    }
    say("object ", "%s", "PR_SET_MDWE");
}
static void check_no_gain(void) {
    const int all = PROT_READ | PROT_WRITE | PROT_EXEC;
    check(mmap(NULL, 4096, all, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED, "the setting is lost");
}

// Things that a stranger got by fork(2).

static void have_part(int end, pid_t victim) {
    (void)victim;
    stranger_ready(end);
}
static int file;
static void set_shared_file(void) {
    file = have_object(open(refused_path("shared"), O_RDWR | O_CREAT, 0600), "file");
    as_stranger(have_part);
}
static void check_shared_file(void) { check(write(file, "x", 1) == 1, "the file cannot be written"); }
static char *memory;
static void set_shared_memory(void) {
    memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    strcpy(memory, "shared");
    as_stranger(have_part);
    object_address(memory);
}
static void check_shared_memory(void) { check(strcmp(memory, "shared") == 0, "the memory has changed"); }
static void set_shared_memfd(void) {
    file = have_object(memfd_create("shared", MFD_CLOEXEC), "memfd_create");
    as_stranger(have_part);
}

// A watch whose descriptor is closed here and open there.

static int epoll, ends[2];
static void set_watch(void) {
    struct epoll_event event = {.events = EPOLLIN};
    epoll = have_object(epoll_create1(EPOLL_CLOEXEC), "epoll_create");
    if (pipe2(ends, O_CLOEXEC) != 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event) != 0) {
        absent("epoll_ctl");
    }
    as_stranger(have_part);
    close(ends[0]);
    close(ends[1]);
}

// Other kinds of descriptors and mappings.

static void set_namespace(void) { have_object(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), "/proc/self/ns/net"); }
static void set_context(void) { have_object((int)syscall(430 /* fsopen */, "tmpfs", 0), "fsopen"); }
static void set_device_mapping(void) {
    int device = have(open("/dev/loop0", O_RDONLY | O_CLOEXEC), "/dev/loop0");
    memory = mmap(NULL, 4096, PROT_READ, MAP_SHARED, device, 0);
    if (memory == MAP_FAILED) {
        absent("mmap of /dev/loop0");
    }
    close(device);
    object_address(memory);
}

const struct refused_kind refused_relation_kinds[] = {
    {"shared-space", set_shared_space, NULL},
    {"shared-table", set_shared_table, NULL},
    {"thread-table", set_thread_table, NULL},
    {"thread-directory", set_thread_directory, NULL},
    {"thread-death-signal", set_thread_signal, NULL},
    {"no-exec-gain", set_no_gain, check_no_gain},
    {"shared-file", set_shared_file, check_shared_file},
    {"shared-memory", set_shared_memory, check_shared_memory},
    {"shared-memfd", set_shared_memfd, NULL},
    {"epoll-watch", set_watch, NULL},
    {"namespace-descriptor", set_namespace, NULL},
    {"anonymous-inode", set_context, NULL},
    {"device-mapping", set_device_mapping, NULL},
    {NULL, NULL, NULL},
};
