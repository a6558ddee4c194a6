#include "core/info.h"

#include <stdbool.h>
#include <stddef.h>

#include "core/bench.h"
#include "core/engine.h"
#include "core/port.h"
#include "core/version.h"

#define INFO_BYTES 1536
/* So that the numbers always fit behind the texts. */
#define TEXT_LIMIT 160

static char json[INFO_BYTES];
static uint32_t used;

static void put(char character) {
    if (used < INFO_BYTES) {
        json[used++] = character;
    }
}

static void put_all(const char *text) {
    while (*text != 0) {
        put(*text++);
    }
}

static void put_key(const char *key) {
    if (used > 1) {
        put(',');
    }
    put('"');
    put_all(key);
    put_all("\":");
}

static void put_text(const char *key, const char *text) {
    static const char digit[] = "0123456789abcdef";
    put_key(key);
    put('"');
    for (uint32_t i = 0; text[i] != 0 && i < TEXT_LIMIT; i++) {
        uint8_t byte = (uint8_t)text[i];
        if (byte == '"' || byte == '\\') {
            put('\\');
            put((char)byte);
        } else if (byte < 0x20 || byte == 0x7f) {
            put_all("\\u00");
            put(digit[byte >> 4]);
            put(digit[byte & 15]);
        } else {
            put((char)byte);
        }
    }
    put('"');
}

static void put_number(const char *key, uint64_t value) {
    char digits[20];
    uint32_t count = 0;
    put_key(key);
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    while (count > 0) {
        put(digits[--count]);
    }
}

static void put_bool(const char *key, bool value) {
    put_key(key);
    put_all(value ? "true" : "false");
}

static void make(void) {
    const port_facts *facts = port_get_facts();
    uint32_t model_extent = 0, samples_bytes = 0;
    port_model(&model_extent);
    const uint8_t *at = port_samples(&samples_bytes);
    put('{');
    put_text("board", facts->board);
    put_text("cpu", facts->cpu);
    put_text("compiler", facts->compiler);
    put_text("engine", engine_version());
    put_text("firmware", FIRMWARE_VERSION);
    put_text("tick_unit", facts->tick_unit);
    put_number("ticks_per_count", facts->ticks_per_count);
    put_number("clock_hz", facts->clock_hz);
    put_bool("virtual", facts->virtual_board);
    put_number("model_extent", model_extent);
    put_number("samples_address", (uintptr_t)at);
    put_number("samples_bytes", samples_bytes);
    put_number("sample_capacity", SAMPLE_CAPACITY);
    put('}');
}

const char *info_json(uint32_t *bytes) {
    if (used == 0) {
        make();
    }
    *bytes = used;
    return json;
}
