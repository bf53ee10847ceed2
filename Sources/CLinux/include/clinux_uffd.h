// SPDX-License-Identifier: Apache-2.0
//
// userfaultfd(2), ioctl_userfaultfd(2). The numbers that older headers lack are defined here; whether the running kernel knows
// them is told by UFFDIO_API, never by a header.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// Flag of userfaultfd(2): only faults of user mode are delivered; needs no privilege.
static const int32_t clinux_UFFD_USER_MODE_ONLY = 1;

/// Requests of ioctl(2), for calls that another process is made to do.
static const uint64_t clinux_UFFDIO_API = 0xc018aa3f;
static const uint64_t clinux_UFFDIO_REGISTER = 0xc020aa00;

/// Modes of `clinux_uffd_register`.
static const uint64_t clinux_UFFDIO_REGISTER_MODE_MISSING = 1;
static const uint64_t clinux_UFFDIO_REGISTER_MODE_WP = 2;
static const uint64_t clinux_UFFDIO_REGISTER_MODE_MINOR = 4;

/// Features of `clinux_uffd_api`.
static const uint64_t clinux_UFFD_FEATURE_PAGEFAULT_FLAG_WP = 1 << 0;
static const uint64_t clinux_UFFD_FEATURE_EVENT_FORK = 1 << 1;
static const uint64_t clinux_UFFD_FEATURE_EVENT_REMAP = 1 << 2;
static const uint64_t clinux_UFFD_FEATURE_EVENT_REMOVE = 1 << 3;
static const uint64_t clinux_UFFD_FEATURE_MISSING_HUGETLBFS = 1 << 4;
static const uint64_t clinux_UFFD_FEATURE_MISSING_SHMEM = 1 << 5;
static const uint64_t clinux_UFFD_FEATURE_EVENT_UNMAP = 1 << 6;
static const uint64_t clinux_UFFD_FEATURE_SIGBUS = 1 << 7;
static const uint64_t clinux_UFFD_FEATURE_THREAD_ID = 1 << 8;
static const uint64_t clinux_UFFD_FEATURE_EXACT_ADDRESS = 1 << 11;
static const uint64_t clinux_UFFD_FEATURE_WP_HUGETLBFS_SHMEM = 1 << 12;
static const uint64_t clinux_UFFD_FEATURE_WP_UNPOPULATED = 1 << 13;
static const uint64_t clinux_UFFD_FEATURE_POISON = 1 << 14;
static const uint64_t clinux_UFFD_FEATURE_WP_ASYNC = 1 << 15;
static const uint64_t clinux_UFFD_FEATURE_MOVE = 1 << 16;

/// Modes of `clinux_uffd_copy` and `clinux_uffd_zeropage` (only the first).
static const uint64_t clinux_UFFDIO_COPY_MODE_DONTWAKE = 1;
static const uint64_t clinux_UFFDIO_COPY_MODE_WP = 2;

/// Values of `clinux_uffd_message.event`.
static const uint8_t clinux_UFFD_EVENT_PAGEFAULT = 0x12;
static const uint8_t clinux_UFFD_EVENT_FORK = 0x13;
static const uint8_t clinux_UFFD_EVENT_REMAP = 0x14;
static const uint8_t clinux_UFFD_EVENT_REMOVE = 0x15;
static const uint8_t clinux_UFFD_EVENT_UNMAP = 0x16;

/// Flags of a page fault message.
static const uint64_t clinux_UFFD_PAGEFAULT_FLAG_WRITE = 1;
static const uint64_t clinux_UFFD_PAGEFAULT_FLAG_WP = 2;
static const uint64_t clinux_UFFD_PAGEFAULT_FLAG_MINOR = 4;

/// Bytes in one message of the kernel.
static const size_t clinux_uffd_message_size = 32;

/// One message, its union flattened.
struct clinux_uffd_message {
    /// `clinux_UFFD_EVENT_*`.
    uint8_t event;
    /// PAGEFAULT: thread id (THREAD_ID was asked for). FORK: descriptor of the child's userfaultfd.
    uint32_t number;
    /// PAGEFAULT: flags. REMAP: the old address. Otherwise 0.
    uint64_t first;
    /// PAGEFAULT: address. REMAP: the new address. REMOVE, UNMAP: the start.
    uint64_t second;
    /// REMAP: length. REMOVE, UNMAP: the end.
    uint64_t third;
};

/// userfaultfd(2). Returns a descriptor or -errno.
int clinux_userfaultfd(int flags);

/// USERFAULTFD_IOC_NEW on an open `/dev/userfaultfd`: a userfaultfd of the calling process. Returns a descriptor or -errno.
int clinux_userfaultfd_new(int device, int flags);

/// UFFDIO_API. `*features` holds the wanted features and afterwards all that the kernel offers; `*ioctls` is written.
/// Returns 0 or -errno.
int clinux_uffd_api(int uffd, uint64_t *_Nonnull features, uint64_t *_Nonnull ioctls);

/// UFFDIO_REGISTER; replaces the modes of the range. `*ioctls` is written on success. Returns 0 or -errno.
int clinux_uffd_register(int uffd, uint64_t start, uint64_t length, uint64_t mode, uint64_t *_Nonnull ioctls);

/// UFFDIO_UNREGISTER. Returns 0 or -errno.
int clinux_uffd_unregister(int uffd, uint64_t start, uint64_t length);

/// UFFDIO_COPY. `*copied` is always written: bytes installed (0 when the kernel gave an error there). Returns 0 or -errno.
int clinux_uffd_copy(
    int uffd, uint64_t destination, const void *_Nonnull source, uint64_t length, uint64_t mode, int64_t *_Nonnull copied);

/// UFFDIO_ZEROPAGE. `*zeroed` as in `clinux_uffd_copy`. Returns 0 or -errno.
int clinux_uffd_zeropage(int uffd, uint64_t start, uint64_t length, uint64_t mode, int64_t *_Nonnull zeroed);

/// UFFDIO_WAKE. Returns 0 or -errno.
int clinux_uffd_wake(int uffd, uint64_t start, uint64_t length);

/// UFFDIO_WRITEPROTECT; `mode` 1 arms, 0 lifts and wakes, 2 lifts without waking. Returns 0 or -errno.
int clinux_uffd_writeprotect(int uffd, uint64_t start, uint64_t length, uint64_t mode);

/// UFFDIO_POISON (Linux 6.6). `*poisoned` as in `clinux_uffd_copy`. Returns 0 or -errno.
int clinux_uffd_poison(int uffd, uint64_t start, uint64_t length, uint64_t mode, int64_t *_Nonnull poisoned);

/// read(2) of up to `count` messages of 32 bytes into `messages`. Returns how many were read, or -errno.
int64_t clinux_uffd_read(int uffd, void *_Nonnull messages, size_t count);

/// Takes message `index` of those that `clinux_uffd_read` stored at `messages` apart.
struct clinux_uffd_message clinux_uffd_decode(const void *_Nonnull messages, size_t index);
