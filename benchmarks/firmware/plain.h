/* The same convolutions as anyone would write them first: what the kernels are measured against. */
#ifndef EDGEDEPLOY_BENCHMARKS_PLAIN_H
#define EDGEDEPLOY_BENCHMARKS_PLAIN_H

#include "engine/conv.h"

/* Weights in the order out, y, x, in (depthwise: y, x, channel). */
void plain_conv(const conv_shape *shape, const int8_t *input, const int8_t *weights,
                const int32_t *bias, int8_t *output);
void plain_depthwise(const conv_shape *shape, const int8_t *input, const int8_t *weights,
                     const int32_t *bias, int8_t *output);

#endif
