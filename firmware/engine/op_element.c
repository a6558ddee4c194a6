/* Operators of two tensors, element by element, the smaller one repeated: Add, Sub, Mul, PRelu. */
#include <stddef.h>

#include "engine/numbers.h"
#include "engine/operators.h"

enum { SUM, DIFFERENCE, PRODUCT, SLOPE };

typedef struct {
    uint8_t kind;
    bool quick;       /* int8 all over, and 32 bits hold everything */
    uint32_t rank;    /* of the loops; neighbouring dimensions that can be one are one */
    uint32_t shape[ENGINE_MAX_RANK];
    uint32_t a[ENGINE_MAX_RANK], b[ENGINE_MAX_RANK]; /* steps in elements; 0 repeats */
    int32_t shift_a, shift_b, shift;
    int32_t align_a, align_b; /* before that, rounded to another exponent; 0 mostly */
    int32_t slope_shift; /* of a product under 0, for SLOPE */
    int32_t least, most; /* of the output's type */
    int32_t low, high;
} element_detail;

typedef struct {
    const uint8_t *data;
    bool wide;
} operand;

static int32_t value_at(const operand *operand, uint32_t index) {
    return operand->wide ? ((const int16_t *)(const void *)operand->data)[index]
                         : ((const int8_t *)operand->data)[index];
}

static void quick_row(const element_detail *d, const int8_t *a, const int8_t *b, int8_t *to) {
    uint32_t count = d->shape[d->rank - 1];
    uint32_t step_a = d->a[d->rank - 1];
    uint32_t step_b = d->b[d->rank - 1];
    int32_t low = d->low;
    int32_t high = d->high;
    int32_t shift = d->shift;
    int32_t half = shift == 0 ? 0 : (int32_t)(1u << (shift - 1));
    if (d->kind == PRODUCT) {
        for (uint32_t i = 0; i < count; i++, a += step_a, b += step_b) {
            to[i] = (int8_t)clamp32((*a * *b + half) >> shift, low, high);
        }
        return;
    }
    int32_t by_a = (int32_t)(1u << d->shift_a);
    int32_t by_b = (int32_t)(1u << d->shift_b);
    by_b = d->kind == DIFFERENCE ? -by_b : by_b;
    if (by_a == 1 && by_b == 1 && shift == 0) {
        for (uint32_t i = 0; i < count; i++, a += step_a, b += step_b) {
            to[i] = (int8_t)clamp32(*a + *b, low, high);
        }
        return;
    }
    for (uint32_t i = 0; i < count; i++, a += step_a, b += step_b) {
        to[i] = (int8_t)clamp32((*a * by_a + *b * by_b + half) >> shift, low, high);
    }
}

static int32_t one_value(const element_detail *d, int64_t a, int64_t b, bool wide) {
    int32_t (*rounded)(int64_t, int32_t) = wide ? round_shift_wide : round_shift_float;
    switch (d->kind) {
    case PRODUCT:
        return rounded(a * b, d->shift);
    case SLOPE:
        return a < 0 ? rounded(a * b, d->slope_shift) : rounded(a, d->shift);
    default:
        a = d->align_a == 0 ? a : clamp32(round_shift_wide(a, d->align_a), d->least, d->most);
        b = d->align_b == 0 ? b : clamp32(round_shift_wide(b, d->align_b), d->least, d->most);
        a = (int64_t)((uint64_t)a << d->shift_a);
        b = (int64_t)((uint64_t)b << d->shift_b);
        return rounded(d->kind == SUM ? a + b : a - b, d->shift);
    }
}

static void run_element(const model *model, const step *step) {
    const element_detail *d = step->detail;
    const tensor *first = step_input(model, step, 0);
    const tensor *second = step_input(model, step, 1);
    tensor *output = step_output(model, step, 0);
    operand a = {first->data, first->type == ENGINE_INT16};
    operand b = {second->data, second->type == ENGINE_INT16};
    uint32_t place[ENGINE_MAX_RANK] = {0};
    uint32_t at_a = 0, at_b = 0, row = d->shape[d->rank - 1];
    for (uint32_t at = 0; at < output->count; at += row) {
        if (d->quick) {
            quick_row(d, (const int8_t *)a.data + at_a, (const int8_t *)b.data + at_b,
                      (int8_t *)output->data + at);
        }
        for (uint32_t i = 0; i < row && !d->quick; i++) {
            int32_t value = one_value(d, value_at(&a, at_a + i * d->a[d->rank - 1]),
                                      value_at(&b, at_b + i * d->b[d->rank - 1]),
                                      output->type == ENGINE_INT16);
            value = clamp32(value, d->low, d->high);
            if (output->type == ENGINE_INT16) {
                ((int16_t *)(void *)output->data)[at + i] = (int16_t)value;
            } else {
                ((int8_t *)output->data)[at + i] = (int8_t)value;
            }
        }
        for (uint32_t axis = d->rank - 1; axis-- > 0;) {
            at_a += d->a[axis];
            at_b += d->b[axis];
            if (++place[axis] < d->shape[axis]) {
                break;
            }
            at_a -= place[axis] * d->a[axis];
            at_b -= place[axis] * d->b[axis];
            place[axis] = 0;
        }
    }
}

/* Steps of an operand over the output's shape; false where it cannot be repeated to it. */
static bool steps_of(const tensor *operand, const tensor *output, uint32_t *steps) {
    uint32_t step = 1;
    for (uint32_t i = 0; i < output->rank; i++) {
        uint32_t axis = output->rank - 1 - i;
        uint32_t size = i < operand->rank ? (uint32_t)operand->shape[operand->rank - 1 - i] : 1;
        if (size != 1 && size != (uint32_t)output->shape[axis]) {
            return false;
        }
        steps[axis] = size == 1 ? 0 : step;
        step *= size;
    }
    return true;
}

/* The loops: dimensions of one element left out, and those that can be run as one joined. */
static void join(element_detail *d, const tensor *output, const uint32_t *a, const uint32_t *b) {
    d->rank = 0;
    for (uint32_t i = 0; i < output->rank; i++) {
        uint32_t size = (uint32_t)output->shape[i];
        if (size == 1) {
            continue;
        }
        uint32_t last = d->rank - 1;
        if (d->rank > 0 && d->a[last] == a[i] * size && d->b[last] == b[i] * size) {
            d->shape[last] *= size;
        } else {
            last = d->rank++;
            d->shape[last] = size;
        }
        d->a[last] = a[i];
        d->b[last] = b[i];
    }
    if (d->rank == 0) {
        d->rank = 1;
        d->shape[0] = 1;
        d->a[0] = d->b[0] = 0;
    }
}

/* The shape two operands have together, by the rules of ONNX. */
static bool shape_of_both(model *model, const step *step, const tensor *a, const tensor *b,
                          tensor *output) {
    int32_t shape[ENGINE_MAX_RANK];
    uint32_t rank = a->rank > b->rank ? a->rank : b->rank;
    for (uint32_t i = 0; i < rank; i++) {
        int32_t of_a = i < a->rank ? a->shape[a->rank - 1 - i] : 1;
        int32_t of_b = i < b->rank ? b->shape[b->rank - 1 - i] : 1;
        if (of_a != of_b && of_a != 1 && of_b != 1) {
            return model_fail(model, "%n has operands of shapes that do not fit", step);
        }
        shape[rank - 1 - i] = of_a == 1 ? of_b : of_a;
    }
    return tensor_shape(model, output, rank, shape);
}

static bool prepare_element(model *model, step *step, element_detail *d, tensor *output,
                            const tensor *repeated) {
    const tensor *a = step_input(model, step, 0);
    const tensor *b = step_input(model, step, 1);
    uint32_t steps_a[ENGINE_MAX_RANK], steps_b[ENGINE_MAX_RANK];
    if (!steps_of(a, output, steps_a) || !steps_of(repeated, output, steps_b)) {
        return model_fail(model, "%n has operands of shapes that do not fit", step);
    }
    join(d, output, steps_a, steps_b);
    d->low = d->least = type_low(output->type);
    d->high = d->most = type_high(output->type);
    d->quick = a->type == ENGINE_INT8 && b->type == ENGINE_INT8 && output->type == ENGINE_INT8 &&
               d->kind != SLOPE && d->align_a == 0 && d->align_b == 0 && d->shift_a <= 15 &&
               d->shift_b <= 15 && d->shift >= 0 && d->shift <= 22;
    step->detail = d;
    step->run = run_element;
    step->low = &d->low;
    step->high = &d->high;
    model->work += output->count;
    if (a->bytes == output->bytes && same_shape(a, output)) {
        share_if_last(model, step, 0, 0);
    } else if (b->bytes == output->bytes && same_shape(b, output)) {
        share_if_last(model, step, 1, 0);
    }
    return true;
}

static element_detail *two_operands(model *model, step *step, tensor **output) {
    *output = one_output(model, step, 2, 2);
    if (*output == NULL || !whole_numbers(model, step, 2) ||
        !align_parameter(model, step_input(model, step, 0)) ||
        !align_parameter(model, step_input(model, step, 1))) {
        return NULL;
    }
    return model_take(model, sizeof(element_detail));
}

/* The exponent an operand is added in. The simulator adds in the output's; what brings the operands
 * there are nodes of the file, but for an input of the model, which it rounds within the Add. */
static int32_t added_in(const tensor *operand, const tensor *output, int32_t *align) {
    *align = operand->kind == TENSOR_INPUT ? output->exponent - operand->exponent : 0;
    return operand->exponent + *align;
}

bool prepare_add(model *model, step *step) {
    tensor *output;
    element_detail *d = two_operands(model, step, &output);
    if (d == NULL) {
        return false;
    }
    const tensor *a = step_input(model, step, 0);
    const tensor *b = step_input(model, step, 1);
    int32_t in_a = added_in(a, output, &d->align_a);
    int32_t in_b = added_in(b, output, &d->align_b);
    int32_t least = in_a < in_b ? in_a : in_b;
    d->kind = step->op[0] == 'A' ? SUM : DIFFERENCE;
    d->shift_a = in_a - least;
    d->shift_b = in_b - least;
    d->shift = output->exponent - least;
    if (d->shift_a > 40 || d->shift_b > 40) {
        return model_fail(model, "%n adds numbers whose exponents are over 40 apart", step);
    }
    return shape_of_both(model, step, a, b, output) && prepare_element(model, step, d, output, b);
}

bool prepare_mul(model *model, step *step) {
    tensor *output;
    element_detail *d = two_operands(model, step, &output);
    if (d == NULL) {
        return false;
    }
    const tensor *a = step_input(model, step, 0);
    const tensor *b = step_input(model, step, 1);
    d->kind = PRODUCT;
    d->shift = output->exponent - a->exponent - b->exponent;
    return shape_of_both(model, step, a, b, output) && prepare_element(model, step, d, output, b);
}

bool prepare_prelu(model *model, step *step) {
    tensor *output;
    if (step_input(model, step, 0) != NULL && step_input(model, step, 0)->type == ENGINE_INT8 &&
        step_has(model, step, "lut")) {
        return prepare_table(model, step);
    }
    element_detail *d = two_operands(model, step, &output);
    if (d == NULL) {
        return false;
    }
    const tensor *input = step_input(model, step, 0);
    const tensor *slopes = step_input(model, step, 1);
    d->kind = SLOPE;
    d->shift = output->exponent - input->exponent;
    d->slope_shift = d->shift - slopes->exponent;
    /* One slope for all, or one for each channel, which is the last dimension here. */
    tensor repeated = {.rank = 1, .shape = {(int32_t)slopes->count}};
    if (slopes->count != 1 &&
        (input->rank < 2 || slopes->count != (uint32_t)input->shape[input->rank - 1])) {
        return model_fail(model, "%n has %d slopes, which are not one a channel", step,
                          (int32_t)slopes->count);
    }
    return tensor_shape(model, output, input->rank, input->shape) &&
           prepare_element(model, step, d, output, &repeated);
}
