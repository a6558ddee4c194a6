/* Resize by whole factors: nearest, and linear by powers of two. */
#include <stddef.h>

#include "engine/copy.h"
#include "engine/numbers.h"
#include "engine/operators.h"

typedef struct {
    int32_t in_h, in_w, channels, factor_h, factor_w;
    int32_t shift, low, high;
} linear_detail;

/* The whole number a float32 is; 0 where it is none from 1 to 64. */
static int32_t whole_float(uint32_t bits) {
    int32_t exponent = (int32_t)(bits >> 23) - 127;
    uint32_t mantissa = (bits & 0x7fffff) | 0x800000;
    if (exponent < 0 || exponent > 6 || (mantissa & ((1u << (23 - exponent)) - 1)) != 0) {
        return 0;
    }
    return (int32_t)(mantissa >> (23 - exponent));
}

/* The factors of height and width; the parameters keep the order of the exported model, channels
 * before height and width. */
static bool factors_of(model *model, const step *step, const tensor *input, int32_t *factors) {
    const tensor *scales = step_input(model, step, 2);
    const tensor *sizes = step_input(model, step, 3);
    uint32_t spatial = input->rank - 2u;
    bool by_size = sizes != NULL && sizes->data != NULL;
    const tensor *given = by_size ? sizes : scales;
    if (given == NULL || given->kind != TENSOR_CONSTANT || given->count != input->rank ||
        given->type != (by_size ? MODEL_INT64 : ENGINE_FLOAT32)) {
        return model_fail(model, "%n resizes by what is no parameter", step);
    }
    factors[0] = factors[1] = 1;
    for (uint32_t i = 0; i < spatial; i++) {
        int32_t size = input->shape[1 + i];
        int64_t factor;
        if (by_size) {
            int64_t wanted = tensor_value(sizes, 2 + i);
            factor = wanted > 0 && wanted < (1 << 28) && (int32_t)wanted % size == 0
                         ? (int32_t)wanted / size
                         : 0;
        } else {
            factor = whole_float(flat_u32(scales->data + 4 * (2 + i)));
        }
        if (factor < 1 || factor > 64) {
            return model_fail(model, "%n resizes by another factor than a whole one", step);
        }
        factors[2 - spatial + i] = (int32_t)factor;
    }
    return true;
}

/* Where output `at` lies between two inputs, in 2 * factor steps from the first to the second. */
static int32_t between(int32_t at, int32_t factor, int32_t size, int32_t *first, int32_t *second) {
    int32_t place = 2 * at + 1 - factor; /* (at + 1/2) / factor - 1/2, in steps of 1 / (2 factor) */
    place = place < 0 ? 0 : place;
    *first = place / (2 * factor);
    *second = *first + 1 < size ? *first + 1 : size - 1;
    return place % (2 * factor);
}

static int32_t value_at(const tensor *tensor, int32_t index) {
    return tensor->type == ENGINE_INT8 ? ((const int8_t *)tensor->data)[index]
                                       : ((const int16_t *)(const void *)tensor->data)[index];
}

static void run_linear(const model *model, const step *step) {
    const linear_detail *d = step->detail;
    const tensor *input = step_input(model, step, 0);
    tensor *output = step_output(model, step, 0);
    uint32_t at = 0;
    for (int32_t row = 0; row < d->in_h * d->factor_h; row++) {
        int32_t y0, y1;
        int32_t down = between(row, d->factor_h, d->in_h, &y0, &y1);
        for (int32_t column = 0; column < d->in_w * d->factor_w; column++) {
            int32_t x0, x1;
            int32_t right = between(column, d->factor_w, d->in_w, &x0, &x1);
            int32_t up = 2 * d->factor_h - down, left = 2 * d->factor_w - right;
            int32_t a = (y0 * d->in_w + x0) * d->channels, b = (y0 * d->in_w + x1) * d->channels;
            int32_t c = (y1 * d->in_w + x0) * d->channels, e = (y1 * d->in_w + x1) * d->channels;
            for (int32_t i = 0; i < d->channels; i++, at++) {
                int32_t above = left * value_at(input, a + i) + right * value_at(input, b + i);
                int32_t below = left * value_at(input, c + i) + right * value_at(input, e + i);
                int64_t sum = (int64_t)up * above + (int64_t)down * below;
                int32_t value = output->type == ENGINE_INT16 ? round_shift_wide(sum, d->shift)
                                                             : round_shift_float(sum, d->shift);
                value = clamp32(value, d->low, d->high);
                if (output->type == ENGINE_INT8) {
                    ((int8_t *)output->data)[at] = (int8_t)value;
                } else {
                    ((int16_t *)(void *)output->data)[at] = (int16_t)value;
                }
            }
        }
    }
}

static int32_t log_of(int32_t power) {
    int32_t log = 0;
    while (1 << log < power) {
        log++;
    }
    return log;
}

static bool prepare_linear(model *model, step *step, const int32_t *factors) {
    const tensor *input = step_input(model, step, 0);
    const tensor *output = step_output(model, step, 0);
    int32_t bits = log_of(2 * factors[0]) + log_of(2 * factors[1]);
    if (!whole_numbers(model, step, 1)) {
        return false;
    }
    if (input->rank != 4 || input->shape[0] != 1 || 1 << bits != 4 * factors[0] * factors[1] ||
        step_text_is(model, step, "coordinate_transformation_mode", "align_corners", false)) {
        return model_fail(model, "%n is linear by a factor that is no power of two, or of corners",
                          step);
    }
    linear_detail *d = model_take(model, sizeof *d);
    if (d == NULL) {
        return false;
    }
    *d = (linear_detail){input->shape[1], input->shape[2], input->shape[3], factors[0], factors[1],
                         bits + output->exponent - input->exponent, type_low(output->type),
                         type_high(output->type)};
    step->detail = d;
    step->low = &d->low;
    step->high = &d->high;
    step->run = run_linear;
    model->work += (uint64_t)output->count * 4;
    return true;
}

bool prepare_resize(model *model, step *step) {
    tensor *output = one_output(model, step, 1, 4);
    const tensor *input = step_input(model, step, 0);
    int32_t factors[2];
    if (output == NULL) {
        return false;
    }
    if (input->rank != 3 && input->rank != 4) {
        return model_fail(model, "%n has an input that is no image", step);
    }
    if (!factors_of(model, step, input, factors)) {
        return false;
    }
    int32_t shape[4], from[4], to[4];
    for (uint32_t i = 0; i < input->rank; i++) {
        bool spatial = i > 0 && i + 1 < input->rank;
        int64_t size = input->shape[i];
        size *= spatial ? factors[4 - input->rank + i - 1] : 1;
        shape[i] = size > (1 << 28) ? 0 : (int32_t)size;
    }
    if (!tensor_shape(model, output, input->rank, shape)) {
        return false;
    }
    if (step_text_is(model, step, "mode", "linear", false)) {
        return prepare_linear(model, step, factors);
    }
    if (!step_text_is(model, step, "mode", "nearest", true)) {
        return model_fail(model, "%n resizes in a mode this engine lacks", step);
    }
    copy_job *job = can_move(model, step, input, output) ? copy_jobs(model, step, 1) : NULL;
    if (job == NULL) {
        return false;
    }
    copy_steps(input, from);
    copy_steps(output, to);
    for (uint32_t i = 0; i < input->rank; i++) {
        bool spatial = i > 0 && i + 1 < input->rank;
        int32_t factor = spatial ? factors[4 - input->rank + i - 1] : 1;
        copy_loop(job, (uint32_t)input->shape[i], from[i], to[i] * factor);
        copy_loop(job, (uint32_t)factor, 0, to[i]);
    }
    copy_end(job);
    return true;
}
