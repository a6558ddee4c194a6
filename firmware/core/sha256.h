/* SHA-256 (FIPS 180-4), so that the host knows which model file the device reads. */
#ifndef EDGEDEPLOY_SHA256_H
#define EDGEDEPLOY_SHA256_H

#include <stdint.h>

#define SHA256_BLOCK 64
#define SHA256_BYTES 32

typedef struct {
    uint32_t state[8];
    uint64_t bytes;
} sha256;

void sha256_start(sha256 *hash);
/* Whole blocks only; the rest goes to sha256_end. */
void sha256_blocks(sha256 *hash, const uint8_t *bytes, uint32_t blocks);
/* `count` is 0..63: what is left behind the last whole block. */
void sha256_end(sha256 *hash, const uint8_t *rest, uint32_t count, uint8_t digest[SHA256_BYTES]);

#endif
