/* The operators of this engine by name, and what preparing them has in common. */
#include "engine/operators.h"

#include <stddef.h>

enum { NODE_OP = 3 };

static const struct {
    const char *name;
    bool (*prepare)(model *model, step *step);
} known[] = {
    {"Add", prepare_add},
    {"AveragePool", prepare_average_pool},
    {"Clip", prepare_table},
    {"Concat", prepare_concat},
    {"Conv", prepare_conv},
    {"DepthToSpace", prepare_depth_to_space},
    {"DequantizeLinear", prepare_dequantize},
    {"Elu", prepare_table},
    {"Exp", prepare_table},
    {"Flatten", prepare_view},
    {"Gelu", prepare_table},
    {"Gemm", prepare_gemm},
    {"GlobalAveragePool", prepare_mean},
    {"GlobalMaxPool", prepare_max_pool},
    {"HardSigmoid", prepare_table},
    {"HardSwish", prepare_table},
    {"Identity", prepare_view},
    {"InsertZeros", prepare_insert_zeros},
    {"LUT", prepare_table},
    {"LeakyRelu", prepare_table},
    {"MatMul", prepare_gemm},
    {"MaxPool", prepare_max_pool},
    {"Mul", prepare_mul},
    {"Neg", prepare_table},
    {"PRelu", prepare_prelu},
    {"Pad", prepare_pad},
    {"QuantizeLinear", prepare_quantize},
    {"ReduceMean", prepare_mean},
    {"Relu", prepare_table},
    {"RequantizeLinear", prepare_requantize},
    {"Reshape", prepare_view},
    {"Resize", prepare_resize},
    {"Sigmoid", prepare_table},
    {"Slice", prepare_slice},
    {"Softmax", prepare_softmax},
    {"SpaceToDepth", prepare_space_to_depth},
    {"Split", prepare_split},
    {"Squeeze", prepare_view},
    {"Sub", prepare_add},
    {"Swish", prepare_table},
    {"Tanh", prepare_table},
    {"Transpose", prepare_transpose},
    {"Unsqueeze", prepare_view},
};

static bool is_named(const char *name, const flat_vector *text, const uint8_t *bytes) {
    uint32_t i = 0;
    while (i < text->count && name[i] != 0 && (uint8_t)name[i] == bytes[text->at + i]) {
        i++;
    }
    return i == text->count && name[i] == 0;
}

static bool not_here(model *model, const step *step, const flat_vector *op) {
    tensor operator_name = {.name = (const char *)model->file.bytes + op->at,
                            .name_bytes = op->count > 40 ? 40 : op->count};
    tensor node_name = {.name = step->name, .name_bytes = step->name_bytes};
    return model_fail(model, "operator %t of node %t is not in this engine", &operator_name,
                      &node_name);
}

bool operators_prepare(model *model, step *step) {
    flat_vector op;
    if (!flat_get_vector(&model->file, &step->node, NODE_OP, 1, &op)) {
        return model_fail(model, "the model file is damaged: its nodes");
    }
    for (uint32_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (!is_named(known[i].name, &op, model->file.bytes)) {
            continue;
        }
        step->op = known[i].name;
        for (uint32_t k = 0; k < step->input_count; k++) {
            const tensor *input = step_input(model, step, k);
            if (input != NULL && input->kind == TENSOR_DECLARED) {
                return model_fail(model, "%n reads %t before it is made", step, input);
            }
        }
        for (uint32_t k = 0; k < step->output_count; k++) {
            uint32_t index = step->operands[step->input_count + k];
            if (index == MODEL_NONE || model->tensors[index].kind != TENSOR_DECLARED) {
                return model_fail(model, "%n makes something that is there already", step);
            }
            model->tensors[index].kind = TENSOR_MADE;
        }
        return known[i].prepare(model, step);
    }
    return not_here(model, step, &op);
}

tensor *one_output(model *model, step *step, uint32_t least, uint32_t most) {
    bool fits = step->input_count >= least && step->input_count <= most && step->output_count == 1;
    for (uint32_t i = 0; i < least && fits; i++) {
        const tensor *input = step_input(model, step, i);
        fits = input != NULL && input->count != 0 && type_bytes(input->type) != 0;
    }
    if (!fits) {
        model_fail(model, "%n has other inputs than this engine knows", step);
        return NULL;
    }
    return step_output(model, step, 0);
}

static bool is_whole(const tensor *tensor) {
    return tensor->type == ENGINE_INT8 || tensor->type == ENGINE_INT16;
}

bool whole_numbers(model *model, const step *step, uint32_t count) {
    for (uint32_t i = 0; i <= count; i++) {
        const tensor *one = i < count ? step_input(model, step, i) : step_output(model, step, 0);
        if (one == NULL || !is_whole(one) || one->per_channel) {
            return model_fail(model, "%n works on other numbers than int8 and int16 with one "
                                     "exponent a tensor", step);
        }
    }
    return true;
}

bool can_move(model *model, const step *step, const tensor *from, const tensor *to) {
    bool whole = is_whole(from) && !from->per_channel && !to->per_channel;
    if (from->type != to->type || (!whole && from->exponent != to->exponent)) {
        return model_fail(model, "%n changes the type or the exponent of what it moves", step);
    }
    return true;
}

bool real_axis(model *model, const step *step, int64_t axis, uint32_t rank, uint32_t *real) {
    int64_t from_front = axis < 0 ? axis + rank : axis;
    if (from_front < 0 || from_front >= rank) {
        return model_fail(model, "%n has an axis beyond its %d dimensions", step, (int32_t)rank);
    }
    *real = (uint32_t)from_front;
    return true;
}

bool align_parameter(model *model, tensor *tensor) {
    uint32_t bytes = type_bytes(tensor->type);
    if (tensor->kind != TENSOR_CONSTANT || bytes == 1 || ((uintptr_t)tensor->data & 15) == 0) {
        return true;
    }
    uint8_t *copy = model_take(model, tensor->bytes);
    if (copy == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < tensor->bytes; i++) {
        copy[i] = tensor->data[i];
    }
    tensor->data = copy;
    model->use.unpacked_bytes += tensor->bytes;
    return true;
}
