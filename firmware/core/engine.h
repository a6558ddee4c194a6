/* What a model engine offers the firmware: our interpreter (engine/) or a vendor's library. */
#ifndef EDGEDEPLOY_ENGINE_H
#define EDGEDEPLOY_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENGINE_MAX_RANK 6
#define ENGINE_ERROR_BYTES 160

typedef enum {
    ENGINE_INT8 = 8,
    ENGINE_INT16 = 16,
    ENGINE_INT32 = 32,
    ENGINE_FLOAT32 = 33,
} engine_type;

/* A tensor as the device holds it: value = stored * 2^exponent, row-major in `shape`.
 * `name` is the model's own and is not terminated: it lies in the model file. */
typedef struct {
    const char *name;
    uint16_t name_bytes;
    uint8_t type; /* engine_type */
    int8_t exponent;
    uint8_t rank;
    int32_t shape[ENGINE_MAX_RANK];
    uint32_t bytes;
} engine_tensor;

/* Memory the engine may take at load and keep: `fast` (SRAM) is tried first, then `large` (PSRAM).
 * Both are 16-byte aligned; `large` may be NULL. Nothing else is ever allocated. */
typedef struct {
    uint8_t *fast;
    uint32_t fast_bytes;
    uint8_t *large;
    uint32_t large_bytes;
} engine_memory;

typedef struct {
    uint32_t model_bytes;      /* the file itself, read in place */
    uint32_t parameter_bytes;  /* weights as stored in it */
    uint32_t unpacked_bytes;   /* weights copied into another order at load */
    uint32_t arena_fast_bytes; /* high water of all the engine took of `fast` */
    uint32_t arena_large_bytes; /* and of `large`, unpacked weights among it */
    uint32_t largest_tensor_bytes;
} engine_use;

typedef struct {
    const char *name; /* of the layer in the model file, not terminated */
    uint16_t name_bytes;
    const char *op; /* terminated */
} engine_layer;

/* Called around each layer of a run: `before` is true ahead of it, false behind it. */
typedef void (*engine_hook)(void *context, uint32_t layer, bool before);

typedef struct {
    uint16_t vectors;    /* embedded test outputs compared */
    uint16_t failed;     /* of these, not equal */
    uint32_t values;     /* elements compared */
    uint32_t different;  /* of these, not equal bit for bit */
    uint32_t first_bad;  /* index of the first in its output */
    int32_t expected, found;
} engine_check;

/* Take a model file of `size` bytes, 16-byte aligned, which stays where it is while the engine is
 * used. Whatever the bytes are, this returns: false with a reason in `error` (terminated) for a
 * file that is damaged, has an operator this engine lacks (named, with its node), or needs more
 * memory than there is. A second call replaces the model of the first. */
bool engine_load(const uint8_t *file, uint32_t size, const engine_memory *memory,
                 char error[ENGINE_ERROR_BYTES]);
bool engine_loaded(void);
/* "edgedeploy-int8 1.0", terminated. */
const char *engine_version(void);

uint32_t engine_input_count(void);
uint32_t engine_output_count(void);
bool engine_input(uint32_t index, engine_tensor *tensor);
bool engine_output(uint32_t index, engine_tensor *tensor);
/* Where an input is written before a run, and an output is read after it; NULL if out of range.
 * Inputs keep their contents over runs; outputs hold until the next run. */
uint8_t *engine_input_data(uint32_t index);
const uint8_t *engine_output_data(uint32_t index);

/* One inference. `hook` may be NULL. False with a reason only where the engine itself broke. */
bool engine_run(engine_hook hook, void *context, char error[ENGINE_ERROR_BYTES]);

uint32_t engine_layer_count(void);
bool engine_layer_at(uint32_t index, engine_layer *layer);
bool engine_memory_use(engine_use *use);

/* Run on the input embedded in the model file and compare every embedded output; overwrites the
 * inputs. `check->vectors` is 0 where the file holds none. Whole numbers are equal bit for bit;
 * float32 (of a Softmax, whose additions have no fixed order) up to 8 units in the last place. */
bool engine_self_test(engine_check *check, char error[ENGINE_ERROR_BYTES]);

/* The value of a metadata key of the model file (not terminated), or NULL. */
const char *engine_metadata(const char *key, uint32_t *bytes);

#endif
