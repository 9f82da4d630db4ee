/* An agent that costs next to nothing, engine included; `producer.h` says what a job's prompt orders.
 *
 *   agent SOCKET_FD
 *
 * The socket is inherited: whoever starts this program has said the handshake. It keeps to the windows that it is
 * given, and sends binary chunks to a coordinator that gives stream ids. */
#include "producer.h"
#include "ws.h"
#include <stdarg.h>

#define HIGH_WATER 131072
#define HEARTBEAT_NS 10000000000LL
#define HEARTBEAT "{\"type\":\"heartbeat\",\"queue_depth\":0,\"active_jobs\":0,\"max_concurrency\":2048,\"free_slots\":2048}"
#define STARTED \
    "{\"type\":\"job_started\",\"job_id\":\"%s\",\"backend\":\"fake\",\"upstream_model\":\"" MODEL "\"," \
    "\"http_status\":200,\"content_type\":\"text/event-stream\"}"
#define DONE \
    "{\"type\":\"job_done\",\"job_id\":\"%s\",\"tokens\":{\"input\":7,\"output\":1,\"input_tokens\":7," \
    "\"output_tokens\":1},\"duration_ms\":1,\"seq\":%u,\"chunks\":%u,\"bytes\":%llu}"
#define CANCELLED \
    "{\"type\":\"job_error\",\"job_id\":\"%s\",\"error_code\":\"cancelled\",\"message\":\"cancelled\"," \
    "\"seq\":%u,\"stage\":\"streaming\",\"retryable\":false,\"bytes_sent\":%llu}"

typedef struct Job Job;
struct Job {
    Stream stream;
    char id[129];
    int64_t stream_id; /* -1: the coordinator gave none, so chunks are JSON */
    uint64_t window, sent, acked;
    uint32_t seq;
    uint32_t piece_bytes; /* of an endless stream: what a sequence number stands for */
    Job *next;
};

static Conn *coordinator;
static Job *jobs[MOST_STREAMS]; /* by the hash of the id */
static int64_t heartbeat_due_ns;

static void put_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void put_text(const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    ws_put(coordinator, WS_TEXT, true, text, (size_t)n);
}

/* --- jobs by id ----------------------------------------------------------------------------- */

static Job **place_of(const char *id, size_t n) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < n; i++) hash = (hash ^ (uint8_t)id[i]) * 16777619u;
    Job **place = &jobs[hash % MOST_STREAMS];
    while (*place != NULL && (strncmp((*place)->id, id, n) != 0 || (*place)->id[n] != '\0')) place = &(*place)->next;
    return place;
}

static Job **job_in(char *frame, size_t n) {
    char *id = json_value(frame, n, "job_id");
    if (id == NULL) die("a frame without a job: %.*s", (int)n, frame);
    return place_of(id, (size_t)((char *)memchr(id, '"', (size_t)(frame + n - id)) - id));
}

static void forget(Job *job) {
    Job **place = place_of(job->id, strlen(job->id));
    *place = job->next;
    free(job);
}

/* --- answers -------------------------------------------------------------------------------- */

static void put_json_chunk(Job *job, const char *data, size_t n) {
    char text[BULK_BYTES * 2];
    size_t size = (size_t)sprintf(text, "{\"type\":\"job_chunk\",\"job_id\":\"%s\",\"seq\":%u,\"data\":\"", job->id, job->seq);
    size += base64_put(text + size, (const uint8_t *)data, n);
    size += (size_t)sprintf(text + size, "\"}");
    ws_put(coordinator, WS_TEXT, true, text, size);
}

static void stream_piece(Stream *stream, const char *data, size_t n) {
    Job *job = (Job *)stream;
    uint32_t words[2] = {htonl((uint32_t)job->stream_id), htonl(job->seq)};
    if (job->stream_id < 0) {
        put_json_chunk(job, data, n);
    } else {
        ws_head(coordinator, WS_BINARY, true, 1 + sizeof words + n);
        conn_put(coordinator, "\1", 1);
        conn_put(coordinator, words, sizeof words);
        conn_put(coordinator, data, n);
    }
    job->seq++, job->sent += n;
}

static void stream_end(Stream *stream) {
    Job *job = (Job *)stream;
    stream_piece(stream, ENDING, sizeof ENDING - 1);
    put_text(DONE, job->id, job->seq, job->seq, (unsigned long long)job->sent);
    forget(job);
}

/* Endless streams take turns, as far as their windows and the socket let them. */
static void on_room(Conn *conn) {
    bool went_on = true;
    while (went_on && held(&conn->out) < HIGH_WATER) {
        went_on = false;
        for (size_t i = 0; i < active_count; i++) {
            Job *job = (Job *)active[i];
            if (!job->stream.is_endless || job->sent - job->acked + job->piece_bytes > job->window) continue;
            stream_more(&job->stream);
            went_on = true;
        }
    }
}

/* --- frames --------------------------------------------------------------------------------- */

static void take_job(char *frame, size_t n) {
    char *id = json_value(frame, n, "job_id");
    Job *job = calloc(1, sizeof *job), **place = job_in(frame, n);
    memcpy(job->id, id, strcspn(id, "\""));
    job->stream_id = json_number(frame, n, "stream_id", -1);
    job->window = (uint64_t)json_number(frame, n, "window_bytes", INT64_MAX);
    job->next = *place, *place = job;
    put_text(STARTED, job->id);
    char *request = json_value(frame, n, "request");
    if (!stream_begin(&job->stream, request, (size_t)(frame + n - request))) die("no order: %.*s", (int)n, frame);
    job->piece_bytes = strcmp(job->stream.mode, "bulk") == 0 ? BULK_BYTES : EVENT_BYTES;
}

static void take_ack(char *frame, size_t n) {
    Job *job = *job_in(frame, n);
    if (job == NULL) return; /* of its outcome */
    int64_t chunks = json_number(frame, n, "seq", -1) + 1;
    job->acked = chunks > 0 ? EVENT_BYTES + (uint64_t)(chunks - 1) * job->piece_bytes : 0;
    conn_dirty(coordinator);
}

static void take_cancel(char *frame, size_t n) {
    Job *job = *job_in(frame, n);
    if (job == NULL) return;
    stream_forget(&job->stream);
    put_text(CANCELLED, job->id, job->seq, (unsigned long long)job->sent);
    forget(job);
}

static void take(Conn *conn, int opcode, char *frame, size_t n) {
    (void)conn, (void)opcode;
    if (json_is(frame, n, "type", "job")) take_job(frame, n);
    else if (json_is(frame, n, "type", "job_ack")) take_ack(frame, n);
    else if (json_is(frame, n, "type", "job_cancel")) take_cancel(frame, n);
}

static void on_data(Conn *conn) { ws_take(conn, true, take); }

static void on_gone(Conn *conn) {
    (void)conn;
    die("the coordinator left");
}

static void on_time(int64_t now) {
    produce_paced(now);
    if (heartbeat_due_ns <= now) {
        put_text(HEARTBEAT);
        heartbeat_due_ns = now + HEARTBEAT_NS;
    }
    timer_by(heartbeat_due_ns);
}

int main(int argc, char **argv) {
    static Listener listener;
    if (argc < 2) die("agent SOCKET_FD");
    loop_open();
    on_timer = on_time;
    coordinator = conn_new(atoi(argv[1]), on_data);
    coordinator->on_room = on_room, coordinator->on_gone = on_gone;
    timer_by(now_ns());
    say("{\"event\":\"listening\",\"control\":%d}", listen_on(&listener, control_accept));
    loop_run();
}
