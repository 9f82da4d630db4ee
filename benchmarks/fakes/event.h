/* What those who make answers and those who read them agree on. Knows no connection.
 *
 * An answer is events of one size, each with its stream's number and the time at which it was made (ns).
 * Control connection, little-endian u32 each: a stream's number, for one more event; FINISH_ALL ends every
 * stream; WATCH asks to be told of each stream that its reader left before the end: u32 number, u64 ns. */
#ifndef EVENT_H
#define EVENT_H

#define FINISH_ALL 0xFFFFFFFFu
#define WATCH 0xFFFFFFFEu
#define EVENT_BYTES 160
#define MOST_STREAMS 65536 /* at a time, and between the oldest and the newest */
#define MODEL "bench"

#define EVENT_OPEN \
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\"," \
    "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" "
#define EVENT_CLOSE "\"},\"finish_reason\":null}]}\n\n"
#define OPEN_BYTES (sizeof EVENT_OPEN - 1)
#define CLOSE_BYTES (sizeof EVENT_CLOSE - 1)
#define NUMBER_DIGITS 9
#define STAMP_DIGITS 18
_Static_assert(OPEN_BYTES + NUMBER_DIGITS + STAMP_DIGITS + CLOSE_BYTES == EVENT_BYTES, "the size of an event");

#define ENDING \
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0," \
    "\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n" \
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":" \
    "{\"prompt_tokens\":7,\"completion_tokens\":1,\"total_tokens\":8}}\n\ndata: [DONE]\n\n"
#endif
