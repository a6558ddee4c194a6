#include "core/frame.h"

#include "core/bytes.h"
#include "core/crc32.h"

/* Decode in place; 0 where the bytes are no COBS. */
static uint32_t cobs_decode(uint8_t *bytes, uint32_t count) {
    uint32_t from = 0, to = 0;
    while (from < count) {
        uint32_t code = bytes[from++];
        if (from + code - 1 > count) {
            return 0;
        }
        for (uint32_t i = 1; i < code; i++) {
            bytes[to++] = bytes[from++];
        }
        if (code < 255 && from < count) {
            bytes[to++] = 0;
        }
    }
    return to;
}

static uint32_t cobs_encode(const uint8_t *bytes, uint32_t count, uint8_t *to) {
    uint32_t code_at = 0, end = 1;
    for (uint32_t i = 0; i < count; i++) {
        if (bytes[i] != 0) {
            to[end++] = bytes[i];
        }
        bool full = end - code_at == 255;
        if (bytes[i] == 0 || (full && i + 1 < count)) {
            to[code_at] = (uint8_t)(end - code_at);
            code_at = end++;
        }
    }
    to[code_at] = (uint8_t)(end - code_at);
    return end;
}

static void begin(stream *from, bool in_frame) {
    from->in_frame = in_frame;
    from->count = 0;
    from->too_long = false;
    from->delivered = false;
}

static stream_event end_of_frame(stream *from) {
    uint32_t count = from->too_long ? 0 : cobs_decode(from->bytes, from->count);
    begin(from, false);
    if (count < FRAME_HEADER + 4 || count > FRAME_BODY) {
        return STREAM_NOTHING;
    }
    count -= 4;
    if (crc32(0, from->bytes, count) != get_u32(from->bytes + count)) {
        return STREAM_NOTHING;
    }
    from->count = count;
    from->delivered = true;
    return STREAM_FRAME;
}

static stream_event end_of_text(stream *from) {
    from->bytes[from->count] = 0;
    from->delivered = true;
    return from->too_long ? STREAM_LONG_TEXT : STREAM_TEXT;
}

static void keep(stream *to, uint8_t byte, uint32_t limit) {
    if (to->count < limit) {
        to->bytes[to->count++] = byte;
    } else {
        to->too_long = true;
    }
}

stream_event stream_byte(stream *from, uint8_t byte) {
    if (from->delivered) {
        begin(from, false);
    }
    if (byte == 0) {
        if (from->in_frame && from->count > 0) {
            return end_of_frame(from);
        }
        begin(from, true);
        return STREAM_NOTHING;
    }
    if (from->in_frame) {
        keep(from, byte, sizeof from->bytes);
        return STREAM_NOTHING;
    }
    if (byte == '%') {
        return end_of_text(from);
    }
    keep(from, byte, TEXT_BYTES);
    return STREAM_NOTHING;
}

frame_header frame_read_header(const uint8_t *body) {
    return (frame_header){
        .type = body[0],
        .status = body[1],
        .sequence = get_u16(body + 2),
        .session = get_u32(body + 4),
    };
}

uint32_t frame_encode(frame_header header, uint8_t *body, uint32_t payload_bytes, uint8_t *line) {
    body[0] = header.type;
    body[1] = header.status;
    put_u16(body + 2, header.sequence);
    put_u32(body + 4, header.session);
    uint32_t count = FRAME_HEADER + payload_bytes;
    put_u32(body + count, crc32(0, body, count));
    line[0] = 0;
    line[1] = 0;
    uint32_t encoded = cobs_encode(body, count + 4, line + 2);
    line[2 + encoded] = 0;
    return encoded + 3;
}
