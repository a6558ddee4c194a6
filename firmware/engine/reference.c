/* Plain versions of the kernels in conv.h: the judge of the fast ones. */
#include "engine/reference.h"

#include "engine/numbers.h"

static uint32_t whole_16(uint32_t bytes) {
    return (bytes + 15u) & ~15u;
}

uint32_t conv_packed_bytes_reference(const conv_shape *s) {
    return whole_16((uint32_t)s->out_c * (uint32_t)s->kernel_h * (uint32_t)s->kernel_w *
                    (uint32_t)s->in_c);
}

uint32_t depthwise_packed_bytes_reference(const conv_shape *s) {
    return whole_16((uint32_t)s->kernel_h * (uint32_t)s->kernel_w * (uint32_t)s->out_c);
}

uint32_t conv_scratch_bytes_reference(const conv_shape *s) {
    (void)s;
    return 0;
}

uint32_t depthwise_scratch_bytes_reference(const conv_shape *s) {
    (void)s;
    return 0;
}

void conv_pack_reference(const conv_shape *s, conv_weight weight, const void *source,
                         int8_t *packed) {
    for (int32_t out = 0; out < s->out_c; out++) {
        for (int32_t y = 0; y < s->kernel_h; y++) {
            for (int32_t x = 0; x < s->kernel_w; x++) {
                for (int32_t in = 0; in < s->in_c; in++) {
                    *packed++ = weight(source, out, y, x, in);
                }
            }
        }
    }
}

void depthwise_pack_reference(const conv_shape *s, conv_weight weight, const void *source,
                              int8_t *packed) {
    for (int32_t y = 0; y < s->kernel_h; y++) {
        for (int32_t x = 0; x < s->kernel_w; x++) {
            for (int32_t channel = 0; channel < s->out_c; channel++) {
                *packed++ = weight(source, channel, y, x, 0);
            }
        }
    }
}

static int8_t finish(const conv_shape *s, int32_t sum) {
    /* In 64 bits, for the half that is added must not overflow. */
    return (int8_t)clamp32(round_shift_wide(sum, s->shift), s->low, s->high);
}

/* The input pixel under one tap; NULL where that is padding. */
static const int8_t *pixel(const conv_shape *s, const int8_t *input, int32_t row, int32_t column) {
    if (row < 0 || row >= s->in_h || column < 0 || column >= s->in_w) {
        return 0;
    }
    return input + (row * s->in_w + column) * s->in_c;
}

void conv_run_reference(const conv_shape *s, const int8_t *input, const int8_t *packed,
                        const int32_t *bias, int8_t *scratch, int8_t *output) {
    (void)scratch;
    for (int32_t row = 0; row < s->out_h; row++) {
        for (int32_t column = 0; column < s->out_w; column++) {
            const int8_t *weights = packed;
            for (int32_t out = 0; out < s->out_c; out++) {
                uint32_t sum = (uint32_t)bias[out];
                for (int32_t y = 0; y < s->kernel_h; y++) {
                    for (int32_t x = 0; x < s->kernel_w; x++, weights += s->in_c) {
                        const int8_t *from =
                            pixel(s, input, row * s->stride_h - s->pad_top + y * s->dilation_h,
                                  column * s->stride_w - s->pad_left + x * s->dilation_w);
                        for (int32_t in = 0; from != 0 && in < s->in_c; in++) {
                            sum += (uint32_t)(from[in] * weights[in]);
                        }
                    }
                }
                *output++ = finish(s, (int32_t)sum);
            }
        }
    }
}

void depthwise_run_reference(const conv_shape *s, const int8_t *input, const int8_t *packed,
                             const int32_t *bias, int8_t *scratch, int8_t *output) {
    (void)scratch;
    for (int32_t row = 0; row < s->out_h; row++) {
        for (int32_t column = 0; column < s->out_w; column++) {
            for (int32_t channel = 0; channel < s->out_c; channel++) {
                const int8_t *weights = packed + channel;
                uint32_t sum = (uint32_t)bias[channel];
                for (int32_t y = 0; y < s->kernel_h; y++) {
                    for (int32_t x = 0; x < s->kernel_w; x++, weights += s->out_c) {
                        const int8_t *from =
                            pixel(s, input, row * s->stride_h - s->pad_top + y * s->dilation_h,
                                  column * s->stride_w - s->pad_left + x * s->dilation_w);
                        sum += from == 0 ? 0u : (uint32_t)(from[channel] * *weights);
                    }
                }
                *output++ = finish(s, (int32_t)sum);
            }
        }
    }
}
