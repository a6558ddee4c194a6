/* The one model of the device: loaded when first needed, its tensors as a whole. */
#ifndef EDGEDEPLOY_DEPLOYED_H
#define EDGEDEPLOY_DEPLOYED_H

#include <stdbool.h>
#include <stdint.h>

#include "core/engine.h"

/* Load what lies at the model's place, anew. */
bool deployed_load(char error[ENGINE_ERROR_BYTES]);
/* The same, where that has not been done yet. */
bool deployed_need(char error[ENGINE_ERROR_BYTES]);
bool deployed_loaded(void);
/* One inference; `hook` may be NULL. */
bool deployed_run(engine_hook hook, void *context, char error[ENGINE_ERROR_BYTES]);

typedef enum { DEPLOYED_INPUTS, DEPLOYED_OUTPUTS } deployed_side;

uint32_t deployed_count(deployed_side side);
bool deployed_tensor(deployed_side side, uint32_t index, engine_tensor *tensor);
const uint8_t *deployed_data(deployed_side side, uint32_t index);
/* Bytes, elements and CRC-32 of all tensors of a side, in order. */
uint32_t deployed_bytes(deployed_side side);
uint32_t deployed_elements(deployed_side side);
uint32_t deployed_crc(deployed_side side);
uint32_t deployed_elements_of(const engine_tensor *tensor);

/* All tensors of a side one behind the other: into the inputs, out of the outputs. */
void deployed_write_inputs(const uint8_t *from);
void deployed_read_outputs(uint8_t *to);

#endif
