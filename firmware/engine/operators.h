/* The operators of this engine: each checks a node at load and says how it runs. */
#ifndef EDGEDEPLOY_OPERATORS_H
#define EDGEDEPLOY_OPERATORS_H

#include "engine/model.h"

/* Finds the step's operator by the node's, checks its operands and attributes, sets the shapes of
 * its outputs and `run`. False with a reason where the engine cannot do exactly what is asked. */
bool operators_prepare(model *model, step *step);

/* Preparing of each kind; operators.c has the names. */
bool prepare_conv(model *model, step *step);
bool prepare_gemm(model *model, step *step);
bool prepare_add(model *model, step *step);
bool prepare_mul(model *model, step *step);
bool prepare_table(model *model, step *step);
bool prepare_prelu(model *model, step *step);
/* A change of exponent for what else is only a view; shapes are set. */
bool change_exponent(model *model, step *step);
bool prepare_requantize(model *model, step *step);
bool prepare_quantize(model *model, step *step);
bool prepare_dequantize(model *model, step *step);
bool prepare_softmax(model *model, step *step);
bool prepare_max_pool(model *model, step *step);
bool prepare_average_pool(model *model, step *step);
bool prepare_mean(model *model, step *step);
bool prepare_view(model *model, step *step);
bool prepare_transpose(model *model, step *step);
bool prepare_slice(model *model, step *step);
bool prepare_concat(model *model, step *step);
bool prepare_split(model *model, step *step);
bool prepare_pad(model *model, step *step);
bool prepare_resize(model *model, step *step);
bool prepare_depth_to_space(model *model, step *step);
bool prepare_space_to_depth(model *model, step *step);
bool prepare_insert_zeros(model *model, step *step);

/* The step's only output where it has from `least` to `most` inputs, the first of them an
 * activation or a parameter with a value; NULL (with a reason) where not. */
tensor *one_output(model *model, step *step, uint32_t least, uint32_t most);
/* True where every one of the `count` first inputs and the output is int8 or int16. */
bool whole_numbers(model *model, const step *step, uint32_t count);
/* True where elements can be moved from one to the other; false with a reason. The exponents may
 * differ: the simulator rounds an input of the model again for each operator that reads it. */
bool can_move(model *model, const step *step, const tensor *from, const tensor *to);
/* An axis that counts from the front; false (with a reason) where it is beyond the rank. */
bool real_axis(model *model, const step *step, int64_t axis, uint32_t rank, uint32_t *real);
/* A parameter aligned for its type, copied where the file does not align it. */
bool align_parameter(model *model, tensor *tensor);
/* `output` shares the memory of `input`: a view, or written in place. */
void share_memory(model *model, const step *step, uint32_t input, uint32_t output);
/* The same where no other step needs the old contents; else the output gets memory of its own. */
void share_if_last(model *model, step *step, uint32_t input, uint32_t output);

#endif
