/* Convolution, depthwise convolution and fully connected layers. */
#include <stddef.h>

#include "engine/numbers.h"
#include "engine/operators.h"
#include "engine/reference.h"
#include "engine/upsample.h"
#include "engine/weights.h"

/* 40 bits, as the 16-bit vector unit of the chip has them. */
#define BIAS_LIMIT ((int64_t)1 << 39)

typedef struct {
    conv_shape shape;
    const int8_t *packed;
    const int32_t *bias;
} conv_detail;

/* Where int8, 32-bit sums or a shift of 0 to 31 do not do: the same with 64-bit sums. */
typedef struct {
    conv_shape shape;
    bool depthwise, wide_input, wide_output;
    const int16_t *weights; /* out, y, x, in */
    const int64_t *bias;
} wide_detail;

static void run_conv(const model *model, const step *step) {
    const conv_detail *detail = step->detail;
    conv_run(&detail->shape, (const int8_t *)step_input(model, step, 0)->data, detail->packed,
             detail->bias, (int8_t *)step->scratch, (int8_t *)step_output(model, step, 0)->data);
}

static void run_depthwise(const model *model, const step *step) {
    const conv_detail *detail = step->detail;
    depthwise_run(&detail->shape, (const int8_t *)step_input(model, step, 0)->data, detail->packed,
                  detail->bias, (int8_t *)step->scratch,
                  (int8_t *)step_output(model, step, 0)->data);
}

static int32_t value_at(const void *data, bool wide, uint32_t index) {
    return wide ? ((const int16_t *)data)[index] : ((const int8_t *)data)[index];
}

static int64_t wide_sum(const wide_detail *d, const void *input, int32_t row, int32_t column,
                        int32_t out) {
    const conv_shape *s = &d->shape;
    int32_t depth = d->depthwise ? 1 : s->in_c;
    const int16_t *weights = d->weights + (uint32_t)(out * s->kernel_h * s->kernel_w * depth);
    int64_t sum = d->bias[out];
    for (int32_t y = 0; y < s->kernel_h; y++) {
        int32_t from_y = row * s->stride_h - s->pad_top + y * s->dilation_h;
        for (int32_t x = 0; x < s->kernel_w; x++, weights += depth) {
            int32_t from_x = column * s->stride_w - s->pad_left + x * s->dilation_w;
            if (from_y < 0 || from_y >= s->in_h || from_x < 0 || from_x >= s->in_w) {
                continue;
            }
            uint32_t at = (uint32_t)((from_y * s->in_w + from_x) * s->in_c);
            at += d->depthwise ? (uint32_t)out : 0u;
            for (int32_t in = 0; in < depth; in++) {
                sum += (int64_t)value_at(input, d->wide_input, at + (uint32_t)in) * weights[in];
            }
        }
    }
    return sum;
}

static void run_wide(const model *model, const step *step) {
    const wide_detail *d = step->detail;
    const conv_shape *s = &d->shape;
    const void *input = step_input(model, step, 0)->data;
    uint8_t *output = step_output(model, step, 0)->data;
    uint32_t at = 0;
    for (int32_t row = 0; row < s->out_h; row++) {
        for (int32_t column = 0; column < s->out_w; column++) {
            for (int32_t out = 0; out < s->out_c; out++, at++) {
                int64_t sum = wide_sum(d, input, row, column, out);
                int32_t value = clamp32(round_shift_wide(sum, s->shift), s->low, s->high);
                if (d->wide_output) {
                    ((int16_t *)(void *)output)[at] = (int16_t)value;
                } else {
                    ((int8_t *)output)[at] = (int8_t)value;
                }
            }
        }
    }
}

/* The bias in units of the sums, one for each output channel. */
static bool read_bias(model *model, const step *step, int32_t exponent, uint32_t count,
                      int64_t *values, int64_t *largest) {
    const tensor *bias = step_input(model, step, 2);
    *largest = 0;
    if (bias == NULL) {
        return true;
    }
    int32_t shift = bias->exponent - exponent;
    if (bias->kind != TENSOR_CONSTANT || bias->count != count || bias->per_channel ||
        bias->type == ENGINE_FLOAT32 || bias->type == MODEL_UNKNOWN || shift < 0 || shift > 20) {
        return model_fail(model, "%n has a bias this engine cannot add exactly", step);
    }
    for (uint32_t i = 0; i < count; i++) {
        int64_t value = tensor_value(bias, i);
        if (value >= BIAS_LIMIT || value <= -BIAS_LIMIT) {
            return model_fail(model, "%n has a bias of over 40 bits", step);
        }
        values[i] = value * ((int64_t)1 << shift);
        int64_t size = values[i] < 0 ? -values[i] : values[i];
        *largest = size > *largest ? size : *largest;
    }
    return true;
}

static bool prepare_wide(model *model, step *step, const weight_source *source,
                         const conv_shape *shape, const int64_t *bias) {
    wide_detail *d = model_take(model, sizeof *d);
    uint32_t count = source->out * source->height * source->width * source->in;
    int16_t *weights = d == NULL ? NULL : model_take(model, count * 2);
    if (weights == NULL) {
        return false;
    }
    uint32_t at = 0;
    for (uint32_t out = 0; out < source->out; out++) {
        for (uint32_t y = 0; y < source->height; y++) {
            for (uint32_t x = 0; x < source->width; x++) {
                for (uint32_t in = 0; in < source->in; in++) {
                    weights[at++] = (int16_t)weight_at(source, out, y, x, in);
                }
            }
        }
    }
    *d = (wide_detail){*shape,
                       source->depthwise,
                       step_input(model, step, 0)->type == ENGINE_INT16,
                       step_output(model, step, 0)->type == ENGINE_INT16,
                       weights,
                       bias};
    model->use.unpacked_bytes += count * 2;
    step->detail = d;
    step->low = &d->shape.low;
    step->high = &d->shape.high;
    step->run = run_wide;
    return true;
}

/* All but the bias of `shape` is set. */
static bool prepare_kernel(model *model, step *step, const weight_source *source,
                           conv_shape *shape) {
    const tensor *input = step_input(model, step, 0);
    const tensor *output = step_output(model, step, 0);
    int32_t sums = input->exponent + step_input(model, step, 1)->exponent;
    shape->shift = output->exponent - sums;
    shape->low = type_low(output->type);
    shape->high = type_high(output->type);
    if (step_text_is(model, step, "activation", "Relu", false)) {
        shape->low = 0;
    } else if (!step_text_is(model, step, "activation", "Linear", true)) {
        return model_fail(model, "%n is fused with an activation this engine lacks", step);
    }
    int64_t *wide_bias = model_take(model, source->out * 8);
    int64_t largest;
    if (wide_bias == NULL || !read_bias(model, step, sums, source->out, wide_bias, &largest)) {
        return false;
    }
    uint64_t taps = (uint64_t)source->height * source->width * source->in;
    model->work += taps * output->count;
    if (input->type != ENGINE_INT8 || output->type != ENGINE_INT8 || source->type != ENGINE_INT8 ||
        shape->shift < 0 || shape->shift > 31 || taps * 16384 + (uint64_t)largest > INT32_MAX) {
        return prepare_wide(model, step, source, shape, wide_bias);
    }
    int32_t *bias = (int32_t *)(void *)wide_bias; /* narrowed in place, front to back */
    for (uint32_t i = 0; i < source->out; i++) {
        int32_t value = (int32_t)wide_bias[i];
        bias[i] = value;
    }
    if (!source->depthwise && upsample_fits(model, step, shape)) {
        return upsample_prepare(model, step, source, shape, bias);
    }
    conv_detail *detail = model_take(model, sizeof *detail);
    uint32_t bytes = source->depthwise ? depthwise_packed_bytes(shape) : conv_packed_bytes(shape);
    int8_t *packed = detail == NULL ? NULL : model_take(model, bytes);
    if (packed == NULL) {
        return false;
    }
    (source->depthwise ? depthwise_pack : conv_pack)(shape, weight_int8, source, packed);
    *detail = (conv_detail){*shape, packed, bias};
    model->use.unpacked_bytes += bytes;
    step->detail = detail;
    step->low = &detail->shape.low;
    step->high = &detail->shape.high;
    step->scratch_bytes =
        source->depthwise ? depthwise_scratch_bytes(shape) : conv_scratch_bytes(shape);
    step->run = source->depthwise ? run_depthwise : run_conv;
    return true;
}

/* Strides, dilations and pads, and from them the output's height and width. */
static bool read_window(model *model, const step *step, conv_shape *shape, bool one_dimension) {
    int64_t values[3][4] = {{1, 1}, {1, 1}, {0, 0, 0, 0}};
    static const char *const names[] = {"strides", "dilations", "pads"};
    if (!step_has(model, step, "pads") && !step_text_is(model, step, "auto_pad", "NOTSET", true) &&
        !step_text_is(model, step, "auto_pad", "VALID", true)) {
        return model_fail(model, "%n pads by itself; export it with explicit pads", step);
    }
    for (uint32_t i = 0; i < 3; i++) {
        int64_t found[4];
        uint32_t count;
        uint32_t expected = (one_dimension ? 1u : 2u) * (i == 2 ? 2u : 1u);
        if (!step_ints(model, step, names[i], found, 4, &count) ||
            (count != 0 && count != expected)) {
            return model_fail(model, "%n has %s of another length than its kernel", step, names[i]);
        }
        for (uint32_t k = 0; k < count; k++) {
            if (found[k] < (i < 2 ? 1 : 0) || found[k] > 32767) {
                return model_fail(model, "%n has %s beyond 32767", step, names[i]);
            }
            /* A one-dimensional window is one of height 1: its values are the width's. */
            values[i][one_dimension ? 2 * k + 1 : k] = found[k];
        }
    }
    shape->stride_h = (int32_t)values[0][0];
    shape->stride_w = (int32_t)values[0][1];
    shape->dilation_h = (int32_t)values[1][0];
    shape->dilation_w = (int32_t)values[1][1];
    shape->pad_top = (int32_t)values[2][0];
    shape->pad_left = (int32_t)values[2][1];
    int64_t reach_h = (int64_t)(shape->kernel_h - 1) * shape->dilation_h + 1;
    int64_t reach_w = (int64_t)(shape->kernel_w - 1) * shape->dilation_w + 1;
    int64_t space_h = shape->in_h + values[2][0] + values[2][2] - reach_h;
    int64_t space_w = shape->in_w + values[2][1] + values[2][3] - reach_w;
    if (space_h < 0 || space_w < 0) {
        return model_fail(model, "%n has a kernel larger than its padded input", step);
    }
    shape->out_h = (int32_t)space_h / shape->stride_h + 1;
    shape->out_w = (int32_t)space_w / shape->stride_w + 1;
    return true;
}

bool prepare_conv(model *model, step *step) {
    tensor *output = one_output(model, step, 2, 3);
    if (output == NULL || !whole_numbers(model, step, 1)) {
        return false;
    }
    const tensor *input = step_input(model, step, 0);
    bool one_dimension = input->rank == 3;
    int64_t groups = step_int(model, step, "group", 1);
    if ((!one_dimension && input->rank != 4) || input->shape[0] != 1) {
        return model_fail(model, "%n has an input that is no batch of one image", step);
    }
    weight_source source;
    if (!weights_open(model, step, step_input(model, step, 1), groups > 1, &source)) {
        return false;
    }
    const int32_t *shape = input->shape + input->rank;
    conv_shape window = {
        .in_h = one_dimension ? 1 : shape[-3],
        .in_w = shape[-2],
        .in_c = shape[-1],
        .out_c = (int32_t)source.out,
        .kernel_h = (int32_t)source.height,
        .kernel_w = (int32_t)source.width,
    };
    if (groups > 1 && (groups != window.in_c || groups != window.out_c || source.in != 1)) {
        return model_fail(model, "%n has %d groups; this engine runs 1, or 1 a channel", step,
                          (int32_t)groups);
    }
    if (groups < 1 || (groups == 1 && source.in != (uint32_t)window.in_c) ||
        step_input(model, step, 1)->rank != input->rank) {
        return model_fail(model, "%n has weights that do not fit its input", step);
    }
    if (!read_window(model, step, &window, one_dimension)) {
        return false;
    }
    int32_t made[4] = {1, window.out_h, window.out_w, window.out_c};
    if (one_dimension) {
        made[1] = window.out_w;
        made[2] = window.out_c;
    }
    return tensor_shape(model, output, input->rank, made) &&
           prepare_kernel(model, step, &source, &window);
}

bool prepare_gemm(model *model, step *step) {
    static const uint32_t one = 0x3f800000; /* 1.0 */
    tensor *output = one_output(model, step, 2, 3);
    if (output == NULL || !whole_numbers(model, step, 1)) {
        return false;
    }
    const tensor *input = step_input(model, step, 0);
    if (step_int(model, step, "transA", 0) != 0 || step_int(model, step, "transB", 0) != 0 ||
        step_float_bits(model, step, "alpha", one) != one ||
        step_float_bits(model, step, "beta", one) != one || input->rank < 1 ||
        !step_text_is(model, step, "input1_layout", "packed", true)) {
        return model_fail(model, "%n is another product than input x weights + bias", step);
    }
    weight_source source;
    if (!weights_open(model, step, step_input(model, step, 1), false, &source)) {
        return false;
    }
    int32_t depth = input->shape[input->rank - 1];
    if (source.height != 1 || source.width != 1 || source.in != (uint32_t)depth) {
        return model_fail(model, "%n has weights that do not fit its input", step);
    }
    conv_shape product = {
        .in_h = 1,
        .in_w = (int32_t)(input->count / (uint32_t)depth),
        .in_c = depth,
        .out_h = 1,
        .out_w = (int32_t)(input->count / (uint32_t)depth),
        .out_c = (int32_t)source.out,
        .kernel_h = 1,
        .kernel_w = 1,
        .stride_h = 1,
        .stride_w = 1,
        .dilation_h = 1,
        .dilation_w = 1,
    };
    int32_t made[ENGINE_MAX_RANK];
    for (uint32_t i = 0; i < input->rank; i++) {
        made[i] = input->shape[i];
    }
    made[input->rank - 1] = product.out_c;
    return tensor_shape(model, output, input->rank, made) &&
           prepare_kernel(model, step, &source, &product);
}
