/* The two networks of the figure of merit, in place of the firmware's own program. */
#include <stdbool.h>

#include "core/crc32.h"
#include "core/firmware.h"
#include "core/port.h"
#include "core/print.h"
#include "layers.h"

/* A square layer that keeps or halves the image; shift by the number of products. */
static conv_shape square(int32_t in, int32_t in_c, int32_t out_c, int32_t kernel, int32_t stride,
                         bool depthwise, bool relu, weight_kind kind) {
    int32_t products = kernel * kernel * (depthwise ? 1 : in_c);
    int32_t out = (in + stride - 1) / stride;
    int32_t around = (out - 1) * stride + kernel - in;
    int32_t shift = kind == WEIGHTS_BELL ? 4 : 6;
    for (int32_t n = 1; n < products; n *= 4) {
        shift++;
    }
    around = around > 0 ? around / 2 : 0;
    return (conv_shape){.in_h = in,
                        .in_w = in,
                        .in_c = in_c,
                        .out_h = out,
                        .out_w = out,
                        .out_c = out_c,
                        .kernel_h = kernel,
                        .kernel_w = kernel,
                        .stride_h = stride,
                        .stride_w = stride,
                        .dilation_h = 1,
                        .dilation_w = 1,
                        .pad_top = around,
                        .pad_left = around,
                        .shift = shift,
                        .low = relu ? 0 : -128,
                        .high = 127};
}

static void say(const char *net, const char *weights, const char *part, const layer_count *count,
                uint32_t crc) {
    const uint64_t values[] = {count->macs,         count->plain,         count->kernel,
                               count->packed_bytes, count->scratch_bytes, count->different,
                               crc};
    print_text("count ");
    print_text(net);
    print_text(" ");
    print_text(weights);
    print_text(" ");
    print_text(part);
    for (unsigned i = 0; i < sizeof values / sizeof *values; i++) {
        print_text(" ");
        print_number(values[i]);
    }
    print_text("\r\n");
    print_flush();
}

static void add_counts(layer_count *total, const layer_count *part) {
    total->macs += part->macs;
    total->plain += part->plain;
    total->kernel += part->kernel;
    total->packed_bytes += part->packed_bytes;
    total->different += part->different;
    if (part->scratch_bytes > total->scratch_bytes) {
        total->scratch_bytes = part->scratch_bytes;
    }
}

static void fill(int8_t *values, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        values[i] = (int8_t)random_next();
    }
}

/* 3x3, 32 to 32 channels, 18x18 to 16x16. */
static void bench_conv(const char *name, weight_kind kind) {
    conv_shape s = square(18, 32, 32, 3, 1, false, false, kind);
    s.out_h = s.out_w = 16;
    s.pad_top = s.pad_left = 0;
    layer_count count = {0};
    int8_t *input = layers_take(18 * 18 * 32);
    int8_t *output = layers_take(16 * 16 * 32);
    random_seed(3);
    fill(input, 18 * 18 * 32);
    layer_run(&s, false, kind, input, output, &count);
    say("conv", name, "all", &count, crc32(0, (const uint8_t *)output, 16 * 16 * 32));
}

typedef struct {
    int32_t expand, channels, repeats, stride;
} stage;

static const stage stages[] = {{1, 8, 1, 1},  {6, 8, 2, 2},  {6, 16, 3, 2}, {6, 24, 4, 2},
                               {6, 32, 3, 1}, {6, 56, 3, 2}, {6, 112, 1, 1}};

enum { FIRST, EXPAND, DEPTHWISE, PROJECT, LAST, CLASSES, OTHER, PARTS };
static const char *const part_names[PARTS] = {"first",   "expand",  "depthwise", "project",
                                              "last",    "classes", "other"};

static void residual(int8_t *sum, const int8_t *other, int32_t count, layer_count *counted) {
    uint64_t start = port_ticks();
    for (int32_t i = 0; i < count; i++) {
        int32_t value = sum[i] + other[i];
        value = value < -128 ? -128 : value;
        sum[i] = (int8_t)(value > 127 ? 127 : value);
    }
    uint64_t took = port_ticks() - start;
    counted->plain += took;
    counted->kernel += took;
}

static void pool(const int8_t *input, int32_t pixels, int32_t channels, int8_t *output,
                 layer_count *counted) {
    uint64_t start = port_ticks();
    for (int32_t c = 0; c < channels; c++) {
        int32_t sum = 0;
        for (int32_t i = 0; i < pixels; i++) {
            sum += input[i * channels + c];
        }
        output[c] = (int8_t)(sum >> 3);
    }
    uint64_t took = port_ticks() - start;
    counted->plain += took;
    counted->kernel += took;
}

/* MobileNetV2-0.35 at 96x96x3 with two classes: 10.66 million products. */
static void bench_net(const char *name, weight_kind kind) {
    layer_count parts[PARTS] = {0};
    layer_count total = {0};
    int8_t *image = layers_take(96 * 96 * 3);
    int8_t *now = layers_take(48 * 48 * 48);
    int8_t *wide = layers_take(48 * 48 * 48);
    int8_t *deep = layers_take(48 * 48 * 48);
    random_seed(7);
    fill(image, 96 * 96 * 3);
    conv_shape s = square(96, 3, 16, 3, 2, false, true, kind);
    layer_run(&s, false, kind, image, now, &parts[FIRST]);
    int32_t size = 48;
    int32_t channels = 16;
    for (unsigned i = 0; i < sizeof stages / sizeof *stages; i++) {
        for (int32_t repeat = 0; repeat < stages[i].repeats; repeat++) {
            int32_t stride = repeat == 0 ? stages[i].stride : 1;
            int32_t middle = channels * stages[i].expand;
            const int8_t *from = now;
            if (stages[i].expand > 1) {
                s = square(size, channels, middle, 1, 1, false, true, kind);
                layer_run(&s, false, kind, now, wide, &parts[EXPAND]);
                from = wide;
            }
            s = square(size, middle, middle, 3, stride, true, true, kind);
            layer_run(&s, true, kind, from, deep, &parts[DEPTHWISE]);
            size = s.out_h;
            s = square(size, middle, stages[i].channels, 1, 1, false, false, kind);
            bool add = stride == 1 && channels == stages[i].channels;
            layer_run(&s, false, kind, deep, add ? wide : now, &parts[PROJECT]);
            channels = stages[i].channels;
            if (add) {
                residual(now, wide, size * size * channels, &parts[OTHER]);
            }
        }
    }
    s = square(size, channels, 1280, 1, 1, false, true, kind);
    layer_run(&s, false, kind, now, wide, &parts[LAST]);
    pool(wide, size * size, 1280, deep, &parts[OTHER]);
    s = square(1, 1280, 2, 1, 1, false, false, kind);
    layer_run(&s, false, kind, deep, now, &parts[CLASSES]);
    /* Two classes say little about what went before them. */
    uint32_t crc = crc32(0, (const uint8_t *)wide, (size_t)(size * size) * 1280);
    for (unsigned i = 0; i < PARTS; i++) {
        say("net", name, part_names[i], &parts[i], crc);
        add_counts(&total, &parts[i]);
    }
    say("net", name, "all", &total, crc);
}

void firmware(void) {
    static const char *const names[] = {"bell", "uniform"};
    for (int i = 0; i < 2; i++) {
        uint8_t *fast, *large;
        uint32_t fast_bytes, large_bytes;
        port_arena(&fast, &fast_bytes, &large, &large_bytes);
        layers_memory(large, large_bytes);
        bench_conv(names[i], (weight_kind)i);
        bench_net(names[i], (weight_kind)i);
    }
    print_text("end\r\n");
    print_flush();
    for (;;) {
    }
}
