// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "clinux_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/timerfd.h>
#include <unistd.h>

const uint32_t clinux_O_PATH = O_PATH;
const uint32_t clinux_O_DIRECT = O_DIRECT;

int clinux_file_owner(int descriptor, int32_t *type, int32_t *owner, int32_t *signal) {
    struct f_owner_ex who = {0};
    if (fcntl(descriptor, F_GETOWN_EX, &who) < 0) {
        return -errno;
    }
    int number = fcntl(descriptor, F_GETSIG);
    if (number < 0) {
        return -errno;
    }
    *type = (int32_t)who.type;
    *owner = who.pid;
    *signal = number;
    return 0;
}

int clinux_timerfd_catch_up(int descriptor) {
    struct itimerspec left;
    return timerfd_gettime(descriptor, &left) < 0 ? -errno : 0;
}

int clinux_file_system_type(int descriptor, uint64_t *magic) {
    struct statfs status;
    if (fstatfs(descriptor, &status) < 0) {
        return -errno;
    }
    *magic = (uint64_t)status.f_type & 0xffffffffu;
    return 0;
}

int clinux_file_lease(int descriptor) {
    int result = fcntl(descriptor, F_GETLEASE);
    return result < 0 ? -errno : result;
}

int clinux_file_seals(int descriptor) {
    int result = fcntl(descriptor, F_GET_SEALS);
    return result < 0 ? -errno : result;
}

int clinux_pipe_size(int descriptor) {
    int result = fcntl(descriptor, F_GETPIPE_SZ);
    return result < 0 ? -errno : result;
}

int clinux_pipe_resize(int descriptor, int bytes) {
    int result = fcntl(descriptor, F_SETPIPE_SZ, bytes);
    return result < 0 ? -errno : result;
}

int64_t clinux_tee(int from, int to, size_t limit) {
    ssize_t result = tee(from, to, limit, SPLICE_F_NONBLOCK);
    return result < 0 ? -errno : result;
}

int64_t clinux_seek_data(int descriptor, int64_t offset) {
    off_t result = lseek(descriptor, offset, SEEK_DATA);
    return result < 0 ? -errno : result;
}

int64_t clinux_seek_hole(int descriptor, int64_t offset) {
    off_t result = lseek(descriptor, offset, SEEK_HOLE);
    return result < 0 ? -errno : result;
}

int clinux_memfd_create(const char *name) {
    int result = memfd_create(name, MFD_CLOEXEC);
    return result < 0 ? -errno : result;
}
