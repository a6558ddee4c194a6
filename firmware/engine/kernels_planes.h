/* Rows of int8 pixels laid out channel by channel, for the depthwise kernels. */
#ifndef EDGEDEPLOY_KERNELS_PLANES_H
#define EDGEDEPLOY_KERNELS_PLANES_H

#include <stdint.h>

/* Activations lie in planes as value + 128: 0 to 255. */
#define PLANES_OFFSET 128u
#define PLANES_ZEROS 0x00800080u

/* `pixels` of a row, `channels` of them, `step` bytes from pixel to pixel, into planes of `plane`
 * words for each channel. Column j is a word that holds the activations at j and, 16 bits further
 * up, at j + stride. So column -stride is written too, and a column beyond the last pixel keeps
 * what it held: PLANES_ZEROS to begin with. */
void planes_make(const int8_t *input, int32_t pixels, int32_t channels, int32_t step,
                 uint32_t *planes, int32_t plane, int32_t stride);

#endif
