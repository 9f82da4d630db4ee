/* Where a raw TCP relay brings its bytes; takes loads from standard input.
 *
 *   sink CONTROL_PORT
 *
 * It asks the relay for each stream with u32 length and an HTTP request; what comes back are the engine's bytes
 * of all streams, as they were read. Such bytes have no frames: only whole events in them can be told apart. */
#include "load.h"

#define REQUEST \
    "POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
#define QUIET_NS 50000000LL
#define HTTP_CHUNK_BYTES (EVENT_BYTES + 6)

static Conn *relay;
static int64_t last_byte_ns;

static void dispatch(void) {
    char body[64], request[256];
    uint32_t number = ++last_number;
    int size = snprintf(body, sizeof body, "#%u %s %d#", number, load.mode, load.amount);
    uint32_t n = (uint32_t)snprintf(request, sizeof request, REQUEST, size, body);
    load.open++;
    conn_put(relay, &n, 4);
    conn_put(relay, request, n);
}

/* Each whole event: note its age, and let the next one be made. What may be a part of one is kept. */
static void take_events(Buffer *in) {
    char *at;
    while (held(in) >= EVENT_BYTES && (at = memmem(head_of(in), held(in), EVENT_OPEN, OPEN_BYTES)) != NULL) {
        size_t offset = (size_t)(at - head_of(in));
        if (held(in) - offset < EVENT_BYTES) break;
        char digits[NUMBER_DIGITS + 1] = {0};
        memcpy(digits, at + OPEN_BYTES, NUMBER_DIGITS);
        if (load.silent > 0) stream_spoke();
        latency_of(at);
        if (load_is("lockstep") && load.phase != FINISHING) control_put((uint32_t)strtoul(digits, NULL, 10));
        in->from += offset + EVENT_BYTES;
    }
    if (held(in) > EVENT_BYTES) in->from = in->to - EVENT_BYTES;
}

static void on_data(Conn *conn) {
    size_t arrived = held(&conn->in);
    static size_t kept;
    count((arrived - kept) * EVENT_BYTES / HTTP_CHUNK_BYTES);
    if (load_is("bulk") || load_is("blast")) {
        while (load.silent > 0) stream_spoke();
        conn->in.from = conn->in.to;
    } else {
        take_events(&conn->in);
    }
    kept = held(&conn->in);
    last_byte_ns = now_ns();
}

/* The ends of streams cannot be told apart: they have all ended once nothing comes any more. */
static void on_time(int64_t now) {
    load_timer(now);
    if (load.phase != FINISHING) return;
    if (now - last_byte_ns < QUIET_NS) {
        timer_by(now + QUIET_NS);
        return;
    }
    relay->in.from = relay->in.to;
    while (load.open > 0) stream_ended(false);
}

static void on_accept(int fd) {
    relay = conn_new(fd, on_data);
    say("{\"event\":\"serving\"}");
}

int main(int argc, char **argv) {
    static Listener listener;
    if (argc < 2) die("sink CONTROL_PORT");
    loop_open();
    on_timer = on_time;
    say("{\"event\":\"listening\",\"port\":%d}", listen_on(&listener, on_accept));
    loads_from_stdin(atoi(argv[1]));
    loop_run();
}
