// SPDX-License-Identifier: Apache-2.0
//
// Programs that have something that cannot be carried: `Victim KIND FOLDER`. Prints `object TEXT` for a number or address
// that a message about it has to name, `skip why` when the machine lacks it, then `ready`; when FOLDER/go has appeared,
// tries whether the thing still works and prints `ok KIND` or `wrong KIND: what`.
#define _GNU_SOURCE
#include "refused.h"
#include "victim.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *folder;
static const char *deviation;

void say(const char *word, const char *format, ...) {
    char line[256];
    int length = snprintf(line, sizeof line, "%s", word);
    va_list list;
    va_start(list, format);
    length += vsnprintf(line + length, sizeof line - 1 - (size_t)length, format, list);
    va_end(list);
    line[length++] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)length) != length) {
        _exit(71);
    }
}

void object_descriptor(int descriptor) { say("object ", "%d", descriptor); }
void object_address(const void *address) { say("object ", "%lx", (unsigned long)address); }

void absent(const char *what) {
    say("skip ", "%s: %s", what, strerror(errno));
    _exit(0);
}

int have(int descriptor, const char *what) {
    if (descriptor < 0) {
        absent(what);
    }
    return descriptor;
}

int have_object(int descriptor, const char *what) {
    have(descriptor, what);
    object_descriptor(descriptor);
    return descriptor;
}

void check(bool right, const char *what) {
    if (!right && deviation == NULL) {
        deviation = what;
    }
}

void refused_in(const char *path) { folder = path; }

char *refused_path(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

void as_stranger(void (*body)(int end, pid_t victim)) {
    pid_t victim = getpid();
    int ends[2], victim_end = (int)syscall(SYS_pidfd_open, victim, 0);
    if (pipe2(ends, O_CLOEXEC) != 0 || victim_end < 0) {
        absent("pipe or pidfd_open");
    }
    pid_t child = fork();
    if (child == 0) {
        if (fork() == 0) {
            body(ends[1], victim);
            struct pollfd watch = {.fd = victim_end, .events = POLLIN};
            poll(&watch, 1, -1);
        }
        _exit(0);
    }
    close(ends[1]);
    close(victim_end);
    char byte;
    waitpid(child, NULL, 0);
    // The stranger says by one byte that it has done its part.
    if (read(ends[0], &byte, 1) != 1) {
        absent("the other process");
    }
    close(ends[0]);
}

void stranger_ready(int end) {
    if (write(end, "x", 1) != 1) {
        _exit(1);
    }
}

// Sockets.

static int ends[2];

static void exchange(void) {
    char byte = 0;
    check(write(ends[0], "a", 1) == 1 && read(ends[1], &byte, 1) == 1 && byte == 'a', "the connection is broken");
}

static void set_tcp(void) {
    int listener = have(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 1) != 0) {
        absent("listen");
    }
    getsockname(listener, (struct sockaddr *)&address, &size);
    ends[0] = have_object(socket(AF_INET, SOCK_STREAM, 0), "socket");
    if (connect(ends[0], (struct sockaddr *)&address, size) != 0) {
        absent("connect");
    }
    ends[1] = have_object(accept(listener, NULL, NULL), "accept");
    close(listener);
}
static void set_listener(void) {
    ends[0] = have_object(socket(AF_INET6, SOCK_STREAM, 0), "socket");
    if (listen(ends[0], 1) != 0) {
        absent("listen");
    }
}
static void set_udp(void) { ends[0] = have_object(socket(AF_INET, SOCK_DGRAM, 0), "socket"); }
static void set_unix(void) {
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) {
        absent("socketpair");
    }
    object_descriptor(ends[0]);
    object_descriptor(ends[1]);
}
static void set_netlink(void) { ends[0] = have_object(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), "socket"); }

// Kernel services behind descriptors.

static void set_io_uring(void) {
    struct io_uring_params parameters = {0};
    have_object((int)syscall(SYS_io_uring_setup, 4, &parameters), "io_uring_setup");
}
static aio_context_t context;
static void set_aio(void) {
    if (syscall(SYS_io_setup, 4, &context) != 0) {
        absent("io_setup");
    }
    object_address((void *)context);
}
static void check_aio(void) { check(syscall(SYS_io_destroy, context) == 0, "the AIO context is gone"); }
static int watcher;
static void set_inotify(void) {
    watcher = have_object(inotify_init1(IN_NONBLOCK), "inotify_init");
    inotify_add_watch(watcher, folder, IN_CREATE);
}
static void check_inotify(void) {
    char events[512];
    check(read(watcher, events, sizeof events) > 0, "no event came");
}
static void set_fanotify(void) { have_object(fanotify_init(FAN_CLASS_NOTIF, O_RDONLY), "fanotify_init"); }
static void set_perf(void) {
    struct perf_event_attr attributes = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attributes,
                                         .config = PERF_COUNT_SW_CPU_CLOCK};
    have_object((int)syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0), "perf_event_open");
}
static void set_bpf(void) {
    union bpf_attr attributes = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    have_object((int)syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes), "bpf");
}
static void set_kvm(void) { have_object(open("/dev/kvm", O_RDWR), "/dev/kvm"); }
static void set_device(void) { have_object(open("/dev/kmsg", O_RDONLY | O_NONBLOCK), "/dev/kmsg"); }
static void set_pidfd(void) { have_object((int)syscall(SYS_pidfd_open, getpid(), 0), "pidfd_open"); }
static void set_terminal(void) {
    int master = have_object(open("/dev/ptmx", O_RDWR | O_NOCTTY), "/dev/ptmx");
    unlockpt(master);
    have_object(open(ptsname(master), O_RDWR | O_NOCTTY), "pty");
}
static void set_queue(void) {
    char name[64];
    snprintf(name, sizeof name, "/victim-%d", (int)getpid());
    have_object(mq_open(name, O_RDWR | O_CREAT, 0600, NULL), "mq_open");
    mq_unlink(name);
}

// userfaultfd.

static int make_uffd(void) {
    int descriptor = have((int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), "userfaultfd");
    struct uffdio_api api = {.api = UFFD_API};
    if (ioctl(descriptor, UFFDIO_API, &api) != 0) {
        absent("UFFDIO_API");
    }
    return descriptor;
}
static void set_uffd(void) { object_descriptor(make_uffd()); }
static int registered;
static char *registered_page;
static void keep(int end, pid_t victim) {
    (void)victim;
    stranger_ready(end);
}
static void set_uffd_elsewhere(void) {
    registered = make_uffd();
    registered_page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register request = {.range = {(uintptr_t)registered_page, 4096},
                                      .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (ioctl(registered, UFFDIO_REGISTER, &request) != 0) {
        absent("UFFDIO_REGISTER");
    }
    // The other process keeps the only descriptor: what is left here is the flag of the mapping.
    as_stranger(keep);
    close(registered);
    object_address(registered_page);
}

// Other processes.

static pid_t child;
static void set_child(void) {
    child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            pause();
        }
    }
    say("object ", "%d", (int)child);
}
static void check_child(void) {
    check(waitpid(child, NULL, WNOHANG) == 0, "the child has ended");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}
static void set_zombie(void) {
    child = fork();
    if (child == 0) {
        _exit(7);
    }
    siginfo_t info;
    waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT);
    say("object ", "%d", (int)child);
}
static void check_zombie(void) {
    int status = 0;
    check(waitpid(child, &status, WNOHANG) == child && WEXITSTATUS(status) == 7, "the ended child is gone");
}
static void trace(int end, pid_t victim) {
    if (ptrace(PTRACE_SEIZE, victim, NULL, NULL) == 0) {
        stranger_ready(end);
    }
}
static void set_traced(void) {
    // The end of the process between comes with SIGCHLD: unless it is blocked, a tracer that has been quicker stops us before it.
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, NULL);
    as_stranger(trace);
}
static void open_fifo(int end, pid_t victim) {
    (void)victim;
    int descriptor = open(refused_path("fifo"), O_RDONLY | O_NONBLOCK);
    if (descriptor >= 0) {
        stranger_ready(end);
    }
}
static int outside;
static void set_pipe(void) {
    mkfifo(refused_path("fifo"), 0600);
    as_stranger(open_fifo);
    outside = have_object(open(refused_path("fifo"), O_WRONLY), "FIFO");
}
static void check_pipe(void) { check(write(outside, "x", 1) == 1, "the pipe is broken"); }

// Files.

static int file;
static void open_deleted(void) {
    file = have(open(refused_path("gone"), O_RDWR | O_CREAT, 0600), "file");
    check(write(file, "text", 4) == 4, "write");
    unlink(refused_path("gone"));
}
static void set_deleted(void) {
    open_deleted();
    object_descriptor(file);
}
static void check_deleted(void) {
    char text[8] = {0};
    check(pread(file, text, 4, 0) == 4 && strcmp(text, "text") == 0, "the deleted file has lost its contents");
}
static void set_deleted_mapping(void) {
    open_deleted();
    object_address(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0));
    close(file);
}
static void open_locked(void) { file = have_object(open(refused_path("locked"), O_RDWR | O_CREAT, 0600), "file"); }
static void set_flock(void) {
    open_locked();
    flock(file, LOCK_EX);
}
static void check_flock(void) {
    int other = open(refused_path("locked"), O_RDWR);
    check(flock(other, LOCK_EX | LOCK_NB) != 0, "the lock is lost");
}
static void set_posix_lock(void) {
    open_locked();
    fcntl(file, F_SETLK, &(struct flock){.l_type = F_WRLCK, .l_len = 10});
}
static void set_description_lock(void) {
    open_locked();
    fcntl(file, F_OFD_SETLK, &(struct flock){.l_type = F_WRLCK, .l_len = 10});
}
static void check_description_lock(void) {
    int other = open(refused_path("locked"), O_RDWR);
    struct flock lock = {.l_type = F_WRLCK, .l_len = 10};
    check(fcntl(other, F_OFD_SETLK, &lock) != 0, "the lock is lost");
}
static void set_lease(void) {
    open_locked();
    if (fcntl(file, F_SETLEASE, F_WRLCK) != 0) {
        absent("F_SETLEASE");
    }
}
static void check_lease(void) { check(fcntl(file, F_GETLEASE) == F_WRLCK, "the lease is lost"); }

// Memory.

static char *memory;
static void set_hugetlb(void) {
    memory = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    if (memory == MAP_FAILED) {
        absent("MAP_HUGETLB (no huge pages are reserved)");
    }
    memory[0] = 1;
    object_address(memory);
}
static void set_secret(void) {
    int descriptor = have((int)syscall(SYS_memfd_secret, O_CLOEXEC), "memfd_secret");
    if (ftruncate(descriptor, 4096) != 0) {
        absent("memfd_secret");
    }
    memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (memory == MAP_FAILED) {
        absent("mmap of secret memory");
    }
    strcpy(memory, "secret");
    close(descriptor);
    object_address(memory);
}
static void check_secret(void) { check(strcmp(memory, "secret") == 0, "the secret is lost"); }
static void set_shm(void) {
    int id = shmget(IPC_PRIVATE, 4096, 0600);
    memory = shmat(id, NULL, 0);
    shmctl(id, IPC_RMID, NULL);
    if (memory == (void *)-1) {
        absent("shmat");
    }
    strcpy(memory, "shared");
    object_address(memory);
}
static void check_shm(void) { check(strcmp(memory, "shared") == 0, "the shared memory is lost"); }
static void set_sealed(void) {
    memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (syscall(462 /* mseal, Linux 6.10 */, memory, 4096, 0) != 0) {
        absent("mseal");
    }
    strcpy(memory, "sealed");
    object_address(memory);
}
static void check_sealed(void) {
    check(munmap(memory, 4096) != 0 && strcmp(memory, "sealed") == 0, "the mapping is not sealed any more");
}
static void set_droppable(void) {
    // MAP_DROPPABLE, Linux 6.11: a type of its own in place of MAP_PRIVATE.
    memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, 8 | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        absent("MAP_DROPPABLE");
    }
    memory[0] = 1;
    object_address(memory);
}
static void check_droppable(void) {
    memory[0] = 2;
    check(memory[0] == 2 || memory[0] == 0, "the droppable page holds something else");
}

// Rules and namespaces.

static void set_seccomp(void) {
    struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {.len = 1, .filter = allow};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        absent("seccomp");
    }
}
static void leave(int kind) {
    if (unshare(kind) != 0) {
        absent("unshare");
    }
}
static void set_mount_namespace(void) {
    leave(CLONE_NEWNS);
    // Something else at a path, seen in this namespace only, which ends with the process.
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 || mount("none", "/mnt", "tmpfs", 0, NULL) != 0) {
        absent("mount");
    }
}
static void set_network_namespace(void) { leave(CLONE_NEWNET); }
static void set_ipc_namespace(void) { leave(CLONE_NEWIPC); }
static void set_uts_namespace(void) { leave(CLONE_NEWUTS); }
static void set_user_namespace(void) { leave(CLONE_NEWUSER); }
static void set_chroot(void) {
    // Only the root changes, so that the folder is still found through a descriptor-free relative path.
    if (chdir(folder) != 0 || chroot(".") != 0) {
        absent("chroot");
    }
    folder = ".";
}

static const struct refused_kind main_kinds[] = {
    {"socket-tcp", set_tcp, exchange},
    {"socket-listening", set_listener, NULL},
    {"socket-udp", set_udp, NULL},
    {"socket-unix", set_unix, exchange},
    {"socket-netlink", set_netlink, NULL},
    {"io-uring", set_io_uring, NULL},
    {"aio", set_aio, check_aio},
    {"inotify", set_inotify, check_inotify},
    {"fanotify", set_fanotify, NULL},
    {"perf", set_perf, NULL},
    {"bpf", set_bpf, NULL},
    {"kvm", set_kvm, NULL},
    {"device", set_device, NULL},
    {"pidfd", set_pidfd, NULL},
    {"terminal", set_terminal, NULL},
    {"message-queue", set_queue, NULL},
    {"userfaultfd", set_uffd, NULL},
    {"userfaultfd-elsewhere", set_uffd_elsewhere, NULL},
    {"child", set_child, check_child},
    {"zombie", set_zombie, check_zombie},
    {"traced", set_traced, NULL},
    {"pipe-outside", set_pipe, check_pipe},
    {"deleted-file", set_deleted, check_deleted},
    {"deleted-mapping", set_deleted_mapping, NULL},
    {"flock", set_flock, check_flock},
    {"posix-lock", set_posix_lock, NULL},
    {"description-lock", set_description_lock, check_description_lock},
    {"lease", set_lease, check_lease},
    {"hugetlb", set_hugetlb, NULL},
    {"secretmem", set_secret, check_secret},
    {"shm", set_shm, check_shm},
    {"sealed", set_sealed, check_sealed},
    {"droppable", set_droppable, check_droppable},
    {"seccomp", set_seccomp, NULL},
    {"namespace-mnt", set_mount_namespace, NULL},
    {"namespace-net", set_network_namespace, NULL},
    {"namespace-ipc", set_ipc_namespace, NULL},
    {"namespace-uts", set_uts_namespace, NULL},
    {"namespace-user", set_user_namespace, NULL},
    {"chroot", set_chroot, NULL},
    {NULL, NULL, NULL},
};

/// Does something with each kind there is.
static void for_each_kind(void (*body)(const struct refused_kind *kind, const char *name), const char *name) {
    const struct refused_kind *const tables[] = {main_kinds, refused_code_kinds, refused_path_kinds, refused_relation_kinds};
    for (size_t index = 0; index < sizeof tables / sizeof *tables; index++) {
        for (const struct refused_kind *kind = tables[index]; kind->name != NULL; kind++) {
            body(kind, name);
        }
    }
}
static void set_named(const struct refused_kind *kind, const char *name) {
    if (strcmp(kind->name, name) == 0) {
        kind->set();
    }
}
static void check_named(const struct refused_kind *kind, const char *name) {
    if (strcmp(kind->name, name) == 0 && kind->check != NULL) {
        kind->check();
    }
}
static void print(const struct refused_kind *kind, const char *name) {
    (void)name;
    puts(kind->name);
}

void wait_for_go(void) {
    say("ready", "%s", "");
    while (access(refused_path("go"), F_OK) != 0) {
        struct timespec time = {.tv_nsec = 2000000};
        if (nanosleep(&time, NULL) != 0) {
            check(false, "nanosleep was interrupted");
        }
    }
}

int refused_end(const char *name) {
    if (deviation != NULL) {
        say("wrong ", "%s: %s", name, deviation);
        return 1;
    }
    say("ok ", "%s", name);
    return 0;
}

static int run_refused(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: Victim %s FOLDER\n", argv[0]);
        return 64;
    }
    folder = argv[1];
    // Several kinds at once: every one of them is to be found.
    char names[256];
    snprintf(names, sizeof names, "%s", strcmp(argv[0], "refused") == 0 ? "" : argv[0]);
    for (int index = 2; index < argc && strcmp(argv[0], "refused") == 0; index++) {
        strncat(names, index > 2 ? "," : "", sizeof names - strlen(names) - 1);
        strncat(names, argv[index], sizeof names - strlen(names) - 1);
    }
    char list[256];
    strcpy(list, names);
    for (char *name = strtok(list, ","); name != NULL; name = strtok(NULL, ",")) {
        for_each_kind(set_named, name);
    }
    wait_for_go();
    strcpy(list, names);
    for (char *name = strtok(list, ","); name != NULL; name = strtok(NULL, ",")) {
        for_each_kind(check_named, name);
    }
    return refused_end(names);
}

static int print_kinds(int argc, char **argv) {
    (void)argc;
    (void)argv;
    for_each_kind(print, NULL);
    return 0;
}

// The first thread has ended, another one goes on.

static void *go_on(void *name) {
    pthread_t *first = ((void **)name)[1];
    pthread_join(*first, NULL);
    wait_for_go();
    exit(refused_end(*(char **)name));
}

static int run_without_leader(int argc, char **argv) {
    static pthread_t first, other;
    static void *arguments[2];
    if (argc < 2) {
        return 64;
    }
    folder = argv[1];
    first = pthread_self();
    arguments[0] = argv[0];
    arguments[1] = &first;
    if (pthread_create(&other, NULL, go_on, arguments) != 0) {
        return 71;
    }
    pthread_exit(NULL);
}

/// Changes something of itself at each line of its input, to try whether a comparison sees it.
static int run_changing(int argc, char **argv) {
    (void)argc;
    (void)argv;
    char line[64];
    char *page = mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int descriptor = open("/proc/self/exe", O_RDONLY);
    setvbuf(stdin, NULL, _IONBF, 0);
    say("ready", "%s", "");
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = 0;
        if (strcmp(line, "map") == 0) {
            mmap(NULL, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        } else if (strcmp(line, "protect") == 0) {
            mprotect(page + 4096, 4096, PROT_READ);
        } else if (strcmp(line, "advise") == 0) {
            madvise(page + 3 * 4096, 4096, MADV_DONTFORK);
        } else if (strcmp(line, "open") == 0) {
            open("/dev/null", O_RDONLY);
        } else if (strcmp(line, "seek") == 0) {
            lseek(descriptor, 17, SEEK_SET);
        } else if (strcmp(line, "flag") == 0) {
            fcntl(descriptor, F_SETFD, FD_CLOEXEC);
        } else if (strcmp(line, "block") == 0) {
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGUSR1);
            sigprocmask(SIG_BLOCK, &set, NULL);
        } else if (strcmp(line, "pend") == 0) {
            raise(SIGUSR1);
        } else if (strcmp(line, "handle") == 0) {
            signal(SIGUSR2, SIG_IGN);
        } else if (strcmp(line, "register") == 0) {
            make_uffd();
            struct uffdio_register request = {.range = {(uintptr_t)page + 5 * 4096, 4096},
                                              .mode = UFFDIO_REGISTER_MODE_MISSING};
            int uffd = make_uffd();
            ioctl(uffd, UFFDIO_REGISTER, &request);
        } else if (strcmp(line, "name") == 0) {
            prctl(PR_SET_NAME, "renamed");
        } else if (strcmp(line, "umask") == 0) {
            umask(0111);
        } else if (strcmp(line, "timer") == 0) {
            timer_t timer;
            timer_create(CLOCK_MONOTONIC, NULL, &timer);
        }
        say("changed ", "%s", line);
    }
    return 0;
}

const struct victim_mode refused_modes[] = {
    {"refused", run_refused},
    {"kinds", print_kinds},
    {"leader-ended", run_without_leader},
    {"changing", run_changing},
    {NULL, NULL},
};
