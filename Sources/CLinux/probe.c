// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "clinux_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

// Numbers that older headers lack; whether the kernel knows them is what is asked here.
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
enum {
    PROBE_MADV_GUARD_INSTALL = 102,
    PROBE_PR_TIMER_CREATE_RESTORE_IDS = 77,
    PROBE_PR_TIMER_CREATE_RESTORE_IDS_GET = 2,
    PROBE_PTRACE_GET_RSEQ_CONFIGURATION = 0x420f,
    PROBE_PAGE = 4096,
};

struct probe_pagemap_scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
_Static_assert(sizeof(struct probe_pagemap_scan) == 96, "struct pm_scan_arg");
#define PROBE_PAGEMAP_SCAN _IOWR('f', 16, struct probe_pagemap_scan)
struct probe_page_region {
    uint64_t start, end, categories;
};
enum { PROBE_PAGE_IS_PRESENT = 1 << 3 };

struct probe_rseq_configuration {
    uint64_t pointer;
    uint32_t size, signature, flags, padding;
};

static int answer(long result) {
    return result < 0 ? -errno : 0;
}

static int open_userfaultfd(int way) {
    if (way != CLINUX_PROBE_UFFD_DEVICE) {
        int flags = O_CLOEXEC | (way == CLINUX_PROBE_UFFD_USER_MODE_ONLY ? UFFD_USER_MODE_ONLY : 0);
        int uffd = (int)syscall(SYS_userfaultfd, flags);
        return uffd < 0 ? -errno : uffd;
    }
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device < 0) return -errno;
    int uffd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC);
    int result = uffd < 0 ? -errno : uffd;
    close(device);
    return result;
}

int64_t clinux_probe_userfaultfd(int way) {
    int uffd = open_userfaultfd(way);
    if (uffd < 0) return uffd;
    struct uffdio_api api = {.api = UFFD_API};
    int64_t result = ioctl(uffd, UFFDIO_API, &api) < 0 ? -errno : (int64_t)api.features;
    close(uffd);
    return result;
}

int clinux_probe_userfaultfd_events(void) {
    int uffd = open_userfaultfd(CLINUX_PROBE_UFFD_SYSTEM_CALL);
    if (uffd < 0) uffd = open_userfaultfd(CLINUX_PROBE_UFFD_DEVICE);
    if (uffd < 0) return uffd;
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE
            | UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_THREAD_ID,
    };
    int result = answer(ioctl(uffd, UFFDIO_API, &api));
    close(uffd);
    return result;
}

static char *map_page(void) {
    char *page = mmap(NULL, PROBE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? NULL : page;
}

int clinux_probe_pagemap_scan(void) {
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0) return -errno;
    char *page = map_page();
    if (!page) {
        close(pagemap);
        return -ENOMEM;
    }
    *(volatile char *)page = 1;
    struct probe_page_region region = {0};
    struct probe_pagemap_scan scan = {
        .size = sizeof scan,
        .start = (uintptr_t)page,
        .end = (uintptr_t)page + PROBE_PAGE,
        .vec = (uintptr_t)&region,
        .vec_len = 1,
        .category_mask = PROBE_PAGE_IS_PRESENT,
        .return_mask = PROBE_PAGE_IS_PRESENT,
    };
    long regions = ioctl(pagemap, PROBE_PAGEMAP_SCAN, &scan);
    int result = regions < 0 ? -errno : regions == 1 ? 0 : -EIO;
    munmap(page, PROBE_PAGE);
    close(pagemap);
    return result;
}

int clinux_probe_guard_pages(void) {
    char *page = map_page();
    if (!page) return -ENOMEM;
    int result = answer(madvise(page, PROBE_PAGE, PROBE_MADV_GUARD_INSTALL));
    munmap(page, PROBE_PAGE);
    return result;
}

// ---- children ----

// Starts a child of our own that only waits; it ends with this program. Returns its pid, or -errno.
static pid_t start_sleeper(uint64_t flags, pid_t wanted, int *pidfd) {
    pid_t tids[1] = {wanted};
    struct clone_args arguments = {
        .flags = flags | (pidfd ? CLONE_PIDFD : 0),
        .pidfd = (uintptr_t)pidfd,
        .exit_signal = SIGCHLD,
        .set_tid = wanted ? (uintptr_t)tids : 0,
        .set_tid_size = wanted ? 1 : 0,
    };
    pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) pause();
    }
    return pid < 0 ? -errno : pid;
}

static void end_child(pid_t pid) {
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR) {
    }
}

// Seizes a fresh child, stops it and lets `question` ask; the child ends with the question.
static int with_stopped_child(int (*question)(pid_t)) {
    pid_t pid = start_sleeper(0, 0, NULL);
    if (pid < 0) return pid;
    int result = answer(ptrace(PTRACE_SEIZE, pid, NULL, NULL));
    if (result == 0) result = answer(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL));
    int status = 0;
    if (result == 0) {
        pid_t waited;
        while ((waited = waitpid(pid, &status, __WALL)) < 0 && errno == EINTR) {
        }
        result = waited == pid && WIFSTOPPED(status) ? 0 : -EIO;
    }
    if (result == 0 && question) result = question(pid);
    end_child(pid);
    return result;
}

int clinux_probe_ptrace(void) {
    return with_stopped_child(NULL);
}

static int ask_rseq_configuration(pid_t pid) {
    struct probe_rseq_configuration configuration;
    return answer(syscall(
        SYS_ptrace, PROBE_PTRACE_GET_RSEQ_CONFIGURATION, pid, sizeof configuration, &configuration));
}

int clinux_probe_rseq_configuration(void) {
    return with_stopped_child(ask_rseq_configuration);
}

int clinux_probe_process_memory(void) {
    static const char mark = 1;
    char copy = 0;
    pid_t pid = start_sleeper(0, 0, NULL);
    if (pid < 0) return pid;
    struct iovec local = {&copy, 1}, remote = {(void *)(uintptr_t)&mark, 1};
    ssize_t count = process_vm_readv(pid, &local, 1, &remote, 1, 0);
    int result = count < 0 ? -errno : count == 1 && copy == mark ? 0 : -EIO;
    end_child(pid);
    return result;
}

int clinux_probe_pidfd_getfd(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
    int pidfd = -1, result;
    pid_t pid = start_sleeper(0, 0, &pidfd);
    if (pid < 0) {
        result = pid;
    } else {
        int copy = (int)syscall(SYS_pidfd_getfd, pidfd, ends[0], 0);
        result = copy < 0 ? -errno : 0;
        if (copy >= 0) close(copy);
        close(pidfd);
        end_child(pid);
    }
    close(ends[0]);
    close(ends[1]);
    return result;
}

int clinux_probe_kcmp(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
    pid_t self = getpid();
    int result = answer(syscall(SYS_kcmp, self, self, KCMP_FILE, ends[0], ends[1]));
    close(ends[0]);
    close(ends[1]);
    return result;
}

int clinux_probe_set_tid(void) {
    // The pid of a child that has ended is free; somebody else may take it first, hence the tries.
    int result = -EEXIST;
    for (int tries = 0; tries < 8 && result == -EEXIST; tries++) {
        pid_t free_pid = start_sleeper(0, 0, NULL);
        if (free_pid < 0) return free_pid;
        end_child(free_pid);
        pid_t pid = start_sleeper(0, free_pid, NULL);
        if (pid > 0) end_child(pid);
        result = pid < 0 ? pid : pid == free_pid ? 0 : -EIO;
    }
    return result;
}

int clinux_probe_pid_namespace(void) {
    pid_t pid = start_sleeper(CLONE_NEWPID | CLONE_NEWNS, 0, NULL);
    if (pid < 0) return pid;
    end_child(pid);
    return 0;
}

int clinux_probe_time_namespace(void) {
    struct clone_args arguments = {.exit_signal = SIGCHLD};
    pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid == 0) _exit(unshare(CLONE_NEWTIME) < 0 ? errno : 0);
    if (pid < 0) return -errno;
    int status = 0;
    while (waitpid(pid, &status, __WALL) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

int clinux_probe_timer_restore_ids(void) {
    return answer(prctl(PROBE_PR_TIMER_CREATE_RESTORE_IDS, PROBE_PR_TIMER_CREATE_RESTORE_IDS_GET, 0, 0, 0));
}

int clinux_probe_mm_map(void) {
    unsigned int size = 0;
    return answer(prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0));
}
