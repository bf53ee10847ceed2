// SPDX-License-Identifier: Apache-2.0
//
// Questions about open files that take a structure, or that glibc hides behind variadic functions.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// O_PATH and O_DIRECT, which Swift's module hides behind _GNU_SOURCE.
extern const uint32_t clinux_O_PATH;
extern const uint32_t clinux_O_DIRECT;

/// fcntl(2), F_GETOWN_EX and F_GETSIG: who gets SIGIO (`*type` F_OWNER_*, `*owner` 0 for nobody) and which signal instead
/// (0 for SIGIO). Returns 0, or -errno.
int clinux_file_owner(int descriptor, int32_t *_Nonnull type, int32_t *_Nonnull owner, int32_t *_Nonnull signal);

/// timerfd_gettime(2) for its effect: the kernel counts what a timer that nobody has read missed. Returns 0, or -errno.
int clinux_timerfd_catch_up(int descriptor);

/// fstatfs(2): the magic number of the file system. Returns 0, or -errno.
int clinux_file_system_type(int descriptor, uint64_t *_Nonnull magic);

/// fcntl(2), F_GETLEASE: F_RDLCK, F_WRLCK or F_UNLCK, or -errno.
int clinux_file_lease(int descriptor);

/// fcntl(2), F_GET_SEALS. Returns the seals, or -errno.
int clinux_file_seals(int descriptor);

/// fcntl(2), F_GETPIPE_SZ. Returns bytes, or -errno.
int clinux_pipe_size(int descriptor);

/// fcntl(2), F_SETPIPE_SZ. Returns the bytes that the kernel made of it, or -errno.
int clinux_pipe_resize(int descriptor, int bytes);

/// tee(2) with SPLICE_F_NONBLOCK: the contents of pipe `from` are in pipe `to` as well. Returns bytes, 0 when there are none
/// and no writer, or -errno (EAGAIN: none).
int64_t clinux_tee(int from, int to, size_t limit);

/// lseek(2), SEEK_DATA and SEEK_HOLE. Returns an offset, or -errno (ENXIO: no data behind `offset`).
int64_t clinux_seek_data(int descriptor, int64_t offset);
int64_t clinux_seek_hole(int descriptor, int64_t offset);

/// memfd_create(2) with MFD_CLOEXEC. Returns the descriptor, or -errno.
int clinux_memfd_create(const char *_Nonnull name);
