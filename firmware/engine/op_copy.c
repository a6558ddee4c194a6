/* Operators that move elements: each is a few copies from one set of steps to another. */
#include <stddef.h>

#include "engine/copy.h"
#include "engine/numbers.h"
#include "engine/operators.h"

/* Copies of one step, run one after the other. */
typedef struct {
    uint32_t count;
    bool fills; /* the output with zeros, or `filling`, before */
    int32_t filling;
    copy_job jobs[];
} copy_detail;

/* The same with the exponent changed, of int8 or int16. */
static void change_elements(const copy_job *job, const uint8_t *from, uint8_t *to, uint32_t bytes) {
    uint32_t last = job->rank - 1;
    for (int32_t i = 0; i < (int32_t)job->shape[last]; i++) {
        int32_t at_from = i * job->from[last], at_to = i * job->to[last];
        if (bytes == 1) {
            int32_t value = round_shift_wide(((const int8_t *)from)[at_from], job->shift);
            ((int8_t *)to)[at_to] = (int8_t)clamp32(value, -128, 127);
        } else {
            int32_t value =
                round_shift_wide(((const int16_t *)(const void *)from)[at_from], job->shift);
            ((int16_t *)(void *)to)[at_to] = (int16_t)clamp32(value, -32768, 32767);
        }
    }
}

static void copy_elements(const copy_job *job, const uint8_t *from, uint8_t *to, uint32_t bytes) {
    uint32_t last = job->rank - 1;
    uint32_t count = job->shape[last];
    if (job->from[last] == 1 && job->to[last] == 1) {
        __builtin_memcpy(to, from, count * bytes);
        return;
    }
    int32_t step_from = job->from[last] * (int32_t)bytes;
    int32_t step_to = job->to[last] * (int32_t)bytes;
    for (uint32_t i = 0; i < count; i++, from += step_from, to += step_to) {
        to[0] = from[0];
        for (uint32_t k = 1; k < bytes; k++) {
            to[k] = from[k];
        }
    }
}

static void run_job(const copy_job *job, const uint8_t *from, uint8_t *to, uint32_t bytes) {
    uint32_t place[COPY_MAX_RANK] = {0};
    uint32_t last = job->rank - 1;
    int32_t at_from = job->from_at, at_to = job->to_at;
    for (;;) {
        (job->shift == 0 ? copy_elements : change_elements)(
            job, from + at_from * (int32_t)bytes, to + at_to * (int32_t)bytes, bytes);
        uint32_t axis = last;
        while (axis-- > 0) {
            at_from += job->from[axis];
            at_to += job->to[axis];
            if (++place[axis] < job->shape[axis]) {
                break;
            }
            at_from -= (int32_t)place[axis] * job->from[axis];
            at_to -= (int32_t)place[axis] * job->to[axis];
            place[axis] = 0;
        }
        if (axis == MODEL_NONE) {
            return;
        }
    }
}

static void run_copies(const model *model, const step *step) {
    const copy_detail *d = step->detail;
    bool splits = step->output_count > 1;
    if (d->fills && d->filling == 0) {
        tensor *output = step_output(model, step, 0);
        __builtin_memset(output->data, 0, output->bytes);
    } else if (d->fills) {
        tensor *output = step_output(model, step, 0);
        for (uint32_t i = 0; i < output->bytes; i++) {
            /* The low byte first, as the targets keep their numbers. */
            uint32_t shift = output->type == ENGINE_INT8 ? 0 : i % type_bytes(output->type) * 8;
            output->data[i] = (uint8_t)((uint32_t)d->filling >> shift);
        }
    }
    for (uint32_t i = 0; i < d->count; i++) {
        const tensor *input = step_input(model, step, splits ? 0 : i);
        const tensor *output = step_output(model, step, splits ? i : 0);
        run_job(&d->jobs[i], input->data, output->data, type_bytes(output->type));
    }
}

void copy_loop(copy_job *job, uint32_t size, int32_t from, int32_t to) {
    if (size == 1) {
        return;
    }
    uint32_t last = job->rank - 1;
    if (job->rank > 0 && job->from[last] == from * (int32_t)size &&
        job->to[last] == to * (int32_t)size) {
        job->shape[last] *= size;
    } else {
        last = job->rank++;
        job->shape[last] = size;
    }
    job->from[last] = from;
    job->to[last] = to;
}

void copy_end(copy_job *job) {
    if (job->rank == 0) {
        job->rank = 1;
        job->shape[0] = 1;
        job->from[0] = job->to[0] = 1;
    }
}

copy_job *copy_jobs(model *model, step *step, uint32_t count) {
    copy_detail *d =
        model_take(model, (uint32_t)(sizeof(copy_detail) + count * sizeof(copy_job)));
    if (d == NULL) {
        return NULL;
    }
    d->count = count;
    step->detail = d;
    step->run = run_copies;
    for (uint32_t i = 0; i < count; i++) {
        bool splits = step->output_count > 1;
        d->jobs[i].shift = step_output(model, step, splits ? i : 0)->exponent -
                           step_input(model, step, splits ? 0 : i)->exponent;
    }
    for (uint32_t i = 0; i < step->output_count; i++) {
        model->work += step_output(model, step, i)->count;
    }
    return d->jobs;
}

void copy_fill(const step *step, int32_t filling) {
    copy_detail *d = step->detail;
    d->fills = true;
    d->filling = filling;
}

/* Steps of a tensor that lies whole, in elements. */
void copy_steps(const tensor *tensor, int32_t *steps) {
    int32_t step = 1;
    for (uint32_t i = tensor->rank; i-- > 0;) {
        steps[i] = step;
        step *= tensor->shape[i];
    }
}

/* One input and one output with the same numbers. */
static tensor *mover(model *model, step *step, uint32_t most) {
    tensor *output = one_output(model, step, 1, most);
    const tensor *input = step_input(model, step, 0);
    return output == NULL || !can_move(model, step, input, output) ? NULL : output;
}

bool prepare_transpose(model *model, step *step) {
    tensor *output = mover(model, step, 1);
    const tensor *input = step_input(model, step, 0);
    int64_t order[ENGINE_MAX_RANK];
    uint32_t count;
    if (output == NULL) {
        return false;
    }
    if (!step_ints(model, step, "perm", order, ENGINE_MAX_RANK, &count) ||
        (count != 0 && count != input->rank)) {
        return model_fail(model, "%n has an order of another length than its input", step);
    }
    int32_t shape[ENGINE_MAX_RANK], steps[ENGINE_MAX_RANK], from[ENGINE_MAX_RANK];
    uint32_t seen = 0;
    copy_steps(input, steps);
    for (uint32_t i = 0; i < input->rank; i++) {
        uint32_t axis;
        if (!real_axis(model, step, count == 0 ? input->rank - 1 - i : order[i], input->rank,
                       &axis)) {
            return false;
        }
        seen |= 1u << axis;
        shape[i] = input->shape[axis];
        from[i] = steps[axis];
    }
    if (seen != (1u << input->rank) - 1) {
        return model_fail(model, "%n has an order that names a dimension twice", step);
    }
    if (!tensor_shape(model, output, input->rank, shape)) {
        return false;
    }
    copy_job job = {0};
    copy_steps(output, steps);
    for (uint32_t i = 0; i < input->rank; i++) {
        copy_loop(&job, (uint32_t)shape[i], from[i], steps[i]);
    }
    copy_end(&job);
    if (job.rank == 1 && job.from[0] == 1 && job.to[0] == 1 &&
        input->exponent == output->exponent) {
        share_memory(model, step, 0, 0); /* only dimensions of one element change places */
        return true;
    }
    copy_job *made = copy_jobs(model, step, 1);
    if (made == NULL) {
        return false;
    }
    job.shift = made->shift;
    *made = job;
    return true;
}

/* The numbers of a parameter; `otherwise` where it is left out. */
static bool slice_list(model *model, const step *step, uint32_t input, uint32_t count,
                       int64_t *values) {
    const tensor *given = step_input(model, step, input);
    if (given == NULL) {
        return true;
    }
    if (given->kind != TENSOR_CONSTANT || given->count != count ||
        (given->type != MODEL_INT64 && given->type != ENGINE_INT32)) {
        return model_fail(model, "%n cuts where no parameter says", step);
    }
    for (uint32_t i = 0; i < count; i++) {
        values[i] = tensor_value(given, i);
    }
    return true;
}

bool prepare_slice(model *model, step *step) {
    tensor *output = mover(model, step, 5);
    const tensor *input = step_input(model, step, 0);
    const tensor *starts_given = step_input(model, step, 1);
    if (output == NULL) {
        return false;
    }
    if (starts_given == NULL || starts_given->count > ENGINE_MAX_RANK || starts_given->count == 0) {
        return model_fail(model, "%n cuts where no parameter says", step);
    }
    uint32_t count = starts_given->count;
    int64_t starts[ENGINE_MAX_RANK], ends[ENGINE_MAX_RANK];
    int64_t axes[ENGINE_MAX_RANK] = {0, 1, 2, 3, 4, 5}, by[ENGINE_MAX_RANK] = {1, 1, 1, 1, 1, 1};
    if (!slice_list(model, step, 1, count, starts) || step_input(model, step, 2) == NULL ||
        !slice_list(model, step, 2, count, ends) || !slice_list(model, step, 3, count, axes) ||
        !slice_list(model, step, 4, count, by)) {
        return model_fail(model, "%n cuts where no parameter says", step);
    }
    copy_job job = {0};
    int32_t shape[ENGINE_MAX_RANK], steps[ENGINE_MAX_RANK], from[ENGINE_MAX_RANK];
    copy_steps(input, steps);
    for (uint32_t i = 0; i < input->rank; i++) {
        shape[i] = input->shape[i];
        from[i] = steps[i];
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t axis;
        if (!real_axis(model, step, axes[i], input->rank, &axis)) {
            return false;
        }
        int64_t size = input->shape[axis];
        int64_t start = starts[i] < 0 ? starts[i] + size : starts[i];
        int64_t end = ends[i] < 0 ? ends[i] + size : ends[i];
        start = start < 0 ? 0 : start;
        end = end > size ? size : end;
        by[i] = by[i] > size ? size : by[i];
        if (by[i] < 1 || start >= end || shape[axis] != size) {
            return model_fail(model, "%n cuts nothing out, backwards, or an axis twice", step);
        }
        shape[axis] = (int32_t)(end - start - 1) / (int32_t)by[i] + 1;
        from[axis] = steps[axis] * (int32_t)by[i];
        job.from_at += steps[axis] * (int32_t)start;
    }
    if (!tensor_shape(model, output, input->rank, shape)) {
        return false;
    }
    copy_steps(output, steps);
    for (uint32_t i = 0; i < input->rank; i++) {
        copy_loop(&job, (uint32_t)shape[i], from[i], steps[i]);
    }
    copy_end(&job);
    copy_job *made = copy_jobs(model, step, 1);
    if (made == NULL) {
        return false;
    }
    job.shift = made->shift;
    *made = job;
    return true;
}
