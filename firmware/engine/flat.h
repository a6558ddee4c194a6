/* Reading a flatbuffer whose bytes are not to be trusted: every access is checked. */
#ifndef EDGEDEPLOY_FLAT_H
#define EDGEDEPLOY_FLAT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const uint8_t *bytes;
    uint32_t size;
} flat_file;

/* `at` is 0 where there is no such table; no table lies at 0, which holds the root's offset. */
typedef struct {
    uint32_t at;
    uint32_t vtable;
    uint32_t vtable_bytes;
} flat_table;

/* `count` elements from `at`, all within the file; 0 where the field is absent. */
typedef struct {
    uint32_t at;
    uint32_t count;
} flat_vector;

static inline uint32_t flat_u16(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static inline uint32_t flat_u32(const uint8_t *at) {
    return flat_u16(at) | flat_u16(at + 2) << 16;
}

static inline int64_t flat_i64(const uint8_t *at) {
    return (int64_t)((uint64_t)flat_u32(at) | (uint64_t)flat_u32(at + 4) << 32);
}

/* False where the bytes cannot be what is asked for. An absent field is no error: it reads as a
 * table at 0, an empty vector, or the default. */
bool flat_root(const flat_file *file, flat_table *table);
bool flat_get_table(const flat_file *file, const flat_table *table, uint32_t slot,
                    flat_table *value);
bool flat_get_vector(const flat_file *file, const flat_table *table, uint32_t slot,
                     uint32_t element_bytes, flat_vector *value);
/* An element of a vector of offsets to tables, or to texts. */
bool flat_element_table(const flat_file *file, const flat_vector *vector, uint32_t index,
                        flat_table *value);
bool flat_element_text(const flat_file *file, const flat_vector *vector, uint32_t index,
                       flat_vector *value);
/* Where a scalar or struct of so many bytes lies; NULL where it is absent or cut off. */
const uint8_t *flat_get_bytes(const flat_file *file, const flat_table *table, uint32_t slot,
                              uint32_t bytes);

#endif
