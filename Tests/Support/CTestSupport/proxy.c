// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "ctestsupport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MOST_CONNECTIONS = 256,
    MOST_RULES = 64,
    ROOM = 64 << 10,
    RECORD_HEADER = 5,
    FULL_RECORD = (16 << 10) + 1 + 16, // with what TLS 1.3 adds
    MOST_MESSAGES = 4096,
    LONGEST_WAIT = 1 << 30,
};

// One direction of a connection: bytes that were read from `from` and not yet written to `to`.
struct lane {
    int from, to;
    unsigned long long carried; // bytes that have been let through
    unsigned long long records; // records of TLS that have begun to be
    size_t record_left;         // bytes until the next one begins
    bool message_goes_on;       // the record before was a full one
    int message_count;
    unsigned long long messages[MOST_MESSAGES]; // the numbers of records that begin one
    size_t header_count;        // bytes of `header` that have been let through
    unsigned char header[RECORD_HEADER];
    size_t start, end;
    size_t again_from, again_to; // what is to be sent twice, until it has been sent once
    size_t repeating;            // bytes that are sent for the second time and not counted
    unsigned long long until;    // nothing is carried before
    bool ended, stalled;
    unsigned char bytes[ROOM];
};

struct connection {
    bool open;
    struct lane lanes[2]; // to the server, to the client
};

struct ctest_proxy {
    pthread_mutex_t lock;
    pthread_t thread;
    int listener, event, target;
    bool stopping, refusing, stalling;
    int cuts, fired;
    unsigned long long carried;
    int accepted;
    struct connection *connections[MOST_CONNECTIONS];
    struct ctest_proxy_rule rules[MOST_RULES];
    int rule_count;
};

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

// Ends both sides at once, with a reset.
static void cut(struct ctest_proxy *proxy, struct connection *connection) {
    if (!connection->open)
        return;
    struct linger now = {1, 0};
    for (int side = 0; side < 2; side++) {
        setsockopt(connection->lanes[side].from, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close(connection->lanes[side].from);
    }
    connection->open = false;
    proxy->cuts++;
}

static void cut_all(struct ctest_proxy *proxy) {
    for (int number = 0; number < proxy->accepted; number++)
        cut(proxy, proxy->connections[number]);
}

static void admit(struct ctest_proxy *proxy) {
    int client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0)
        return;
    struct sockaddr_in address = loopback(proxy->target);
    int server = proxy->refusing || proxy->accepted == MOST_CONNECTIONS ? -1 : socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server < 0 || connect(server, (struct sockaddr *)&address, sizeof address) != 0) {
        if (server >= 0) {
            // Nobody listens there: so nobody does here.
            close(server);
            close(proxy->listener);
            proxy->listener = -1;
        }
        close(client);
        return;
    }
    int one = 1;
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct connection *connection = calloc(1, sizeof *connection);
    connection->open = true;
    connection->lanes[0].from = connection->lanes[1].to = client;
    connection->lanes[1].from = connection->lanes[0].to = server;
    proxy->connections[proxy->accepted++] = connection;
}

static unsigned long long now_in_milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (unsigned long long)now.tv_sec * 1000 + (unsigned long long)now.tv_nsec / 1000000;
}

// Follows the headers of records in bytes that are let through.
static void follow(struct lane *lane, const unsigned char *bytes, size_t count) {
    while (count > 0) {
        if (lane->record_left > 0) {
            size_t step = lane->record_left < count ? lane->record_left : count;
            lane->record_left -= step;
            bytes += step;
            count -= step;
            continue;
        }
        if (lane->header_count == 0) {
            if (!lane->message_goes_on && lane->message_count < MOST_MESSAGES)
                lane->messages[lane->message_count++] = lane->records;
            lane->records++;
        }
        lane->header[lane->header_count++] = *bytes++;
        count--;
        if (lane->header_count == RECORD_HEADER) {
            lane->header_count = 0;
            lane->record_left = (size_t)lane->header[3] << 8 | lane->header[4];
            lane->message_goes_on = lane->record_left >= FULL_RECORD;
        }
    }
}

// Whether the next byte begins a record.
static bool between_records(const struct lane *lane) { return lane->record_left == 0 && lane->header_count == 0; }

// Bytes of the record that begins with the next byte, as far as they are here.
static size_t record_here(const struct lane *lane) {
    size_t here = lane->end - lane->start;
    if (here < RECORD_HEADER)
        return here;
    const unsigned char *header = lane->bytes + lane->start;
    size_t whole = RECORD_HEADER + ((size_t)header[3] << 8 | header[4]);
    return whole < here ? whole : here;
}

// Whether a rule is met by the next byte of a lane; if not, `room` becomes at most what may be carried before it is looked at again.
static bool is_met(struct ctest_proxy *proxy, const struct ctest_proxy_rule *rule, const struct lane *lane, size_t *room) {
    if (rule->counts_records) {
        if (between_records(lane)) {
            if (rule->offset <= lane->records)
                return true;
            if (*room > RECORD_HEADER)
                *room = RECORD_HEADER;
        } else {
            size_t left = lane->record_left > 0 ? lane->record_left : RECORD_HEADER - lane->header_count;
            if (*room > left)
                *room = left;
        }
        return false;
    }
    unsigned long long position = rule->connection < 0 ? proxy->carried : lane->carried;
    if (rule->offset <= position)
        return true;
    if (rule->offset - position < *room)
        *room = (size_t)(rule->offset - position);
    return false;
}

// The rule that is met by the next byte of a lane, if any; if none, `room` becomes what may be carried before one is.
static struct ctest_proxy_rule *met_rule(struct ctest_proxy *proxy, int number, int side, size_t *room) {
    for (int index = 0; index < proxy->rule_count; index++) {
        struct ctest_proxy_rule *rule = &proxy->rules[index];
        if (rule->fired || (rule->connection >= 0 && rule->connection != number) || (rule->direction >= 0 && rule->direction != side))
            continue;
        if (is_met(proxy, rule, &proxy->connections[number]->lanes[side], room))
            return rule;
    }
    return NULL;
}

// Does what a rule says; returns whether the lane goes on.
static bool fire(struct ctest_proxy *proxy, struct ctest_proxy_rule *rule, struct connection *connection, int side) {
    struct lane *lane = &connection->lanes[side];
    size_t extent = rule->counts_records ? record_here(lane) : lane->end - lane->start;
    rule->fired = true;
    proxy->fired++;
    switch (rule->action) {
    case CTEST_DUPLICATE:
        lane->again_from = lane->start;
        lane->again_to = lane->start + (rule->amount > 0 && rule->amount < extent ? rule->amount : extent);
        return true;
    case CTEST_CORRUPT:
        extent *= 8;
        lane->bytes[lane->start + rule->amount % extent / 8] ^= (unsigned char)(1 << rule->amount % 8);
        return true;
    case CTEST_DELAY: lane->until = now_in_milliseconds() + rule->amount; return false;
    case CTEST_CUT: cut(proxy, connection); return false;
    case CTEST_CUT_ALL: cut_all(proxy); return false;
    case CTEST_HALF_CLOSE: shutdown(lane->to, SHUT_WR); lane->ended = true; proxy->cuts++; return false;
    default: connection->lanes[0].stalled = connection->lanes[1].stalled = true; proxy->cuts++; return false;
    }
}

// Counts bytes that were sent, and goes back to where those begin that are sent twice.
static void pass(struct ctest_proxy *proxy, struct lane *lane, size_t count) {
    if (lane->repeating > 0) {
        lane->repeating -= count;
    } else {
        follow(lane, lane->bytes + lane->start, count);
        lane->carried += count;
        proxy->carried += count;
    }
    lane->start += count;
    if (lane->again_to > 0 && lane->start == lane->again_to) {
        lane->repeating = lane->again_to - lane->again_from;
        lane->start = lane->again_from;
        lane->again_to = 0;
    }
}

// Moves what can be moved in one direction.
static void carry(struct ctest_proxy *proxy, int number, int side) {
    struct connection *connection = proxy->connections[number];
    struct lane *lane = &connection->lanes[side];
    while (connection->open && !lane->stalled && !proxy->stalling && lane->until <= now_in_milliseconds()) {
        if (lane->start == lane->end) {
            ssize_t count = recv(lane->from, lane->bytes, ROOM, MSG_DONTWAIT);
            if (count < 0 && (errno == EAGAIN || errno == EINTR))
                return;
            if (count <= 0) {
                lane->ended = true;
                // An end is passed on as an end, a reset as a reset.
                if (count < 0)
                    cut(proxy, connection);
                else
                    shutdown(lane->to, SHUT_WR);
                if (connection->open && connection->lanes[0].ended && connection->lanes[1].ended) {
                    close(lane->from);
                    close(lane->to);
                    connection->open = false;
                }
                return;
            }
            lane->start = 0;
            lane->end = (size_t)count;
        }
        size_t room = lane->end - lane->start;
        if (lane->repeating > 0) {
            if (lane->repeating < room)
                room = lane->repeating;
        } else {
            struct ctest_proxy_rule *rule = met_rule(proxy, number, side, &room);
            if (rule) {
                if (!fire(proxy, rule, connection, side))
                    return;
                continue;
            }
            if (lane->again_to > 0 && lane->again_to - lane->start < room)
                room = lane->again_to - lane->start;
        }
        ssize_t count = send(lane->to, lane->bytes + lane->start, room, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (count < 0)
            return cut(proxy, connection);
        pass(proxy, lane, (size_t)count);
    }
}

static void *run(void *argument) {
    struct ctest_proxy *proxy = argument;
    static const short both[2] = {POLLIN, POLLOUT};
    struct pollfd *polled = calloc(2 + 4 * MOST_CONNECTIONS, sizeof *polled);
    pthread_mutex_lock(&proxy->lock);
    while (!proxy->stopping) {
        nfds_t count = 0;
        unsigned long long now = now_in_milliseconds(), patience = LONGEST_WAIT;
        polled[count++] = (struct pollfd){.fd = proxy->event, .events = POLLIN};
        polled[count++] = (struct pollfd){.fd = proxy->listener, .events = POLLIN};
        for (int number = 0; number < proxy->accepted; number++) {
            struct connection *connection = proxy->connections[number];
            for (int side = 0; connection->open && side < 2; side++) {
                struct lane *lane = &connection->lanes[side];
                if (lane->ended || lane->stalled || proxy->stalling)
                    continue;
                if (lane->until > now) {
                    if (lane->until - now < patience)
                        patience = lane->until - now;
                    continue;
                }
                bool writes = lane->start < lane->end;
                polled[count++] = (struct pollfd){.fd = writes ? lane->to : lane->from, .events = both[writes]};
            }
        }
        pthread_mutex_unlock(&proxy->lock);
        poll(polled, count, patience == LONGEST_WAIT ? -1 : (int)patience);
        pthread_mutex_lock(&proxy->lock);
        eventfd_t ignored;
        if (polled[0].revents)
            eventfd_read(proxy->event, &ignored);
        if (polled[1].revents)
            admit(proxy);
        for (int number = 0; number < proxy->accepted; number++) {
            for (int side = 0; side < 2; side++) {
                struct connection *connection = proxy->connections[number];
                if (connection->open && !connection->lanes[side].ended)
                    carry(proxy, number, side);
            }
        }
    }
    cut_all(proxy);
    pthread_mutex_unlock(&proxy->lock);
    free(polled);
    return NULL;
}

struct ctest_proxy *ctest_proxy_start(int target, int *port) {
    struct ctest_proxy *proxy = calloc(1, sizeof *proxy);
    struct sockaddr_in address = loopback(0);
    socklen_t length = sizeof address;
    proxy->target = target;
    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    proxy->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&proxy->lock, NULL);
    if (bind(proxy->listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(proxy->listener, 64) != 0
        || getsockname(proxy->listener, (struct sockaddr *)&address, &length) != 0
        || pthread_create(&proxy->thread, NULL, run, proxy) != 0) {
        close(proxy->listener);
        close(proxy->event);
        free(proxy);
        return NULL;
    }
    *port = ntohs(address.sin_port);
    return proxy;
}

void ctest_proxy_stop(struct ctest_proxy *proxy) {
    pthread_mutex_lock(&proxy->lock);
    proxy->stopping = true;
    eventfd_write(proxy->event, 1);
    pthread_mutex_unlock(&proxy->lock);
    pthread_join(proxy->thread, NULL);
    for (int number = 0; number < proxy->accepted; number++)
        free(proxy->connections[number]);
    if (proxy->listener >= 0)
        close(proxy->listener);
    close(proxy->event);
    pthread_mutex_destroy(&proxy->lock);
    free(proxy);
}

void ctest_proxy_tell(struct ctest_proxy *proxy, enum ctest_proxy_order order, int value) {
    pthread_mutex_lock(&proxy->lock);
    switch (order) {
    case CTEST_CUT_NOW: cut_all(proxy); break;
    case CTEST_CUT_ONE: if (value >= 0 && value < proxy->accepted) cut(proxy, proxy->connections[value]); break;
    case CTEST_FORGET: proxy->rule_count = 0; break;
    case CTEST_REFUSE: proxy->refusing = value; break;
    case CTEST_STALL_NOW: proxy->stalling = value; break;
    case CTEST_AIM: proxy->target = value; break;
    }
    eventfd_write(proxy->event, 1);
    pthread_mutex_unlock(&proxy->lock);
}

void ctest_proxy_add(struct ctest_proxy *proxy, struct ctest_proxy_rule rule) {
    pthread_mutex_lock(&proxy->lock);
    if (proxy->rule_count == MOST_RULES) {
        memmove(proxy->rules, proxy->rules + 1, sizeof proxy->rules - sizeof proxy->rules[0]);
        proxy->rule_count--;
    }
    proxy->rules[proxy->rule_count++] = rule;
    eventfd_write(proxy->event, 1);
    pthread_mutex_unlock(&proxy->lock);
}

struct ctest_proxy_state ctest_proxy_look(struct ctest_proxy *proxy) {
    pthread_mutex_lock(&proxy->lock);
    struct ctest_proxy_state state = {proxy->carried, proxy->accepted, proxy->cuts, proxy->fired};
    pthread_mutex_unlock(&proxy->lock);
    return state;
}

unsigned long long ctest_proxy_carried(struct ctest_proxy *proxy, int connection, int direction) {
    pthread_mutex_lock(&proxy->lock);
    unsigned long long carried = connection < proxy->accepted ? proxy->connections[connection]->lanes[direction].carried : 0;
    pthread_mutex_unlock(&proxy->lock);
    return carried;
}

int ctest_proxy_messages(struct ctest_proxy *proxy, int connection, int direction, unsigned long long *numbers, int room) {
    pthread_mutex_lock(&proxy->lock);
    int count = 0;
    if (connection < proxy->accepted) {
        const struct lane *lane = &proxy->connections[connection]->lanes[direction];
        for (; count < lane->message_count && count < room; count++)
            numbers[count] = lane->messages[count];
    }
    pthread_mutex_unlock(&proxy->lock);
    return count;
}
