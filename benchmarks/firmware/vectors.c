/* Many small layers of random shapes, kernels against plain loops; all boards print the same. */
#include "core/crc32.h"
#include "core/firmware.h"
#include "core/port.h"
#include "core/print.h"
#include "layers.h"

#define CASES 240

static int32_t between(int32_t low, int32_t high) {
    return low + (int32_t)(random_next() % (uint32_t)(high - low + 1));
}

static conv_shape any_shape(bool depthwise, weight_kind kind) {
    conv_shape s = {.in_c = between(1, 22), .kernel_h = between(1, 5), .kernel_w = between(1, 5)};
    if (random_next() & 1024) {
        s.kernel_h = s.kernel_w = between(0, 1) * 2 + 1;
    }
    s.out_c = depthwise ? s.in_c : between(1, 14);
    s.stride_h = between(1, 3);
    s.stride_w = random_next() & 1024 ? s.stride_h : between(1, 3);
    s.dilation_h = between(1, 4) == 1 ? 2 : 1;
    s.dilation_w = between(1, 4) == 1 ? 2 : 1;
    s.pad_top = between(0, 2);
    s.pad_left = between(0, 2);
    s.out_h = between(1, 6);
    s.out_w = between(1, 15);
    /* The last row and column read lie inside the image, or outside as with padding there. */
    s.in_h = (s.out_h - 1) * s.stride_h + (s.kernel_h - 1) * s.dilation_h + 1 - s.pad_top;
    s.in_w = (s.out_w - 1) * s.stride_w + (s.kernel_w - 1) * s.dilation_w + 1 - s.pad_left;
    s.in_h += between(-2, 2);
    s.in_w += between(-2, 2);
    s.in_h = s.in_h < 1 ? 1 : s.in_h;
    s.in_w = s.in_w < 1 ? 1 : s.in_w;
    s.shift = kind == WEIGHTS_FULL ? between(0, 31) : between(0, 12);
    s.low = random_next() & 1024 ? 0 : -128;
    s.high = random_next() & 1024 ? 127 : between(s.low, 127);
    return s;
}

void firmware(void) {
    uint8_t *fast, *large;
    uint32_t fast_bytes, large_bytes;
    uint32_t crc = 0;
    layer_count count = {0};
    port_arena(&fast, &fast_bytes, &large, &large_bytes);
    random_seed(11);
    for (int32_t i = 0; i < CASES; i++) {
        weight_kind kind = (weight_kind)between(WEIGHTS_BELL, WEIGHTS_FULL);
        bool depthwise = random_next() & 1024;
        const conv_shape s = any_shape(depthwise, kind);
        uint32_t inputs = (uint32_t)(s.in_h * s.in_w * s.in_c);
        uint32_t outputs = (uint32_t)(s.out_h * s.out_w * s.out_c);
        layers_memory(large, large_bytes);
        int8_t *input = layers_take(inputs);
        int8_t *output = layers_take(outputs);
        for (uint32_t at = 0; at < inputs; at++) {
            uint32_t random = random_next();
            int8_t end = random & 256 ? 127 : -128;
            input[at] = kind == WEIGHTS_FULL ? end : (int8_t)random;
        }
        layer_run(&s, depthwise, kind, input, output, &count);
        crc = crc32(crc, (const uint8_t *)output, outputs);
    }
    print_text("vectors ");
    print_number(CASES);
    print_text(" different ");
    print_number(count.different);
    print_text(" crc ");
    print_number(crc);
    print_text("\r\nend\r\n");
    print_flush();
    for (;;) {
    }
}
