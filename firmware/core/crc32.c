#include "core/crc32.h"

#include <stdbool.h>

#define POLYNOMIAL 0xEDB88320u

static uint32_t table[256];
static bool table_ready;

static void make_table(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; bit++) {
            value = value & 1 ? value >> 1 ^ POLYNOMIAL : value >> 1;
        }
        table[byte] = value;
    }
    table_ready = true;
}

uint32_t crc32(uint32_t before, const uint8_t *bytes, size_t count) {
    if (!table_ready) {
        make_table();
    }
    uint32_t value = ~before;
    for (size_t i = 0; i < count; i++) {
        value = value >> 8 ^ table[(value ^ bytes[i]) & 255];
    }
    return ~value;
}
