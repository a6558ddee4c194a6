/* CRC-32 (IEEE 802.3), the same as zlib's crc32. */
#ifndef EDGEDEPLOY_CRC32_H
#define EDGEDEPLOY_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* The CRC of what came before (0 at the start) and of `count` more bytes. */
uint32_t crc32(uint32_t before, const uint8_t *bytes, size_t count);

#endif
