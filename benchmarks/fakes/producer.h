/* What makes answers: streams of events, as the prompt orders. Knows not how they travel.
 *
 * The prompt is `#<number> <mode> <amount>#`:
 *   lockstep  one event whenever the control connection names the stream, until told to finish
 *   paced     `amount` events a second, each with the time at which it was made, until told to finish
 *   blast     events as fast as they are taken, until told to finish
 *   bulk      the same in pieces of 16 KiB
 *   once      one event, and the end
 *   hold      nothing at all, until told to finish
 */
#ifndef PRODUCER_H
#define PRODUCER_H
#include "event.h"
#include "net.h"

#define BULK_BYTES 16384

typedef struct {
    uint32_t number;
    char mode[12];
    int64_t interval_ns, due_ns; /* of a paced stream; else 0 */
    bool is_active, is_endless;
    size_t place; /* among the active ones */
} Stream;

/* What the program gives: a piece of an answer, and its end. */
static void stream_piece(Stream *stream, const char *data, size_t n);
static void stream_end(Stream *stream);

static Stream *streams[MOST_STREAMS];
static Stream **active;
static size_t active_count, active_size;
static Conn *watcher;

static void digits(char *to, uint64_t value, int count) {
    while (count-- > 0) to[count] = (char)('0' + value % 10), value /= 10;
}

static void write_event(char *to, uint32_t number) {
    memcpy(to, EVENT_OPEN, OPEN_BYTES);
    digits(to + OPEN_BYTES, number, NUMBER_DIGITS);
    digits(to + OPEN_BYTES + NUMBER_DIGITS, (uint64_t)now_ns(), STAMP_DIGITS);
    memcpy(to + EVENT_BYTES - CLOSE_BYTES, EVENT_CLOSE, CLOSE_BYTES);
}

static void stream_event(Stream *stream) {
    char event[EVENT_BYTES];
    write_event(event, stream->number);
    stream_piece(stream, event, EVENT_BYTES);
}

static bool is_mode(const Stream *stream, const char *mode) { return strcmp(stream->mode, mode) == 0; }

/* One more piece of a stream that never waits; gives the bytes. */
static size_t stream_more(Stream *stream) {
    static char bulk[BULK_BYTES];
    if (is_mode(stream, "blast")) {
        stream_event(stream);
        return EVENT_BYTES;
    }
    if (bulk[0] == '\0') {
        size_t last = BULK_BYTES / EVENT_BYTES * EVENT_BYTES - EVENT_BYTES; /* it has the bytes that are left over */
        memset(bulk, '0', BULK_BYTES);
        for (size_t i = 0; i <= last; i += EVENT_BYTES) write_event(bulk + i, stream->number);
        memset(bulk + last + EVENT_BYTES - CLOSE_BYTES, '0', CLOSE_BYTES);
        memcpy(bulk + BULK_BYTES - CLOSE_BYTES, EVENT_CLOSE, CLOSE_BYTES);
    }
    stream_piece(stream, bulk, BULK_BYTES);
    return BULK_BYTES;
}

static void stream_remember(Stream *stream) {
    if (active_count == active_size) active = realloc(active, (active_size = active_size * 2 + 64) * sizeof *active);
    stream->place = active_count;
    active[active_count++] = stream;
    streams[stream->number % MOST_STREAMS] = stream;
    stream->is_active = true;
}

/* It ended, or its reader left. */
static void stream_forget(Stream *stream) {
    if (!stream->is_active) return;
    stream->is_active = stream->is_endless = false;
    streams[stream->number % MOST_STREAMS] = NULL;
    active[stream->place] = active[--active_count];
    active[stream->place]->place = stream->place;
}

static void stream_left(Stream *stream) {
    if (!stream->is_active) return;
    if (watcher != NULL) {
        int64_t at = now_ns();
        conn_put(watcher, &stream->number, 4);
        conn_put(watcher, &at, 8);
    }
    stream_forget(stream);
}

/* Begin what the request orders; false when it orders nothing. The first event goes at once, but for `hold`. */
static bool stream_begin(Stream *stream, char *request, size_t n) {
    char *prompt = memchr(request, '#', n);
    unsigned amount;
    if (prompt == NULL || sscanf(prompt, "#%u %11s %u#", &stream->number, stream->mode, &amount) != 3) return false;
    stream_remember(stream);
    if (is_mode(stream, "hold")) return true;
    stream_event(stream);
    if (is_mode(stream, "once")) {
        stream_forget(stream);
        stream_end(stream);
    } else if (is_mode(stream, "paced")) {
        stream->interval_ns = 1000000000 / (amount > 0 ? amount : 1);
        stream->due_ns = now_ns() + stream->interval_ns * (stream->number % 64) / 64;
        timer_by(stream->due_ns);
    } else {
        stream->is_endless = is_mode(stream, "blast") || is_mode(stream, "bulk");
    }
    return true;
}

static void produce_paced(int64_t now) {
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < active_count; i++) {
        Stream *stream = active[i];
        if (stream->interval_ns == 0) continue;
        for (; stream->due_ns <= now; stream->due_ns += stream->interval_ns) stream_event(stream);
        if (stream->due_ns < next) next = stream->due_ns;
    }
    if (next != INT64_MAX) timer_by(next);
}

static void finish_all(void) {
    while (active_count > 0) {
        Stream *stream = active[active_count - 1];
        stream_forget(stream);
        stream_end(stream);
    }
}

static void control_data(Conn *conn) {
    while (held(&conn->in) >= 4) {
        uint32_t number;
        memcpy(&number, head_of(&conn->in), 4);
        conn->in.from += 4;
        Stream *stream = streams[number % MOST_STREAMS];
        if (number == FINISH_ALL) finish_all();
        else if (number == WATCH) watcher = conn;
        else if (stream != NULL && stream->number == number) stream_event(stream);
    }
}

static void control_gone(Conn *conn) {
    if (watcher == conn) watcher = NULL;
}

static void control_accept(int fd) { conn_new(fd, control_data)->on_gone = control_gone; }
#endif
