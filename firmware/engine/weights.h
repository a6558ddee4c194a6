/* Weights in the orders a model file keeps them in. */
#ifndef EDGEDEPLOY_WEIGHTS_H
#define EDGEDEPLOY_WEIGHTS_H

#include "engine/model.h"

typedef struct {
    const uint8_t *data;
    uint8_t type;
    bool depthwise;
    uint8_t order;  /* of weights.c */
    uint32_t tile;  /* output channels that lie side by side */
    uint32_t tiled; /* of all output channels, so many lie in whole tiles */
    uint32_t out, height, width, in; /* `in` is 1 for a depthwise convolution */
} weight_source;

/* How `weights` of a step lie; false with a reason where that is not known. */
bool weights_open(model *model, const step *step, const tensor *weights, bool depthwise,
                  weight_source *source);
/* One weight; a conv_weight for int8. */
int32_t weight_at(const weight_source *source, uint32_t out, uint32_t y, uint32_t x, uint32_t in);
int8_t weight_int8(const void *source, int32_t out, int32_t y, int32_t x, int32_t in);

#endif
