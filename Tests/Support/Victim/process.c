// SPDX-License-Identifier: Apache-2.0
//
// What a process has once: ids, credentials, limits, settings.
#define _GNU_SOURCE
#include "carried.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

extern char **environ;

/// A file below /proc/self; its length.
static size_t read_own(const char *name, char *buffer, size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/%s", name);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        wrong("%s: errno %d", path, errno);
        return 0;
    }
    size_t used = 0;
    ssize_t count;
    while (used < size - 1 && (count = read(descriptor, buffer + used, size - 1 - used)) > 0) {
        used += (size_t)count;
    }
    buffer[used] = 0;
    close(descriptor);
    return used;
}

// Ids, command line, environment, auxiliary vector, executable.

struct identity {
    pid_t pid, session, group;
    char files[4][8192];
    size_t sizes[4];
    char executable[512], folder[512], root[512];
};
static const char *const identity_files[4] = {"cmdline", "environ", "auxv", "comm"};
static struct identity identity_before, identity_now;
static const char *environment_before;

static void look_at_identity(struct identity *seen) {
    memset(seen, 0, sizeof *seen);
    // Not getpid(3), which glibc might have remembered.
    seen->pid = (pid_t)syscall(SYS_getpid);
    seen->session = getsid(0);
    seen->group = getpgid(0);
    for (size_t index = 0; index < 4; index++) {
        seen->sizes[index] = read_own(identity_files[index], seen->files[index], sizeof seen->files[0]);
    }
    if (readlink("/proc/self/exe", seen->executable, sizeof seen->executable - 1) < 0 ||
        readlink("/proc/self/cwd", seen->folder, sizeof seen->folder - 1) < 0 ||
        readlink("/proc/self/root", seen->root, sizeof seen->root - 1) < 0) {
        wrong("readlink: errno %d", errno);
    }
}

static void identity_set_up(void) {
    mkdir(in_folder("below"), 0755);
    if (chdir(in_folder("below")) != 0) {
        broken("chdir");
    }
    prctl(PR_SET_NAME, "a victim's comm");
    environment_before = getenv("PATH");
    look_at_identity(&identity_before);
}

static void identity_verify(void) {
    look_at_identity(&identity_now);
    const struct identity *old = &identity_before, *new = &identity_now;
    if (new->pid != old->pid || new->session != old->session || new->group != old->group) {
        wrong("process %d in session %d and group %d, was %d in %d and %d", new->pid, new->session, new->group,
              old->pid, old->session, old->group);
    }
    for (size_t index = 0; index < 4; index++) {
        if (new->sizes[index] != old->sizes[index] ||
            memcmp(new->files[index], old->files[index], old->sizes[index]) != 0) {
            wrong("/proc/self/%s differs: %zu bytes '%.80s', were %zu bytes '%.80s'", identity_files[index],
                  new->sizes[index], new->files[index], old->sizes[index], old->files[index]);
        }
    }
    if (strcmp(new->executable, old->executable) != 0 || strcmp(new->folder, old->folder) != 0 ||
        strcmp(new->root, old->root) != 0) {
        wrong("executable %s, folder %s, root %s; were %s, %s, %s", new->executable, new->folder, new->root,
              old->executable, old->folder, old->root);
    }
    if (getenv("PATH") == NULL || strcmp(getenv("PATH"), environment_before) != 0) {
        wrong("the environment is lost");
    }
}

static void identity_spoil(void) {
    if (chdir("/") != 0) {
        broken("chdir");
    }
}

// Settings.

struct settings {
    struct rlimit limits[16];
    mode_t mask;
    int personality, dumpable, death_signal, subreaper, slack, keep_capabilities, securebits, no_huge_pages, tsc;
    int no_new_privileges, nice_value;
    char files[2][64];
};
static const char *const setting_files[2] = {"oom_score_adj", "coredump_filter"};
static struct settings settings_before, settings_now;

static void look_at_settings(struct settings *seen) {
    memset(seen, 0, sizeof *seen);
    for (int index = 0; index < 16; index++) {
        getrlimit((__rlimit_resource_t)index, &seen->limits[index]);
    }
    seen->mask = umask(0);
    umask(seen->mask);
    seen->personality = personality(0xffffffff);
    seen->dumpable = prctl(PR_GET_DUMPABLE);
    prctl(PR_GET_PDEATHSIG, &seen->death_signal);
    prctl(PR_GET_CHILD_SUBREAPER, &seen->subreaper);
    seen->slack = prctl(PR_GET_TIMERSLACK);
    seen->keep_capabilities = prctl(PR_GET_KEEPCAPS);
    seen->securebits = prctl(PR_GET_SECUREBITS);
    seen->no_huge_pages = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
    seen->no_new_privileges = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    prctl(PR_GET_TSC, &seen->tsc);
    seen->nice_value = getpriority(PRIO_PROCESS, 0);
    for (size_t index = 0; index < 2; index++) {
        read_own(setting_files[index], seen->files[index], sizeof seen->files[0]);
    }
}

static void write_own(const char *name, const char *text) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/%s", name);
    int descriptor = open(path, O_WRONLY | O_CLOEXEC);
    if (descriptor < 0 || write(descriptor, text, strlen(text)) < 0) {
        broken("%s", path);
    }
    close(descriptor);
}

static void settings_set_up(void) {
    struct rlimit limit = {.rlim_cur = 300, .rlim_max = 4000};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 1000;
    setrlimit(RLIMIT_NOFILE, &limit);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, RLIM_INFINITY});
    setrlimit(RLIMIT_STACK, &(struct rlimit){6 << 20, 12 << 20});
    setrlimit(RLIMIT_CPU, &(struct rlimit){100000, 200000});
    setrlimit(RLIMIT_SIGPENDING, &(struct rlimit){2000, 2000});
    umask(027);
    personality(ADDR_NO_RANDOMIZE);
    prctl(PR_SET_PDEATHSIG, SIGUSR2);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_TIMERSLACK, 123456UL);
    write_own("oom_score_adj", "321");
    write_own("coredump_filter", "0x17");
    setpriority(PRIO_PROCESS, 0, 2);
    look_at_settings(&settings_before);
}

static void settings_verify(void) {
    look_at_settings(&settings_now);
    const struct settings *old = &settings_before, *new = &settings_now;
    for (int index = 0; index < 16; index++) {
        if (memcmp(&new->limits[index], &old->limits[index], sizeof(struct rlimit)) != 0) {
            wrong("limit %d is %ld/%ld, was %ld/%ld", index, (long)new->limits[index].rlim_cur,
                  (long)new->limits[index].rlim_max, (long)old->limits[index].rlim_cur,
                  (long)old->limits[index].rlim_max);
        }
    }
#define same(field)                                                                     \
    if (new->field != old->field) {                                                     \
        wrong(#field " is %#x, was %#x", (unsigned)new->field, (unsigned)old->field);   \
    }
    same(mask);
    same(personality);
    same(dumpable);
    same(death_signal);
    same(subreaper);
    same(slack);
    same(keep_capabilities);
    same(securebits);
    same(no_huge_pages);
    same(no_new_privileges);
    same(tsc);
    same(nice_value);
#undef same
    for (size_t index = 0; index < 2; index++) {
        if (strcmp(new->files[index], old->files[index]) != 0) {
            wrong("%s is '%s', was '%s'", setting_files[index], new->files[index], old->files[index]);
        }
    }
}

static void settings_spoil(void) { umask(022); }

// Settings that a process can make once and not take back, or that change what others may see of it.

static void strict_set_up(void) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    look_at_settings(&settings_before);
}

static void strict_spoil(void) { prctl(PR_SET_DUMPABLE, 1); }

// Another user with some capabilities.

struct credentials {
    uid_t users[3];
    gid_t groups[3];
    gid_t others[16];
    int other_count;
    struct __user_cap_data_struct capabilities[2];
    uint64_t bounding, ambient;
    int securebits, keep, dumpable;
};
static struct credentials credentials_before, credentials_now;

static void look_at_credentials(struct credentials *seen) {
    memset(seen, 0, sizeof *seen);
    getresuid(&seen->users[0], &seen->users[1], &seen->users[2]);
    getresgid(&seen->groups[0], &seen->groups[1], &seen->groups[2]);
    seen->other_count = getgroups(16, seen->others);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    syscall(SYS_capget, &header, seen->capabilities);
    for (unsigned number = 0; number < 64; number++) {
        seen->bounding |= (uint64_t)(prctl(PR_CAPBSET_READ, number) == 1) << number;
        seen->ambient |= (uint64_t)(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, number, 0, 0) == 1) << number;
    }
    seen->securebits = prctl(PR_GET_SECUREBITS);
    seen->keep = prctl(PR_GET_KEEPCAPS);
    seen->dumpable = prctl(PR_GET_DUMPABLE);
}

static void set_capabilities(uint32_t effective, uint32_t permitted, uint32_t inheritable) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{effective, permitted, inheritable}, {0, 0, 0}};
    if (syscall(SYS_capset, &header, data) != 0) {
        broken("capset");
    }
}

static void credentials_set_up(void) {
    gid_t groups[3] = {7, 8, 1003};
    prctl(PR_CAPBSET_DROP, CAP_MKNOD, 0, 0, 0);
    prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0);
    prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_NOROOT);
    if (setgroups(3, groups) != 0 || setresgid(1000, 1001, 1002) != 0 || setresuid(1000, 1001, 1002) != 0) {
        broken("setresuid");
    }
    uint32_t effective = 1u << CAP_SYS_NICE | 1u << CAP_DAC_OVERRIDE;
    set_capabilities(effective, effective | 1u << CAP_NET_RAW | 1u << CAP_CHOWN, 1u << CAP_NET_RAW);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0);
    look_at_credentials(&credentials_before);
}

static void credentials_verify(void) {
    look_at_credentials(&credentials_now);
    const struct credentials *old = &credentials_before, *new = &credentials_now;
    if (memcmp(new->users, old->users, sizeof old->users) != 0 ||
        memcmp(new->groups, old->groups, sizeof old->groups) != 0) {
        wrong("users %u %u %u groups %u %u %u", new->users[0], new->users[1], new->users[2], new->groups[0],
              new->groups[1], new->groups[2]);
    }
    if (new->other_count != old->other_count || memcmp(new->others, old->others, sizeof old->others) != 0) {
        wrong("the supplementary groups differ");
    }
    if (memcmp(new->capabilities, old->capabilities, sizeof old->capabilities) != 0) {
        wrong("capabilities are %#x %#x %#x, were %#x %#x %#x", new->capabilities[0].effective,
              new->capabilities[0].permitted, new->capabilities[0].inheritable, old->capabilities[0].effective,
              old->capabilities[0].permitted, old->capabilities[0].inheritable);
    }
    if (new->bounding != old->bounding || new->ambient != old->ambient) {
        wrong("bounding and ambient capabilities are %#lx and %#lx, were %#lx and %#lx", (unsigned long)new->bounding,
              (unsigned long)new->ambient, (unsigned long)old->bounding, (unsigned long)old->ambient);
    }
    if (new->securebits != old->securebits || new->keep != old->keep || new->dumpable != old->dumpable) {
        wrong("securebits %#x keep %d dumpable %d, were %#x %d %d", new->securebits, new->keep, new->dumpable,
              old->securebits, old->keep, old->dumpable);
    }
}

static void credentials_spoil(void) { set_capabilities(0, 0, 0); }

const struct part process_parts[] = {
    {"credentials", credentials_set_up, NULL, credentials_verify, NULL, credentials_spoil, false},
    {"strict", strict_set_up, NULL, settings_verify, NULL, strict_spoil, false},
    {"settings", settings_set_up, NULL, settings_verify, NULL, settings_spoil, false},
    {"identity", identity_set_up, NULL, identity_verify, NULL, identity_spoil, false},
    {NULL, NULL, NULL, NULL, NULL, NULL, false},
};
