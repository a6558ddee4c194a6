#include "plain.h"

static int8_t requantize(const conv_shape *s, uint32_t sum) {
    int32_t acc = (int32_t)sum;
    if (s->shift > 0) {
        acc = (acc >> s->shift) + (acc >> (s->shift - 1) & 1);
    }
    acc = acc < s->low ? s->low : acc;
    return (int8_t)(acc > s->high ? s->high : acc);
}

void plain_conv(const conv_shape *s, const int8_t *input, const int8_t *weights,
                const int32_t *bias, int8_t *output) {
    for (int32_t oy = 0; oy < s->out_h; oy++) {
        for (int32_t ox = 0; ox < s->out_w; ox++) {
            for (int32_t oc = 0; oc < s->out_c; oc++) {
                uint32_t sum = (uint32_t)bias[oc];
                for (int32_t ky = 0; ky < s->kernel_h; ky++) {
                    int32_t y = oy * s->stride_h - s->pad_top + ky * s->dilation_h;
                    if (y < 0 || y >= s->in_h) {
                        continue;
                    }
                    for (int32_t kx = 0; kx < s->kernel_w; kx++) {
                        int32_t x = ox * s->stride_w - s->pad_left + kx * s->dilation_w;
                        if (x < 0 || x >= s->in_w) {
                            continue;
                        }
                        const int8_t *in = input + (y * s->in_w + x) * s->in_c;
                        const int8_t *w =
                            weights + ((oc * s->kernel_h + ky) * s->kernel_w + kx) * s->in_c;
                        for (int32_t ic = 0; ic < s->in_c; ic++) {
                            sum += (uint32_t)(in[ic] * w[ic]);
                        }
                    }
                }
                *output++ = requantize(s, sum);
            }
        }
    }
}

void plain_depthwise(const conv_shape *s, const int8_t *input, const int8_t *weights,
                     const int32_t *bias, int8_t *output) {
    for (int32_t oy = 0; oy < s->out_h; oy++) {
        for (int32_t ox = 0; ox < s->out_w; ox++) {
            for (int32_t c = 0; c < s->out_c; c++) {
                uint32_t sum = (uint32_t)bias[c];
                for (int32_t ky = 0; ky < s->kernel_h; ky++) {
                    int32_t y = oy * s->stride_h - s->pad_top + ky * s->dilation_h;
                    if (y < 0 || y >= s->in_h) {
                        continue;
                    }
                    for (int32_t kx = 0; kx < s->kernel_w; kx++) {
                        int32_t x = ox * s->stride_w - s->pad_left + kx * s->dilation_w;
                        if (x < 0 || x >= s->in_w) {
                            continue;
                        }
                        sum += (uint32_t)(input[(y * s->in_w + x) * s->in_c + c] *
                                          weights[(ky * s->kernel_w + kx) * s->in_c + c]);
                    }
                }
                *output++ = requantize(s, sum);
            }
        }
    }
}
