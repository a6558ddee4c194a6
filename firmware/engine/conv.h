/* The int8 kernels that take the time: convolution, depthwise convolution, fully connected. */
#ifndef EDGEDEPLOY_CONV_H
#define EDGEDEPLOY_CONV_H

#include <stdint.h>

/* Shapes and constants of one convolution, NHWC, batch 1, groups 1 or depthwise. Fully connected is
 * a 1x1 convolution of a 1x1 image. Padding is with zero (power-of-two scales have no zero point).
 * output = clip(round_half_up(acc * 2^-shift), low, high), acc = bias + sum of products in int32,
 * wrapping; round_half_up(x) = floor(x + 0.5). shift is 0..31 (a loader refuses others). */
typedef struct {
    int32_t in_h, in_w, in_c;
    int32_t out_h, out_w, out_c;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_top, pad_left;
    int32_t shift;
    int32_t low, high; /* within -128..127: the fused activation */
} conv_shape;

/* One weight in the model's own terms; for a depthwise convolution `in` is 0 and `out` the channel.
 * The kernels ask for each once, at load. */
typedef int8_t (*conv_weight)(const void *source, int32_t out, int32_t y, int32_t x, int32_t in);

/* Bytes that packed weights take (a multiple of 16), and packing them there at load. `packed` is
 * 16-byte aligned. */
uint32_t conv_packed_bytes(const conv_shape *shape);
void conv_pack(const conv_shape *shape, conv_weight weight, const void *source, int8_t *packed);
uint32_t depthwise_packed_bytes(const conv_shape *shape);
void depthwise_pack(const conv_shape *shape, conv_weight weight, const void *source, int8_t *packed);

/* Scratch a kernel wants while it runs (a multiple of 16; may be 0), from the arena. */
uint32_t conv_scratch_bytes(const conv_shape *shape);
uint32_t depthwise_scratch_bytes(const conv_shape *shape);

/* `bias` has out_c values (never NULL); input and output do not overlap; all 16-byte aligned. */
void conv_run(const conv_shape *shape, const int8_t *input, const int8_t *packed,
              const int32_t *bias, int8_t *scratch, int8_t *output);
void depthwise_run(const conv_shape *shape, const int8_t *input, const int8_t *packed,
                   const int32_t *bias, int8_t *scratch, int8_t *output);

#endif
