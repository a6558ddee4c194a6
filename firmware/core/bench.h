/* Inferences in a row: timed, by layer, and over a set of samples that lies in memory. */
#ifndef EDGEDEPLOY_BENCH_H
#define EDGEDEPLOY_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "core/engine.h"

/* A percentile p99 needs 1,000 samples. */
#define SAMPLE_CAPACITY 1024
#define LAYER_CAPACITY 512

typedef struct {
    uint64_t ticks;
    uint64_t microseconds; /* 0 on a virtual board, which has no time */
} bench_sample;

/* Called about twice a second, between inferences or between layers, with the number of inferences
 * done so far; the marker is low meanwhile. */
typedef void (*bench_progress)(uint32_t done);

/* `warm_up` inferences, then `count` that are timed each; the inputs stay as they are. */
bool bench_run(uint32_t warm_up, uint32_t count, bench_progress progress,
               char error[ENGINE_ERROR_BYTES]);
uint32_t bench_sample_count(void);
const bench_sample *bench_samples(void);

/* `count` inferences with the clock read around each layer. */
bool bench_profile(uint32_t count, bench_progress progress, char error[ENGINE_ERROR_BYTES]);
uint32_t bench_layer_count(void);
/* Ticks of one layer in all profiled inferences together. */
uint64_t bench_layer_ticks(uint32_t layer);

/* `count` inferences: inputs from `samples`, outputs to `results`, packed one behind the other. */
bool bench_batch(uint32_t count, const uint8_t *samples, uint8_t *results, bench_progress progress,
                 char error[ENGINE_ERROR_BYTES]);

/* Nothing measured belongs to the model any more. */
void bench_forget(void);

#endif
