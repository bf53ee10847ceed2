// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(CLINUX_DESCRIPTORS_MAX * sizeof(int))];
};

_Static_assert(sizeof(int) == sizeof(int32_t), "descriptors are 32 bits");

int clinux_accept(int socket) {
    int descriptor = accept4(socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return descriptor < 0 ? -errno : descriptor;
}

long clinux_send_descriptors(int socket, const void *bytes, size_t size, const int32_t *descriptors, size_t descriptor_count) {
    if (size == 0 || descriptor_count > CLINUX_DESCRIPTORS_MAX) return -EINVAL;
    struct iovec vector = {.iov_base = (void *)bytes, .iov_len = size};
    union control control;
    memset(&control, 0, sizeof control);
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (descriptor_count > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(descriptor_count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(descriptor_count * sizeof(int));
        memcpy(CMSG_DATA(header), descriptors, descriptor_count * sizeof(int));
    }
    ssize_t count = sendmsg(socket, &message, MSG_NOSIGNAL);
    return count < 0 ? -errno : count;
}

long clinux_receive_descriptors(int socket, void *bytes, size_t size, int32_t *descriptors, size_t *descriptor_count) {
    size_t capacity = *descriptor_count;
    *descriptor_count = 0;
    if (size == 0 || capacity > CLINUX_DESCRIPTORS_MAX) return -EINVAL;
    struct iovec vector = {.iov_base = bytes, .iov_len = size};
    union control control;
    memset(&control, 0, sizeof control);
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    ssize_t count = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (count < 0) return -errno;
    size_t received = 0;
    int dropped = (message.msg_flags & MSG_CTRUNC) != 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t index = 0; index < here; index++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(header) + index * sizeof(int), sizeof descriptor);
            if (received < capacity) {
                descriptors[received++] = descriptor;
            } else {
                close(descriptor);
                dropped = 1;
            }
        }
    }
    if (dropped) {
        for (size_t index = 0; index < received; index++) close(descriptors[index]);
        return -EMSGSIZE;
    }
    *descriptor_count = received;
    return count;
}

int clinux_send_datagram(const char *path, const void *bytes, size_t size) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof address.sun_path) return -EINVAL;
    memcpy(address.sun_path, path, length);
    socklen_t address_size = offsetof(struct sockaddr_un, sun_path) + length;
    if (path[0] == '@') {
        address.sun_path[0] = 0;
    } else {
        address_size++;
    }
    int socket_number = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket_number < 0) return -errno;
    ssize_t sent = sendto(socket_number, bytes, size, MSG_NOSIGNAL, (const struct sockaddr *)&address, address_size);
    int result = sent < 0 ? -errno : 0;
    close(socket_number);
    return result;
}
