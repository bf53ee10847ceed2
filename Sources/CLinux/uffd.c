// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// Linux 6.6; the headers of Debian 12 are those of 6.1.
struct clinux_uffdio_poison {
    struct uffdio_range range;
    uint64_t mode;
    int64_t updated;
};
#define CLINUX_UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct clinux_uffdio_poison)
#define CLINUX_USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)

_Static_assert(sizeof(struct uffd_msg) == 32, "uffd_msg");
_Static_assert(sizeof(struct uffdio_copy) == 40, "uffdio_copy");
_Static_assert(sizeof(struct clinux_uffdio_poison) == 32, "uffdio_poison");
_Static_assert(CLINUX_UFFDIO_POISON == 0xc020aa08, "UFFDIO_POISON");
_Static_assert(UFFDIO_API == 0xc018aa3f, "clinux_UFFDIO_API");
_Static_assert(UFFDIO_REGISTER == 0xc020aa00, "clinux_UFFDIO_REGISTER");

int clinux_userfaultfd(int flags) {
    long result = syscall(SYS_userfaultfd, flags);
    return result < 0 ? -errno : (int)result;
}

int clinux_userfaultfd_new(int device, int flags) {
    int result = ioctl(device, CLINUX_USERFAULTFD_IOC_NEW, flags);
    return result < 0 ? -errno : result;
}

int clinux_uffd_api(int uffd, uint64_t *features, uint64_t *ioctls) {
    struct uffdio_api argument = {.api = UFFD_API, .features = *features};
    if (ioctl(uffd, UFFDIO_API, &argument) < 0) return -errno;
    *features = argument.features;
    *ioctls = argument.ioctls;
    return 0;
}

int clinux_uffd_register(int uffd, uint64_t start, uint64_t length, uint64_t mode, uint64_t *ioctls) {
    struct uffdio_register argument = {.range = {start, length}, .mode = mode};
    if (ioctl(uffd, UFFDIO_REGISTER, &argument) < 0) return -errno;
    *ioctls = argument.ioctls;
    return 0;
}

int clinux_uffd_unregister(int uffd, uint64_t start, uint64_t length) {
    struct uffdio_range argument = {start, length};
    return ioctl(uffd, UFFDIO_UNREGISTER, &argument) < 0 ? -errno : 0;
}

int clinux_uffd_copy(
    int uffd, uint64_t destination, const void *source, uint64_t length, uint64_t mode, int64_t *copied) {
    struct uffdio_copy argument = {.dst = destination, .src = (uintptr_t)source, .len = length, .mode = mode};
    int result = ioctl(uffd, UFFDIO_COPY, &argument) < 0 ? -errno : 0;
    *copied = argument.copy > 0 ? argument.copy : 0;
    return result;
}

int clinux_uffd_zeropage(int uffd, uint64_t start, uint64_t length, uint64_t mode, int64_t *zeroed) {
    struct uffdio_zeropage argument = {.range = {start, length}, .mode = mode};
    int result = ioctl(uffd, UFFDIO_ZEROPAGE, &argument) < 0 ? -errno : 0;
    *zeroed = argument.zeropage > 0 ? argument.zeropage : 0;
    return result;
}

int clinux_uffd_wake(int uffd, uint64_t start, uint64_t length) {
    struct uffdio_range argument = {start, length};
    return ioctl(uffd, UFFDIO_WAKE, &argument) < 0 ? -errno : 0;
}

int clinux_uffd_writeprotect(int uffd, uint64_t start, uint64_t length, uint64_t mode) {
    struct uffdio_writeprotect argument = {.range = {start, length}, .mode = mode};
    return ioctl(uffd, UFFDIO_WRITEPROTECT, &argument) < 0 ? -errno : 0;
}

int clinux_uffd_poison(int uffd, uint64_t start, uint64_t length, uint64_t mode, int64_t *poisoned) {
    struct clinux_uffdio_poison argument = {.range = {start, length}, .mode = mode};
    int result = ioctl(uffd, CLINUX_UFFDIO_POISON, &argument) < 0 ? -errno : 0;
    *poisoned = argument.updated > 0 ? argument.updated : 0;
    return result;
}

int64_t clinux_uffd_read(int uffd, void *messages, size_t count) {
    ssize_t result = read(uffd, messages, count * sizeof(struct uffd_msg));
    return result < 0 ? -errno : (int64_t)((size_t)result / sizeof(struct uffd_msg));
}

struct clinux_uffd_message clinux_uffd_decode(const void *messages, size_t index) {
    const struct uffd_msg *message = (const struct uffd_msg *)messages + index;
    struct clinux_uffd_message result = {.event = message->event};
    switch (message->event) {
    case UFFD_EVENT_PAGEFAULT:
        result.number = message->arg.pagefault.feat.ptid;
        result.first = message->arg.pagefault.flags;
        result.second = message->arg.pagefault.address;
        break;
    case UFFD_EVENT_FORK:
        result.number = message->arg.fork.ufd;
        break;
    case UFFD_EVENT_REMAP:
        result.first = message->arg.remap.from;
        result.second = message->arg.remap.to;
        result.third = message->arg.remap.len;
        break;
    case UFFD_EVENT_REMOVE:
    case UFFD_EVENT_UNMAP:
        result.second = message->arg.remove.start;
        result.third = message->arg.remove.end;
        break;
    default:
        break;
    }
    return result;
}
