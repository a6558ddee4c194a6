/* InsertZeros and a convolution that meets one pixel at a time: a transposed convolution again. */
#include "engine/upsample.h"

#include <stddef.h>

#include "engine/reference.h"

/* Input row y makes the output rows y * rows to y * rows + rows - 1, each by a 1x1 convolution
 * whose channels are those of the pixels side by side: so they lie as the output has them. */
typedef struct {
    conv_shape row;
    int32_t rows, in_h;
    uint32_t packed_bytes;
    const int8_t *packed;
    const int32_t *bias;
} upsample_detail;

typedef struct {
    const weight_source *source;
    uint32_t row;
} row_weights;

/* The pixel `row`, `column` of a block takes the kernel's weight at the opposite corner. */
static int8_t weight_of_row(const void *from, int32_t out, int32_t y, int32_t x, int32_t in) {
    const row_weights *weights = from;
    const weight_source *source = weights->source;
    uint32_t column = (uint32_t)out / source->out;
    (void)y;
    (void)x;
    return (int8_t)weight_at(source, (uint32_t)out % source->out, source->height - 1 - weights->row,
                             source->width - 1 - column, (uint32_t)in);
}

static void run_upsample(const model *model, const step *step) {
    const upsample_detail *d = step->detail;
    const int8_t *input = (const int8_t *)step_input(model, step, 0)->data;
    int8_t *output = (int8_t *)step_output(model, step, 0)->data;
    for (int32_t y = 0; y < d->in_h; y++) {
        const int8_t *packed = d->packed;
        for (int32_t row = 0; row < d->rows; row++, packed += d->packed_bytes) {
            conv_run(&d->row, input, packed, d->bias, (int8_t *)step->scratch, output);
            output += d->row.out_w * d->row.out_c;
        }
        input += d->row.in_w * d->row.in_c;
    }
}

bool upsample_fits(const model *model, const step *step, const conv_shape *shape) {
    const tensor *spread = step_input(model, step, 0);
    uint32_t before = (uint32_t)(step - model->steps) - 1;
    if (spread->kind != TENSOR_MADE || spread->first != before || spread->reads != 1 ||
        spread->output || spread->rank != 4) {
        return false;
    }
    const struct step *spreads = &model->steps[before];
    const tensor *input = step_input(model, spreads, 0);
    const char insert[] = "InsertZeros";
    for (uint32_t i = 0; i < sizeof insert; i++) {
        if (spreads->op[i] != insert[i]) {
            return false;
        }
    }
    int32_t kernel_h = shape->kernel_h, kernel_w = shape->kernel_w;
    bool aligned = input->shape[2] * shape->in_c % 16 == 0 &&
                   input->shape[2] * kernel_w * shape->out_c % 16 == 0;
    /* With a stride of the kernel and no more rows at the end, these sizes are the only ones. */
    return aligned && input->exponent == spread->exponent && shape->stride_h == 1 &&
           shape->stride_w == 1 && shape->dilation_h == 1 && shape->dilation_w == 1 &&
           shape->pad_top == kernel_h - 1 && shape->pad_left == kernel_w - 1 &&
           spread->shape[1] == (input->shape[1] - 1) * kernel_h + 1 &&
           spread->shape[2] == (input->shape[2] - 1) * kernel_w + 1 &&
           input->shape[1] > 1 && input->shape[2] > 1 &&
           shape->out_h == input->shape[1] * kernel_h &&
           shape->out_w == input->shape[2] * kernel_w;
}

bool upsample_prepare(model *model, step *step, const weight_source *source,
                      const conv_shape *shape, const int32_t *bias) {
    struct step *spreads = step - 1;
    const tensor *input = step_input(model, spreads, 0);
    upsample_detail *d = model_take(model, sizeof *d);
    if (d == NULL) {
        return false;
    }
    int32_t across = shape->kernel_w * shape->out_c;
    d->row = (conv_shape){
        .in_h = 1,
        .in_w = input->shape[2],
        .in_c = shape->in_c,
        .out_h = 1,
        .out_w = input->shape[2],
        .out_c = across,
        .kernel_h = 1,
        .kernel_w = 1,
        .stride_h = 1,
        .stride_w = 1,
        .dilation_h = 1,
        .dilation_w = 1,
        .shift = shape->shift,
        .low = shape->low,
        .high = shape->high,
    };
    d->rows = shape->kernel_h;
    d->in_h = input->shape[1];
    d->packed_bytes = conv_packed_bytes(&d->row);
    uint64_t bytes = (uint64_t)d->packed_bytes * (uint32_t)d->rows;
    int8_t *packed = bytes > INT32_MAX ? NULL : model_take(model, (uint32_t)bytes);
    int32_t *repeated = packed == NULL ? NULL : model_take(model, (uint32_t)across * 4);
    if (repeated == NULL) {
        return bytes > INT32_MAX ? model_fail(model, "%n has too many weights", step) : false;
    }
    d->packed = packed;
    d->bias = repeated;
    for (int32_t row = 0; row < d->rows; row++) {
        row_weights weights = {source, (uint32_t)row};
        conv_pack(&d->row, weight_of_row, &weights, packed + (uint32_t)row * d->packed_bytes);
    }
    for (int32_t i = 0; i < across; i++) {
        repeated[i] = bias[i % shape->out_c];
    }
    model->use.unpacked_bytes += (uint32_t)bytes;
    /* The spread tensor is never made: what it was spread from is read here instead. */
    step_input(model, step, 0)->kind = TENSOR_ABSENT;
    spreads->run = NULL;
    step->operands[0] = spreads->operands[0];
    lives_until(model, step->operands[0], (uint32_t)(step - model->steps));
    step->detail = d;
    step->low = &d->row.low;
    step->high = &d->row.high;
    step->scratch_bytes = conv_scratch_bytes(&d->row);
    step->run = run_upsample;
    return true;
}
