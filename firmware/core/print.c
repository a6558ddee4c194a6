#include "core/print.h"

#include <stdbool.h>

#include "core/bytes.h"
#include "core/port.h"

#define GATHER_BYTES 128

static uint8_t gathered[GATHER_BYTES];
static uint32_t count;

static void put(char character) {
    if (count == GATHER_BYTES) {
        print_flush();
    }
    gathered[count++] = (uint8_t)character;
}

void print_flush(void) {
    if (count > 0) {
        port_write(gathered, count);
        count = 0;
    }
}

void print_text(const char *text) {
    while (*text != 0) {
        put(*text++);
    }
}

void print_part(const char *text, uint32_t bytes) {
    for (uint32_t i = 0; i < bytes; i++) {
        put(text[i]);
    }
}

void print_number(uint64_t value) {
    char digits[20];
    uint32_t used = 0;
    do {
        digits[used++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    while (used > 0) {
        put(digits[--used]);
    }
}

void print_hex(uint8_t byte) {
    static const char digit[] = "0123456789abcdef";
    put(digit[byte >> 4]);
    put(digit[byte & 15]);
}

static void print_thousandths(uint64_t thousandths, bool negative) {
    uint32_t fraction = (uint32_t)(thousandths % 1000);
    if (negative && thousandths != 0) {
        put('-');
    }
    print_number(thousandths / 1000);
    put('.');
    put((char)('0' + fraction / 100));
    put((char)('0' + fraction / 10 % 10));
    put((char)('0' + fraction % 10));
}

static int32_t bit_length(uint64_t value) {
    int32_t bits = 0;
    for (; value != 0; value >>= 1) {
        bits++;
    }
    return bits;
}

void print_scaled(int64_t mantissa, int32_t exponent) {
    bool negative = mantissa < 0;
    uint64_t size = negative ? -(uint64_t)mantissa : (uint64_t)mantissa;
    if (bit_length(size) + exponent > 63) {
        print_text(negative ? "-inf" : "inf");
    } else if (exponent >= 0) {
        if (negative && size != 0) {
            put('-');
        }
        print_number(size << exponent);
        print_text(".000");
    } else if (exponent < -62) {
        print_thousandths(0, negative);
    } else {
        uint64_t half = (uint64_t)1 << (-exponent - 1);
        print_thousandths((size * 1000 + half) >> -exponent, negative);
    }
}

static void print_float(uint32_t bits) {
    int32_t exponent = (int32_t)(bits >> 23 & 255);
    int64_t mantissa = bits & 0x7fffff;
    if (exponent == 255 && mantissa != 0) {
        print_text("nan");
        return;
    }
    if (exponent != 0) {
        mantissa |= 0x800000;
    } else {
        exponent = 1;
    }
    print_scaled(bits >> 31 ? -mantissa : mantissa, exponent - 150);
}

void print_element(const engine_tensor *tensor, const uint8_t *data, uint32_t index) {
    switch (tensor->type) {
    case ENGINE_INT8:
        print_scaled((int8_t)data[index], tensor->exponent);
        break;
    case ENGINE_INT16:
        print_scaled((int16_t)get_u16(data + 2 * index), tensor->exponent);
        break;
    case ENGINE_INT32:
        print_scaled((int32_t)get_u32(data + 4 * index), tensor->exponent);
        break;
    default:
        print_float(get_u32(data + 4 * index));
        break;
    }
}
