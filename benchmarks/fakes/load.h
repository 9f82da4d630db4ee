/* A load, as one line of standard input orders it, and what is counted in its measured window.
 *
 *   MODE STREAMS AMOUNT WARM_UP_MS MEASURED_MS
 *
 * is answered with the JSON lines `started`, `stopped` (the measured window begins and ends) and `result`
 * (every stream has ended). The modes are those of `producer.h`. */
#ifndef LOAD_H
#define LOAD_H
#include "event.h"
#include "net.h"

#define MOST_LATENCIES 2000000
#define BEGINNING_NS 5000000000LL
#define PATIENCE_NS 40000000000LL

typedef enum { IDLE, BEGINNING, WARMING, MEASURED, FINISHING } Phase;

typedef struct {
    char mode[16];
    int streams, amount;
    int64_t warm_up_ns, measured_ns, due_ns, began_ns;
    Phase phase;
    int silent, open; /* streams without a first byte, and without an end */
    int unbegun;      /* those that had no first byte when patience ended */
    uint64_t frames, bytes, jobs, errors;
} Load;

/* What the program gives: begin one more stream. */
static void dispatch(void);

static Load load;
static uint32_t last_number;
static float *latencies_us;
static size_t latency_count;
static Conn *control;

static bool load_is(const char *mode) { return strcmp(load.mode, mode) == 0; }

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double percentile(double share) {
    return latency_count == 0 ? 0 : latencies_us[(size_t)((double)(latency_count - 1) * share)];
}

static void latency(int64_t ns) {
    if (load.phase == MEASURED && latency_count < MOST_LATENCIES) latencies_us[latency_count++] = (float)ns / 1000;
}

/* The age of an event, by the stamp in it. */
static void latency_of(const char *event) {
    char stamp[STAMP_DIGITS + 1] = {0};
    memcpy(stamp, event + OPEN_BYTES + NUMBER_DIGITS, STAMP_DIGITS);
    latency(now_ns() - strtoll(stamp, NULL, 10));
}

static void control_put(uint32_t command) {
    if (control != NULL) conn_put(control, &command, 4);
}

static void phase_until(Phase phase, int64_t due_ns) {
    load.phase = phase, load.due_ns = due_ns;
    timer_by(due_ns);
}

static void report(void) {
    qsort(latencies_us, latency_count, sizeof *latencies_us, by_size);
    say("{\"event\":\"result\",\"elapsed_s\":%.6f,\"frames\":%llu,\"bytes\":%llu,\"jobs\":%llu,\"errors\":%llu,"
        "\"unbegun\":%d,\"latencies\":%zu,\"p50_us\":%.1f,\"p99_us\":%.1f}",
        (double)load.measured_ns / 1e9, (unsigned long long)load.frames, (unsigned long long)load.bytes,
        (unsigned long long)load.jobs, (unsigned long long)load.errors, load.unbegun, latency_count,
        percentile(0.5),
        percentile(0.99));
    load.phase = IDLE;
}

static void phase_over(int64_t now) {
    switch (load.phase) {
    case WARMING:
        say("{\"event\":\"started\"}");
        load.began_ns = now_ns();
        phase_until(MEASURED, load.began_ns + load.measured_ns);
        break;
    case MEASURED:
        load.measured_ns = now - load.began_ns;
        say("{\"event\":\"stopped\"}");
        phase_until(FINISHING, now + PATIENCE_NS);
        control_put(FINISH_ALL);
        if (load.open == 0) report();
        break;
    case BEGINNING:
        load.unbegun = load.silent;
        phase_until(WARMING, now + load.warm_up_ns);
        break;
    case FINISHING: die("%d streams never ended", load.open);
    case IDLE: break;
    }
}

static void load_timer(int64_t now) {
    if (load.phase == IDLE) return;
    if (load.due_ns <= now) phase_over(now);
    else timer_by(load.due_ns);
}

/* --- what the program tells ------------------------------------------------------------- */

static void stream_spoke(void) {
    if (--load.silent == 0 && load.phase == BEGINNING) phase_until(WARMING, now_ns() + load.warm_up_ns);
    if (load.phase == FINISHING) control_put(FINISH_ALL); /* it began after the others were told */
}

static void stream_ended(bool failed) {
    load.open--;
    load.errors += failed;
    load.jobs += load.phase == MEASURED;
    if (load_is("once") && load.phase != FINISHING && load.phase != IDLE) dispatch();
    else if (load.phase == FINISHING && load.open == 0) report();
}

static void count(size_t bytes) {
    if (load.phase != MEASURED) return;
    load.frames++;
    load.bytes += bytes;
}

/* --- standard input --------------------------------------------------------------------- */

static void stdin_ready(Source *source, uint32_t events) {
    (void)events;
    char line[256];
    int warm_up_ms, measured_ms;
    ssize_t n = read(source->fd, line, sizeof line - 1);
    if (n <= 0) exit(0);
    line[n] = '\0';
    load = (Load){.phase = BEGINNING};
    if (sscanf(line, "%15s %d %d %d %d", load.mode, &load.streams, &load.amount, &warm_up_ms, &measured_ms) != 5)
        die("no load: %s", line);
    load.warm_up_ns = warm_up_ms * 1000000LL, load.measured_ns = measured_ms * 1000000LL;
    load.silent = load_is("blast") || load_is("bulk") ? 1 : load.streams; /* a flood may drown the others' beginnings */
    if (latencies_us == NULL) latencies_us = malloc(MOST_LATENCIES * sizeof *latencies_us);
    latency_count = 0;
    phase_until(BEGINNING, now_ns() + BEGINNING_NS);
    for (int i = 0; i < load.streams; i++) dispatch();
}

static void control_said(Conn *conn) { conn->in.from = conn->in.to; }

/* Take loads from standard input; `control_port` is the producer's, 0 for none. */
static void loads_from_stdin(int control_port) {
    static Source source = {stdin_ready, 0};
    watch(&source, EPOLLIN, EPOLL_CTL_ADD);
    if (control_port != 0) control = dial(control_port, control_said);
}
#endif
