/* From an accumulator to an int8 output: shift with round half up, then clip. */
#ifndef EDGEDEPLOY_KERNELS_REQUANT_H
#define EDGEDEPLOY_KERNELS_REQUANT_H

#include <stdint.h>

#include "engine/conv.h"

/* Exact for every int32 accumulator. With v = acc - low * 2^shift + half, modulo 2^32, an output
 * lies within low..high exactly where v <= limit, and is then (v >> shift) + low: one unsigned
 * comparison serves both ends and the rounding, and all constants are added to the bias
 * beforehand. v is unambiguous while 128 * 2^shift + half < 2^31, so shift <= 23. For a larger
 * shift the accumulator is first shifted right by `early`, which changes no result:
 * floor((acc + 2^(s-1)) / 2^s) = floor((floor(acc / 2^k) + 2^(s-1-k)) / 2^(s-k)) for k < s. */
typedef struct {
    uint32_t limit; /* of v, for outputs that are not clipped */
    uint32_t split; /* v above limit: clipped to high up to here, to low beyond */
    uint32_t fold;  /* v - acc */
    int32_t low, high;
    int32_t shift, early;
} requant;

static inline requant requant_of(const conv_shape *shape) {
    requant q = {.low = shape->low, .high = shape->high, .shift = shape->shift, .early = 0};
    if (q.shift > 23) {
        q.early = q.shift - 23;
        q.shift = 23;
    }
    uint32_t half = q.shift > 0 ? 1u << (q.shift - 1) : 0u;
    uint32_t lowest = (uint32_t)q.low << q.shift;
    q.limit = ((uint32_t)(q.high - q.low + 1) << q.shift) - 1u;
    q.fold = half - lowest;
    q.split = 0x7fffffffu + q.fold;
    return q;
}

/* What is added to the bias, and what is added after the early shift: one of them is 0. */
static inline uint32_t requant_before(const requant *q) {
    return q->early > 0 ? 0u : q->fold;
}

/* `v` as above, clipped but not yet shifted. */
static inline uint32_t requant_clip(const requant *q, uint32_t v) {
    if (__builtin_expect(v > q->limit, 0)) {
        v = v > q->split ? 0u : q->limit;
    }
    return v;
}

static inline int8_t requant_one(const requant *q, uint32_t v) {
    return (int8_t)((int32_t)(requant_clip(q, v) >> q->shift) + q->low);
}

/* The Xtensa compiler would set the shift amount anew for each value. */
#if defined(__XTENSA__)
#define REQUANT_SHIFT(a, b, c, by) \
    __asm__("ssr %3\n\tsrl %0, %0\n\tsrl %1, %1\n\tsrl %2, %2" \
            : "+r"(a), "+r"(b), "+r"(c) \
            : "r"(by))
#else
#define REQUANT_SHIFT(a, b, c, by) (a >>= (by), b >>= (by), c >>= (by))
#endif

/* `count` (a constant) values. */
static inline __attribute__((always_inline)) void requant_shift(uint32_t *v, int count,
                                                                int32_t by) {
    int i = 0;
#pragma GCC unroll 4
    for (; i + 3 <= count; i += 3) {
        REQUANT_SHIFT(v[i], v[i + 1], v[i + 2], by);
    }
#pragma GCC unroll 4
    for (; i < count; i++) {
        v[i] >>= by;
    }
}

/* For q->early > 0, from the accumulator itself. */
static inline uint32_t requant_early(const requant *q, uint32_t acc) {
    return (uint32_t)((int32_t)acc >> q->early) + q->fold;
}

#endif
