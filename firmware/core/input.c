#include "core/input.h"

#include "core/bytes.h"
#include "core/engine.h"
#include "core/deployed.h"

#define NANO 1000000000

/* Of a byte as a data set has it: value = (byte - zero) * nano_scale / 1e9. */
typedef struct {
    bool is_signed;
    int32_t zero;
    uint32_t nano_scale;
} byte_meaning;

typedef struct {
    const char *text;
    uint32_t left;
} reader;

static bool next_is(reader *from, char character) {
    if (from->left > 0 && *from->text == character) {
        from->text++;
        from->left--;
        return true;
    }
    return false;
}

/* Decimal digits with up to `decimals` behind a point, as an integer of 10^-decimals. */
static bool read_decimal(reader *from, int decimals, uint32_t *value) {
    uint64_t number = 0;
    int behind = -1;
    uint32_t digits = 0;
    for (; from->left > 0; from->text++, from->left--) {
        char character = *from->text;
        if (character == '.' && behind < 0 && decimals > 0) {
            behind = 0;
        } else if (character < '0' || character > '9') {
            break;
        } else if (behind < decimals) {
            number = number * 10 + (uint32_t)(character - '0');
            behind += behind >= 0;
            digits++;
        }
        if (number > UINT32_MAX) {
            return false;
        }
    }
    for (int i = behind < 0 ? 0 : behind; i < decimals; i++) {
        number *= 10;
    }
    *value = (uint32_t)number;
    return digits > 0 && number <= UINT32_MAX;
}

static bool read_meaning(byte_meaning *meaning) {
    reader from = {0};
    from.text = engine_metadata("mlperf_input", &from.left);
    uint32_t zero = 0;
    if (from.text == NULL) {
        return false;
    }
    meaning->is_signed = next_is(&from, 'i');
    if (!meaning->is_signed && !next_is(&from, 'u')) {
        return false;
    }
    if (!next_is(&from, '8') || !next_is(&from, ' ')) {
        return false;
    }
    bool negative = next_is(&from, '-');
    if (!read_decimal(&from, 0, &zero) || zero > 255 || !next_is(&from, ' ')) {
        return false;
    }
    meaning->zero = negative ? -(int32_t)zero : (int32_t)zero;
    return read_decimal(&from, 9, &meaning->nano_scale) && from.left == 0;
}

static int64_t clip(int64_t value, uint8_t type) {
    int64_t high = type == ENGINE_INT8 ? 127 : 32767;
    return value > high ? high : value < -high - 1 ? -high - 1 : value;
}

/* floor((byte - zero) * scale * 2^-exponent + 0.5), clipped; exponent -20..20. */
static int64_t quantize_byte(const byte_meaning *meaning, uint8_t byte, const engine_tensor *to) {
    int64_t above = (meaning->is_signed ? (int8_t)byte : byte) - meaning->zero;
    above *= meaning->nano_scale;
    int64_t below = NANO;
    if (to->exponent < 0) {
        above *= (int64_t)1 << -to->exponent;
    } else {
        below <<= to->exponent;
    }
    above = 2 * above + below;
    below *= 2;
    int64_t quotient = above / below;
    return clip(quotient - (above % below < 0), to->type);
}

/* The same of a float32, given as its bits; not a number becomes 0. */
static int64_t quantize_float(uint32_t bits, const engine_tensor *to) {
    int32_t biased = (int32_t)(bits >> 23 & 255);
    int64_t mantissa = (bits & 0x7fffff) | (biased != 0 ? 0x800000 : 0);
    int32_t shift = (biased != 0 ? biased : 1) - 150 - to->exponent;
    if (biased == 255 && mantissa != 0x800000) {
        return 0;
    }
    if (bits >> 31) {
        mantissa = -mantissa;
    }
    if (shift > 16) {
        return mantissa == 0 ? 0 : clip(mantissa * 65536, to->type);
    }
    if (shift >= 0) {
        return clip(mantissa * ((int64_t)1 << shift), to->type);
    }
    if (shift < -40) {
        return 0;
    }
    return clip((mantissa + ((int64_t)1 << (-shift - 1))) >> -shift, to->type);
}

static void store(const engine_tensor *to, uint8_t *data, uint32_t index, int64_t value) {
    if (to->type == ENGINE_INT8) {
        data[index] = (uint8_t)value;
    } else {
        put_u16(data + 2 * index, (uint16_t)value);
    }
}

static bool all_quantized(int32_t exponent_limit) {
    engine_tensor tensor;
    for (uint32_t i = 0; i < engine_input_count(); i++) {
        if (!engine_input(i, &tensor) ||
            (tensor.type != ENGINE_INT8 && tensor.type != ENGINE_INT16) ||
            tensor.exponent > exponent_limit || tensor.exponent < -exponent_limit) {
            return false;
        }
    }
    return true;
}

static void take_elements(const uint8_t *bytes, const byte_meaning *meaning) {
    engine_tensor tensor;
    for (uint32_t i = 0; i < engine_input_count() && engine_input(i, &tensor); i++) {
        uint8_t *data = engine_input_data(i);
        for (uint32_t k = 0; k < deployed_elements_of(&tensor); k++) {
            if (meaning != NULL) {
                store(&tensor, data, k, quantize_byte(meaning, *bytes++, &tensor));
            } else {
                store(&tensor, data, k, quantize_float(get_u32(bytes), &tensor));
                bytes += 4;
            }
        }
    }
}

bool input_take(const uint8_t *bytes, uint32_t count) {
    byte_meaning meaning;
    uint32_t elements = deployed_elements(DEPLOYED_INPUTS);
    if (count == elements && read_meaning(&meaning) && all_quantized(20)) {
        take_elements(bytes, &meaning);
    } else if (count == deployed_bytes(DEPLOYED_INPUTS)) {
        deployed_write_inputs(bytes);
    } else if (count / 4 == elements && count % 4 == 0 && all_quantized(127)) {
        take_elements(bytes, NULL);
    } else {
        return false;
    }
    return true;
}
