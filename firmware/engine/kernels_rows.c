#include "engine/kernels_rows.h"

#include "engine/kernels_dot.h"

/* Bytes that are read four at a time. */
typedef uint32_t __attribute__((may_alias)) four_bytes;

/* `count` bytes from anywhere, 0 for the rest of the quad. */
static void widen_bytes(const int8_t *bytes, int32_t count, uint32_t words[2]) {
    uint32_t four = 0;
    for (int32_t i = 0; i < count; i++) {
        four |= (uint32_t)(uint8_t)bytes[i] << (8 * i);
    }
    dot_widen(four, words);
}

static uint32_t *widen_column(const int8_t *bytes, int32_t count, uint32_t *words) {
    for (; count >= 4; count -= 4) {
        uint32_t four = (uint32_t)(uint8_t)bytes[0] | (uint32_t)(uint8_t)bytes[1] << 8 |
                        (uint32_t)(uint8_t)bytes[2] << 16 | (uint32_t)(uint8_t)bytes[3] << 24;
        dot_widen(four, words);
        bytes += 4;
        words += 2;
    }
    if (count > 0) {
        widen_bytes(bytes, count, words);
        words += 2;
    }
    return words;
}

void row_widen(const int8_t *input, int32_t pixels, int32_t channels, int32_t lanes,
               uint32_t *words) {
    if (channels == lanes) {
        const four_bytes *from = (const four_bytes *)(const void *)input;
        const four_bytes *end = from + pixels * (channels >> 2);
        while (from != end) {
            dot_widen(*from++, words);
            words += 2;
        }
        return;
    }
    for (int32_t i = 0; i < pixels; i++) {
        words = widen_column(input, channels, words);
        input += channels;
    }
}

static int32_t fitting(int32_t wanted, int32_t room) {
    int32_t least = wanted < room ? wanted : room;
    return least > 0 ? least : 0;
}

void row_make(const row_layout *row, const int8_t *input, int8_t *line, uint32_t *words) {
    if (row->gathered == 0) {
        int32_t pixels = fitting(row->width, row->columns - row->left);
        row_widen(input, pixels, row->channels, row->lanes, words + row->left * (row->lanes >> 1));
        return;
    }
    int32_t start = row->left * row->channels;
    int32_t bytes = fitting(row->width * row->channels, row->line - start);
    __builtin_memcpy(line + start, input, (uint32_t)bytes);
    for (int32_t column = 0; column < row->columns; column++) {
        words = widen_column(line, row->gathered, words);
        line += row->stride;
    }
}
