/* A model's edges in float32, by integer arithmetic: Softmax, and to and from whole numbers. */
#include <stddef.h>

#include "engine/numbers.h"
#include "engine/operators.h"

/* Rows of `size` elements, `inner` apart; the rows begin at every place below `inner` of each
 * outer block. */
typedef struct {
    uint32_t outer, size, inner;
} softmax_detail;

/* exp of something not over 0: mantissa / 2^63 * 2^-power. */
typedef struct {
    uint64_t mantissa;
    uint32_t power;
} small_power;

static int32_t value_at(const tensor *tensor, uint32_t index) {
    return tensor->type == ENGINE_INT8 ? ((const int8_t *)tensor->data)[index]
                                       : ((const int16_t *)(const void *)tensor->data)[index];
}

/* exp(-below * 2^exponent), to within some 2^-58 of itself. */
static small_power exp_of(uint32_t below, int32_t exponent) {
    /* 1 / n!, 63 bits behind the point. */
    static const uint64_t terms[] = {
        0x8000000000000000, 0x8000000000000000, 0x4000000000000000, 0x1555555555555555,
        0x0555555555555555, 0x0111111111111111, 0x002d82d82d82d82d, 0x0006806806806806,
        0x0000d00d00d00d00, 0x0000171de3a556c7, 0x0000024fc9f6ef13, 0x00000035cc8acfea,
        0x000000047bb63bfe, 0x000000005849184e, 0x00000000064e5d2a, 0x00000000006b9fcf,
        0x000000000006b9fc, 0x000000000000654b, 0x00000000000005a0, 0x000000000000004b,
    };
    static const uint64_t log2_e = 0x5c551d94ae0c; /* 46 bits behind the point */
    static const uint64_t log_2 = 0xb17217f7d1cf79ab; /* 64 bits behind the point */
    if (below == 0) {
        return (small_power){terms[0], 0};
    }
    if (exponent > 7) {
        return (small_power){0, 0};
    }
    /* exp(-t) = 2^-power * exp(-(t - power * log 2)); t log2 e, split at the point. */
    uint64_t turns = below * log2_e;
    uint32_t places = (uint32_t)(46 - exponent);
    uint64_t power = places < 64 ? turns >> places : 0;
    uint64_t rest = places <= 64 ? turns << (64 - places)
                                 : places < 128 ? turns >> (places - 64) : 0;
    if (places == 0 || power > 255) {
        return (small_power){0, 0};
    }
    uint64_t x = multiply_high(rest, log_2);
    uint64_t sum = 0;
    for (uint32_t i = sizeof terms / sizeof terms[0]; i-- > 0;) {
        sum = terms[i] - multiply_high(x, sum);
    }
    return (small_power){sum, (uint32_t)power};
}

static void softmax_row(const tensor *input, tensor *output, uint32_t at, uint32_t size,
                        uint32_t inner) {
    int32_t most = value_at(input, at);
    for (uint32_t i = 1; i < size; i++) {
        int32_t value = value_at(input, at + i * inner);
        most = value > most ? value : most;
    }
    uint64_t sum = 0; /* 35 bits behind the point, for up to 2^28 elements */
    for (uint32_t i = 0; i < size; i++) {
        small_power one =
            exp_of((uint32_t)(most - value_at(input, at + i * inner)), input->exponent);
        sum += one.power + 28 < 64 ? one.mantissa >> (28 + one.power) : 0;
    }
    for (uint32_t i = 0; i < size; i++) {
        uint32_t index = at + i * inner;
        small_power one = exp_of((uint32_t)(most - value_at(input, index)), input->exponent);
        uint32_t bits = float_of_ratio(one.mantissa, sum, -28 - (int32_t)one.power);
        if (output->type == ENGINE_FLOAT32) {
            ((uint32_t *)(void *)output->data)[index] = bits;
        } else if (output->type == ENGINE_INT8) {
            ((int8_t *)output->data)[index] =
                (int8_t)clamp32(round_float(bits, output->exponent), -128, 127);
        } else {
            ((int16_t *)(void *)output->data)[index] =
                (int16_t)clamp32(round_float(bits, output->exponent), -32768, 32767);
        }
    }
}

static void run_softmax(const model *model, const step *step) {
    const softmax_detail *d = step->detail;
    const tensor *input = step_input(model, step, 0);
    tensor *output = step_output(model, step, 0);
    for (uint32_t outer = 0; outer < d->outer; outer++) {
        for (uint32_t inner = 0; inner < d->inner; inner++) {
            softmax_row(input, output, outer * d->size * d->inner + inner, d->size, d->inner);
        }
    }
}

static bool is_whole(const tensor *tensor) {
    return (tensor->type == ENGINE_INT8 || tensor->type == ENGINE_INT16) && !tensor->per_channel;
}

bool prepare_softmax(model *model, step *step) {
    tensor *output = one_output(model, step, 1, 1);
    const tensor *input = step_input(model, step, 0);
    uint32_t axis;
    if (output == NULL) {
        return false;
    }
    if (!is_whole(input) || (!is_whole(output) && output->type != ENGINE_FLOAT32)) {
        return model_fail(model, "%n works on other numbers than int8 and int16", step);
    }
    if (!real_axis(model, step, step_int(model, step, "axis", -1), input->rank, &axis) ||
        !tensor_shape(model, output, input->rank, input->shape)) {
        return false;
    }
    softmax_detail *d = model_take(model, sizeof *d);
    if (d == NULL) {
        return false;
    }
    *d = (softmax_detail){1, (uint32_t)input->shape[axis], 1};
    for (uint32_t i = 0; i < input->rank; i++) {
        d->outer *= i < axis ? (uint32_t)input->shape[i] : 1;
        d->inner *= i > axis ? (uint32_t)input->shape[i] : 1;
    }
    step->detail = d;
    step->run = run_softmax;
    model->work += (uint64_t)output->count * 128;
    return true;
}

static void run_quantize(const model *model, const step *step) {
    const tensor *input = step_input(model, step, 0);
    tensor *output = step_output(model, step, 0);
    const uint32_t *from = (const uint32_t *)(const void *)input->data;
    for (uint32_t i = 0; i < input->count; i++) {
        int32_t value = round_float(from[i], output->exponent);
        if (output->type == ENGINE_INT8) {
            ((int8_t *)output->data)[i] = (int8_t)clamp32(value, -128, 127);
        } else {
            ((int16_t *)(void *)output->data)[i] = (int16_t)clamp32(value, -32768, 32767);
        }
    }
}

static void run_dequantize(const model *model, const step *step) {
    const tensor *input = step_input(model, step, 0);
    uint32_t *to = (uint32_t *)(void *)step_output(model, step, 0)->data;
    for (uint32_t i = 0; i < input->count; i++) {
        to[i] = float_of_whole(value_at(input, i), input->exponent);
    }
}

static bool prepare_edge(model *model, step *step, bool to_float) {
    tensor *output = one_output(model, step, 1, 3);
    tensor *input = step_input(model, step, 0);
    if (output == NULL) {
        return false;
    }
    const tensor *real = to_float ? output : input;
    const tensor *whole = to_float ? input : output;
    const tensor *offset = step_input(model, step, 2);
    if (real->type != ENGINE_FLOAT32 || !is_whole(whole) ||
        (offset != NULL && (offset->data == NULL || offset->count != 1 ||
                            offset->type == ENGINE_FLOAT32 || tensor_value(offset, 0) != 0))) {
        return model_fail(model, "%n is not between float32 and int8 or int16 without a zero point",
                          step);
    }
    step->run = to_float ? run_dequantize : run_quantize;
    model->work += (uint64_t)output->count * 16;
    return align_parameter(model, input) &&
           tensor_shape(model, output, input->rank, input->shape);
}

bool prepare_quantize(model *model, step *step) {
    return prepare_edge(model, step, false);
}

bool prepare_dequantize(model *model, step *step) {
    return prepare_edge(model, step, true);
}
