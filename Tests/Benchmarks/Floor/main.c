// SPDX-License-Identifier: Apache-2.0
//
// The floor: a remote page fault with nothing in it but the kernel and TLS. Thaw's figures are read next to it.
//
//   Floor fault PAGES THREADS [MODE...]   every page once, in scattered order, by THREADS threads; the wait for each page
//   Floor bulk PAGES [MODE...]            all pages as one stream in frames of 64, installed 64 at a time
//
// Modes: `tcp` without TLS; `spin` never sleeps where it waits, at either end; `drain=MIB`, of `fault`: so much other memory comes as
// a stream meanwhile, on a connection and with a thread at each end of its own, and pages are touched as long as that takes;
// `apart`: the source leads a session of its own, as another program would, which the kernel's autogroups see; `ranked`: threads of
// faults and of the stream have the scheduling attributes that Thaw gives to its own; `link=DELAY:MBIT`: everything goes through the
// program Link, which lies beside this one.
//
// Three processes on one machine, as in a move: an owner, stopped, whose memory it is; a source that reads it with
// process_vm_readv(2) and sends it over TLS 1.3; a destination whose fault thread reads the userfaultfd, asks, and installs with
// UFFDIO_COPY. No session, no books, no prefetch, no retry, one thread at each end.
//
// Prints one JSON object. Exit status: 0 every page right, 1 a wrong page, 2 a call failed, 64 usage.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, FRAME_PAGES = 64, MOST_THREADS = 64, SECONDS_AT_MOST = 300 };

struct request {
    uint64_t offset, length;
};

static uint64_t pages, threads;
static uint64_t *memory;      // filled in the owner, missing in the destination, at the same address
static uint64_t *waits;       // nanoseconds, one a page
static X509 *certificate;
static EVP_PKEY *key;
static bool plain, spins, is_apart, is_ranked;
static uint64_t drained_pages; // behind the others, for the stream
static volatile bool streaming;
static char *link_delay, *link_rate;
static int uffd;

// A connection, with TLS or without.
struct link {
    int socket;
    SSL *ssl;
    char *frame; // what is sent, and what was received
};

static struct link link_to_source, stream_from_source;

static void require(bool holds, const char *call) {
    if (holds) return;
    perror(call);
    _exit(2);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t first_word(uint64_t page) {
    return (page + 1) * 0x9e3779b97f4a7c15u | 1;
}

static uint64_t scattered(uint64_t i, uint64_t mask, int bits) {
    uint64_t x = i * 0x9e3779b97f4a7c15u & mask;
    x ^= x >> (bits + 1) / 2;
    x = x * 0xd1342543de82ef95u & mask;
    return x ^ x >> (bits + 1) / 2;
}

static void *map(uint64_t size) {
    void *mapping = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    require(mapping != MAP_FAILED, "mmap");
    return mapping;
}

// Names the thread, for whoever looks at it from outside (faultpath). Ranked, it asks of the scheduler what Thaw asks: the longest
// slice and no preemption for a stream, the shortest and more of a CPU for faults.
static void be(const char *name, bool is_stream) {
    prctl(PR_SET_NAME, name);
    if (!is_ranked) return;
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t slice, deadline, period;
    } wanted = {.size = 48, .policy = is_stream ? 3 : 0, .nice = is_stream ? 0 : -5, .slice = is_stream ? 100000000 : 100000};
    require(syscall(SYS_sched_setattr, 0, &wanted, 0) == 0, "sched_setattr");
}

// ---- TLS ----

static void make_certificate(void) {
    key = EVP_EC_gen("P-256");
    certificate = X509_new();
    require(key && certificate, "certificate");
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    require(X509_set_pubkey(certificate, key) && X509_sign(certificate, key, EVP_sha256()) > 0, "certificate");
}

static struct link secure(int socket, bool is_server) {
    require(setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) == 0, "TCP_NODELAY");
    char *frame = map(FRAME_PAGES * PAGE);
    memset(frame, 1, FRAME_PAGES * PAGE);
    if (plain) return (struct link){socket, NULL, frame};
    SSL_CTX *context = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    require(context && SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) && SSL_CTX_set_num_tickets(context, 0), "SSL_CTX");
    SSL_CTX_set_read_ahead(context, 1);
    require(SSL_CTX_use_certificate(context, certificate) && SSL_CTX_use_PrivateKey(context, key)
        && X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate), "certificate");
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL *ssl = SSL_new(context);
    require(ssl && SSL_set_fd(ssl, socket) && (is_server ? SSL_accept(ssl) : SSL_connect(ssl)) == 1, "TLS handshake");
    return (struct link){socket, ssl, frame};
}

static void never_sleep(int descriptor) {
    if (spins) require(fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK) == 0, "O_NONBLOCK");
}

// How many bytes came, 0 at the end, -1 when there are none yet.
static ssize_t receive_some(struct link link, void *bytes, size_t length) {
    size_t count = 0;
    if (link.ssl == NULL) {
        ssize_t result = read(link.socket, bytes, length);
        return result < 0 && errno == EAGAIN ? -1 : result < 0 ? 0 : result;
    }
    int result = SSL_read_ex(link.ssl, bytes, length, &count);
    return result == 1 ? (ssize_t)count : SSL_get_error(link.ssl, result) == SSL_ERROR_WANT_READ ? -1 : 0;
}

static bool receive(struct link link, void *bytes, size_t length) {
    for (size_t done = 0; done < length;) {
        ssize_t count = receive_some(link, (char *)bytes + done, length - done);
        if (count == 0) return false;
        if (count > 0) done += (size_t)count;
    }
    return true;
}

static void transmit(struct link link, const void *bytes, size_t length) {
    for (size_t done = 0; done < length;) {
        size_t count = 0;
        if (link.ssl == NULL) {
            ssize_t result = write(link.socket, (const char *)bytes + done, length - done);
            require(result > 0 || errno == EAGAIN, "write");
            if (result > 0) count = (size_t)result;
        } else {
            int result = SSL_write_ex(link.ssl, (const char *)bytes + done, length - done, &count);
            require(result == 1 || SSL_get_error(link.ssl, result) == SSL_ERROR_WANT_WRITE, "SSL_write");
        }
        done += count;
    }
}

// ---- owner and source ----

// A child that ends with its parent and says one thing when it is ready.
static pid_t start(void (*body)(int), void *said, size_t size) {
    int ends[2];
    require(pipe2(ends, O_CLOEXEC) == 0, "pipe2");
    pid_t pid = fork();
    require(pid >= 0, "fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        body(ends[1]);
        _exit(0);
    }
    close(ends[1]);
    require(read(ends[0], said, size) == (ssize_t)size, "a child");
    close(ends[0]);
    return pid;
}

static void be_owner(int ready) {
    for (uint64_t page = 0; page < pages + drained_pages; page++) {
        for (int i = 0; i < WORDS; i++) memory[page * WORDS + (uint64_t)i] = first_word(page) + (uint64_t)i;
    }
    require(write(ready, "", 1) == 1, "write");
    for (;;) raise(SIGSTOP);
}

static pid_t owner;

static void *serve(void *socket) {
    struct link link = secure((int)(intptr_t)socket, true);
    never_sleep(link.socket);
    struct request wanted;
    uint64_t served = 0;
    while (receive(link, &wanted, sizeof wanted)) {
        if (wanted.length > PAGE) be("bulk-source", true);
        else if (served++ == 0) be("fault-source", false);
        while (wanted.length > 0) {
            size_t length = wanted.length < FRAME_PAGES * PAGE ? wanted.length : FRAME_PAGES * PAGE;
            struct iovec to = {link.frame, length}, from = {(char *)memory + wanted.offset, length};
            require(process_vm_readv(owner, &to, 1, &from, 1, 0) == (ssize_t)length, "process_vm_readv");
            transmit(link, link.frame, length);
            wanted.offset += length;
            wanted.length -= length;
        }
    }
    return NULL;
}

static void be_source(int ready) {
    if (is_apart) setsid();
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    require(listener >= 0 && bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0
        && getsockname(listener, (struct sockaddr *)&address, &size) == 0, "listen");
    require(write(ready, &address, sizeof address) == sizeof address, "write");
    for (;;) {
        pthread_t thread;
        int connection = accept(listener, NULL, NULL);
        require(connection >= 0 && pthread_create(&thread, NULL, serve, (void *)(intptr_t)connection) == 0, "accept");
    }
}

// ---- destination ----

// Starts the program Link; the address becomes that of its near end.
static pid_t go_through_link(struct sockaddr_in *address) {
    char path[4096], port[16], text[16] = {0};
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 8);
    require(length > 0, "readlink");
    path[length] = 0;
    strcpy(strrchr(path, '/') + 1, "Link");
    snprintf(port, sizeof port, "%d", ntohs(address->sin_port));
    int ends[2];
    require(pipe2(ends, O_CLOEXEC) == 0, "pipe2");
    pid_t pid = fork();
    require(pid >= 0, "fork");
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl(path, path, port, link_delay, link_rate, (char *)NULL);
        _exit(2);
    }
    close(ends[1]);
    require(read(ends[0], text, sizeof text - 1) > 0, "Link");
    close(ends[0]);
    address->sin_port = htons((uint16_t)atoi(text));
    return pid;
}

static struct link connect_to(const struct sockaddr_in *address) {
    int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    require(connection >= 0 && connect(connection, (const struct sockaddr *)address, sizeof *address) == 0, "connect");
    struct link link = secure(connection, false);
    never_sleep(connection);
    return link;
}

static void ask(struct link link, uint64_t offset, uint64_t length) {
    struct request wanted = {offset, length};
    transmit(link, &wanted, sizeof wanted);
}

static void install(struct link link, uint64_t offset, size_t length) {
    require(receive(link, link.frame, length), "SSL_read");
    struct uffdio_copy copy = {.dst = (uintptr_t)memory + offset, .src = (uintptr_t)link.frame, .len = length};
    require(ioctl(uffd, UFFDIO_COPY, &copy) == 0, "UFFDIO_COPY");
}

static void *resolve_faults(void *unused) {
    be("uffd-floor", false);
    // Ends with the program.
    for (;;) {
        struct uffd_msg message;
        ssize_t count;
        do {
            count = read(uffd, &message, sizeof message);
        } while (count < 0 && errno == EAGAIN && spins);
        require(count == sizeof message && message.event == UFFD_EVENT_PAGEFAULT, "userfaultfd");
        uint64_t offset = (message.arg.pagefault.address & ~(uint64_t)(PAGE - 1)) - (uintptr_t)memory;
        ask(link_to_source, offset, PAGE);
        install(link_to_source, offset, PAGE);
    }
    return unused;
}

static void stream(struct link link, uint64_t first, uint64_t count) {
    ask(link, first * PAGE, count * PAGE);
    for (uint64_t offset = first * PAGE; offset < (first + count) * PAGE;) {
        uint64_t left = (first + count) * PAGE - offset, length = left < FRAME_PAGES * PAGE ? left : FRAME_PAGES * PAGE;
        install(link, offset, length);
        offset += length;
    }
}

static void *drain(void *unused) {
    be("bulk-floor", true);
    stream(stream_from_source, pages, drained_pages);
    streaming = false;
    return unused;
}

static void *touch(void *first) {
    prctl(PR_SET_NAME, "touch-floor");
    int bits = 0;
    while (UINT64_C(1) << bits < pages) bits++;
    for (uint64_t i = (uintptr_t)first; i < UINT64_C(1) << bits && (streaming || drained_pages == 0); i += threads) {
        uint64_t page = scattered(i, (UINT64_C(1) << bits) - 1, bits);
        if (page >= pages) continue;
        uint64_t before = now();
        (void)*(volatile uint64_t *)(memory + page * WORDS);
        waits[page] = now() - before;
    }
    return NULL;
}

static void open_userfaultfd(void) {
    uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | (spins ? O_NONBLOCK : 0));
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register all = {{(uintptr_t)memory, (pages + drained_pages) * PAGE}, UFFDIO_REGISTER_MODE_MISSING, 0};
    require(uffd >= 0 && ioctl(uffd, UFFDIO_API, &api) == 0 && ioctl(uffd, UFFDIO_REGISTER, &all) == 0, "userfaultfd");
}

static void run_faults(void) {
    pthread_t running[MOST_THREADS], resolver, drainer;
    require(pthread_create(&resolver, NULL, resolve_faults, NULL) == 0, "pthread_create");
    streaming = drained_pages > 0;
    require(!streaming || pthread_create(&drainer, NULL, drain, NULL) == 0, "pthread_create");
    for (uintptr_t t = 0; t < threads; t++) {
        require(pthread_create(&running[t], NULL, touch, (void *)t) == 0, "pthread_create");
    }
    for (uintptr_t t = 0; t < threads; t++) pthread_join(running[t], NULL);
    if (drained_pages > 0) pthread_join(drainer, NULL);
}

// The pages that were touched: waits of others are zero.
static uint64_t keep_waits(void) {
    uint64_t kept = 0;
    for (uint64_t page = 0; page < pages; page++) {
        if (waits[page] > 0) waits[kept++] = waits[page];
    }
    return kept;
}

static int by_value(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

// Seconds of CPU that a process has used, 0 for this one.
static double cpu_seconds(pid_t pid) {
    clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
    struct timespec time;
    require(pid == 0 || clock_getcpuclockid(pid, &clock) == 0, "clock_getcpuclockid");
    require(clock_gettime(clock, &time) == 0, "clock_gettime");
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static uint64_t waited;

static double at(double share) {
    return (double)waits[(uint64_t)(share * (double)(waited - 1))] / 1000;
}

// Pairs: microseconds, and the percentage of waits that were no longer.
static void print_curve(void) {
    printf("\"curve\":[");
    for (int permille = 0; permille < 1000; permille++) printf("[%.1f,%.1f],", at(permille / 1000.0), permille / 10.0);
    for (int part = 0; part < 10; part++) printf("[%.1f,%.2f],", at(0.999 + part / 10000.0), 99.9 + part / 100.0);
    printf("[%.1f,100]],", at(1));
}

static bool read_modes(char **words) {
    for (; *words; words++) {
        if (strcmp(*words, "tcp") == 0) plain = true;
        else if (strcmp(*words, "spin") == 0) spins = true;
        else if (strcmp(*words, "apart") == 0) is_apart = true;
        else if (strcmp(*words, "ranked") == 0) is_ranked = true;
        else if (strncmp(*words, "link=", 5) == 0 && (link_rate = strchr(*words, ':'))) {
            link_delay = *words + 5;
            *link_rate++ = 0;
        } else if (strncmp(*words, "drain=", 6) == 0) drained_pages = strtoull(*words + 6, NULL, 10) * 256;
        else return false;
    }
    return true;
}

int main(int argc, char **argv) {
    bool is_bulk = argc >= 3 && strcmp(argv[1], "bulk") == 0, is_fault = argc >= 4 && strcmp(argv[1], "fault") == 0;
    pages = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    threads = is_fault ? strtoull(argv[3], NULL, 10) : 1;
    if (!(is_bulk || is_fault) || !read_modes(argv + (is_fault ? 4 : 3)) || pages == 0 || pages > 1 << 24 || threads == 0
        || threads > MOST_THREADS || drained_pages > 1 << 24 || (is_bulk && drained_pages > 0)) {
        fprintf(stderr, "usage: %s fault PAGES THREADS [MODE...] | bulk PAGES [MODE...]\n", argv[0]);
        return 64;
    }
    alarm(SECONDS_AT_MOST);
    memory = map((pages + drained_pages) * PAGE);
    waits = map(pages * sizeof *waits);
    memset(waits, 0, pages * sizeof *waits);
    make_certificate();
    char said;
    struct sockaddr_in address;
    owner = start(be_owner, &said, sizeof said);
    pid_t source = start(be_source, &address, sizeof address);
    pid_t between = link_rate ? go_through_link(&address) : 0;
    link_to_source = connect_to(&address);
    if (drained_pages > 0) stream_from_source = connect_to(&address);
    open_userfaultfd();
    double source_before = cpu_seconds(source), before = cpu_seconds(0);
    uint64_t begin = now();
    if (is_bulk) stream(link_to_source, 0, pages); else run_faults();
    double seconds = (double)(now() - begin) / 1e9;
    uint64_t wrong = 0;
    for (uint64_t page = 0; page < pages + drained_pages; page++) {
        // With a stream pages are left that nobody has touched.
        if (page < pages && drained_pages > 0 && waits[page] == 0) continue;
        wrong += memory[page * WORDS] != first_word(page);
    }
    waited = is_bulk ? 0 : keep_waits();
    double gibibytes = (double)(is_bulk ? pages : waited + drained_pages) / (1 << 18);
    double source_cpu = (cpu_seconds(source) - source_before) / gibibytes, cpu = (cpu_seconds(0) - before) / gibibytes;
    if (is_bulk) {
        printf("{\"mebibytesPerSecond\":%.1f,\"sourceCPU\":%.3f,\"destinationCPU\":%.3f,\"wrong\":%llu}\n",
            (double)pages / 256 / seconds, source_cpu, cpu, (unsigned long long)wrong);
    } else {
        qsort(waits, waited, sizeof *waits, by_value);
        printf("{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f,\"waits\":%llu,\"faultsPerSecond\":%.0f,",
            at(0.5), at(0.9), at(0.99), at(0.999), at(1), (unsigned long long)waited, (double)waited / seconds);
        if (drained_pages > 0) printf("\"mebibytesPerSecond\":%.1f,", (double)drained_pages / 256 / seconds);
        print_curve();
        printf("\"wrong\":%llu}\n", (unsigned long long)wrong);
    }
    if (link_to_source.ssl) SSL_shutdown(link_to_source.ssl);
    if (between > 0) kill(between, SIGKILL);
    kill(source, SIGKILL);
    kill(owner, SIGKILL);
    while (wait(NULL) > 0) {
    }
    return wrong != 0;
}
