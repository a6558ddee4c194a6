/* Reading a flatbuffer whose bytes are not to be trusted: every access is checked. */
#include "engine/flat.h"

#include <stddef.h>

static bool inside(const flat_file *file, uint32_t at, uint32_t bytes) {
    return at <= file->size && bytes <= file->size - at;
}

static bool table_at(const flat_file *file, uint32_t at, flat_table *table) {
    if (at == 0 || !inside(file, at, 4)) {
        return false;
    }
    uint32_t vtable = at - flat_u32(file->bytes + at);
    if (!inside(file, vtable, 4)) {
        return false;
    }
    uint32_t bytes = flat_u16(file->bytes + vtable);
    if (bytes < 4 || !inside(file, vtable, bytes)) {
        return false;
    }
    *table = (flat_table){at, vtable, bytes};
    return true;
}

/* Where an offset stored at `at` points to; 0 where that is outside. */
static uint32_t follow(const flat_file *file, uint32_t at) {
    if (!inside(file, at, 4)) {
        return 0;
    }
    uint32_t offset = flat_u32(file->bytes + at);
    return offset < file->size - at ? at + offset : 0;
}

static bool vector_at(const flat_file *file, uint32_t at, uint32_t element_bytes,
                      flat_vector *value) {
    if (at == 0 || !inside(file, at, 4)) {
        return false;
    }
    uint32_t count = flat_u32(file->bytes + at);
    if (count > (file->size - at - 4) / element_bytes) {
        return false;
    }
    *value = (flat_vector){at + 4, count};
    return true;
}

/* Where a field lies; 0 where it is absent. */
static uint32_t field(const flat_file *file, const flat_table *table, uint32_t slot) {
    uint32_t entry = 4 + 2 * slot;
    if (table->at == 0 || entry + 2 > table->vtable_bytes) {
        return 0;
    }
    uint32_t offset = flat_u16(file->bytes + table->vtable + entry);
    return offset == 0 ? 0 : table->at + offset;
}

bool flat_root(const flat_file *file, flat_table *table) {
    return table_at(file, follow(file, 0), table);
}

bool flat_get_table(const flat_file *file, const flat_table *table, uint32_t slot,
                    flat_table *value) {
    uint32_t at = field(file, table, slot);
    *value = (flat_table){0, 0, 0};
    return at == 0 || table_at(file, follow(file, at), value);
}

bool flat_get_vector(const flat_file *file, const flat_table *table, uint32_t slot,
                     uint32_t element_bytes, flat_vector *value) {
    uint32_t at = field(file, table, slot);
    *value = (flat_vector){0, 0};
    return at == 0 || vector_at(file, follow(file, at), element_bytes, value);
}

bool flat_element_table(const flat_file *file, const flat_vector *vector, uint32_t index,
                        flat_table *value) {
    return index < vector->count && table_at(file, follow(file, vector->at + 4 * index), value);
}

bool flat_element_text(const flat_file *file, const flat_vector *vector, uint32_t index,
                       flat_vector *value) {
    return index < vector->count &&
           vector_at(file, follow(file, vector->at + 4 * index), 1, value);
}

const uint8_t *flat_get_bytes(const flat_file *file, const flat_table *table, uint32_t slot,
                              uint32_t bytes) {
    uint32_t at = field(file, table, slot);
    return at != 0 && inside(file, at, bytes) ? file->bytes + at : NULL;
}
