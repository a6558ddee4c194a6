#include "layers.h"

#include <stddef.h>

#include "core/port.h"
#include "plain.h"

static uint32_t state = 1;
static uint8_t *at, *end;

void random_seed(uint32_t seed) {
    state = seed;
}

uint32_t random_next(void) {
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

void layers_memory(uint8_t *memory, uint32_t bytes) {
    at = memory;
    end = memory + bytes;
}

int8_t *layers_take(uint32_t bytes) {
    uint8_t *taken = at;
    at += (bytes + 15u) & ~15u;
    return at <= end ? (int8_t *)taken : NULL;
}

static int8_t random_weight(weight_kind kind) {
    uint32_t random = random_next();
    switch (kind) {
    case WEIGHTS_BELL:
        return (int8_t)((int32_t)(random & 31) + (int32_t)(random >> 5 & 31) +
                        (int32_t)(random >> 10 & 31) + (int32_t)(random >> 15 & 31) - 62);
    case WEIGHTS_UNIFORM:
        return (int8_t)((int32_t)((random & 0xffff) * 255u >> 16) - 127);
    case WEIGHTS_FULL:
        break;
    }
    return random & 1024 ? 127 : -128;
}

typedef struct {
    const conv_shape *shape;
    const int8_t *weights;
    bool depthwise;
} plain_weights;

static int8_t plain_weight(const void *source, int32_t out, int32_t y, int32_t x, int32_t in) {
    const plain_weights *p = source;
    const conv_shape *s = p->shape;
    if (p->depthwise) {
        return p->weights[(y * s->kernel_w + x) * s->out_c + out];
    }
    return p->weights[((out * s->kernel_h + y) * s->kernel_w + x) * s->in_c + in];
}

void layer_run(const conv_shape *s, bool depthwise, weight_kind kind, const int8_t *input,
               int8_t *output, layer_count *count) {
    uint8_t *mark = at;
    uint32_t per_output = (uint32_t)(s->kernel_h * s->kernel_w * (depthwise ? 1 : s->in_c));
    uint32_t outputs = (uint32_t)(s->out_h * s->out_w * s->out_c);
    uint32_t weight_count = per_output * (uint32_t)s->out_c;
    uint32_t packed_bytes = depthwise ? depthwise_packed_bytes(s) : conv_packed_bytes(s);
    uint32_t scratch_bytes = depthwise ? depthwise_scratch_bytes(s) : conv_scratch_bytes(s);
    int8_t *weights = layers_take(weight_count);
    int32_t *bias = (int32_t *)(void *)layers_take((uint32_t)s->out_c * 4);
    int8_t *packed = layers_take(packed_bytes);
    int8_t *scratch = layers_take(scratch_bytes);
    int8_t *expected = layers_take(outputs);
    if (expected == NULL) {
        count->different += outputs;
        at = mark;
        return;
    }
    for (uint32_t i = 0; i < weight_count; i++) {
        weights[i] = random_weight(kind);
    }
    for (int32_t i = 0; i < s->out_c; i++) {
        uint32_t spread = 2u << s->shift;
        bias[i] = (int32_t)(random_next() * 256u + random_next() % 256u);
        bias[i] = kind == WEIGHTS_FULL ? bias[i] : (int32_t)(random_next() % (32u * spread)) -
                                                       (int32_t)(16u * spread);
    }
    plain_weights source = {s, weights, depthwise};
    (depthwise ? depthwise_pack : conv_pack)(s, plain_weight, &source, packed);

    uint64_t start = port_ticks();
    (depthwise ? plain_depthwise : plain_conv)(s, input, weights, bias, expected);
    uint64_t middle = port_ticks();
    (depthwise ? depthwise_run : conv_run)(s, input, packed, bias, scratch, output);
    uint64_t stop = port_ticks();

    for (uint32_t i = 0; i < outputs; i++) {
        count->different += output[i] != expected[i];
    }
    count->plain += middle - start;
    count->kernel += stop - middle;
    count->macs += (uint64_t)outputs * per_output;
    count->packed_bytes += packed_bytes;
    if (scratch_bytes > count->scratch_bytes) {
        count->scratch_bytes = scratch_bytes;
    }
    at = mark;
}
