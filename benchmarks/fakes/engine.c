/* An OpenAI-compatible engine that costs next to nothing; `producer.h` says what the prompt orders. */
#include "producer.h"

#define JSON_HEAD "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s"
#define MODELS "{\"object\":\"list\",\"data\":[{\"id\":\"" MODEL "\",\"object\":\"model\",\"created\":0,\"owned_by\":\"bench\"}]}"
#define NO_PATH "{\"error\":{\"message\":\"no such path\"}}"
#define SSE_HEAD \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n" \
    "Transfer-Encoding: chunked\r\n\r\n"
#define HIGH_WATER 131072

typedef struct {
    Stream stream; /* the one that is answered */
    Conn *conn;
    bool has_head, is_last_request;
} Request;

static Request *request_of(Stream *stream) { return (Request *)stream; }

static void put_http_chunk(Conn *conn, const char *data, size_t n) {
    char size[16];
    conn_put(conn, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", n));
    conn_put(conn, data, n);
    conn_put(conn, "\r\n", 2);
}

static void put_head(Request *request) {
    if (!request->has_head) conn_put(request->conn, SSE_HEAD, sizeof SSE_HEAD - 1);
    request->has_head = true;
}

static void stream_piece(Stream *stream, const char *data, size_t n) {
    put_head(request_of(stream));
    put_http_chunk(request_of(stream)->conn, data, n);
}

static void stream_end(Stream *stream) {
    Request *request = request_of(stream);
    put_head(request);
    put_http_chunk(request->conn, ENDING, sizeof ENDING - 1);
    conn_put(request->conn, "0\r\n\r\n", 5);
    request->has_head = false;
    if (request->is_last_request) conn_dirty(request->conn);
}

/* All has left: an endless stream goes on, a connection that was to be closed is. */
static void on_room(Conn *conn) {
    Request *request = conn->owner;
    if (request->stream.is_endless) {
        for (size_t n = 0; n < HIGH_WATER;) n += stream_more(&request->stream);
    } else if (request->is_last_request && !request->stream.is_active) {
        shutdown(conn->source.fd, SHUT_WR);
    }
}

static void on_gone(Conn *conn) {
    stream_left(conn->owner);
    free(conn->owner);
}

static void put_json(Conn *conn, const char *status, const char *body) {
    char text[1024];
    conn_put(conn, text, (size_t)snprintf(text, sizeof text, JSON_HEAD, status, strlen(body), body));
}

static void on_request(Conn *conn) {
    Buffer *in = &conn->in;
    Request *request = conn->owner;
    char *end = held(in) > 0 ? memmem(head_of(in), held(in), "\r\n\r\n", 4) : NULL;
    if (end == NULL) return;
    *end = '\0';
    char *head = head_of(in), *length = strcasestr(head, "\ncontent-length:");
    size_t body = length == NULL ? 0 : strtoul(length + 16, NULL, 10), whole = (size_t)(end - head) + 4 + body;
    if (held(in) < whole) {
        *end = '\r';
        return;
    }
    in->from += whole;
    request->is_last_request = strcasestr(head, "\nconnection: close") != NULL;
    if (strncmp(head, "GET /v1/models", 14) == 0) put_json(conn, "200 OK", MODELS);
    else if (strncmp(head, "POST /v1/chat", 13) != 0) put_json(conn, "404 Not Found", NO_PATH);
    else if (request->stream = (Stream){0}, !stream_begin(&request->stream, end + 4, body)) put_json(conn, "400 Bad Request", NO_PATH);
}

static void on_accept(int fd) {
    int most = HIGH_WATER; /* a slow reader must not have megabytes to read when it is to finish */
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &most, sizeof most);
    Conn *conn = conn_new(fd, on_request);
    Request *request = calloc(1, sizeof *request);
    conn->owner = request, conn->on_room = on_room, conn->on_gone = on_gone;
    request->conn = conn;
}

int main(void) {
    static Listener http, control;
    loop_open();
    on_timer = produce_paced;
    int port = listen_on(&http, on_accept);
    say("{\"event\":\"listening\",\"http\":%d,\"control\":%d}", port, listen_on(&control, control_accept));
    loop_run();
}
