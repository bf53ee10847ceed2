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
#include <unistd.h>

enum { MOST_CONNECTIONS = 256, MOST_RULES = 64, ROOM = 64 << 10 };

// One direction of a connection: bytes that were read from `from` and not yet written to `to`.
struct lane {
    int from, to;
    unsigned long long carried; // bytes that have been let through
    size_t start, end;
    bool ended, stalled;
    char bytes[ROOM];
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
    int cuts;
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

// The rule that the next bytes of a lane meet first, if any.
static struct ctest_proxy_rule *next_rule(struct ctest_proxy *proxy, int number, int side) {
    struct ctest_proxy_rule *found = NULL;
    for (int index = 0; index < proxy->rule_count; index++) {
        struct ctest_proxy_rule *rule = &proxy->rules[index];
        if (rule->fired || (rule->connection >= 0 && rule->connection != number) || (rule->direction >= 0 && rule->direction != side))
            continue;
        if (!found || rule->offset < found->offset)
            found = rule;
    }
    return found;
}

// Does what a rule says; returns whether the lane goes on.
static bool fire(struct ctest_proxy *proxy, struct ctest_proxy_rule *rule, struct connection *connection, int side) {
    rule->fired = true;
    switch (rule->action) {
    case CTEST_CUT: cut(proxy, connection); return false;
    case CTEST_CUT_ALL: cut_all(proxy); return false;
    case CTEST_HALF_CLOSE: shutdown(connection->lanes[side].to, SHUT_WR); connection->lanes[side].ended = true; proxy->cuts++; return false;
    default: connection->lanes[0].stalled = connection->lanes[1].stalled = true; proxy->cuts++; return false;
    }
}

// Moves what can be moved in one direction.
static void carry(struct ctest_proxy *proxy, int number, int side) {
    struct connection *connection = proxy->connections[number];
    struct lane *lane = &connection->lanes[side];
    while (connection->open && !lane->stalled && !proxy->stalling) {
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
        struct ctest_proxy_rule *rule = next_rule(proxy, number, side);
        if (rule) {
            unsigned long long position = rule->connection < 0 ? proxy->carried : lane->carried;
            if (rule->offset <= position) {
                if (!fire(proxy, rule, connection, side))
                    return;
                continue;
            }
            if (rule->offset - position < room)
                room = rule->offset - position;
        }
        ssize_t count = send(lane->to, lane->bytes + lane->start, room, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (count < 0)
            return cut(proxy, connection);
        lane->start += (size_t)count;
        lane->carried += (unsigned long long)count;
        proxy->carried += (unsigned long long)count;
    }
}

static void *run(void *argument) {
    struct ctest_proxy *proxy = argument;
    static const short both[2] = {POLLIN, POLLOUT};
    struct pollfd *polled = calloc(2 + 4 * MOST_CONNECTIONS, sizeof *polled);
    pthread_mutex_lock(&proxy->lock);
    while (!proxy->stopping) {
        nfds_t count = 0;
        polled[count++] = (struct pollfd){.fd = proxy->event, .events = POLLIN};
        polled[count++] = (struct pollfd){.fd = proxy->listener, .events = POLLIN};
        for (int number = 0; number < proxy->accepted; number++) {
            struct connection *connection = proxy->connections[number];
            for (int side = 0; connection->open && side < 2; side++) {
                struct lane *lane = &connection->lanes[side];
                if (lane->ended || lane->stalled || proxy->stalling)
                    continue;
                bool writes = lane->start < lane->end;
                polled[count++] = (struct pollfd){.fd = writes ? lane->to : lane->from, .events = both[writes]};
            }
        }
        pthread_mutex_unlock(&proxy->lock);
        poll(polled, count, -1);
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
    struct ctest_proxy_state state = {proxy->carried, proxy->accepted, proxy->cuts};
    pthread_mutex_unlock(&proxy->lock);
    return state;
}

unsigned long long ctest_proxy_carried(struct ctest_proxy *proxy, int connection, int direction) {
    pthread_mutex_lock(&proxy->lock);
    unsigned long long carried = connection < proxy->accepted ? proxy->connections[connection]->lanes[direction].carried : 0;
    pthread_mutex_unlock(&proxy->lock);
    return carried;
}
