// SPDX-License-Identifier: Apache-2.0
//
// Programs that handle page faults themselves: `Victim own-uffd FOLDER WORDS`, WORDS with commas between.
//
//   missing, wp, minor, async, none   what is registered: 8 pages, of a memfd for `minor`; or nothing
//   device                            made by /dev/userfaultfd, not by userfaultfd(2); `device-only`: that is opened and nothing made
//   inherited                         without O_CLOEXEC
//   user                              UFFD_USER_MODE_ONLY
//   passed                            sent to a monitor, a stranger to this process, by SCM_RIGHTS and closed here
//   queued, queued-elsewhere          sent into a socket of this process, or of the monitor, and closed; received when it goes on
//   child                             used and held by a child alone
//   child-table                       used by a child that shares the descriptor table (CLONE_FILES)
//   thread-table                      used by a thread with a descriptor table of its own (unshare(CLONE_FILES))
//   fork                              the victim is a child of a monitored process: its userfaultfd came to the monitor as an event
//   later                             registered when FOLDER/register has appeared; prints `registered`
//   fresh                             with `later`: the pages are mapped then, not before
//   large                             64 MiB more are in memory
//   behind, high                      the pages lie behind a shared mapping of a file opened for reading, or above the stack
//
// Prints `victim PID` where that is not the process that was started, `object TEXT` for what a message has to name, `ready`. From then
// on one thread makes faults, each of which somebody has to answer. When FOLDER/go has appeared it makes 50 more and prints
// `ok own-uffd`, or `wrong own-uffd: what`.
#define _GNU_SOURCE
#include "refused.h"
#include "victim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { page = 4096, pages = 8, content = 0x5a };
// Newer than the headers of the machine.
enum { feature_wp_async = 1 << 15, feature_wp_shmem = 1 << 12, feature_minor_shmem = 1 << 10 };

static const char *words;
static char *area;
static volatile long rounds;
static volatile bool may_fault;
static int pagemap;

static bool is(const char *word) {
    const char *found = words;
    size_t length = strlen(word);
    while ((found = strstr(found, word)) != NULL) {
        bool begins = found == words || found[-1] == ',';
        if (begins && (found[length] == 0 || found[length] == ',')) {
            return true;
        }
        found += length;
    }
    return false;
}
static bool registers(void) { return !is("none"); }
static bool by_write(void) { return is("wp") || is("async"); }

static void nap(long microseconds) {
    struct timespec time = {.tv_sec = microseconds / 1000000, .tv_nsec = microseconds % 1000000 * 1000};
    while (nanosleep(&time, &time) != 0) {
    }
}
static int64_t seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}
static void await_file(const char *name) {
    while (access(refused_path(name), F_OK) != 0) {
        nap(2000);
    }
}

// Making and registering.

static int make(void) {
    int flags = O_NONBLOCK | (is("inherited") ? 0 : O_CLOEXEC) | (is("user") ? 1 /* UFFD_USER_MODE_ONLY */ : 0);
    int uffd;
    if (is("device")) {
        int device = have(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), "/dev/userfaultfd");
        uffd = have(ioctl(device, _IO(0xAA, 0), flags), "USERFAULTFD_IOC_NEW");
        close(device);
    } else {
        uffd = have((int)syscall(SYS_userfaultfd, flags), "userfaultfd");
    }
    struct uffdio_api api = {.api = UFFD_API};
    api.features = (is("async") ? feature_wp_async : 0) | (is("minor") ? feature_minor_shmem : 0)
                   | (is("fork") ? UFFD_FEATURE_EVENT_FORK : 0);
    if (ioctl(uffd, UFFDIO_API, &api) != 0) {
        absent("UFFDIO_API");
    }
    return uffd;
}

static void map_area(void) {
    if (is("minor")) {
        int memory = have(memfd_create("minor", MFD_CLOEXEC), "memfd_create");
        if (ftruncate(memory, pages * page) != 0) {
            absent("ftruncate");
        }
        area = mmap(NULL, pages * page, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
        close(memory);
    } else {
        // Its own mapping, whatever lies next to it.
        void *place = is("high") ? (void *)0x7fffffff0000 : NULL;
        area = mmap(place, (pages + 2) * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED || (place != NULL && area != place)) {
            absent("mmap");
        }
        if (is("behind")) {
            int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
            mmap(area, page, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0);
            close(file);
        }
        area += page;
        mprotect(area, pages * page, PROT_READ | PROT_WRITE);
    }
    if (is("minor") || by_write()) {
        memset(area, content, pages * page);
    }
}

static void arm(int uffd) {
    struct uffdio_writeprotect request = {.range = {(uintptr_t)area, pages * page}, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
    ioctl(uffd, UFFDIO_WRITEPROTECT, &request);
}

static void register_area(int uffd) {
    if (!registers()) {
        return;
    }
    struct uffdio_register request = {.range = {(uintptr_t)area, pages * page}};
    request.mode = by_write() ? UFFDIO_REGISTER_MODE_WP
                              : is("minor") ? UFFDIO_REGISTER_MODE_MINOR : UFFDIO_REGISTER_MODE_MISSING;
    if (ioctl(uffd, UFFDIO_REGISTER, &request) != 0) {
        absent("UFFDIO_REGISTER");
    }
    if (by_write()) {
        arm(uffd);
    }
}

// Answering.

static void answer(int uffd, const struct uffd_msg *message) {
    static char source[page];
    uint64_t start = message->arg.pagefault.address & ~(uint64_t)(page - 1);
    uint64_t flags = message->arg.pagefault.flags;
    memset(source, content, page);
    if (flags & UFFD_PAGEFAULT_FLAG_WP) {
        struct uffdio_writeprotect request = {.range = {start, page}};
        ioctl(uffd, UFFDIO_WRITEPROTECT, &request);
    } else if (flags & UFFD_PAGEFAULT_FLAG_MINOR) {
        struct uffdio_continue request = {.range = {start, page}};
        ioctl(uffd, UFFDIO_CONTINUE, &request);
    } else {
        struct uffdio_copy request = {.dst = start, .src = (uintptr_t)source, .len = page};
        ioctl(uffd, UFFDIO_COPY, &request);
    }
}

/// Answers everything until `end` (a pidfd, or -1) can be read. Children of a monitored process come as events.
static void serve(int uffd, int end) {
    struct pollfd watched[6] = {{.fd = end, .events = POLLIN}, {.fd = uffd, .events = POLLIN}};
    nfds_t count = 2;
    while (!(watched[0].revents & POLLIN)) {
        for (nfds_t index = 1; index < count; index++) {
            struct uffd_msg message;
            while (read(watched[index].fd, &message, sizeof message) == sizeof message) {
                if (message.event == UFFD_EVENT_PAGEFAULT) {
                    answer(watched[index].fd, &message);
                } else if (message.event == UFFD_EVENT_FORK && count < 6) {
                    fcntl((int)message.arg.fork.ufd, F_SETFL, O_NONBLOCK);
                    watched[count++] = (struct pollfd){.fd = (int)message.arg.fork.ufd, .events = POLLIN};
                }
            }
        }
        // Pages are protected again a moment after each write.
        if (by_write() && poll(watched, count, 1) == 0) {
            arm(uffd);
        } else {
            poll(watched, count, 20);
        }
    }
}
static void *serve_here(void *uffd) {
    serve((int)(intptr_t)uffd, -1);
    return NULL;
}

// Making faults.

static bool is_armed(const char *address) {
    uint64_t entry = 0;
    return pread(pagemap, &entry, 8, (off_t)((uintptr_t)address / page * 8)) == 8 && (entry >> 57 & 1) != 0;
}

static void *fault(void *unused) {
    while (!may_fault) {
        nap(1000);
    }
    int64_t last = seconds();
    for (long round = 0;; round++) {
        volatile char *address = area + round % pages * page;
        if (by_write()) {
            while (!is_armed((char *)address)) {
                nap(200);
            }
            address[1] = (char)round;
            check(address[0] == content && address[1] == (char)round, "a protected page holds something else");
        } else {
            madvise(area + round % pages * page, page, MADV_DONTNEED);
            check(address[0] == content, "a page holds something else than what was installed");
        }
        int64_t now = seconds();
        check(now - last < 10, "a fault was not answered for a long time");
        last = now;
        rounds++;
        nap(300);
    }
    return unused;
}

struct beginning {
    void *(*body)(void *);
    void *argument;
    volatile bool runs;
};
static void *begin(void *argument) {
    struct beginning *beginning = argument;
    void *(*body)(void *) = beginning->body;
    void *own = beginning->argument;
    beginning->runs = true;
    return body(own);
}
/// Starts a thread and waits until its signal mask and everything else that the C library sets up is as it stays.
static void start(void *(*body)(void *), void *argument) {
    pthread_t thread;
    struct beginning beginning = {.body = body, .argument = argument};
    if (pthread_create(&thread, NULL, begin, &beginning) != 0) {
        _exit(71);
    }
    while (!beginning.runs) {
        nap(1000);
    }
}

// Descriptors on their way.

static void send_descriptor(int socket, int descriptor) {
    char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    if (sendmsg(socket, &message, 0) != 1) {
        _exit(71);
    }
}
static int receive_descriptor(int socket) {
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int descriptor = -1;
    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1) {
        _exit(71);
    }
    memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof descriptor);
    return descriptor;
}

/// Starts a process that is no child of this one, gets a descriptor through a socket and ends with this one.
static int start_monitor(void) {
    int ends[2], victim = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0 || victim < 0) {
        absent("socketpair or pidfd_open");
    }
    pid_t between = fork();
    if (between == 0) {
        if (fork() != 0) {
            _exit(0);
        }
        close(ends[0]);
        // Shared memory would be a reason of its own to refuse; addresses are those of the victim from here on.
        munmap(area, pages * page);
        int uffd = receive_descriptor(ends[1]);
        if (is("queued-elsewhere")) {
            int own[2];
            if (socketpair(AF_UNIX, SOCK_STREAM, 0, own) != 0) {
                _exit(71);
            }
            send_descriptor(own[0], uffd);
            close(uffd);
            // The other side waits until the descriptor is nowhere but in the queue.
            check(write(ends[1], "x", 1) == 1, "write");
            close(ends[1]);
            await_file("go");
            uffd = receive_descriptor(own[1]);
        } else {
            check(write(ends[1], "x", 1) == 1, "write");
            close(ends[1]);
        }
        if (is("later")) {
            await_file("register");
            register_area(uffd);
            close(open(refused_path("registered"), O_WRONLY | O_CREAT, 0600));
        }
        serve(uffd, victim);
        _exit(0);
    }
    close(ends[1]);
    close(victim);
    waitpid(between, NULL, 0);
    return ends[0];
}

static void pass(int monitor, int uffd) {
    char byte;
    send_descriptor(monitor, uffd);
    close(uffd);
    // Its answer says that it has it.
    if (read(monitor, &byte, 1) != 1) {
        _exit(71);
    }
    close(monitor);
}

// Holders.

static void child_body(int uffd) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    serve(uffd, -1);
}

static volatile int table_uffd = -1;

static void *serve_in_own_table(void *unused) {
    if (unshare(CLONE_FILES) != 0) {
        absent("unshare");
    }
    int uffd = make();
    register_area(uffd);
    table_uffd = uffd;
    serve(uffd, -1);
    return unused;
}

static int queue[2] = {-1, -1};

/// Makes, registers and gives away, in the order in which programs do it.
static void set_up(void) {
    if (is("device-only")) {
        object_descriptor(have(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), "/dev/userfaultfd"));
        return;
    }
    if (is("thread-table")) {
        start(serve_in_own_table, NULL);
        while (table_uffd < 0) {
            nap(1000);
        }
        object_descriptor(table_uffd);
        return;
    }
    int monitor = is("passed") || is("queued-elsewhere") || is("fork") ? start_monitor() : -1;
    int uffd = make();
    if (!(is("later") && is("passed"))) {
        register_area(uffd);
    }
    if (monitor >= 0) {
        pass(monitor, uffd);
    } else if (is("queued")) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, queue) != 0) {
            absent("socketpair");
        }
        send_descriptor(queue[0], uffd);
        close(uffd);
        object_descriptor(queue[0]);
        object_descriptor(queue[1]);
    } else if (is("child")) {
        if (fork() == 0) {
            child_body(uffd);
        }
        object_descriptor(uffd);
        close(uffd);
    } else if (is("child-table")) {
        if (syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL) == 0) {
            child_body(uffd);
        }
        object_descriptor(uffd);
    } else {
        object_descriptor(uffd);
        start(serve_here, (void *)(intptr_t)uffd);
    }
}

static void wait_and_see(void) {
    may_fault = !is("queued") && !is("queued-elsewhere") && !is("later");
    if (registers()) {
        // Early, so that its stack is no mapping that is new when the memory is registered.
        start(fault, NULL);
    }
    say("ready", "%s", "");
    if (is("later")) {
        await_file("register");
        if (is("passed")) {
            await_file("registered");
            object_address(area);
        } else {
            if (is("fresh")) {
                map_area();
            }
            set_up();
            object_address(area);
        }
        may_fault = true;
        say("registered", "%s", "");
    }
    await_file("go");
    if (is("queued")) {
        int uffd = receive_descriptor(queue[1]);
        start(serve_here, (void *)(intptr_t)uffd);
    }
    may_fault = true;
    int64_t end = seconds() + 20;
    for (long before = rounds; registers() && rounds < before + 50;) {
        if (seconds() > end) {
            check(false, "faults are not answered any more");
            break;
        }
        nap(1000);
    }
}

/// Becomes a child whose memory is registered because its parent's is.
static void become_child(void) {
    pid_t child = fork();
    if (child != 0) {
        int status = 1;
        waitpid(child, &status, 0);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    say("victim ", "%d", (int)getpid());
}

static int run(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: Victim %s FOLDER WORDS\n", argv[0]);
        return 64;
    }
    refused_in(argv[1]);
    words = argv[2];
    if (is("large")) {
        char *memory = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(memory, 1, 64 << 20);
    }
    if (!is("fresh")) {
        map_area();
    }
    if (!is("later") || is("passed")) {
        set_up();
    }
    if (is("fork")) {
        become_child();
    }
    if (by_write()) {
        pagemap = have(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), "pagemap");
    }
    if (registers() && !is("later")) {
        object_address(area);
    }
    wait_and_see();
    return refused_end(argv[0]);
}

// A program that begins to handle page faults after it was moved: `Victim uffd-afterwards FOLDER`. Prints `refused N`, how often it
// could not register memory that came along with it, and `registered TIME` (CLOCK_REALTIME in microseconds) when it could.

static long long real_time(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_sec * 1000000LL + time.tv_nsec / 1000;
}

static int run_afterwards(int argc, char **argv) {
    enum { count = 32768, step = page / sizeof(long) };
    if (argc < 2) {
        return 64;
    }
    refused_in(argv[1]);
    words = "missing";
    long *held = mmap(NULL, count * (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (long index = 0; index < count; index++) {
        held[index * step] = index + 1;
    }
    say("ready", "%s", "");
    await_file("go");
    // Memory that it maps from now on is nobody else's.
    int uffd = make();
    map_area();
    register_area(uffd);
    start(serve_here, (void *)(intptr_t)uffd);
    may_fault = true;
    start(fault, NULL);
    struct uffdio_register request = {.range = {(uintptr_t)held, count * (size_t)page}};
    request.mode = UFFDIO_REGISTER_MODE_MISSING;
    long refused = 0;
    int64_t end = seconds() + 60;
    while (ioctl(uffd, UFFDIO_REGISTER, &request) != 0 && seconds() < end) {
        check(errno == EBUSY, "another error than EBUSY");
        refused++;
        nap(200);
    }
    say("refused ", "%ld", refused);
    say("registered ", "%lld", real_time());
    check(seconds() < end, "its memory cannot be registered");
    for (long index = 0; index < count; index++) {
        check(held[index * step] == index + 1, "a page of the held memory is wrong");
    }
    madvise(held + 5 * step, page, MADV_DONTNEED);
    check(*(volatile char *)(held + 5 * step) == content, "its own page has not come");
    check(rounds > 0, "its own faults are not answered");
    return refused_end(argv[0]);
}

const struct victim_mode uffd_owner_modes[] = {
    {"own-uffd", run},
    {"uffd-afterwards", run_afterwards},
    {NULL, NULL},
};
