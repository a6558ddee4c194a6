/* One layer run by the plain loops and by the kernels, counted and compared. */
#ifndef EDGEDEPLOY_BENCHMARKS_LAYERS_H
#define EDGEDEPLOY_BENCHMARKS_LAYERS_H

#include <stdbool.h>

#include "engine/conv.h"

typedef enum {
    WEIGHTS_BELL,    /* a bell of standard deviation 18, as trained weights are or narrower */
    WEIGHTS_UNIFORM, /* every value from -127 to 127 as often */
    WEIGHTS_FULL,    /* -128 and 127 alone: the worst that can come */
} weight_kind;

typedef struct {
    uint64_t plain, kernel; /* instructions */
    uint64_t macs;          /* those of border pixels too, as usual */
    uint64_t different;     /* outputs that are not equal */
    uint32_t packed_bytes, scratch_bytes; /* the largest of a layer; packed: of all */
} layer_count;

/* A generator of its own, so that all boards have the same numbers. */
uint32_t random_next(void);
void random_seed(uint32_t seed);

/* Memory for all below, 16-byte aligned. */
void layers_memory(uint8_t *memory, uint32_t bytes);
/* Room for `bytes` that stays. */
int8_t *layers_take(uint32_t bytes);

/* Random weights and bias, then both ways from `input`; the kernels' output stays in `output`. */
void layer_run(const conv_shape *shape, bool depthwise, weight_kind kind, const int8_t *input,
               int8_t *output, layer_count *count);

#endif
