// SPDX-License-Identifier: Apache-2.0
//
// accept4 (hidden without _GNU_SOURCE) and descriptors in messages: the CMSG macros cannot be imported into Swift.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// accept4(2), close-on-exec and non-blocking, without the peer's address. Returns a descriptor, or -errno.
int clinux_accept(int socket);

/// sendto(2) of one datagram to a UNIX socket; a path that begins with @ is an abstract name, unix(7). Returns 0, or -errno.
int clinux_send_datagram(const char *_Nonnull path, const void *_Nonnull bytes, size_t size);

/// The most descriptors that one message can carry (SCM_MAX_FD).
#define CLINUX_DESCRIPTORS_MAX 253

/// sendmsg(2) with SCM_RIGHTS and MSG_NOSIGNAL; the receiver gets duplicates. `size` must be at least 1, `descriptor_count` at most
/// CLINUX_DESCRIPTORS_MAX. Returns the bytes sent, or -errno.
long clinux_send_descriptors(int socket, const void *_Nonnull bytes, size_t size,
                             const int32_t *_Nullable descriptors, size_t descriptor_count);

/// recvmsg(2) with MSG_CMSG_CLOEXEC. `*descriptor_count` is the capacity (at most CLINUX_DESCRIPTORS_MAX) on entry and the number
/// received on return. Returns the bytes received (0: end of file), or -errno; -EMSGSIZE when the kernel dropped descriptors for want
/// of room, those that did arrive are closed.
long clinux_receive_descriptors(int socket, void *_Nonnull bytes, size_t size,
                                int32_t *_Nullable descriptors, size_t *_Nonnull descriptor_count);
