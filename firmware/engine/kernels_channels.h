/* The sums of a depthwise convolution: two outputs to each 32-bit multiplication, exact for all
 * values. */
#ifndef EDGEDEPLOY_KERNELS_CHANNELS_H
#define EDGEDEPLOY_KERNELS_CHANNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/conv.h"
#include "engine/kernels_requant.h"

/* Two neighbouring outputs multiply the two activations of one word (kernels_planes.h) with the
 * same weight, so that sums for both grow in one word. They start from an offset of 255 times the
 * sum of the negative weights' sizes, which keeps each within 0..65535 as long as 255 times the sum
 * of all sizes is at most 65535. Where the weights of a whole kernel are over that, the sums are
 * taken apart after each row, or after two weights, which never are. */
#define CHANNELS_LIMIT 257

typedef enum {
    WAY_TWOS = 0,
    WAY_ROWS = 1,
    WAY_WHOLE = 2, /* for 3x3 only, which has no WAY_ROWS */
} way;

/* Sums of one channel in WAY_TWOS. */
static inline int32_t channels_sums(const conv_shape *s) {
    return s->kernel_h * ((s->kernel_w + 1) >> 1);
}

/* 3x3 as most are, for which a whole kernel may be one sum. */
static inline bool channels_usual(const conv_shape *s) {
    return s->kernel_h == 3 && s->kernel_w == 3 && s->dilation_w == 1 && s->stride_w <= 2 &&
           requant_of(s).early == 0;
}

/* One output row of a block of channels. */
typedef struct {
    const conv_shape *shape;
    const uint32_t *const *rows; /* of the kernel, at the first output's first column */
    const int16_t *weights;
    const uint32_t *starts;
    const uint32_t *bias;
    const int8_t *ways;
    int32_t plane;
    int32_t channels;
    int32_t columns; /* of the output */
    int32_t step;    /* bytes from one of them to the next */
    int8_t *output;
    requant q;
} channels_block;

void channels_row(const channels_block *block);

#endif
