/* Weights in the orders a model file keeps them in. */
#include "engine/weights.h"

#include <stddef.h>

/* TILED: (N/tile) H W C tile, and what is left over behind it: N H W C, or H W N of a depthwise
 * convolution. A one-dimensional kernel has no H. */
enum { ORDER_TILED, ORDER_NHWC, ORDER_HWCN };

static const struct {
    const char *text;
    uint8_t order, tile;
} orders[] = {
    {"(N/16)HWC16", ORDER_TILED, 16},
    {"(N/16)HWC16_UNALIGNED", ORDER_TILED, 16},
    {"(N/8)HWC8", ORDER_TILED, 8},
    {"(N/8)HWC8_UNALIGNED", ORDER_TILED, 8},
    {"(N/16)WC16", ORDER_TILED, 16},
    {"(N/16)WC16_UNALIGNED", ORDER_TILED, 16},
    {"(N/8)WC8", ORDER_TILED, 8},
    {"(N/8)WC8_UNALIGNED", ORDER_TILED, 8},
    /* As older exporters spell the same. */
    {"N16HWC16", ORDER_TILED, 16},
    {"N16HWC16_UNALIGNED", ORDER_TILED, 16},
    {"N8HWC8", ORDER_TILED, 8},
    {"N8HWC8_UNALIGNED", ORDER_TILED, 8},
    {"N16WC16", ORDER_TILED, 16},
    {"N16WC16_UNALIGNED", ORDER_TILED, 16},
    {"N8WC8", ORDER_TILED, 8},
    {"N8WC8_UNALIGNED", ORDER_TILED, 8},
    {"NHWC", ORDER_NHWC, 1},
    {"NWC", ORDER_NHWC, 1},
    {"HWCN", ORDER_HWCN, 1},
    {"WCN", ORDER_HWCN, 1},
};

static bool is_layout(const tensor *weights, const char *text) {
    uint32_t i = 0;
    while (i < weights->layout_bytes && text[i] != 0 && weights->layout[i] == text[i]) {
        i++;
    }
    return i == weights->layout_bytes && text[i] == 0;
}

bool weights_open(model *model, const step *step, const tensor *weights, bool depthwise,
                  weight_source *source) {
    if (weights->kind != TENSOR_CONSTANT || weights->rank < 2 || weights->rank > 4 ||
        (weights->type != ENGINE_INT8 && weights->type != ENGINE_INT16)) {
        return model_fail(model, "%n has weights that are no parameter of int8 or int16", step);
    }
    if (weights->per_channel) {
        return model_fail(
            model, "%n has an exponent for each channel; this engine has one a tensor", step);
    }
    *source = (weight_source){.data = weights->data, .type = weights->type, .depthwise = depthwise};
    const int32_t *shape = weights->shape + weights->rank;
    source->in = (uint32_t)shape[depthwise ? -1 : -2];
    source->out = (uint32_t)shape[depthwise ? -2 : -1];
    source->width = weights->rank > 2 ? (uint32_t)shape[-3] : 1;
    source->height = weights->rank > 3 ? (uint32_t)shape[-4] : 1;
    for (uint32_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        if (is_layout(weights, orders[i].text)) {
            source->order = orders[i].order;
            source->tile = orders[i].tile;
            source->tiled = source->out / source->tile * source->tile;
            return true;
        }
    }
    return model_fail(model, "%n has weights in an order this engine does not know", step);
}

int32_t weight_at(const weight_source *s, uint32_t out, uint32_t y, uint32_t x, uint32_t in) {
    uint32_t plane = s->height * s->width * s->in;
    uint32_t pixel = y * s->width + x;
    uint32_t index;
    if (s->order == ORDER_HWCN) {
        index = (pixel * s->in + in) * s->out + out;
    } else if (s->order == ORDER_NHWC) {
        index = out * plane + pixel * s->in + in;
    } else if (out < s->tiled) {
        index = out / s->tile * s->tile * plane + (pixel * s->in + in) * s->tile + out % s->tile;
    } else if (s->depthwise) {
        index = s->tiled * plane + pixel * (s->out - s->tiled) + out - s->tiled;
    } else {
        index = out * plane + pixel * s->in + in;
    }
    return s->type == ENGINE_INT8 ? (int8_t)s->data[index]
                                  : (int16_t)flat_u16(s->data + 2 * index);
}

int8_t weight_int8(const void *source, int32_t out, int32_t y, int32_t x, int32_t in) {
    return (int8_t)weight_at(source, (uint32_t)out, (uint32_t)y, (uint32_t)x, (uint32_t)in);
}
