/* A coordinator that costs next to nothing: protocol 3 with windows, acknowledgements and binary chunks.
 *
 *   coordinator CONTROL_PORT [json]
 *
 * It waits for one agent, and takes loads from standard input. `json`: no binary chunks. */
#include "load.h"
#include "ws.h"
#include <stdarg.h>

#define WINDOW_BYTES 262144
#define ACK_EVERY_NS 50000000LL
#define CHUNK_HEAD 9
#define HELLO \
    "{\"type\":\"auth_challenge\",\"nonce\":\"YmVuY2htYXJrYmVuY2htYXJrYmVuY2htYXJrYmVuY2g=\",\"protocol\":3," \
    "\"schemes\":[\"ed25519-bound\"]}"
#define WELCOME \
    "{\"type\":\"auth_ok\",\"provider_id\":\"bench\",\"session_id\":\"bench\",\"protocol\":3," \
    "\"heartbeat_interval_ms\":15000,\"resume_window_ms\":60000,\"binary\":%s}"
#define JOB \
    "{\"type\":\"job\",\"job_id\":\"j%08u\",\"model_id\":\"" MODEL "\",\"request\":{\"model\":\"" MODEL "\"," \
    "\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"#%u %s %d#\"}]},\"stream_id\":%u,"\
    "\"window_bytes\":%d}"
#define UPGRADE \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
    "%sSec-WebSocket-Accept: %s\r\n\r\n"
#define SUBPROTOCOL "Sec-WebSocket-Protocol: provider-agent.v3\r\n"

typedef struct {
    uint32_t number;
    uint64_t received, acked_bytes;
    int64_t seq, acked_seq, sent_ns;
    bool spoke, is_open;
} Stub;

static Stub stubs[MOST_STREAMS];
static uint32_t oldest_open;
static Conn *agent;
static bool is_upgraded, is_serving, allows_binary = true;
static int64_t ack_due_ns;

static void put_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void put_text(const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    ws_put(agent, WS_TEXT, false, text, (size_t)n);
}

static void dispatch(void) {
    uint32_t number = ++last_number;
    stubs[number % MOST_STREAMS] =
        (Stub){.number = number, .seq = -1, .acked_seq = -1, .sent_ns = now_ns(), .is_open = true};
    load.open++;
    put_text(JOB, number, number, load.mode, load.amount, number, WINDOW_BYTES);
}

static void ack(Stub *stub, int64_t seq) {
    put_text("{\"type\":\"job_ack\",\"job_id\":\"j%08u\",\"seq\":%lld}", stub->number, (long long)seq);
    stub->acked_seq = seq, stub->acked_bytes = stub->received;
}

/* Every 50 ms: what has come and was not acknowledged. */
static void ack_all(int64_t now) {
    while (oldest_open < last_number && !stubs[oldest_open % MOST_STREAMS].is_open) oldest_open++;
    for (uint32_t number = oldest_open; number <= last_number; number++) {
        Stub *stub = &stubs[number % MOST_STREAMS];
        if (stub->is_open && stub->seq > stub->acked_seq) ack(stub, stub->seq);
    }
    ack_due_ns = now + ACK_EVERY_NS;
}

static void on_time(int64_t now) {
    load_timer(now);
    if (ack_due_ns <= now && agent != NULL && is_serving) ack_all(now);
    if (load.phase != IDLE) timer_by(ack_due_ns);
}

/* Whole events of one stream have come: note their age, and let the next one be made. */
static void take_events(Stub *stub, const char *data, size_t n) {
    uint64_t events = (stub->received + n) / EVENT_BYTES - stub->received / EVENT_BYTES;
    if (load_is("lockstep") || load_is("paced")) {
        if (n % EVENT_BYTES == 0 && memcmp(data, EVENT_OPEN, 8) == 0) latency_of(data + n - EVENT_BYTES);
        if (load_is("lockstep") && load.phase != FINISHING && events > 0) control_put(stub->number);
    }
}

static void take_chunk(Stub *stub, int64_t seq, const char *data, size_t n) {
    if (!stub->is_open) die("a chunk without a job");
    if (seq != stub->seq + 1) die("chunk %lld follows chunk %lld", (long long)seq, (long long)stub->seq);
    if (!stub->spoke) {
        stub->spoke = true;
        if (load_is("once")) latency(now_ns() - stub->sent_ns);
        stream_spoke();
    }
    take_events(stub, data, n);
    stub->seq = seq, stub->received += n;
    count(n);
    if (stub->received - stub->acked_bytes > WINDOW_BYTES) die("more than the window");
    if (stub->received - stub->acked_bytes >= WINDOW_BYTES / 2) ack(stub, seq);
}

static Stub *stub_of(char *frame, size_t n) {
    char *job_id = json_value(frame, n, "job_id");
    if (job_id == NULL || *job_id != 'j') die("no job of ours: %.*s", (int)n, frame);
    return &stubs[strtoul(job_id + 1, NULL, 10) % MOST_STREAMS];
}

static void take_outcome(char *frame, size_t n, bool failed) {
    Stub *stub = stub_of(frame, n);
    if (!stub->is_open) die("a second outcome: %.*s", (int)n, frame);
    if (failed) fprintf(stderr, "%.*s\n", (int)n, frame);
    ack(stub, json_number(frame, n, "seq", stub->seq + 1));
    stub->is_open = false;
    if (!stub->spoke) stream_spoke();
    stream_ended(failed);
}

static void take_text(char *frame, size_t n) {
    if (json_is(frame, n, "type", "job_chunk")) {
        char *data = json_value(frame, n, "data"), *end = memchr(data, '"', (size_t)(frame + n - data));
        int64_t seq = json_number(frame, n, "seq", -1);
        take_chunk(stub_of(frame, n), seq, data, base64_take(data, (size_t)(end - data)));
    } else if (json_is(frame, n, "type", "job_done")) {
        take_outcome(frame, n, false);
    } else if (json_is(frame, n, "type", "job_error")) {
        take_outcome(frame, n, true);
    } else if (json_is(frame, n, "type", "auth_response")) {
        put_text(WELCOME, allows_binary ? "true" : "false");
    } else if (json_is(frame, n, "type", "capabilities")) {
        put_text("{\"type\":\"capabilities_ok\",\"revision\":%lld}", (long long)json_number(frame, n, "revision", 0));
        if (!is_serving && memmem(frame, n, "\"" MODEL "\"", sizeof MODEL + 1) != NULL) {
            is_serving = true;
            say("{\"event\":\"serving\"}");
        }
    }
}

static void take(Conn *conn, int opcode, char *payload, size_t n) {
    (void)conn;
    if (opcode == WS_TEXT) {
        take_text(payload, n);
    } else if (n >= CHUNK_HEAD) {
        uint32_t words[2];
        memcpy(words, payload + 1, 8);
        take_chunk(&stubs[ntohl(words[0]) % MOST_STREAMS], ntohl(words[1]), payload + CHUNK_HEAD, n - CHUNK_HEAD);
    }
}

static void shake_hands(Conn *conn) {
    Buffer *in = &conn->in;
    char accepted[32], answer[512];
    char *end = memmem(head_of(in), held(in), "\r\n\r\n", 4);
    if (end == NULL) return;
    *end = '\0';
    char *key = strcasestr(head_of(in), "\nsec-websocket-key:");
    if (key == NULL) die("no WebSocket");
    const char *protocol = strcasestr(head_of(in), "\nsec-websocket-protocol:") == NULL ? "" : SUBPROTOCOL;
    for (key += 19; *key == ' '; key++) continue;
    ws_accept_key(accepted, key, strcspn(key, "\r"));
    conn_put(conn, answer, (size_t)snprintf(answer, sizeof answer, UPGRADE, protocol, accepted));
    in->from += (size_t)(end + 4 - head_of(in));
    is_upgraded = true;
    ws_put(conn, WS_TEXT, false, HELLO, sizeof HELLO - 1);
}

static void on_data(Conn *conn) {
    if (!is_upgraded) shake_hands(conn);
    if (is_upgraded) ws_take(conn, false, take);
    if (load.phase != IDLE) timer_by(ack_due_ns);
}

static void on_gone(Conn *conn) {
    if (conn == agent) agent = NULL, is_upgraded = is_serving = false;
}

static void on_accept(int fd) {
    agent = conn_new(fd, on_data);
    agent->on_gone = on_gone;
    is_upgraded = is_serving = false;
}

int main(int argc, char **argv) {
    static Listener listener;
    if (argc < 2) die("coordinator CONTROL_PORT [json]");
    allows_binary = argc < 3;
    loop_open();
    on_timer = on_time;
    say("{\"event\":\"listening\",\"port\":%d}", listen_on(&listener, on_accept));
    loads_from_stdin(atoi(argv[1]));
    loop_run();
}
