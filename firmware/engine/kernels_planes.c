#include "engine/kernels_planes.h"

#define INLINE static inline __attribute__((always_inline))

/* Keeps the compiler from making one pointer out of the other each time. */
#define IN_ORDER(one, two) __asm__ volatile("" : "+r"(one), "+r"(two))

typedef uint32_t __attribute__((may_alias)) four_bytes;

/* Put an activation where it is the first of its word, and where it is the second of the one that
 * `word` points to, `ahead` bytes before that. */
INLINE void put(uint8_t *word, int32_t ahead, uint32_t value) {
    word[2] = (uint8_t)value;
    word[ahead] = (uint8_t)value;
}

/* Four channels of `pixels` that are `step` bytes apart into planes `plane` bytes apart. */
INLINE void four_to_planes(const int8_t *from, int32_t pixels, int32_t step, uint8_t *planes,
                           int32_t plane, int ahead) {
    uint8_t *one = planes + plane;
    uint8_t *two = one + plane;
    uint8_t *three = two + plane;
    const int8_t *end = from + pixels * step;
#pragma GCC unroll 2
    for (; from != end; from += step) {
        uint32_t four = *(const four_bytes *)(const void *)from ^ 0x80808080u;
        put(planes, ahead, four);
        put(one, ahead, four >> 8);
        put(two, ahead, four >> 16);
        put(three, ahead, four >> 24);
        IN_ORDER(two, three);
        planes += 4;
        one += 4;
        two += 4;
        three += 4;
    }
}

static __attribute__((noinline)) void four_to_planes_1(const int8_t *from, int32_t pixels,
                                                       int32_t step, uint8_t *planes,
                                                       int32_t plane) {
    four_to_planes(from, pixels, step, planes, plane, 4);
}

static __attribute__((noinline)) void four_to_planes_2(const int8_t *from, int32_t pixels,
                                                       int32_t step, uint8_t *planes,
                                                       int32_t plane) {
    four_to_planes(from, pixels, step, planes, plane, 8);
}

void planes_make(const int8_t *input, int32_t pixels, int32_t channels, int32_t step,
                 uint32_t *planes, int32_t plane, int32_t stride) {
    int32_t c = 0;
    uint8_t *to = (uint8_t *)(planes - stride);
    if ((step & 3) == 0 && stride <= 2) {
        for (; c + 4 <= channels; c += 4) {
            (stride == 1 ? four_to_planes_1 : four_to_planes_2)(input + c, pixels, step, to,
                                                                plane * 4);
            to += plane * 16;
        }
    }
    for (; c < channels; c++) {
        const int8_t *from = input + c;
        uint8_t *word = to;
        for (int32_t i = 0; i < pixels; i++) {
            put(word, stride * 4, (uint32_t)*from + PLANES_OFFSET);
            from += step;
            word += 4;
        }
        to += plane * 4;
    }
}
