/* Pooling over windows, and means over whole dimensions. */
#include <stddef.h>

#include "engine/numbers.h"
#include "engine/operators.h"

/* Planes of `in_h` x `in_w` pixels of `channels`; one-dimensional ones have height 1. */
typedef struct {
    int32_t in_h, in_w, channels, out_h, out_w;
    int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
    int32_t top, left, bottom, right; /* pads */
    int32_t shift, low, high;
} pool_detail;

/* For each output element (loops over `kept`), a sum over `count` elements (over `summed`). */
typedef struct {
    uint32_t kept_rank, summed_rank;
    uint32_t kept[ENGINE_MAX_RANK], kept_step[ENGINE_MAX_RANK];
    uint32_t summed[ENGINE_MAX_RANK], summed_step[ENGINE_MAX_RANK];
    uint32_t count;
    int32_t shift, low, high;
} mean_detail;

static int32_t value_at(const tensor *tensor, uint32_t index) {
    return tensor->type == ENGINE_INT8 ? ((const int8_t *)tensor->data)[index]
                                       : ((const int16_t *)(const void *)tensor->data)[index];
}

static void store(tensor *tensor, uint32_t index, int32_t value) {
    if (tensor->type == ENGINE_INT8) {
        ((int8_t *)tensor->data)[index] = (int8_t)value;
    } else {
        ((int16_t *)(void *)tensor->data)[index] = (int16_t)value;
    }
}

/* sum / count * 2^-shift, rounded as the simulator does: in float32 for 8 bits. The quick way is exact too:
 * with |result| < 2^8 float32 is off by less than 2^-16, and what is not a half is at least
 * 1 / (2 * count * 2^shift) away from one. */
static int32_t mean_of(int64_t sum, uint32_t count, int32_t shift, bool narrow) {
    if (narrow && shift <= 8 && shift >= -8 && sum < (1 << 20) && sum > -(1 << 20) &&
        count <= 16384u >> (shift > 0 ? shift : 0)) {
        uint32_t up = shift < 0 ? (uint32_t)-shift : 0u;
        int32_t by = (int32_t)(count << (shift > 0 ? shift : 0));
        int32_t twice = (int32_t)((uint32_t)(int32_t)sum << up) * 2 + by;
        if (twice >= 0) {
            return (int32_t)((uint32_t)twice / (uint32_t)(2 * by));
        }
        return -(int32_t)((uint32_t)(2 * by - 1 - twice) / (uint32_t)(2 * by));
    }
    return narrow ? round_ratio_float(sum, count, shift) : round_ratio(sum, count, shift);
}

static void run_average_pool(const model *model, const step *step) {
    const pool_detail *d = step->detail;
    const tensor *input = step_input(model, step, 0);
    tensor *output = step_output(model, step, 0);
    bool narrow = output->type == ENGINE_INT8 && input->type == ENGINE_INT8;
    uint32_t at = 0;
    for (int32_t row = 0; row < d->out_h; row++) {
        int32_t y0 = row * d->stride_h - d->top;
        int32_t y1 = y0 + d->kernel_h;
        y1 = y1 < d->in_h + d->bottom ? y1 : d->in_h + d->bottom;
        for (int32_t column = 0; column < d->out_w; column++) {
            int32_t x0 = column * d->stride_w - d->left;
            int32_t x1 = x0 + d->kernel_w;
            x1 = x1 < d->in_w + d->right ? x1 : d->in_w + d->right;
            /* Pads count, but not what a last window has beyond them. */
            uint32_t count = (uint32_t)((y1 - y0) * (x1 - x0));
            int32_t from_y = y0 > 0 ? y0 : 0, to_y = y1 < d->in_h ? y1 : d->in_h;
            int32_t from_x = x0 > 0 ? x0 : 0, to_x = x1 < d->in_w ? x1 : d->in_w;
            for (int32_t channel = 0; channel < d->channels; channel++, at++) {
                int64_t sum = 0;
                for (int32_t y = from_y; y < to_y; y++) {
                    for (int32_t x = from_x; x < to_x; x++) {
                        int32_t pixel = (y * d->in_w + x) * d->channels;
                        sum += value_at(input, (uint32_t)(pixel + channel));
                    }
                }
                store(output, at, clamp32(mean_of(sum, count, d->shift, narrow), d->low, d->high));
            }
        }
    }
}

static void run_max_pool(const model *model, const step *step) {
    const pool_detail *d = step->detail;
    const tensor *input = step_input(model, step, 0);
    tensor *output = step_output(model, step, 0);
    uint32_t at = 0;
    for (int32_t row = 0; row < d->out_h; row++) {
        for (int32_t column = 0; column < d->out_w; column++) {
            for (int32_t channel = 0; channel < d->channels; channel++, at++) {
                int32_t most = -32768;
                for (int32_t i = 0; i < d->kernel_h; i++) {
                    int32_t y = row * d->stride_h - d->top + i * d->dilation_h;
                    for (int32_t k = 0; k < d->kernel_w && y >= 0 && y < d->in_h; k++) {
                        int32_t x = column * d->stride_w - d->left + k * d->dilation_w;
                        if (x < 0 || x >= d->in_w) {
                            continue;
                        }
                        int32_t value =
                            value_at(input, (uint32_t)((y * d->in_w + x) * d->channels + channel));
                        most = value > most ? value : most;
                    }
                }
                store(output, at, clamp32(round_shift_wide(most, d->shift), d->low, d->high));
            }
        }
    }
}

/* Attributes of one or two numbers, the height's first, into values[0] and values[1]; of four for
 * pads. A window of one dimension gets the height 1 beside it. */
static bool read_pair(model *model, const step *step, const char *name, bool one_dimension,
                      uint32_t pairs, int32_t *values, int32_t least) {
    int64_t found[4];
    uint32_t count;
    uint32_t expected = (one_dimension ? 1u : 2u) * pairs;
    if (!step_ints(model, step, name, found, 4, &count) || (count != 0 && count != expected)) {
        return model_fail(model, "%n has %s of another length than its window", step, name);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (found[i] < least || found[i] > 32767) {
            return model_fail(model, "%n has %s beyond 32767", step, name);
        }
        values[one_dimension ? 2 * i + 1 : i] = (int32_t)found[i];
    }
    return true;
}

/* With `ceil` a last window may hang over, if it begins within the input and its first pad; pads
 * that are not even are part of the input. */
static int32_t windows(int32_t in, int32_t before, int32_t after, int32_t reach, int32_t stride,
                       bool ceil, bool even) {
    int32_t space = in + before + after - reach;
    if (space < 0 && !ceil) {
        return 0;
    }
    int32_t steps = ceil ? (space + stride - 1) / stride : space / stride;
    if (space < 0) {
        steps = 0;
    }
    if (ceil && steps > 0 && steps * stride >= in + before + (even ? 0 : after)) {
        steps--;
    }
    return steps + 1;
}

static bool prepare_pool(model *model, step *step, bool dilates, pool_detail **detail) {
    tensor *output = one_output(model, step, 1, 1);
    const tensor *input = step_input(model, step, 0);
    if (output == NULL || !whole_numbers(model, step, 1)) {
        return false;
    }
    bool one_dimension = input->rank == 3;
    if ((!one_dimension && input->rank != 4) || input->shape[0] != 1) {
        return model_fail(model, "%n has an input that is no batch of one image", step);
    }
    pool_detail *d = model_take(model, sizeof *d);
    if (d == NULL) {
        return false;
    }
    const int32_t *shape = input->shape + input->rank;
    d->in_h = one_dimension ? 1 : shape[-3];
    d->in_w = shape[-2];
    d->channels = shape[-1];
    int32_t kernel[2] = {1, 0}, stride[2] = {0, 0}, dilation[2] = {1, 1}, pads[4] = {0, 0, 0, 0};
    if (step->op[0] == 'G') {
        kernel[0] = d->in_h;
        kernel[1] = d->in_w;
    } else if (!read_pair(model, step, "kernel_shape", one_dimension, 1, kernel, 1) ||
               !read_pair(model, step, "strides", one_dimension, 1, stride, 1) ||
               !read_pair(model, step, "pads", one_dimension, 2, pads, 0) ||
               (dilates && !read_pair(model, step, "dilations", one_dimension, 1, dilation, 1))) {
        return false;
    }
    d->kernel_h = kernel[0];
    d->kernel_w = kernel[1];
    d->stride_h = stride[0] != 0 ? stride[0] : kernel[0];
    d->stride_w = stride[1] != 0 ? stride[1] : kernel[1];
    d->dilation_h = dilation[0];
    d->dilation_w = dilation[1];
    d->top = pads[0];
    d->left = pads[1];
    d->bottom = pads[2];
    d->right = pads[3];
    d->shift = output->exponent - input->exponent;
    d->low = type_low(output->type);
    d->high = type_high(output->type);
    if (kernel[1] == 0 || (int64_t)kernel[0] * kernel[1] > (1 << 24) ||
        (int64_t)kernel[0] * dilation[0] > (1 << 24) ||
        (int64_t)kernel[1] * dilation[1] > (1 << 24) ||
        2 * d->top > kernel[0] || 2 * d->bottom > kernel[0] || 2 * d->left > kernel[1] ||
        2 * d->right > kernel[1]) {
        return model_fail(model, "%n has no window, or pads of over half of it", step);
    }
    bool even = d->top == d->bottom && d->left == d->right;
    bool ceil = step_int(model, step, "ceil_mode", 0) != 0;
    d->out_h = windows(d->in_h, d->top, d->bottom, (kernel[0] - 1) * dilation[0] + 1, d->stride_h,
                       ceil, even);
    d->out_w = windows(d->in_w, d->left, d->right, (kernel[1] - 1) * dilation[1] + 1, d->stride_w,
                       ceil, even);
    int32_t made[4] = {1, d->out_h, d->out_w, d->channels};
    if (one_dimension) {
        made[1] = d->out_w;
        made[2] = d->channels;
    }
    *detail = d;
    step->detail = d;
    step->low = &d->low;
    step->high = &d->high;
    model->work += (uint64_t)d->kernel_h * (uint32_t)d->kernel_w * (uint32_t)d->channels *
                   (uint64_t)d->out_h * (uint64_t)d->out_w;
    return tensor_shape(model, output, input->rank, made);
}

bool prepare_max_pool(model *model, step *step) {
    pool_detail *d;
    step->run = run_max_pool;
    return prepare_pool(model, step, true, &d);
}

bool prepare_average_pool(model *model, step *step) {
    pool_detail *d;
    step->run = run_average_pool;
    return prepare_pool(model, step, false, &d);
}

static int64_t sum_from(const mean_detail *d, const tensor *input, uint32_t at) {
    uint32_t place[ENGINE_MAX_RANK] = {0};
    uint32_t inner = d->summed_rank - 1;
    uint32_t row = d->summed[inner], step = d->summed_step[inner];
    int64_t all = 0;
    for (uint32_t done = 0; done < d->count; done += row) {
        if (input->type == ENGINE_INT8 && row < (1u << 24)) {
            int32_t sum = 0;
            const int8_t *from = (const int8_t *)input->data + at;
            for (uint32_t i = 0; i < row; i++, from += step) {
                sum += *from;
            }
            all += sum;
        } else {
            for (uint32_t i = 0; i < row; i++) {
                all += value_at(input, at + i * step);
            }
        }
        for (uint32_t axis = inner; axis-- > 0;) {
            at += d->summed_step[axis];
            if (++place[axis] < d->summed[axis]) {
                break;
            }
            at -= place[axis] * d->summed_step[axis];
            place[axis] = 0;
        }
    }
    return all;
}

static void run_mean(const model *model, const step *step) {
    const mean_detail *d = step->detail;
    const tensor *input = step_input(model, step, 0);
    tensor *output = step_output(model, step, 0);
    bool narrow = output->type == ENGINE_INT8 && input->type == ENGINE_INT8;
    uint32_t place[ENGINE_MAX_RANK] = {0};
    uint32_t from = 0;
    for (uint32_t at = 0; at < output->count; at++) {
        int32_t value = mean_of(sum_from(d, input, from), d->count, d->shift, narrow);
        store(output, at, clamp32(value, d->low, d->high));
        for (uint32_t axis = d->kept_rank; axis-- > 0;) {
            from += d->kept_step[axis];
            if (++place[axis] < d->kept[axis]) {
                break;
            }
            from -= place[axis] * d->kept_step[axis];
            place[axis] = 0;
        }
    }
}

/* Which dimensions the mean is over; all of them where none is named. */
static bool mean_axes(model *model, const step *step, const tensor *input, bool *summed) {
    int64_t axes[ENGINE_MAX_RANK];
    uint32_t count;
    const tensor *given = step_input(model, step, 1);
    if (step->op[0] == 'G') {
        for (uint32_t i = 1; i + 1 < input->rank; i++) {
            summed[i] = true;
        }
        return true;
    }
    if (!step_ints(model, step, "axes", axes, ENGINE_MAX_RANK, &count)) {
        return model_fail(model, "%n has more axes than dimensions", step);
    }
    if (given != NULL) {
        if (given->kind != TENSOR_CONSTANT || given->type != MODEL_INT64 ||
            given->count > ENGINE_MAX_RANK || given->count == 0) {
            return model_fail(model, "%n has axes that are no parameter", step);
        }
        for (count = 0; count < given->count; count++) {
            axes[count] = tensor_value(given, count);
        }
    }
    for (uint32_t i = 0; i < input->rank; i++) {
        summed[i] = count == 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t axis;
        if (!real_axis(model, step, axes[i], input->rank, &axis)) {
            return false;
        }
        summed[axis] = true;
    }
    return true;
}

static void add_loop(uint32_t *rank, uint32_t *sizes, uint32_t *steps, uint32_t size,
                     uint32_t step) {
    if (size == 1) {
        return;
    }
    if (*rank > 0 && steps[*rank - 1] == step * size) {
        sizes[*rank - 1] *= size;
        steps[*rank - 1] = step;
        return;
    }
    sizes[*rank] = size;
    steps[(*rank)++] = step;
}

bool prepare_mean(model *model, step *step) {
    tensor *output = one_output(model, step, 1, 2);
    const tensor *input = step_input(model, step, 0);
    bool summed[ENGINE_MAX_RANK] = {false};
    if (output == NULL || !whole_numbers(model, step, 1) ||
        !mean_axes(model, step, input, summed)) {
        return false;
    }
    mean_detail *d = model_take(model, sizeof *d);
    if (d == NULL) {
        return false;
    }
    bool keeps = step->op[0] == 'G' || step_int(model, step, "keepdims", 1) != 0;
    int32_t made[ENGINE_MAX_RANK];
    uint32_t made_rank = 0;
    uint32_t stride = input->count;
    d->count = 1;
    for (uint32_t i = 0; i < input->rank; i++) {
        uint32_t size = (uint32_t)input->shape[i];
        stride /= size;
        if (summed[i]) {
            d->count *= size;
            add_loop(&d->summed_rank, d->summed, d->summed_step, size, stride);
        } else {
            add_loop(&d->kept_rank, d->kept, d->kept_step, size, stride);
        }
        if (!summed[i] || keeps) {
            made[made_rank++] = summed[i] ? 1 : input->shape[i];
        }
    }
    if (d->summed_rank == 0) {
        d->summed_rank = 1;
        d->summed[0] = 1;
    }
    d->shift = output->exponent - input->exponent;
    d->low = type_low(output->type);
    d->high = type_high(output->type);
    step->detail = d;
    step->run = run_mean;
    step->low = &d->low;
    step->high = &d->high;
    model->work += input->count;
    return tensor_shape(model, output, made_rank, made);
}
