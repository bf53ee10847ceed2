// SPDX-License-Identifier: Apache-2.0
//
// A wire between two programs of one machine, for kernels that cannot delay packets (netem).
//
//   Link PORT DELAY MBIT    listens on a port of loopback, prints it, and carries what comes to PORT and back until it is killed
//
// DELAY is added to a round trip, in microseconds, half of it each way. MBIT is what each direction carries in a second, of all
// connections together; 0 for as much as the machine can. Bytes wait before the wire as in a switch, at most QUEUE of time, connections
// in turn; then the programs have to.
//
// It sleeps and is woken, so that it adds about two wake-ups each way to what it was asked for: a floor has to go through it too.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_CONNECTIONS = 32, CHUNK = 16 << 10, ROOM = 64 << 20, MOST_CHUNKS = 1 << 16, QUEUE = 500000 };

struct chunk {
    uint64_t due;
    size_t length;
};

// One direction of a connection: chunks on their way, oldest first.
struct lane {
    int from, to;
    bool ended, shut, blocked;
    char *bytes;
    size_t start, end; // of what is on the way, counted without end, modulo ROOM
    struct chunk *chunks;
    size_t first, last; // counted without end, modulo MOST_CHUNKS
};

struct wire {
    uint64_t busy_until;
    int turn;
};

static struct lane lanes[MOST_CONNECTIONS * 2]; // even ones to the server
static int lane_count, listener, target;
static struct wire wires[2];
static uint64_t delay; // nanoseconds each way
static double nanoseconds_per_byte;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void require(bool holds, const char *call) {
    if (holds) return;
    perror(call);
    exit(2);
}

static void *map(size_t size) {
    void *mapping = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    require(mapping != MAP_FAILED, "mmap");
    return mapping;
}

static struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void admit(void) {
    int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), one = 1;
    if (client < 0) return;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = loopback(target);
    if (lane_count == MOST_CONNECTIONS * 2 || connect(server, (struct sockaddr *)&address, sizeof address) < 0) {
        close(client);
        close(server);
        return;
    }
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (int side = 0; side < 2; side++) {
        lanes[lane_count++] = (struct lane){
            .from = side == 0 ? client : server,
            .to = side == 0 ? server : client,
            .bytes = map(ROOM),
            .chunks = map(MOST_CHUNKS * sizeof(struct chunk)),
        };
    }
}

static bool has_room(const struct lane *lane) {
    return !lane->ended && lane->end - lane->start <= ROOM - CHUNK && lane->last - lane->first < MOST_CHUNKS;
}

// Puts the next bytes of a lane on its wire; false when there are none.
static bool take(struct lane *lane, struct wire *wire) {
    if (!has_room(lane)) return false;
    size_t place = lane->end % ROOM, length = ROOM - place < CHUNK ? ROOM - place : CHUNK;
    ssize_t count = recv(lane->from, lane->bytes + place, length, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (count <= 0) {
        lane->ended = true;
        return false;
    }
    uint64_t moment = now();
    if (wire->busy_until < moment) wire->busy_until = moment;
    wire->busy_until += (uint64_t)((double)count * nanoseconds_per_byte);
    lane->chunks[lane->last++ % MOST_CHUNKS] = (struct chunk){wire->busy_until + delay, (size_t)count};
    lane->end += (size_t)count;
    return true;
}

static bool is_open(const struct wire *wire, uint64_t moment) {
    return wire->busy_until <= moment + QUEUE;
}

// Fills a wire as far as its queue goes, lane after lane.
static void fill(int side) {
    struct wire *wire = &wires[side];
    for (int idle = 0; idle < lane_count / 2 && is_open(wire, now());) {
        idle = take(&lanes[wire->turn % (lane_count / 2) * 2 + side], wire) ? 0 : idle + 1;
        wire->turn++;
    }
}

// Hands on what has arrived.
static void deliver(struct lane *lane) {
    lane->blocked = false;
    while (lane->first < lane->last) {
        struct chunk *chunk = &lane->chunks[lane->first % MOST_CHUNKS];
        if (chunk->due > now()) return;
        ssize_t count = send(lane->to, lane->bytes + lane->start % ROOM, chunk->length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno == EAGAIN) {
            lane->blocked = true;
            return;
        }
        // Who has gone away gets nothing more.
        size_t sent = count < 0 ? chunk->length : (size_t)count;
        lane->start += sent;
        chunk->length -= sent;
        if (chunk->length == 0) lane->first++;
    }
    if (lane->ended && !lane->shut) {
        shutdown(lane->to, SHUT_WR);
        lane->shut = true;
    }
}

static void wait_for_something(void) {
    static struct pollfd polled[1 + MOST_CONNECTIONS * 4];
    nfds_t count = 0;
    uint64_t moment = now(), next = UINT64_MAX;
    polled[count++] = (struct pollfd){listener, POLLIN, 0};
    for (int side = 0; side < 2; side++) {
        if (!is_open(&wires[side], moment) && wires[side].busy_until - QUEUE < next) next = wires[side].busy_until - QUEUE;
    }
    for (int i = 0; i < lane_count; i++) {
        struct lane *lane = &lanes[i];
        if (has_room(lane) && is_open(&wires[i % 2], moment)) polled[count++] = (struct pollfd){lane->from, POLLIN, 0};
        if (lane->blocked) polled[count++] = (struct pollfd){lane->to, POLLOUT, 0};
        if (!lane->blocked && lane->first < lane->last) {
            uint64_t due = lane->chunks[lane->first % MOST_CHUNKS].due;
            if (due < next) next = due;
        }
    }
    uint64_t rest = next > moment ? next - moment : 0;
    struct timespec time = {(time_t)(rest / 1000000000u), (long)(rest % 1000000000u)};
    ppoll(polled, count, next == UINT64_MAX ? NULL : &time, NULL);
    if (polled[0].revents) admit();
}

int main(int argc, char **argv) {
    double megabits = argc == 4 ? strtod(argv[3], NULL) : -1;
    target = argc == 4 ? atoi(argv[1]) : 0;
    if (megabits < 0 || target <= 0) {
        fprintf(stderr, "usage: %s PORT DELAY MBIT\n", argv[0]);
        return 64;
    }
    delay = strtoull(argv[2], NULL, 10) * 500;
    nanoseconds_per_byte = megabits > 0 ? 8000 / megabits : 0;
    prctl(PR_SET_TIMERSLACK, 1);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    require(bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 16) == 0
        && getsockname(listener, (struct sockaddr *)&address, &size) == 0, "listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        for (int i = 0; i < lane_count; i++) deliver(&lanes[i]);
        fill(0);
        fill(1);
        wait_for_something();
    }
}
