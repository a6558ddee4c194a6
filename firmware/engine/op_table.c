/* Operators of one tensor, element by element: tables, clamps, changes of exponent. */
#include <stddef.h>

#include "engine/numbers.h"
#include "engine/operators.h"

/* A change of exponent, then a clamp; int8 and int16 in and out. */
typedef struct {
    int32_t shift, low, high;
} requantize_detail;

typedef struct {
    const int8_t *table; /* 256 entries, for -128 first */
} table_detail;

/* A table of int16 for every so many steps of the input. */
typedef struct {
    const int16_t *table;
    uint32_t entries;
    int32_t step, shift; /* shift is -1 where step is no power of two */
} table16_detail;

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

static void run_requantize(const model *model, const step *step) {
    const requantize_detail *d = step->detail;
    const tensor *input = step_input(model, step, 0);
    tensor *output = step_output(model, step, 0);
    bool narrow = input->type == ENGINE_INT8 && output->type == ENGINE_INT8;
    if (narrow && d->shift >= 0 && d->shift < 24) {
        const int8_t *from = (const int8_t *)input->data;
        int8_t *to = (int8_t *)output->data;
        for (uint32_t i = 0; i < input->count; i++) {
            to[i] = (int8_t)clamp32(round_shift(from[i], d->shift), d->low, d->high);
        }
        return;
    }
    for (uint32_t i = 0; i < input->count; i++) {
        int32_t value = round_shift_wide(value_at(input, i), d->shift);
        store(output, i, clamp32(value, d->low, d->high));
    }
}

static void run_table(const model *model, const step *step) {
    const table_detail *d = step->detail;
    const tensor *input = step_input(model, step, 0);
    const int8_t *middle = d->table + 128;
    const int8_t *from = (const int8_t *)input->data;
    int8_t *to = (int8_t *)step_output(model, step, 0)->data;
    for (uint32_t i = 0; i < input->count; i++) {
        to[i] = middle[from[i]];
    }
}

static void run_table16(const model *model, const step *step) {
    const table16_detail *d = step->detail;
    const tensor *input = step_input(model, step, 0);
    const int16_t *from = (const int16_t *)(const void *)input->data;
    int16_t *to = (int16_t *)(void *)step_output(model, step, 0)->data;
    for (uint32_t i = 0; i < input->count; i++) {
        int32_t index = from[i] + 32768;
        if (d->shift >= 0) { /* the nearest entry */
            index = round_shift(index, d->shift);
            to[i] = d->table[index < (int32_t)d->entries ? index : (int32_t)d->entries - 1];
        } else { /* between two entries, towards the first */
            int32_t base = clamp32(index / d->step, 0, (int32_t)d->entries - 2);
            int32_t left = d->table[base];
            int32_t rise = index % d->step * (d->table[base + 1] - left);
            to[i] = (int16_t)clamp32(left + rise / d->step, -32768, 32767);
        }
    }
}

static bool make_requantize(model *model, step *step, int32_t low, int32_t high) {
    const tensor *input = step_input(model, step, 0);
    const tensor *output = step_output(model, step, 0);
    requantize_detail *d = model_take(model, sizeof *d);
    if (d == NULL) {
        return false;
    }
    *d = (requantize_detail){output->exponent - input->exponent,
                             clamp32(low, type_low(output->type), type_high(output->type)),
                             clamp32(high, type_low(output->type), type_high(output->type))};
    step->detail = d;
    step->run = run_requantize;
    step->low = &d->low;
    step->high = &d->high;
    model->work += output->count;
    share_if_last(model, step, 0, 0);
    return true;
}

/* True where the clamp could be left to the step that makes the input. */
static bool clamp_before(model *model, step *step, int32_t low, int32_t high) {
    const tensor *input = step_input(model, step, 0);
    const tensor *output = step_output(model, step, 0);
    if (input->kind != TENSOR_MADE || input->output || input->reads != 1 ||
        input->type != output->type || input->exponent != output->exponent) {
        return false;
    }
    const struct step *before = &model->steps[input->first];
    if (before->run == NULL || before->low == NULL) {
        return false;
    }
    *before->low = clamp32(*before->low, low, high);
    *before->high = clamp32(*before->high, low, high);
    share_memory(model, step, 0, 0);
    return true;
}

static bool make_clamp(model *model, step *step, int32_t low, int32_t high) {
    return clamp_before(model, step, low, high) || make_requantize(model, step, low, high);
}

/* True where the table does no more than clamp. */
static bool is_clamp(const int8_t *table, int32_t *low, int32_t *high) {
    *low = table[0];
    *high = table[255];
    for (int32_t i = 0; i < 256 && *low <= *high; i++) {
        if (table[i] != clamp32(i - 128, *low, *high)) {
            return false;
        }
    }
    return *low <= *high;
}

static bool make_table(model *model, step *step, const tensor *table) {
    const tensor *input = step_input(model, step, 0);
    const tensor *output = step_output(model, step, 0);
    int32_t low, high;
    if (table->kind != TENSOR_CONSTANT || table->type != ENGINE_INT8 || table->count != 256 ||
        input->type != ENGINE_INT8 || output->type != ENGINE_INT8) {
        return model_fail(model, "%n has a table that is not 256 x int8", step);
    }
    if (is_clamp((const int8_t *)table->data, &low, &high) &&
        clamp_before(model, step, low, high)) {
        return true;
    }
    table_detail *d = model_take(model, sizeof *d);
    if (d == NULL) {
        return false;
    }
    d->table = (const int8_t *)table->data;
    step->detail = d;
    step->run = run_table;
    model->work += output->count;
    share_if_last(model, step, 0, 0);
    return true;
}

static bool make_table16(model *model, step *step, tensor *table) {
    table16_detail *d = model_take(model, sizeof *d);
    if (d == NULL) {
        return false;
    }
    if (table->kind != TENSOR_CONSTANT || table->type != ENGINE_INT16 || table->count < 3 ||
        table->count > 65537 || step_input(model, step, 0)->type != ENGINE_INT16 ||
        step_output(model, step, 0)->type != ENGINE_INT16 || !align_parameter(model, table)) {
        return model_fail(model, "%n has a table that is not of int16", step);
    }
    /* A table for every value may lack the entry behind the last. */
    int32_t every = table->count >= 65536 ? 1 : 65536 / (int32_t)(table->count - 1);
    int32_t shift = 0;
    while (1 << shift < every) {
        shift++;
    }
    *d = (table16_detail){(const int16_t *)(void *)table->data, table->count, every,
                          1 << shift == every ? shift : -1};
    step->detail = d;
    step->run = run_table16;
    model->work += table->count;
    share_if_last(model, step, 0, 0);
    return true;
}

/* The bounds of a Clip, in the output's units; false where they are no parameters. */
static bool clip_bounds(const model *model, const step *step, int32_t *low, int32_t *high) {
    int32_t *bounds[] = {low, high};
    const tensor *output = step_output(model, step, 0);
    *low = type_low(output->type);
    *high = type_high(output->type);
    for (uint32_t i = 0; i < 2; i++) {
        const tensor *bound = step_input(model, step, i + 1);
        if (bound == NULL) {
            continue;
        }
        if (bound->kind != TENSOR_CONSTANT || bound->count != 1 || bound->data == NULL ||
            (bound->type != ENGINE_INT8 && bound->type != ENGINE_INT16)) {
            return false;
        }
        /* Rounding keeps the order, so the rounded value clamps as the value itself. */
        int32_t value = (int32_t)tensor_value(bound, 0);
        *bounds[i] = round_shift_wide(value, output->exponent - bound->exponent);
    }
    return *low <= *high;
}

bool prepare_table(model *model, step *step) {
    tensor *output = one_output(model, step, 1, 3);
    const tensor *input = step_input(model, step, 0);
    if (output == NULL || !whole_numbers(model, step, 1) ||
        !tensor_shape(model, output, input->rank, input->shape)) {
        return false;
    }
    tensor *table = step_named(model, step, "lut");
    if (input->type == ENGINE_INT8 && table != NULL) {
        return make_table(model, step, table);
    }
    int32_t low = 0;
    int32_t high = type_high(output->type);
    /* Told apart by names no other operator begins like. */
    if (step->op[0] == 'L' && step->op[1] == 'U' && table != NULL) {
        return make_table16(model, step, table);
    }
    if (step->op[0] == 'R' && step->op[1] == 'e') {
        return make_clamp(model, step, low, high);
    }
    if (step->op[0] == 'C' && clip_bounds(model, step, &low, &high)) {
        return make_clamp(model, step, low, high);
    }
    return model_fail(model, "%n has no table of all values of int16; keep it in int8", step);
}

bool prepare_requantize(model *model, step *step) {
    tensor *output = one_output(model, step, 1, 3);
    const tensor *input = step_input(model, step, 0);
    if (output == NULL || !whole_numbers(model, step, 1) ||
        !tensor_shape(model, output, input->rank, input->shape)) {
        return false;
    }
    const tensor *offset = step_input(model, step, 2);
    if (offset != NULL && (offset->data == NULL || offset->count != 1 ||
                           offset->type == ENGINE_FLOAT32 || tensor_value(offset, 0) != 0)) {
        return model_fail(model, "%n has a zero point; this engine has none", step);
    }
    return make_requantize(model, step, INT32_MIN, INT32_MAX);
}

bool change_exponent(model *model, step *step) {
    return make_requantize(model, step, INT32_MIN, INT32_MAX);
}
