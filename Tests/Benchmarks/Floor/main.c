// SPDX-License-Identifier: Apache-2.0
//
// The floor: a remote page fault with nothing in it but the kernel and TLS. Thaw's figures are read next to it.
//
//   Floor fault PAGES THREADS [MODE...]   every page once, in scattered order, by THREADS threads; the wait for each page
//   Floor bulk PAGES [MODE...]            all pages as one stream in frames of 64, installed 64 at a time
//
// Modes: `tcp` without TLS; `spin` never sleeps where it waits, at either end.
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
static char *frame;           // what is sent, and what was received
static X509 *certificate;
static EVP_PKEY *key;
static bool plain, spins;
static int uffd;

// A connection, with TLS or without.
struct link {
    int socket;
    SSL *ssl;
};

static struct link link_to_source;

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
    if (plain) return (struct link){socket, NULL};
    SSL_CTX *context = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    require(context && SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) && SSL_CTX_set_num_tickets(context, 0), "SSL_CTX");
    SSL_CTX_set_read_ahead(context, 1);
    require(SSL_CTX_use_certificate(context, certificate) && SSL_CTX_use_PrivateKey(context, key)
        && X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate), "certificate");
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL *ssl = SSL_new(context);
    require(ssl && SSL_set_fd(ssl, socket) && (is_server ? SSL_accept(ssl) : SSL_connect(ssl)) == 1, "TLS handshake");
    return (struct link){socket, ssl};
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
    for (uint64_t page = 0; page < pages; page++) {
        for (int i = 0; i < WORDS; i++) memory[page * WORDS + (uint64_t)i] = first_word(page) + (uint64_t)i;
    }
    require(write(ready, "", 1) == 1, "write");
    for (;;) raise(SIGSTOP);
}

static pid_t owner;

static void be_source(int ready) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    require(listener >= 0 && bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0
        && getsockname(listener, (struct sockaddr *)&address, &size) == 0, "listen");
    require(write(ready, &address, sizeof address) == sizeof address, "write");
    struct link link = secure(accept(listener, NULL, NULL), true);
    never_sleep(link.socket);
    struct request wanted;
    while (receive(link, &wanted, sizeof wanted)) {
        while (wanted.length > 0) {
            size_t length = wanted.length < FRAME_PAGES * PAGE ? wanted.length : FRAME_PAGES * PAGE;
            struct iovec to = {frame, length}, from = {(char *)memory + wanted.offset, length};
            require(process_vm_readv(owner, &to, 1, &from, 1, 0) == (ssize_t)length, "process_vm_readv");
            transmit(link, frame, length);
            wanted.offset += length;
            wanted.length -= length;
        }
    }
}

// ---- destination ----

static void ask(uint64_t offset, uint64_t length) {
    struct request wanted = {offset, length};
    transmit(link_to_source, &wanted, sizeof wanted);
}

static void install(uint64_t offset, size_t length) {
    require(receive(link_to_source, frame, length), "SSL_read");
    struct uffdio_copy copy = {.dst = (uintptr_t)memory + offset, .src = (uintptr_t)frame, .len = length};
    require(ioctl(uffd, UFFDIO_COPY, &copy) == 0, "UFFDIO_COPY");
}

static void *resolve_faults(void *unused) {
    for (uint64_t served = 0; served < pages; served++) {
        struct uffd_msg message;
        ssize_t count;
        do {
            count = read(uffd, &message, sizeof message);
        } while (count < 0 && errno == EAGAIN && spins);
        require(count == sizeof message && message.event == UFFD_EVENT_PAGEFAULT, "userfaultfd");
        uint64_t offset = (message.arg.pagefault.address & ~(uint64_t)(PAGE - 1)) - (uintptr_t)memory;
        ask(offset, PAGE);
        install(offset, PAGE);
    }
    return unused;
}

static void *touch(void *first) {
    int bits = 0;
    while (UINT64_C(1) << bits < pages) bits++;
    for (uint64_t i = (uintptr_t)first; i < UINT64_C(1) << bits; i += threads) {
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
    struct uffdio_register all = {{(uintptr_t)memory, pages * PAGE}, UFFDIO_REGISTER_MODE_MISSING, 0};
    require(uffd >= 0 && ioctl(uffd, UFFDIO_API, &api) == 0 && ioctl(uffd, UFFDIO_REGISTER, &all) == 0, "userfaultfd");
}

static void run_faults(void) {
    pthread_t running[MOST_THREADS + 1];
    for (uintptr_t t = 0; t <= threads; t++) {
        require(pthread_create(&running[t], NULL, t < threads ? touch : resolve_faults, (void *)t) == 0, "pthread_create");
    }
    for (uintptr_t t = 0; t <= threads; t++) pthread_join(running[t], NULL);
}

static void run_stream(void) {
    ask(0, pages * PAGE);
    for (uint64_t offset = 0; offset < pages * PAGE;) {
        uint64_t left = pages * PAGE - offset, length = left < FRAME_PAGES * PAGE ? left : FRAME_PAGES * PAGE;
        install(offset, length);
        offset += length;
    }
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

static double at(double share) {
    return (double)waits[(uint64_t)(share * (double)(pages - 1))] / 1000;
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
        else return false;
    }
    return true;
}

int main(int argc, char **argv) {
    bool is_bulk = argc >= 3 && strcmp(argv[1], "bulk") == 0, is_fault = argc >= 4 && strcmp(argv[1], "fault") == 0;
    pages = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    threads = is_fault ? strtoull(argv[3], NULL, 10) : 1;
    if (!(is_bulk || is_fault) || !read_modes(argv + (is_fault ? 4 : 3)) || pages == 0 || pages > 1 << 24 || threads == 0
        || threads > MOST_THREADS) {
        fprintf(stderr, "usage: %s fault PAGES THREADS [tcp|spin]... | bulk PAGES [tcp|spin]...\n", argv[0]);
        return 64;
    }
    alarm(SECONDS_AT_MOST);
    memory = map(pages * PAGE);
    waits = map(pages * sizeof *waits);
    frame = map(FRAME_PAGES * PAGE);
    memset(frame, 1, FRAME_PAGES * PAGE);
    memset(waits, 0, pages * sizeof *waits);
    make_certificate();
    char said;
    struct sockaddr_in address;
    owner = start(be_owner, &said, sizeof said);
    pid_t source = start(be_source, &address, sizeof address);
    int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    require(connection >= 0 && connect(connection, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    link_to_source = secure(connection, false);
    never_sleep(connection);
    open_userfaultfd();
    double source_before = cpu_seconds(source), before = cpu_seconds(0);
    uint64_t begin = now();
    if (is_bulk) run_stream(); else run_faults();
    double seconds = (double)(now() - begin) / 1e9;
    double gibibytes = (double)pages / (1 << 18);
    double source_cpu = (cpu_seconds(source) - source_before) / gibibytes, cpu = (cpu_seconds(0) - before) / gibibytes;
    uint64_t wrong = 0;
    for (uint64_t page = 0; page < pages; page++) wrong += memory[page * WORDS] != first_word(page);
    if (is_bulk) {
        printf("{\"mebibytesPerSecond\":%.1f,\"sourceCPU\":%.3f,\"destinationCPU\":%.3f,\"wrong\":%llu}\n",
            (double)pages / 256 / seconds, source_cpu, cpu, (unsigned long long)wrong);
    } else {
        qsort(waits, pages, sizeof *waits, by_value);
        printf("{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f,\"faultsPerSecond\":%.0f,",
            at(0.5), at(0.9), at(0.99), at(0.999), at(1), (double)pages / seconds);
        print_curve();
        printf("\"wrong\":%llu}\n", (unsigned long long)wrong);
    }
    if (link_to_source.ssl) SSL_shutdown(link_to_source.ssl);
    kill(source, SIGKILL);
    kill(owner, SIGKILL);
    while (wait(NULL) > 0) {
    }
    return wrong != 0;
}
