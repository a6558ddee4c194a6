/* Operators that only see the same elements in another shape. */
#include <stddef.h>

#include "engine/operators.h"

static bool constant_ints(model *model, const step *step, uint32_t index, int64_t *values,
                          uint32_t most, uint32_t *count) {
    const tensor *given = step_input(model, step, index);
    if (given == NULL || given->kind != TENSOR_CONSTANT || given->type != MODEL_INT64 ||
        given->count > most) {
        return model_fail(model, "%n has a shape or axes that are no parameter", step);
    }
    for (*count = 0; *count < given->count; ++*count) {
        values[*count] = tensor_value(given, *count);
    }
    return true;
}

/* The shape that Reshape's parameter asks for: 0 keeps a dimension, -1 is what is left over. */
static bool reshaped(model *model, const step *step, const tensor *input, int32_t *shape,
                     uint32_t *rank) {
    int64_t wanted[ENGINE_MAX_RANK];
    uint32_t open = MODEL_NONE;
    uint64_t known = 1;
    if (!constant_ints(model, step, 1, wanted, ENGINE_MAX_RANK, rank)) {
        return false;
    }
    for (uint32_t i = 0; i < *rank; i++) {
        if (wanted[i] == 0 && i < input->rank) {
            wanted[i] = input->shape[i];
        }
        if (wanted[i] == -1 && open == MODEL_NONE) {
            open = i;
            continue;
        }
        if (wanted[i] <= 0 || wanted[i] > (1 << 28) || known > (1u << 28)) {
            return model_fail(model, "%n makes a shape that cannot be", step);
        }
        known *= (uint64_t)wanted[i];
        shape[i] = (int32_t)wanted[i];
    }
    if (open != MODEL_NONE) {
        shape[open] = known > input->count ? 0 : (int32_t)(input->count / (uint32_t)known);
    }
    return true;
}

static bool flattened(model *model, const step *step, const tensor *input, int32_t *shape,
                      uint32_t *rank) {
    int64_t axis = step_int(model, step, "axis", 1);
    axis += axis < 0 ? input->rank : 0;
    if (axis < 0 || axis > input->rank) {
        return model_fail(model, "%n has an axis beyond its dimensions", step);
    }
    shape[0] = shape[1] = 1;
    for (uint32_t i = 0; i < input->rank; i++) {
        shape[i < axis ? 0 : 1] *= input->shape[i];
    }
    *rank = 2;
    return true;
}

static bool axes_of(model *model, const step *step, uint32_t rank, bool *marked, uint32_t *count) {
    int64_t axes[ENGINE_MAX_RANK];
    if (step_input(model, step, 1) != NULL) {
        if (!constant_ints(model, step, 1, axes, ENGINE_MAX_RANK, count)) {
            return false;
        }
    } else if (!step_ints(model, step, "axes", axes, ENGINE_MAX_RANK, count)) {
        return model_fail(model, "%n has more axes than dimensions", step);
    }
    for (uint32_t i = 0; i < *count; i++) {
        uint32_t axis;
        if (!real_axis(model, step, axes[i], rank, &axis)) {
            return false;
        }
        marked[axis] = true;
    }
    return true;
}

static bool squeezed(model *model, const step *step, const tensor *input, int32_t *shape,
                     uint32_t *rank) {
    bool marked[ENGINE_MAX_RANK] = {false};
    uint32_t count;
    if (!axes_of(model, step, input->rank, marked, &count)) {
        return false;
    }
    *rank = 0;
    for (uint32_t i = 0; i < input->rank; i++) {
        if (input->shape[i] != 1 || (count != 0 && !marked[i])) {
            shape[(*rank)++] = input->shape[i];
        }
    }
    return true;
}

static bool unsqueezed(model *model, const step *step, const tensor *input, int32_t *shape,
                       uint32_t *rank) {
    bool marked[ENGINE_MAX_RANK] = {false};
    uint32_t count, taken = 0;
    const tensor *given = step_input(model, step, 1);
    *rank = input->rank + (given != NULL ? given->count : 1);
    if (given == NULL || *rank > ENGINE_MAX_RANK ||
        !axes_of(model, step, *rank, marked, &count)) {
        return model_fail(model, "%n has axes this engine cannot add", step);
    }
    for (uint32_t i = 0; i < *rank; i++) {
        shape[i] = marked[i] || taken >= input->rank ? 1 : input->shape[taken++];
    }
    return true;
}

bool prepare_view(model *model, step *step) {
    tensor *output = one_output(model, step, 1, 2);
    const tensor *input = step_input(model, step, 0);
    int32_t shape[ENGINE_MAX_RANK];
    uint32_t rank = 0;
    if (output == NULL) {
        return false;
    }
    bool fits;
    switch (step->op[0]) {
    case 'R':
        fits = reshaped(model, step, input, shape, &rank);
        break;
    case 'F':
        fits = flattened(model, step, input, shape, &rank);
        break;
    case 'S':
        fits = squeezed(model, step, input, shape, &rank);
        break;
    case 'U':
        fits = unsqueezed(model, step, input, shape, &rank);
        break;
    default:
        fits = true;
        for (; rank < input->rank; rank++) {
            shape[rank] = input->shape[rank];
        }
    }
    if (!fits || !tensor_shape(model, output, rank, shape)) {
        return false;
    }
    if (output->count != input->count) {
        return model_fail(model, "%n makes %d elements of %d", step, (int32_t)output->count,
                          (int32_t)input->count);
    }
    if (output->type == input->type && output->exponent == input->exponent) {
        share_memory(model, step, 0, 0);
        return true;
    }
    return whole_numbers(model, step, 1) && change_exponent(model, step);
}
