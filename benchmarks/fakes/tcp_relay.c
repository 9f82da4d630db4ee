/* The ceiling: streams of an engine to one TCP connection, as they come, one write for all of a loop's turn.
 *
 *   tcp_relay SINK_PORT ENGINE_PORT
 *
 * The sink asks for each stream with u32 length and the request's bytes. */
#include "net.h"

#define HIGH_WATER (512 * 1024)

static Conn *sink, **engines;
static size_t engine_count, engine_size;
static int engine_port;
static bool is_held_up;

static void hold_up(bool held_up) {
    is_held_up = held_up;
    for (size_t i = 0; i < engine_count; i++) conn_watch(engines[i], held_up ? 0 : EPOLLIN);
}

static void on_engine_data(Conn *conn) {
    conn_put(sink, head_of(&conn->in), held(&conn->in));
    conn->in.from = conn->in.to;
    if (!is_held_up && held(&sink->out) > HIGH_WATER) hold_up(true);
}

static void on_engine_gone(Conn *conn) {
    for (size_t i = 0; i < engine_count; i++) {
        if (engines[i] == conn) {
            engines[i] = engines[--engine_count];
            return;
        }
    }
}

static void on_room(Conn *conn) {
    (void)conn;
    if (is_held_up) hold_up(false);
}

static void on_order(Conn *conn) {
    while (held(&conn->in) >= 4) {
        uint32_t n;
        memcpy(&n, head_of(&conn->in), 4);
        if (held(&conn->in) < 4 + n) return;
        Conn *engine = dial(engine_port, on_engine_data);
        engine->on_gone = on_engine_gone;
        remember(&engines, &engine_count, &engine_size, engine);
        conn_put(engine, head_of(&conn->in) + 4, n);
        conn->in.from += 4 + n;
    }
}

int main(int argc, char **argv) {
    if (argc < 3) die("tcp_relay SINK_PORT ENGINE_PORT");
    loop_open();
    engine_port = atoi(argv[2]);
    sink = dial(atoi(argv[1]), on_order);
    sink->on_room = on_room;
    loop_run();
}
