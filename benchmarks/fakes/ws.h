/* WebSocket frames over a Conn, and as much of JSON and base64 as the fakes need. Knows no frame of ours. */
#ifndef WS_H
#define WS_H
#include "net.h"

enum { WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

/* --- base64, SHA-1: the handshake's -------------------------------------------------------- */

static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static size_t base64_put(char *to, const uint8_t *from, size_t n) {
    char *at = to;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t three = (uint32_t)from[i] << 16 | (i + 1 < n ? from[i + 1] << 8 : 0) | (i + 2 < n ? from[i + 2] : 0);
        *at++ = BASE64[three >> 18];
        *at++ = BASE64[three >> 12 & 63];
        *at++ = i + 1 < n ? BASE64[three >> 6 & 63] : '=';
        *at++ = i + 2 < n ? BASE64[three & 63] : '=';
    }
    return (size_t)(at - to);
}

/* Decodes in place: the bytes are never more than the text. */
static size_t base64_take(char *text, size_t n) {
    static uint8_t value[256];
    if (value['/'] == 0) {
        for (int i = 0; i < 64; i++) value[(uint8_t)BASE64[i]] = (uint8_t)i;
    }
    while (n > 0 && text[n - 1] == '=') n--;
    size_t to = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        bits = bits << 6 | value[(uint8_t)text[i]];
        if (i % 4 != 0) text[to++] = (char)(bits >> (6 - 2 * (i % 4)));
    }
    return to;
}

static uint32_t rotated(uint32_t word, int by) { return word << by | word >> (32 - by); }

static void sha1_block(uint32_t h[5], const uint8_t *block) {
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 80; i++) {
        w[i] = i < 16 ? (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3]
                      : rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5A827999
                     : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                     : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC
                              : (b ^ c ^ d) + 0xCA62C1D6;
        uint32_t next = rotated(a, 5) + f + e + w[i];
        e = d, d = c, c = rotated(b, 30), b = a, a = next;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

/* What the server answers to a key (RFC 6455, 4.2.2): `text` gets 28 characters. */
static void ws_accept_key(char *text, const char *key, size_t n) {
    uint8_t message[128] = {0}, digest[20];
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    memcpy(message, key, n);
    memcpy(message + n, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    n += 36;
    message[n] = 0x80;
    message[126] = (uint8_t)(n * 8 >> 8), message[127] = (uint8_t)(n * 8);
    sha1_block(h, message), sha1_block(h, message + 64);
    for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
    text[base64_put(text, digest, 20)] = '\0';
}

/* --- frames ------------------------------------------------------------------------------ */

/* Put the head of a frame; a client's carries a mask of zeros, which changes nothing. */
static void ws_head(Conn *conn, int opcode, bool is_client, size_t n) {
    uint8_t head[14] = {(uint8_t)(0x80 | opcode)};
    size_t size = 2;
    if (n < 126) {
        head[1] = (uint8_t)n;
    } else if (n < 65536) {
        head[1] = 126, head[2] = (uint8_t)(n >> 8), head[3] = (uint8_t)n, size = 4;
    } else {
        head[1] = 127, size = 10;
        for (int i = 0; i < 8; i++) head[2 + i] = (uint8_t)((uint64_t)n >> (56 - 8 * i));
    }
    if (is_client) head[1] |= 0x80, size += 4;
    conn_put(conn, head, size);
}

static void ws_put(Conn *conn, int opcode, bool is_client, const void *payload, size_t n) {
    ws_head(conn, opcode, is_client, n);
    conn_put(conn, payload, n);
}

static void unmask(char *payload, size_t n, const uint8_t key[4]) {
    uint64_t wide;
    uint8_t twice[8] = {key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]};
    memcpy(&wide, twice, 8);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, payload + i, 8);
        word ^= wide;
        memcpy(payload + i, &word, 8);
    }
    for (; i < n; i++) payload[i] ^= (char)key[i % 4];
}

/* Give each whole frame of `conn->in` to `take`; answers pings and closes. */
static void ws_take(Conn *conn, bool is_client, void (*take)(Conn *, int opcode, char *payload, size_t n)) {
    while (held(&conn->in) >= 2 && !conn->is_gone) {
        uint8_t *frame = (uint8_t *)head_of(&conn->in);
        size_t n = frame[1] & 0x7F, head = n == 126 ? 4 : n == 127 ? 10 : 2;
        bool masked = frame[1] & 0x80;
        if (held(&conn->in) < head + (masked ? 4 : 0)) return;
        if (n == 126) n = (size_t)frame[2] << 8 | frame[3];
        else if (n == 127) for (int i = n = 0; i < 8; i++) n = n << 8 | frame[2 + i];
        if (held(&conn->in) < head + (masked ? 4 : 0) + n) return;
        if (masked) unmask((char *)frame + head + 4, n, frame + head), head += 4;
        conn->in.from += head + n;
        int opcode = frame[0] & 0x0F;
        if (opcode == WS_PING) ws_put(conn, WS_PONG, is_client, frame + head, n);
        else if (opcode == WS_CLOSE) ws_put(conn, WS_CLOSE, is_client, frame + head, n < 2 ? n : 2);
        else if (opcode != WS_PONG) take(conn, opcode, (char *)frame + head, n);
    }
}

/* --- JSON: where a member's value begins, by the first place that the name has in the text ----- */

static char *json_value(char *text, size_t n, const char *name) {
    char quoted[32];
    int size = snprintf(quoted, sizeof quoted, "\"%s\"", name);
    char *at = memmem(text, n, quoted, (size_t)size);
    if (at == NULL) return NULL;
    for (at += size; at < text + n && (*at == ':' || *at == ' ' || *at == '"'); at++) continue;
    return at;
}

static int64_t json_number(char *text, size_t n, const char *name, int64_t missing) {
    char *at = json_value(text, n, name);
    return at != NULL && at < text + n && *at >= '0' && *at <= '9' ? strtoll(at, NULL, 10) : missing;
}

static bool json_is(char *text, size_t n, const char *name, const char *value) {
    char *at = json_value(text, n, name);
    size_t size = strlen(value);
    return at != NULL && (size_t)(text + n - at) > size && memcmp(at, value, size) == 0 && at[size] == '"';
}
#endif
