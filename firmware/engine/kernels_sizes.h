/* Byte counts that cannot wrap, whatever a model file says: too large is 0xfffffff0. */
#ifndef EDGEDEPLOY_KERNELS_SIZES_H
#define EDGEDEPLOY_KERNELS_SIZES_H

#include <stdint.h>

#define SIZES_LARGEST 0xfffffff0u

/* The product, or 2^32 where it is more. */
static inline uint64_t sizes_times(uint64_t one, uint64_t other) {
    uint64_t product = one * other;
    return one > UINT32_MAX || other > UINT32_MAX || product > UINT32_MAX ? (uint64_t)1 << 32
                                                                          : product;
}

/* Up to a multiple of 16. */
static inline uint64_t sizes_align(uint64_t bytes) {
    return (bytes + 15u) & ~(uint64_t)15u;
}

static inline uint32_t sizes_total(uint64_t bytes) {
    return bytes > SIZES_LARGEST ? SIZES_LARGEST : (uint32_t)bytes;
}

/* A product that is only used where the sizes have been found to fit. */
static inline int32_t sizes_step(int32_t one, int32_t other) {
    return (int32_t)((uint32_t)one * (uint32_t)other);
}

#endif
