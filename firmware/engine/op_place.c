/* Operators that put elements in other places of a larger or smaller tensor. */
#include <stddef.h>

#include "engine/copy.h"
#include "engine/numbers.h"
#include "engine/operators.h"

bool prepare_concat(model *model, step *step) {
    tensor *output = one_output(model, step, 1, MODEL_MAX_OPERANDS);
    uint32_t axis;
    if (output == NULL) {
        return false;
    }
    const tensor *first = step_input(model, step, 0);
    int32_t shape[ENGINE_MAX_RANK], steps[ENGINE_MAX_RANK], from[ENGINE_MAX_RANK];
    if (!real_axis(model, step, step_int(model, step, "axis", 0), first->rank, &axis)) {
        return false;
    }
    for (uint32_t i = 0; i < first->rank; i++) {
        shape[i] = first->shape[i];
    }
    shape[axis] = 0;
    for (uint32_t k = 0; k < step->input_count; k++) {
        tensor *part = step_input(model, step, k);
        if (part == NULL || part->count == 0 || part->rank != first->rank ||
            !can_move(model, step, part, output)) {
            return model_fail(model, "%n joins tensors of different types or shapes", step);
        }
        for (uint32_t i = 0; i < first->rank; i++) {
            if (i != axis && part->shape[i] != shape[i]) {
                return model_fail(model, "%n joins tensors of shapes that do not fit", step);
            }
        }
        if (shape[axis] > (1 << 28)) {
            return model_fail(model, "%n makes a shape that cannot be", step);
        }
        shape[axis] += part->shape[axis];
    }
    if (!tensor_shape(model, output, first->rank, shape)) {
        return false;
    }
    copy_job *jobs = copy_jobs(model, step, step->input_count);
    if (jobs == NULL) {
        return false;
    }
    copy_steps(output, steps);
    int32_t at = 0;
    for (uint32_t k = 0; k < step->input_count; k++) {
        const tensor *part = step_input(model, step, k);
        copy_steps(part, from);
        for (uint32_t i = 0; i < first->rank; i++) {
            copy_loop(&jobs[k], (uint32_t)part->shape[i], from[i], steps[i]);
        }
        copy_end(&jobs[k]);
        jobs[k].to_at = at;
        at += part->shape[axis] * steps[axis];
    }
    return true;
}

/* The size of part `index` along the axis; 0 where it is not known. */
static int32_t part_size(const model *model, const step *step, uint32_t index, int32_t whole) {
    const tensor *given = step_input(model, step, 1);
    int64_t size;
    if (given == NULL) {
        int32_t parts = (int32_t)step->output_count;
        int32_t most = (whole - 1) / parts + 1;
        int32_t left = whole - (int32_t)index * most;
        return left < most ? left : most;
    }
    if (given->kind != TENSOR_CONSTANT || given->type != MODEL_INT64 ||
        given->count != step->output_count) {
        return 0;
    }
    size = tensor_value(given, index);
    return size < 0 || size > whole ? 0 : (int32_t)size;
}

bool prepare_split(model *model, step *step) {
    const tensor *input = step_input(model, step, 0);
    uint32_t axis;
    if (input == NULL || input->count == 0) {
        return model_fail(model, "%n has no input", step);
    }
    if (!real_axis(model, step, step_int(model, step, "axis", 0), input->rank, &axis)) {
        return false;
    }
    int32_t shape[ENGINE_MAX_RANK], steps[ENGINE_MAX_RANK], to[ENGINE_MAX_RANK];
    int32_t left = input->shape[axis];
    for (uint32_t i = 0; i < input->rank; i++) {
        shape[i] = input->shape[i];
    }
    for (uint32_t k = 0; k < step->output_count; k++) {
        tensor *part = step_output(model, step, k);
        shape[axis] = part_size(model, step, k, input->shape[axis]);
        left -= shape[axis];
        if (!can_move(model, step, input, part) ||
            !tensor_shape(model, part, input->rank, shape)) {
            return false;
        }
    }
    copy_job *jobs = left != 0 ? NULL : copy_jobs(model, step, step->output_count);
    if (jobs == NULL) {
        return left == 0 ? false : model_fail(model, "%n splits off more or less than all", step);
    }
    copy_steps(input, steps);
    int32_t at = 0;
    for (uint32_t k = 0; k < step->output_count; k++) {
        const tensor *part = step_output(model, step, k);
        copy_steps(part, to);
        for (uint32_t i = 0; i < input->rank; i++) {
            copy_loop(&jobs[k], (uint32_t)part->shape[i], steps[i], to[i]);
        }
        copy_end(&jobs[k]);
        jobs[k].from_at = at;
        at += part->shape[axis] * steps[axis];
    }
    return true;
}

/* The input and output of an operator that only moves elements; NULL with a reason. */
static tensor *placed(model *model, step *step, uint32_t most, uint32_t rank) {
    tensor *output = one_output(model, step, 1, most);
    const tensor *input = step_input(model, step, 0);
    if (output == NULL || !can_move(model, step, input, output)) {
        return NULL;
    }
    if (rank != 0 && input->rank != rank) {
        model_fail(model, "%n has an input that is no image", step);
        return NULL;
    }
    return output;
}

bool prepare_pad(model *model, step *step) {
    tensor *output = placed(model, step, 3, 0);
    if (output == NULL) {
        return false;
    }
    const tensor *input = step_input(model, step, 0);
    const tensor *pads = step_input(model, step, 1);
    const tensor *value = step_input(model, step, 2);
    if (!step_text_is(model, step, "mode", "constant", true)) {
        return model_fail(model, "%n pads with mirrored values; this engine with constants", step);
    }
    if (pads == NULL || pads->kind != TENSOR_CONSTANT || pads->type != MODEL_INT64 ||
        pads->count != 2u * input->rank) {
        return model_fail(model, "%n pads by what is no parameter", step);
    }
    int32_t filling = 0;
    if (value != NULL) {
        if (value->kind != TENSOR_CONSTANT || value->count != 1 || value->data == NULL ||
            (value->type != ENGINE_INT8 && value->type != ENGINE_INT16)) {
            return model_fail(model, "%n pads with what is no whole number", step);
        }
        filling = round_shift_wide(tensor_value(value, 0), output->exponent - value->exponent);
        filling = clamp32(filling, type_low(output->type), type_high(output->type));
    }
    int32_t shape[ENGINE_MAX_RANK], steps[ENGINE_MAX_RANK], from[ENGINE_MAX_RANK];
    int32_t kept[ENGINE_MAX_RANK], before[ENGINE_MAX_RANK];
    for (uint32_t i = 0; i < input->rank; i++) {
        int64_t first = tensor_value(pads, i);
        int64_t last = tensor_value(pads, input->rank + i);
        int64_t size = input->shape[i];
        if (first < -size || last < -size || first > 32767 || last > 32767 ||
            size + first + last < 1 || size + first + last > (1 << 28)) {
            return model_fail(model, "%n pads by what cannot be", step);
        }
        /* A negative pad cuts off. */
        before[i] = (int32_t)first;
        kept[i] = (int32_t)(size + (first < 0 ? first : 0) + (last < 0 ? last : 0));
        shape[i] = (int32_t)(size + first + last);
        if (kept[i] < 1) {
            return model_fail(model, "%n cuts off all there is", step);
        }
    }
    if (!tensor_shape(model, output, input->rank, shape)) {
        return false;
    }
    copy_job *job = copy_jobs(model, step, 1);
    if (job == NULL) {
        return false;
    }
    copy_fill(step, filling);
    copy_steps(input, from);
    copy_steps(output, steps);
    for (uint32_t i = 0; i < input->rank; i++) {
        copy_loop(job, (uint32_t)kept[i], from[i], steps[i]);
        job->to_at += (before[i] > 0 ? before[i] : 0) * steps[i];
        job->from_at += (before[i] < 0 ? -before[i] : 0) * from[i];
    }
    copy_end(job);
    return true;
}

bool prepare_insert_zeros(model *model, step *step) {
    tensor *output = placed(model, step, 1, 0);
    if (output == NULL) {
        return false;
    }
    const tensor *input = step_input(model, step, 0);
    int64_t stride[ENGINE_MAX_RANK], more[ENGINE_MAX_RANK];
    uint32_t strides, mores;
    if (input->rank < 3 ||
        !step_ints(model, step, "stride", stride, ENGINE_MAX_RANK, &strides) ||
        !step_ints(model, step, "output_padding", more, ENGINE_MAX_RANK, &mores) ||
        strides != input->rank - 2u || (mores != 0 && mores != strides)) {
        return model_fail(model, "%n has strides that do not fit its input", step);
    }
    int32_t shape[ENGINE_MAX_RANK], steps[ENGINE_MAX_RANK], from[ENGINE_MAX_RANK];
    for (uint32_t i = 0; i < input->rank; i++) {
        shape[i] = input->shape[i];
    }
    for (uint32_t i = 0; i < strides; i++) {
        int64_t padding = mores == 0 ? 0 : more[i];
        int64_t size = stride[i] < 1 || stride[i] > 64 || padding < 0 || padding > 64
                           ? 0
                           : (input->shape[i + 1] - 1) * stride[i] + 1 + padding;
        shape[i + 1] = size > (1 << 28) ? 0 : (int32_t)size;
    }
    if (!tensor_shape(model, output, input->rank, shape)) {
        return false;
    }
    copy_job *job = copy_jobs(model, step, 1);
    if (job == NULL) {
        return false;
    }
    copy_fill(step, 0);
    copy_steps(input, from);
    copy_steps(output, steps);
    for (uint32_t i = 0; i < input->rank; i++) {
        bool spatial = i > 0 && i + 1 < input->rank;
        copy_loop(job, (uint32_t)input->shape[i], from[i],
                  steps[i] * (spatial ? (int32_t)stride[i - 1] : 1));
    }
    copy_end(job);
    return true;
}

/* The block of both: 2 where four channels become 2 x 2 pixels. */
static int32_t block_of(model *model, const step *step) {
    int64_t block = step_int(model, step, "blocksize", 1);
    if (block < 1 || block > 64) {
        model_fail(model, "%n has a block of over 64", step);
        return 0;
    }
    return (int32_t)block;
}

bool prepare_depth_to_space(model *model, step *step) {
    tensor *output = placed(model, step, 1, 4);
    int32_t block = output == NULL ? 0 : block_of(model, step);
    if (block == 0) {
        return false;
    }
    const tensor *input = step_input(model, step, 0);
    int32_t depth = input->shape[3] / (block * block);
    bool columns_first = step_text_is(model, step, "mode", "CRD", false);
    if (depth * block * block != input->shape[3] || input->shape[1] > (1 << 20) ||
        input->shape[2] > (1 << 20)) {
        return model_fail(model, "%n has channels that are no multiple of its block", step);
    }
    int32_t shape[4] = {input->shape[0], input->shape[1] * block, input->shape[2] * block, depth};
    if (!tensor_shape(model, output, 4, shape)) {
        return false;
    }
    copy_job *job = copy_jobs(model, step, 1);
    if (job == NULL) {
        return false;
    }
    int32_t from[4], to[4];
    copy_steps(input, from);
    copy_steps(output, to);
    int32_t in_block = columns_first ? 1 : depth;
    copy_loop(job, (uint32_t)shape[0], from[0], to[0]);
    copy_loop(job, (uint32_t)input->shape[1], from[1], to[1] * block);
    copy_loop(job, (uint32_t)block, in_block * block, to[1]);
    copy_loop(job, (uint32_t)input->shape[2], from[2], to[2] * block);
    copy_loop(job, (uint32_t)block, in_block, to[2]);
    copy_loop(job, (uint32_t)depth, columns_first ? block * block : 1, 1);
    copy_end(job);
    return true;
}

bool prepare_space_to_depth(model *model, step *step) {
    tensor *output = placed(model, step, 1, 4);
    int32_t block = output == NULL ? 0 : block_of(model, step);
    if (block == 0) {
        return false;
    }
    const tensor *input = step_input(model, step, 0);
    int32_t shape[4] = {input->shape[0], input->shape[1] / block, input->shape[2] / block, 0};
    if (shape[1] * block != input->shape[1] || shape[2] * block != input->shape[2] ||
        input->shape[3] > (1 << 16)) {
        return model_fail(model, "%n has an image that is no multiple of its block", step);
    }
    shape[3] = input->shape[3] * block * block;
    if (!tensor_shape(model, output, 4, shape)) {
        return false;
    }
    copy_job *job = copy_jobs(model, step, 1);
    if (job == NULL) {
        return false;
    }
    int32_t from[4], to[4];
    copy_steps(input, from);
    copy_steps(output, to);
    /* As the simulator has it: the channel counts slowest. */
    copy_loop(job, (uint32_t)shape[0], from[0], to[0]);
    copy_loop(job, (uint32_t)shape[1], from[1] * block, to[1]);
    copy_loop(job, (uint32_t)shape[2], from[2] * block, to[2]);
    copy_loop(job, (uint32_t)input->shape[3], 1, block * block);
    copy_loop(job, (uint32_t)block, from[1], block);
    copy_loop(job, (uint32_t)block, from[2], 1);
    copy_end(job);
    return true;
}
