/* What the fakes share: one epoll loop, connections with buffers, a timer, JSON lines. Knows no protocol.
 *
 * A program has one loop, so its state is static. What is put into `Conn.out` leaves at the end of the
 * loop's turn, in one write. */
#ifndef NET_H
#define NET_H
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES (256 * 1024)
#define MAX_EVENTS 512

static inline int64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

#define say(...) (printf(__VA_ARGS__), putchar('\n'), fflush(stdout))
#define die(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(1))

/* --- buffers --------------------------------------------------------------------------- */

typedef struct {
    char *data;
    size_t from, to, size;
} Buffer;

static inline size_t held(const Buffer *b) { return b->to - b->from; }
static inline char *head_of(const Buffer *b) { return b->data + b->from; }

/* Room for `n` more bytes behind what is held. */
static inline char *room_for(Buffer *b, size_t n) {
    if (b->from == b->to) b->from = b->to = 0;
    if (b->size - b->to < n && b->from > 0) {
        memmove(b->data, b->data + b->from, held(b));
        b->to -= b->from, b->from = 0;
    }
    if (b->size - b->to < n) {
        b->size = (b->to + n) * 2;
        b->data = realloc(b->data, b->size);
        if (b->data == NULL) die("out of memory");
    }
    return b->data + b->to;
}

static inline void put(Buffer *b, const void *bytes, size_t n) {
    memcpy(room_for(b, n), bytes, n);
    b->to += n;
}

/* --- the loop -------------------------------------------------------------------------- */

typedef struct Source Source;
struct Source {
    void (*ready)(Source *, uint32_t events);
    int fd;
};

typedef struct Conn Conn;
struct Conn {
    Source source;
    Buffer in, out;
    uint32_t watched;         /* the events that epoll was asked for */
    bool is_dirty, is_gone;   /* `out` is to be flushed; the fd is closed, and this is freed after the turn */
    void (*on_data)(Conn *);  /* `in` holds more */
    void (*on_room)(Conn *);  /* all of `out` has left; may be NULL */
    void (*on_gone)(Conn *);  /* the peer left; may be NULL */
    void *owner;
};

static int loop_fd = -1, timer_fd = -1;
static int64_t timer_due_ns;
static void (*on_timer)(int64_t now);
static Conn **dirty, **gone;
static size_t dirty_count, dirty_size, gone_count, gone_size;

static void remember(Conn ***list, size_t *count, size_t *size, Conn *conn) {
    if (*count == *size) *list = realloc(*list, (*size = *size * 2 + 64) * sizeof(Conn *));
    (*list)[(*count)++] = conn;
}

static void watch(Source *source, uint32_t events, int how) {
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(loop_fd, how, source->fd, &event) != 0) die("epoll_ctl: %s", strerror(errno));
}

static void conn_watch(Conn *conn, uint32_t events) {
    if (conn->watched == events || conn->is_gone) return;
    watch(&conn->source, events, EPOLL_CTL_MOD);
    conn->watched = events;
}

/* Close it now; nothing is called for it any more. */
static void conn_close(Conn *conn) {
    if (conn->is_gone) return;
    close(conn->source.fd);
    conn->is_gone = true;
    remember(&gone, &gone_count, &gone_size, conn);
}

static void conn_lost(Conn *conn) {
    if (conn->is_gone) return;
    conn_close(conn);
    if (conn->on_gone != NULL) conn->on_gone(conn);
}

static void conn_dirty(Conn *conn) {
    if (conn->is_dirty || conn->is_gone) return;
    conn->is_dirty = true;
    remember(&dirty, &dirty_count, &dirty_size, conn);
}

static void conn_put(Conn *conn, const void *bytes, size_t n) {
    put(&conn->out, bytes, n);
    conn_dirty(conn);
}

static void conn_flush(Conn *conn) {
    conn->is_dirty = false;
    while (held(&conn->out) > 0 && !conn->is_gone) {
        ssize_t sent = send(conn->source.fd, head_of(&conn->out), held(&conn->out), MSG_NOSIGNAL);
        if (sent >= 0) {
            conn->out.from += (size_t)sent;
        } else if (errno == EAGAIN) {
            conn_watch(conn, conn->watched | EPOLLOUT);
            return;
        } else if (errno != EINTR) {
            conn_lost(conn);
            return;
        }
    }
    conn_watch(conn, conn->watched & ~(uint32_t)EPOLLOUT);
    if (conn->on_room != NULL && !conn->is_gone) conn->on_room(conn);
}

static void conn_ready(Source *source, uint32_t events) {
    Conn *conn = (Conn *)source;
    if (conn->is_gone) return;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)) {
        ssize_t n = recv(source->fd, room_for(&conn->in, READ_BYTES), READ_BYTES, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            conn_lost(conn);
            return;
        }
        if (n > 0) {
            conn->in.to += (size_t)n;
            conn->on_data(conn);
        }
    }
    if (events & EPOLLOUT) conn_dirty(conn);
}

static Conn *conn_new(int fd, void (*on_data)(Conn *)) {
    Conn *conn = calloc(1, sizeof *conn);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    conn->source = (Source){conn_ready, fd};
    conn->on_data = on_data;
    conn->watched = EPOLLIN;
    watch(&conn->source, EPOLLIN, EPOLL_CTL_ADD);
    return conn;
}

static struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static Conn *dial(int port, void (*on_data)(Conn *)) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = loopback(port);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) die("cannot dial %d: %s", port, strerror(errno));
    return conn_new(fd, on_data);
}

typedef struct {
    Source source;
    void (*on_conn)(int fd);
} Listener;

static void listener_ready(Source *source, uint32_t events) {
    (void)events;
    int fd;
    while ((fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) ((Listener *)source)->on_conn(fd);
}

/* Listen on any free port of this machine; gives the port. */
static int listen_on(Listener *listener, void (*on_conn)(int fd)) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = loopback(0);
    socklen_t size = sizeof at;
    if (bind(fd, (struct sockaddr *)&at, size) != 0 || listen(fd, 4096) != 0) die("cannot listen");
    getsockname(fd, (struct sockaddr *)&at, &size);
    *listener = (Listener){{listener_ready, fd}, on_conn};
    watch(&listener->source, EPOLLIN, EPOLL_CTL_ADD);
    return ntohs(at.sin_port);
}

/* Have `on_timer` called at this time, unless it is called before. */
static void timer_by(int64_t due_ns) {
    if (due_ns <= 0) due_ns = 1; /* 0 would disarm it */
    if (timer_due_ns != 0 && timer_due_ns <= due_ns) return;
    struct itimerspec at = {.it_value = {due_ns / 1000000000, due_ns % 1000000000}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
    timer_due_ns = due_ns;
}

static void timer_ready(Source *source, uint32_t events) {
    (void)events;
    uint64_t times;
    if (read(source->fd, &times, sizeof times) < 0) return;
    timer_due_ns = 0;
    on_timer(now_ns());
}

static Source timer_source = {timer_ready, -1};

static void loop_open(void) {
    prctl(PR_SET_TIMERSLACK, 1);
    loop_fd = epoll_create1(0);
    timer_source.fd = timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    watch(&timer_source, EPOLLIN, EPOLL_CTL_ADD);
}

static void end_turn(void) {
    size_t count = dirty_count;
    for (size_t i = 0; i < count; i++) {
        if (!dirty[i]->is_gone) conn_flush(dirty[i]);
    }
    memmove(dirty, dirty + count, (dirty_count - count) * sizeof *dirty);
    dirty_count -= count;
    size_t kept = 0;
    for (size_t i = 0; i < dirty_count; i++) {
        if (!dirty[i]->is_gone) dirty[kept++] = dirty[i];
    }
    dirty_count = kept;
    for (size_t i = 0; i < gone_count; i++) {
        free(gone[i]->in.data);
        free(gone[i]->out.data);
        free(gone[i]);
    }
    gone_count = 0;
}

static void loop_run(void) {
    static struct epoll_event events[MAX_EVENTS];
    for (;;) {
        int n = epoll_wait(loop_fd, events, MAX_EVENTS, dirty_count > 0 ? 0 : -1);
        for (int i = 0; i < n; i++) {
            Source *source = events[i].data.ptr;
            source->ready(source, events[i].events);
        }
        end_turn();
    }
}
#endif
