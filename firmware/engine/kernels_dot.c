#include "engine/kernels_dot.h"

/* Pixels that share a weight once it is in a register. Sixteen registers hold the accumulators
 * and activations of one pixel; thirty-two those of two. */
#if defined(__XTENSA__)
#define DOT_PIXELS 1
#else
#define DOT_PIXELS 2
#endif

#define INLINE static inline __attribute__((always_inline))

/* The compiler would start all loads and products of a block first and then lack registers: this
 * keeps what follows from `pointer` behind the making of both values. */
#define IN_ORDER(one, two, pointer) \
    do { \
        __asm__ volatile("" : "+r"(one), "+r"(pointer)); \
        __asm__ volatile("" : "+r"(two)); \
    } while (0)
/* Keeps the compiler from folding `pointer` back into the sum that it came from. */
#define OPAQUE(pointer) __asm__("" : "+r"(pointer))

INLINE uint32_t upper(uint32_t sum) {
    return (uint32_t)((int32_t)(sum - 0x8000u) >> 16);
}

/* The sum of `words` products of words, taken apart in groups. */
INLINE uint32_t dot_words(const uint32_t *x, const uint32_t *w, int words, dot_group group) {
    uint32_t total = 0;
    uint32_t sum = 0;
#pragma GCC unroll 4
    for (int i = 0; i < words; i++) {
        sum += x[i] * w[i];
        if ((i + 1) % (int)group == 0 || i + 1 == words) {
            total += upper(sum);
            sum = 0;
        }
    }
    return total;
}

/* A tile that is not whole, or a shift of over 23. */
static __attribute__((noinline)) void store_any(const dot_strip *s, int8_t *output,
                                                const uint32_t *acc) {
    for (int32_t c = 0; c < s->channels; c++) {
        uint32_t v = s->q.early > 0 ? requant_early(&s->q, acc[c]) : acc[c];
        output[c] = requant_one(&s->q, v);
    }
}

INLINE void store(const dot_strip *s, int8_t *output, const uint32_t acc[DOT_CHANNELS]) {
    if (__builtin_expect(s->simple, 1)) {
        uint32_t v[DOT_CHANNELS];
        const uint32_t low = (uint32_t)s->q.low;
#pragma GCC unroll 4
        for (int c = 0; c < DOT_CHANNELS; c++) {
            v[c] = requant_clip(&s->q, acc[c]);
        }
        requant_shift(v, DOT_CHANNELS, s->q.shift);
#pragma GCC unroll 4
        for (int c = 0; c < DOT_CHANNELS; c++) {
            output[c] = (int8_t)(v[c] + low);
        }
        return;
    }
    uint32_t copy[DOT_CHANNELS] = {acc[0], acc[1], acc[2], acc[3]};
    store_any(s, output, copy);
}

/* Sums of one tile at a few (a constant) neighbouring pixels. */
typedef struct {
    const uint32_t *x[DOT_PIXELS];
    const uint32_t *w;
    uint32_t acc[DOT_PIXELS][DOT_CHANNELS];
} sums;

INLINE void start(sums *t, const dot_strip *s, int pixels) {
    const uint32_t *bias = s->bias;
    t->w = s->weights;
#pragma GCC unroll 4
    for (int c = 0; c < DOT_CHANNELS; c++) {
#pragma GCC unroll 2
        for (int p = 0; p < pixels; p++) {
            t->acc[p][c] = bias[c];
        }
    }
}

/* One run; x and w are left at its end. */
INLINE void add_run(sums *t, const dot_strip *s, int pixels, dot_group group) {
    const uint32_t *stop = t->x[0] + s->octet_words;
    while (t->x[0] != stop) {
        uint32_t words[DOT_PIXELS][4];
#pragma GCC unroll 2
        for (int p = 0; p < pixels; p++) {
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                words[p][i] = t->x[p][i];
            }
            t->x[p] += 4;
        }
#pragma GCC unroll 4
        for (int c = 0; c < DOT_CHANNELS; c++) {
#pragma GCC unroll 2
            for (int p = 0; p < pixels; p++) {
                t->acc[p][c] += dot_words(words[p], t->w + 4 * c, 4, group);
            }
            IN_ORDER(t->acc[0][c], t->acc[pixels - 1][c], t->w);
        }
        t->w += 4 * DOT_CHANNELS;
    }
    if (s->odd) {
#pragma GCC unroll 4
        for (int c = 0; c < DOT_CHANNELS; c++) {
#pragma GCC unroll 2
            for (int p = 0; p < pixels; p++) {
                t->acc[p][c] += dot_words(t->x[p], t->w + 2 * c, 2, group);
            }
            IN_ORDER(t->acc[0][c], t->acc[pixels - 1][c], t->w);
        }
        t->w += 2 * DOT_CHANNELS;
#pragma GCC unroll 2
        for (int p = 0; p < pixels; p++) {
            t->x[p] += 2;
        }
    }
}

INLINE void store_pixels(const sums *t, const dot_strip *s, int8_t *output, int pixels) {
#pragma GCC unroll 2
    for (int p = 0; p < pixels; p++) {
        store(s, output + p * s->output_step, t->acc[p]);
    }
}

INLINE void place(sums *t, const uint32_t *x, const dot_strip *s, int pixels) {
    t->x[0] = x;
    if (pixels > 1) {
        t->x[DOT_PIXELS - 1] = x + s->step;
        OPAQUE(t->x[DOT_PIXELS - 1]);
    }
}

/* Pixels of one run each that lie one behind the other: x goes on where it was. */
INLINE void strip_flat(const dot_strip *s, int pixels, dot_group group) {
    const uint32_t *x = s->runs[0];
    int8_t *output = s->output;
    int32_t left = s->pixels;
    for (; left >= pixels; left -= pixels) {
        sums t;
        start(&t, s, pixels);
        place(&t, x, s, pixels);
        add_run(&t, s, pixels, group);
        x = t.x[pixels - 1];
        store_pixels(&t, s, output, pixels);
        output += pixels * s->output_step;
    }
    if (pixels > 1 && left > 0) {
        sums t;
        start(&t, s, 1);
        place(&t, x, s, 1);
        add_run(&t, s, 1, group);
        store_pixels(&t, s, output, 1);
    }
}

INLINE void strip_runs(const dot_strip *s, int pixels, dot_group group) {
    int32_t at = 0;
    int32_t last = s->pixels - pixels;
    for (;;) {
        const uint32_t *const *runs = s->runs;
        int32_t offset = at * s->step;
        int32_t left = s->run_count;
        sums t;
        start(&t, s, pixels);
        do {
            place(&t, *runs++ + offset, s, pixels);
            add_run(&t, s, pixels, group);
        } while (--left != 0);
        store_pixels(&t, s, s->output + at * s->output_step, pixels);
        if (at == last) {
            return;
        }
        /* An odd one is made together with the one before it, which is made twice. */
        at = at + pixels > last ? last : at + pixels;
    }
}

#define STRIP(name, way, pixels, group) \
    static __attribute__((noinline)) void name(const dot_strip *s) { \
        way(s, pixels, group); \
    }
STRIP(flat_octet, strip_flat, DOT_PIXELS, DOT_OCTET)
STRIP(runs_octet, strip_runs, DOT_PIXELS, DOT_OCTET)
STRIP(runs_quad, strip_runs, DOT_PIXELS, DOT_QUAD)
STRIP(runs_word, strip_runs, DOT_PIXELS, DOT_WORD)

void dot_strip_run(const dot_strip *s, dot_group group) {
    bool flat = group == DOT_OCTET && s->run_count == 1 &&
                s->step == s->octet_words + (s->odd ? 2 : 0);
    dot_strip twice;
    if (!flat && s->pixels < DOT_PIXELS) {
        twice = *s;
        twice.pixels = DOT_PIXELS;
        twice.step = 0;
        twice.output_step = 0;
        s = &twice;
    }
    switch (group) {
    case DOT_OCTET:
        (flat ? flat_octet : runs_octet)(s);
        break;
    case DOT_QUAD:
        runs_quad(s);
        break;
    case DOT_WORD:
        runs_word(s);
        break;
    }
}
