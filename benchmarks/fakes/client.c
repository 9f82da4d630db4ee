/* HTTP clients of an OpenAI-compatible endpoint; takes loads from standard input.
 *
 *   client PORT CONTROL_PORT
 *
 * Connections are kept for the next request. Besides the modes of `producer.h`, which each run until they
 * are told to finish, there are those that leave, STREAMS times one after the other: the latency is the time from
 * a client's leaving until the engine saw it.
 *   leave-stream   after three events
 *   leave-whole    while waiting for an answer that is not streamed
 *   leave-prefill  while waiting for the first byte of a streamed one
 *   leave-stall    after it has not read for a while, in the middle of a flood */
#include "load.h"
#include "ws.h"

#define REQUEST \
    "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n" \
    "Content-Length: %d\r\n\r\n%s"
#define BODY \
    "{\"model\":\"" MODEL "\",\"stream\":%s,\"messages\":[{\"role\":\"user\",\"content\":\"#%u %s %d#\"}]}"
#define WAIT_NS 30000000LL
#define STALL_NS 500000000LL

typedef enum { HEAD, WHOLE, SIZE, DATA, LINE_END, TRAILER } Part;

typedef struct {
    uint32_t number;
    Conn *conn;
    Part part;
    size_t left;
    uint64_t received;
    int64_t sent_ns;
    bool spoke;
} Client;

static int port;
static Client **resting; /* connections without a request */
static size_t resting_count, resting_size;
static Client *leaver;
static int64_t left_ns, leave_due_ns;
static int still_to_leave;

static bool leaves(void) { return strncmp(load.mode, "leave-", 6) == 0; }
static bool stalls(void) { return load_is("leave-stall"); }

static const char *ordered_mode(void) {
    if (!leaves()) return load.mode;
    return load_is("leave-stream") ? "paced" : stalls() ? "blast" : "hold";
}

/* --- answers ------------------------------------------------------------------------------ */

static void rest(Client *client) {
    if (resting_count == resting_size)
        resting = realloc(resting, (resting_size = resting_size * 2 + 64) * sizeof *resting);
    resting[resting_count++] = client;
}

static void answer_over(Client *client, bool failed) {
    if (!client->spoke) stream_spoke();
    client->number = 0;
    if (!client->conn->is_gone) rest(client);
    stream_ended(failed);
}

static void take_payload(Client *client, const char *data, size_t n) {
    uint64_t events = (client->received + n) / EVENT_BYTES - client->received / EVENT_BYTES;
    if (!client->spoke) {
        client->spoke = true;
        if (load_is("once")) latency(now_ns() - client->sent_ns);
        stream_spoke();
    }
    if (load_is("paced") || load_is("lockstep")) {
        if (n % EVENT_BYTES == 0 && memcmp(data, EVENT_OPEN, 8) == 0) latency_of(data + n - EVENT_BYTES);
        if (load_is("lockstep") && load.phase != FINISHING && events > 0) control_put(client->number);
    }
    client->received += n;
    count(n);
    if (load_is("leave-stream") && client == leaver && client->received >= 3 * EVENT_BYTES) leave_due_ns = 1;
}

static char *line_in(Buffer *in) { return memchr(head_of(in), '\n', held(in)); }

static bool take_head(Client *client, Buffer *in) {
    char *end = memmem(head_of(in), held(in), "\r\n\r\n", 4);
    if (end == NULL) return false;
    *end = '\0';
    char *head = head_of(in), *length = strcasestr(head, "\ncontent-length:");
    if (strncmp(head + 9, "200", 3) != 0) {
        fprintf(stderr, "%.200s\n", head);
        load.errors++;
    }
    client->part = length == NULL ? SIZE : WHOLE;
    client->left = length == NULL ? 0 : strtoul(length + 16, NULL, 10);
    in->from += (size_t)(end + 4 - head);
    return true;
}

/* Take one more part of the answer; false when it is not here yet. */
static bool take_part(Client *client, Buffer *in) {
    char *end = NULL;
    if (client->part == HEAD) return take_head(client, in);
    if (client->part == WHOLE || client->part == DATA) {
        size_t n = held(in) < client->left ? held(in) : client->left;
        if (n > 0) take_payload(client, head_of(in), n);
        in->from += n, client->left -= n;
        if (client->left > 0) return false;
        if (client->part == WHOLE) answer_over(client, false);
        else client->part = LINE_END;
        return true;
    }
    if ((end = line_in(in)) == NULL) return false;
    const char *line = head_of(in);
    in->from += (size_t)(end + 1 - line);
    if (client->part == SIZE) {
        client->left = strtoul(line, NULL, 16);
        client->part = client->left > 0 ? DATA : TRAILER;
    } else if (client->part == TRAILER) {
        answer_over(client, false);
    } else {
        client->part = SIZE;
    }
    return true;
}

static void on_data(Conn *conn) {
    Client *client = conn->owner;
    if (stalls() && client == leaver) conn_watch(conn, 0);
    while (client->number != 0 && held(&conn->in) > 0 && take_part(client, &conn->in)) continue;
    if (leave_due_ns == 1) timer_by(leave_due_ns = now_ns());
}

static void on_gone(Conn *conn) {
    Client *client = conn->owner;
    for (size_t i = 0; i < resting_count; i++) {
        if (resting[i] == client) resting[i] = resting[--resting_count];
    }
    if (client->number != 0) {
        fprintf(stderr, "a connection broke\n");
        answer_over(client, true);
    }
    free(client);
}

/* --- requests ----------------------------------------------------------------------------- */

static Client *client_at_rest(void) {
    if (resting_count > 0) return resting[--resting_count];
    Client *client = calloc(1, sizeof *client);
    client->conn = dial(port, on_data);
    client->conn->owner = client, client->conn->on_gone = on_gone;
    return client;
}

static Client *ask(void) {
    char body[256], request[512];
    Client *client = client_at_rest();
    uint32_t number = ++last_number;
    const char *streamed = load_is("leave-whole") ? "false" : "true";
    int size = snprintf(body, sizeof body, BODY, streamed, number, ordered_mode(), load.amount);
    client->number = number, client->part = HEAD, client->left = client->received = 0, client->spoke = false;
    client->sent_ns = now_ns();
    conn_put(client->conn, request, (size_t)snprintf(request, sizeof request, REQUEST, port, size, body));
    return client;
}

/* --- leaving ------------------------------------------------------------------------------ */

static void come_to_leave(void) {
    leaver = ask();
    leave_due_ns = load_is("leave-stream") ? 0 : now_ns() + (stalls() ? STALL_NS : WAIT_NS);
    if (leave_due_ns > 0) timer_by(leave_due_ns);
}

static void leave(void) {
    leave_due_ns = 0;
    left_ns = now_ns();
    conn_close(leaver->conn);
}

/* The engine saw it; the next one, or the end. */
static void seen(int64_t seen_ns) {
    free(leaver);
    leaver = NULL;
    latency(seen_ns - left_ns);
    load.jobs++;
    if (--still_to_leave > 0) come_to_leave();
    else report();
}

static void dispatch(void) {
    if (!leaves()) {
        load.open++;
        ask();
    } else if (still_to_leave == 0) {
        still_to_leave = load.streams;
        load.phase = MEASURED, load.due_ns = INT64_MAX;
        say("{\"event\":\"started\"}"), say("{\"event\":\"stopped\"}");
        control_put(WATCH);
        come_to_leave();
    }
}

static void on_watch_data(Conn *conn) {
    while (held(&conn->in) >= 12) {
        uint32_t number;
        int64_t at;
        memcpy(&number, head_of(&conn->in), 4);
        memcpy(&at, head_of(&conn->in) + 4, 8);
        conn->in.from += 12;
        if (leaver != NULL && number == leaver->number && left_ns != 0) seen(at);
    }
}

static void on_time(int64_t now) {
    load_timer(now);
    if (leaver == NULL || leave_due_ns == 0) return;
    if (leave_due_ns <= now) leave();
    else timer_by(leave_due_ns);
}

int main(int argc, char **argv) {
    if (argc < 3) die("client PORT CONTROL_PORT");
    loop_open();
    on_timer = on_time;
    port = atoi(argv[1]);
    loads_from_stdin(atoi(argv[2]));
    if (control != NULL) control->on_data = on_watch_data;
    say("{\"event\":\"serving\"}");
    loop_run();
}
