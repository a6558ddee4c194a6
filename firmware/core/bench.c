#include "core/bench.h"

#include "core/deployed.h"
#include "core/port.h"

#define PROGRESS_MICROSECONDS 500000u

static bench_sample samples[SAMPLE_CAPACITY];
static uint32_t sample_count;
static uint64_t layer_ticks[LAYER_CAPACITY];
static uint32_t layer_count;
static uint64_t layer_start;
/* Ticks that pass between two readings of the counter with nothing between. */
static uint64_t reading;
static uint64_t told_at;

/* Of the work in progress: whom to tell how much is done, and whether the pin is high. */
static struct {
    bench_progress tell;
    uint32_t done;
    bool marked;
} work;

static void start(bench_progress progress) {
    work.tell = progress;
    work.done = 0;
    reading = UINT64_MAX;
    for (int i = 0; i < 5; i++) {
        uint64_t before = port_ticks(), passed = port_ticks() - before;
        reading = passed < reading ? passed : reading;
    }
    told_at = port_microseconds();
}

/* Ticks since `before`, the reading itself left out. */
static uint64_t ticks_since(uint64_t before) {
    uint64_t passed = port_ticks() - before;
    return passed > reading ? passed - reading : 0;
}

/* The pin is low while the line is busy, so that a power meter integrates inferences alone. */
static void tell(void) {
    if (port_microseconds() - told_at < PROGRESS_MICROSECONDS) {
        return;
    }
    if (work.marked) {
        port_marker(false);
    }
    work.tell(work.done);
    told_at = port_microseconds();
    if (work.marked) {
        port_marker(true);
    }
}

/* Between the layers of an inference that is not timed, which may take long. */
static void tell_behind_layer(void *context, uint32_t layer, bool before) {
    (void)context;
    (void)layer;
    if (!before) {
        tell();
    }
}

static void mark(bool high) {
    work.marked = high;
    port_marker(high);
}

/* The microseconds are read outside the ticks: on a virtual board they cost a division. */
static bool timed_inference(bench_sample *sample, bool virtual_board, char *error) {
    uint64_t before = virtual_board ? 0 : port_microseconds();
    uint64_t ticks = port_ticks();
    bool done = deployed_run(NULL, NULL, error);
    sample->ticks = ticks_since(ticks);
    sample->microseconds = virtual_board ? 0 : port_microseconds() - before;
    return done;
}

bool bench_run(uint32_t warm_up, uint32_t count, bench_progress progress,
               char error[ENGINE_ERROR_BYTES]) {
    bool virtual_board = port_get_facts()->virtual_board;
    sample_count = 0;
    start(progress);
    for (uint32_t i = 0; i < warm_up; i++) {
        if (!deployed_run(tell_behind_layer, NULL, error)) {
            return false;
        }
    }
    bool done = true;
    mark(true);
    for (uint32_t i = 0; done && i < count && i < SAMPLE_CAPACITY; i++) {
        done = timed_inference(&samples[i], virtual_board, error);
        if (done) {
            sample_count = i + 1;
            work.done = sample_count;
            tell();
        }
    }
    mark(false);
    return done;
}

uint32_t bench_sample_count(void) {
    return sample_count;
}

const bench_sample *bench_samples(void) {
    return samples;
}

static void clock_layer(void *context, uint32_t layer, bool before) {
    (void)context;
    if (before) {
        layer_start = port_ticks();
    } else if (layer < LAYER_CAPACITY) {
        layer_ticks[layer] += ticks_since(layer_start);
        tell();
    }
}

bool bench_profile(uint32_t count, bench_progress progress, char error[ENGINE_ERROR_BYTES]) {
    layer_count = 0;
    for (uint32_t i = 0; i < LAYER_CAPACITY; i++) {
        layer_ticks[i] = 0;
    }
    start(progress);
    bool done = true;
    mark(true);
    for (uint32_t i = 0; done && i < count; i++) {
        done = deployed_run(clock_layer, NULL, error);
        work.done = i + 1;
        tell();
    }
    mark(false);
    if (done) {
        layer_count = engine_layer_count();
    }
    return done;
}

uint32_t bench_layer_count(void) {
    return layer_count;
}

uint64_t bench_layer_ticks(uint32_t layer) {
    return layer < layer_count && layer < LAYER_CAPACITY ? layer_ticks[layer] : 0;
}

bool bench_batch(uint32_t count, const uint8_t *from, uint8_t *results, bench_progress progress,
                 char error[ENGINE_ERROR_BYTES]) {
    uint32_t input_bytes = deployed_bytes(DEPLOYED_INPUTS);
    uint32_t output_bytes = deployed_bytes(DEPLOYED_OUTPUTS);
    start(progress);
    for (uint32_t i = 0; i < count; i++) {
        deployed_write_inputs(from);
        mark(true);
        bool done = deployed_run(tell_behind_layer, NULL, error);
        mark(false);
        if (!done) {
            return false;
        }
        deployed_read_outputs(results);
        from += input_bytes;
        results += output_bytes;
        work.done = i + 1;
        tell();
    }
    return true;
}

void bench_forget(void) {
    sample_count = 0;
    layer_count = 0;
}
