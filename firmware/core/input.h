/* Bytes loaded by `db` become a model's inputs. */
#ifndef EDGEDEPLOY_INPUT_H
#define EDGEDEPLOY_INPUT_H

#include <stdbool.h>
#include <stdint.h>

/* Take `count` bytes as the inputs of the loaded model, all in order. Which they are, their number
 * tells: the device's own tensors; or float32 for every element, quantized here (half up); or one
 * byte an element where the model's metadata key `mlperf_input` says what a byte stands for, as
 * "u8 ZERO SCALE" or "i8 ZERO SCALE": value = (byte - ZERO) * SCALE.
 * False, and nothing is written, where they are none of these. */
bool input_take(const uint8_t *bytes, uint32_t count);

#endif
