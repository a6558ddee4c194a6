/* Plain versions of the kernels in conv.h: the judge of the fast ones. */
#ifndef EDGEDEPLOY_REFERENCE_H
#define EDGEDEPLOY_REFERENCE_H

#include "engine/conv.h"

uint32_t conv_packed_bytes_reference(const conv_shape *shape);
void conv_pack_reference(const conv_shape *shape, conv_weight weight, const void *source,
                         int8_t *packed);
uint32_t depthwise_packed_bytes_reference(const conv_shape *shape);
void depthwise_pack_reference(const conv_shape *shape, conv_weight weight, const void *source,
                              int8_t *packed);
uint32_t conv_scratch_bytes_reference(const conv_shape *shape);
uint32_t depthwise_scratch_bytes_reference(const conv_shape *shape);
void conv_run_reference(const conv_shape *shape, const int8_t *input, const int8_t *packed,
                        const int32_t *bias, int8_t *scratch, int8_t *output);
void depthwise_run_reference(const conv_shape *shape, const int8_t *input, const int8_t *packed,
                             const int32_t *bias, int8_t *scratch, int8_t *output);

/* A build with ENGINE_REFERENCE runs these in place of the fast ones. */
#ifdef ENGINE_REFERENCE
#define conv_packed_bytes conv_packed_bytes_reference
#define conv_pack conv_pack_reference
#define depthwise_packed_bytes depthwise_packed_bytes_reference
#define depthwise_pack depthwise_pack_reference
#define conv_scratch_bytes conv_scratch_bytes_reference
#define depthwise_scratch_bytes depthwise_scratch_bytes_reference
#define conv_run conv_run_reference
#define depthwise_run depthwise_run_reference
#endif

#endif
