#include "core/deployed.h"

#include <string.h>

#include "core/crc32.h"
#include "core/port.h"

static bool loaded;

bool deployed_load(char error[ENGINE_ERROR_BYTES]) {
    engine_memory memory = {0};
    uint32_t extent = 0;
    const uint8_t *file = port_model(&extent);
    port_arena(&memory.fast, &memory.fast_bytes, &memory.large, &memory.large_bytes);
    error[0] = 0;
    loaded = engine_load(file, extent, &memory, error);
    error[ENGINE_ERROR_BYTES - 1] = 0;
    return loaded;
}

bool deployed_need(char error[ENGINE_ERROR_BYTES]) {
    return loaded || deployed_load(error);
}

bool deployed_loaded(void) {
    return loaded;
}

bool deployed_run(engine_hook hook, void *context, char error[ENGINE_ERROR_BYTES]) {
    error[0] = 0;
    bool done = engine_run(hook, context, error);
    error[ENGINE_ERROR_BYTES - 1] = 0;
    return done;
}

uint32_t deployed_count(deployed_side side) {
    return side == DEPLOYED_INPUTS ? engine_input_count() : engine_output_count();
}

bool deployed_tensor(deployed_side side, uint32_t index, engine_tensor *tensor) {
    return side == DEPLOYED_INPUTS ? engine_input(index, tensor) : engine_output(index, tensor);
}

const uint8_t *deployed_data(deployed_side side, uint32_t index) {
    return side == DEPLOYED_INPUTS ? engine_input_data(index) : engine_output_data(index);
}

uint32_t deployed_elements_of(const engine_tensor *tensor) {
    static const uint8_t width[] = {[ENGINE_INT8] = 1, [ENGINE_INT16] = 2, [ENGINE_INT32] = 4,
                                    [ENGINE_FLOAT32] = 4};
    uint32_t bytes = tensor->type < sizeof width ? width[tensor->type] : 0;
    return bytes == 0 ? 0 : tensor->bytes / bytes;
}

uint32_t deployed_bytes(deployed_side side) {
    uint32_t bytes = 0;
    engine_tensor tensor;
    for (uint32_t i = 0; i < deployed_count(side) && deployed_tensor(side, i, &tensor); i++) {
        bytes += tensor.bytes;
    }
    return bytes;
}

uint32_t deployed_elements(deployed_side side) {
    uint32_t elements = 0;
    engine_tensor tensor;
    for (uint32_t i = 0; i < deployed_count(side) && deployed_tensor(side, i, &tensor); i++) {
        elements += deployed_elements_of(&tensor);
    }
    return elements;
}

uint32_t deployed_crc(deployed_side side) {
    uint32_t crc = 0;
    engine_tensor tensor;
    for (uint32_t i = 0; i < deployed_count(side) && deployed_tensor(side, i, &tensor); i++) {
        crc = crc32(crc, deployed_data(side, i), tensor.bytes);
    }
    return crc;
}

void deployed_write_inputs(const uint8_t *from) {
    engine_tensor tensor;
    for (uint32_t i = 0; i < engine_input_count() && engine_input(i, &tensor); i++) {
        memcpy(engine_input_data(i), from, tensor.bytes);
        from += tensor.bytes;
    }
}

void deployed_read_outputs(uint8_t *to) {
    engine_tensor tensor;
    for (uint32_t i = 0; i < engine_output_count() && engine_output(i, &tensor); i++) {
        memcpy(to, engine_output_data(i), tensor.bytes);
        to += tensor.bytes;
    }
}
