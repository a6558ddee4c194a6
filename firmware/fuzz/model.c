/* The engine under a fuzzer: whatever a model file holds, it runs or is refused with a reason. */
#define _POSIX_C_SOURCE 200809L

#include <stdlib.h>
#include <string.h>

#include "core/engine.h"

#define FAST_BYTES 32768
#define LARGE_BYTES 196608

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count);

/* Exactly so large and no larger, so that a step over its end is seen. */
static uint8_t *memory(size_t bytes) {
    void *at = NULL;
    if (posix_memalign(&at, 16, bytes == 0 ? 1 : bytes) != 0) {
        abort();
    }
    return at;
}

static void check(bool right) {
    if (!right) {
        abort();
    }
}

/* So that the outputs are really read. */
static volatile uint8_t seen;

static void use_tensors(void) {
    engine_tensor tensor;
    for (uint32_t i = 0; i < engine_input_count(); i++) {
        check(engine_input(i, &tensor) && tensor.rank <= ENGINE_MAX_RANK);
        memset(engine_input_data(i), (int)(i + 1), tensor.bytes);
    }
    for (uint32_t i = 0; i < engine_output_count(); i++) {
        check(engine_output(i, &tensor) && tensor.rank <= ENGINE_MAX_RANK);
        for (uint32_t k = 0; k < tensor.bytes; k++) {
            seen ^= engine_output_data(i)[k];
        }
    }
    check(!engine_input(engine_input_count(), &tensor));
    check(engine_input_data(engine_input_count()) == NULL);
}

static void use(void) {
    char error[ENGINE_ERROR_BYTES] = "";
    engine_layer layer;
    engine_check compared;
    engine_use used;
    uint32_t bytes;
    use_tensors();
    engine_run(NULL, NULL, error);
    use_tensors();
    engine_self_test(&compared, error);
    check(memchr(error, 0, sizeof error) != NULL);
    for (uint32_t i = 0; i < engine_layer_count(); i++) {
        check(engine_layer_at(i, &layer) && layer.op != NULL && strlen(layer.op) < 256);
    }
    check(engine_memory_use(&used));
    check(used.arena_fast_bytes <= FAST_BYTES && used.arena_large_bytes <= LARGE_BYTES);
    engine_metadata("mlperf", &bytes);
    engine_metadata("no such key", &bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    uint8_t *file = memory(count);
    engine_memory arena = {
        .fast = memory(FAST_BYTES),
        .fast_bytes = FAST_BYTES,
        .large = memory(LARGE_BYTES),
        .large_bytes = LARGE_BYTES,
    };
    char error[ENGINE_ERROR_BYTES];
    memset(error, 'x', sizeof error);
    memcpy(file, data, count);
    if (engine_load(file, (uint32_t)count, &arena, error)) {
        check(engine_loaded());
        use();
    } else {
        check(!engine_loaded());
        check(memchr(error, 0, sizeof error) != NULL && error[0] != 0);
    }
    free(file);
    free(arena.fast);
    free(arena.large);
    return 0;
}
