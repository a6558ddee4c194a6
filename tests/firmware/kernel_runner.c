/* One layer after the other through the kernels: cases from stdin, outputs to stdout. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/conv.h"

typedef struct {
    const conv_shape *shape;
    const int8_t *weights;
    bool depthwise;
} case_weights;

/* In the order out, y, x, in; depthwise: channel, y, x. */
static int8_t weight(const void *source, int32_t out, int32_t y, int32_t x, int32_t in) {
    const case_weights *w = source;
    int32_t depth = w->depthwise ? 1 : w->shape->in_c;
    int32_t row = out * w->shape->kernel_h + y;
    return w->weights[(row * w->shape->kernel_w + x) * depth + in];
}

/* Exactly `bytes` of them, so that the sanitizer sees a step beyond. */
static void *take(uint32_t bytes) {
    void *taken = NULL;
    if (posix_memalign(&taken, 16, bytes) != 0) {
        abort();
    }
    return taken;
}

static void *take_input(uint32_t bytes) {
    void *taken = take(bytes);
    if (fread(taken, 1, bytes, stdin) != bytes) {
        abort();
    }
    return taken;
}

int main(void) {
    struct {
        int32_t sizes_only;
        int32_t depthwise;
        conv_shape shape;
    } head;
    while (fread(&head, sizeof head, 1, stdin) == 1) {
        const conv_shape *s = &head.shape;
        bool depthwise = head.depthwise != 0;
        uint32_t sizes[2] = {depthwise ? depthwise_packed_bytes(s) : conv_packed_bytes(s),
                             depthwise ? depthwise_scratch_bytes(s) : conv_scratch_bytes(s)};
        fwrite(sizes, sizeof sizes, 1, stdout);
        fflush(stdout);
        if (head.sizes_only) {
            continue;
        }
        uint32_t kernel = (uint32_t)(s->kernel_h * s->kernel_w * (depthwise ? 1 : s->in_c));
        uint32_t outputs = (uint32_t)(s->out_h * s->out_w * s->out_c);
        int8_t *input = take_input((uint32_t)(s->in_h * s->in_w * s->in_c));
        int8_t *weights = take_input(kernel * (uint32_t)s->out_c);
        int32_t *bias = take_input((uint32_t)s->out_c * 4);
        int8_t *packed = take(sizes[0]);
        int8_t *scratch = take(sizes[1]);
        int8_t *output = take(outputs);
        case_weights source = {s, weights, depthwise};
        (depthwise ? depthwise_pack : conv_pack)(s, weight, &source, packed);
        /* Twice, for what the first run leaves in scratch must not matter. */
        for (int i = 0; i < 2; i++) {
            (depthwise ? depthwise_run : conv_run)(s, input, packed, bias, scratch, output);
        }
        fwrite(output, 1, outputs, stdout);
        fflush(stdout);
        free(input);
        free(weights);
        free(bias);
        free(packed);
        free(scratch);
        free(output);
    }
    return 0;
}
