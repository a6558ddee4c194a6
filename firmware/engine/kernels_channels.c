#include "engine/kernels_channels.h"

#define MOST 6 /* outputs at a time */

#define INLINE static inline __attribute__((always_inline))

/* Keeps the compiler from starting what follows from either before both are there: it would mix
 * the rows of a kernel and then lack registers. */
#define IN_ORDER(one, two) __asm__ volatile("" : "+r"(one), "+r"(two))

/* One channel of it; `at` words into the rows is its first column. */
typedef struct {
    const int16_t *weights;
    const uint32_t *starts;
    uint32_t bias;
    int32_t at;
    int8_t *output;
} channel_row;

/* `count` outputs (a constant, even) of a 3x3 kernel; `odd`: the last of them is not wanted. */
INLINE void whole_outputs(const channels_block *b, channel_row *c, int stride, int count,
                          bool odd) {
    uint32_t sums[MOST / 2];
    uint32_t v[MOST];
    const int16_t *w = c->weights;
#pragma GCC unroll 3
    for (int p = 0; p < count / 2; p++) {
        sums[p] = *c->starts;
    }
#pragma GCC unroll 3
    for (int y = 0; y < 3; y++) {
        const uint32_t *x = b->rows[y] + c->at;
        uint32_t taps[3];
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++) {
            taps[i] = (uint32_t)(int32_t)w[y * 3 + i];
        }
        IN_ORDER(w, x);
#pragma GCC unroll 16
        for (int i = 0; i < (count - 2) * stride + 3; i++) {
            uint32_t pair = x[i];
#pragma GCC unroll 3
            for (int p = 0; p < count / 2; p++) {
                int tap = i - 2 * p * stride;
                if (tap >= 0 && tap < 3) {
                    sums[p] += pair * taps[tap];
                    IN_ORDER(sums[p], x);
                }
            }
        }
    }
#pragma GCC unroll 6
    for (int p = 0; p < count; p++) {
        uint32_t sum = p % 2 ? sums[p / 2] >> 16 : sums[p / 2] & 0xffffu;
        v[p] = requant_clip(&b->q, sum + c->bias);
    }
    requant_shift(v, count, b->q.shift);
    int8_t *output = c->output;
    const uint32_t low = (uint32_t)b->q.low;
    const int32_t step = b->step;
#pragma GCC unroll 6
    for (int p = 0; p < count - 1; p++) {
        *output = (int8_t)(v[p] + low);
        output += step;
    }
    if (!odd) {
        *output = (int8_t)(v[count - 1] + low);
    }
    c->output = output + step;
    c->at += count * stride;
}

INLINE void whole_channel(const channels_block *b, channel_row *c, int stride) {
    int32_t left = b->columns;
    for (; left >= MOST; left -= MOST) {
        whole_outputs(b, c, stride, MOST, false);
    }
    if (left >= 3) {
        whole_outputs(b, c, stride, 4, left == 3);
        left -= 4;
    }
    if (left > 0) {
        whole_outputs(b, c, stride, 2, left == 1);
    }
}

/* The channels from `i` on that go this way; which is the next. */
INLINE int32_t whole_channels(const channels_block *b, int32_t i, int stride) {
    const int32_t plane = b->plane;
    channel_row c = {.weights = b->weights + i * 9, .starts = b->starts + i * 6};
    int32_t at = i * plane;
    do {
        c.bias = b->bias[i];
        c.at = at;
        c.output = b->output + i;
        whole_channel(b, &c, stride);
        c.weights += 9;
        c.starts += 6;
        at += plane;
        i++;
    } while (i < b->channels && b->ways[i] == WAY_WHOLE);
    return i;
}

static __attribute__((noinline)) int32_t whole_channels_1(const channels_block *b, int32_t i) {
    return whole_channels(b, i, 1);
}

static __attribute__((noinline)) int32_t whole_channels_2(const channels_block *b, int32_t i) {
    return whole_channels(b, i, 2);
}

static void store_any(const channels_block *b, uint32_t v, int8_t *output) {
    *output = requant_one(&b->q, b->q.early > 0 ? requant_early(&b->q, v) : v);
}

/* Two sums of two neighbouring outputs, apart. */
typedef struct {
    uint32_t one, two;
} two_sums;

INLINE void take_apart(two_sums *t, uint32_t sums) {
    t->one += sums & 0xffffu;
    t->two += sums >> 16;
}

/* The sums of any kernel, a row of it in groups of `group` weights. */
INLINE two_sums any_sums(const channels_block *b, const channel_row *c, int32_t group) {
    const conv_shape *s = b->shape;
    const int16_t *w = c->weights;
    const uint32_t *starts = c->starts;
    two_sums t = {c->bias, c->bias};
    for (int32_t ky = 0; ky < s->kernel_h; ky++) {
        const uint32_t *x = b->rows[ky] + c->at;
        for (int32_t left = s->kernel_w; left > 0; left -= group) {
            uint32_t sums = *starts++;
            for (const int16_t *end = w + (left < group ? left : group); w != end; w++) {
                sums += *x * (uint32_t)(int32_t)*w;
                x += s->dilation_w;
            }
            take_apart(&t, sums);
        }
    }
    return t;
}

/* The same for 3x3 and two weights: the words are at 0, 1 and 2 whatever the stride. */
INLINE two_sums twos_of_3x3(const channels_block *b, const channel_row *c) {
    const int16_t *w = c->weights;
    const uint32_t *starts = c->starts;
    two_sums t = {c->bias, c->bias};
#pragma GCC unroll 3
    for (int y = 0; y < 3; y++) {
        const uint32_t *x = b->rows[y] + c->at;
        uint32_t first = starts[2 * y] + x[0] * (uint32_t)(int32_t)w[3 * y];
        first += x[1] * (uint32_t)(int32_t)w[3 * y + 1];
        take_apart(&t, first);
        take_apart(&t, starts[2 * y + 1] + x[2] * (uint32_t)(int32_t)w[3 * y + 2]);
    }
    return t;
}

static __attribute__((noinline)) void any_channel(const channels_block *b, channel_row *c,
                                                  bool usual, int32_t group) {
    for (int32_t left = b->columns; left > 0; left -= 2) {
        two_sums t = usual ? twos_of_3x3(b, c) : any_sums(b, c, group);
        store_any(b, t.one, c->output);
        c->output += b->step;
        if (left > 1) {
            store_any(b, t.two, c->output);
        }
        c->output += b->step;
        c->at += 2 * b->shape->stride_w;
    }
}

void channels_row(const channels_block *b) {
    const conv_shape *s = b->shape;
    const int32_t taps = s->kernel_h * s->kernel_w;
    const bool usual = channels_usual(s);
    for (int32_t i = 0; i < b->channels;) {
        way chosen = (way)b->ways[i];
        if (chosen == WAY_WHOLE) {
            i = (s->stride_w == 1 ? whole_channels_1 : whole_channels_2)(b, i);
            continue;
        }
        channel_row c = {.weights = b->weights + i * taps,
                         .starts = b->starts + i * channels_sums(s),
                         .bias = b->bias[i],
                         .at = i * b->plane,
                         .output = b->output + i};
        any_channel(b, &c, usual, chosen == WAY_ROWS ? s->kernel_w : 2);
        i++;
    }
}
