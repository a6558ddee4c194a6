/* Integer arithmetic that equals the simulator's. */
#include "engine/numbers.h"

static int32_t saturate(int64_t value) {
    return value < INT32_MIN ? INT32_MIN : value > INT32_MAX ? INT32_MAX : (int32_t)value;
}

int32_t round_shift_wide(int64_t value, int32_t shift) {
    if (shift > 62) {
        return 0;
    }
    if (shift > 0) {
        int64_t whole = value >> shift;
        return saturate(whole + (int64_t)((value >> (shift - 1)) & 1));
    }
    if (value == 0 || shift == 0) {
        return saturate(value);
    }
    if (shift < -31 || value > INT32_MAX || value < INT32_MIN) {
        return value < 0 ? INT32_MIN : INT32_MAX;
    }
    return saturate((int64_t)((uint64_t)value << -shift));
}

/* mantissa to 24 bits, half to even; `above` says that a bit below the last is set. */
static uint64_t keep_24(uint64_t mantissa, int32_t *exponent, bool above) {
    while (mantissa >> 25) {
        above |= mantissa & 1;
        mantissa >>= 1;
        (*exponent)++;
    }
    if (mantissa >> 24) {
        bool half = mantissa & 1;
        mantissa >>= 1;
        (*exponent)++;
        mantissa += half && (above || (mantissa & 1));
    }
    return mantissa;
}

/* floor(RN(x + 0.5)) of x = +-mantissa * 2^exponent, mantissa of 24 bits. */
static int32_t add_half_and_floor(bool negative, uint64_t mantissa, int32_t exponent) {
    int64_t value = negative ? -(int64_t)mantissa : (int64_t)mantissa;
    if (exponent >= 0) {
        return round_shift_wide(value, -exponent);
    }
    if (exponent < -38) { /* |x| < 2^-13: the sum is between 0 and 1, however rounded */
        return 0;
    }
    int64_t sum = value + ((int64_t)1 << (-exponent - 1));
    bool below = sum < 0;
    int32_t scale = exponent;
    int64_t kept = (int64_t)keep_24((uint64_t)(below ? -sum : sum), &scale, false);
    if (below) {
        kept = -kept;
    }
    return scale >= 0 ? round_shift_wide(kept, -scale) : saturate(kept >> -scale);
}

int32_t round_shift_float(int64_t value, int32_t shift) {
    int32_t exponent = -shift;
    bool negative = value < 0;
    uint64_t mantissa = keep_24(negative ? -(uint64_t)value : (uint64_t)value, &exponent, false);
    return add_half_and_floor(negative, mantissa, exponent);
}

/* value / divisor * 2^exponent to 24 bits; neither is 0. By hand, for not every target's library
 * divides 64 bits. */
static uint64_t divide(uint64_t value, uint64_t divisor, int32_t *exponent) {
    uint64_t quotient = 0, rest = 0;
    for (int bit = 63; bit >= 0; bit--) {
        bool carry = rest >> 63;
        rest = rest << 1 | (value >> bit & 1);
        bool fits = carry || rest >= divisor;
        quotient = quotient << 1 | fits;
        rest -= fits ? divisor : 0;
    }
    /* 26 bits: 24 to keep, one to round by, and the rest says whether it is a tie. */
    while (!(quotient >> 25)) {
        bool carry = rest >> 63;
        rest <<= 1;
        bool fits = carry || rest >= divisor;
        quotient = quotient << 1 | fits;
        rest -= fits ? divisor : 0;
        (*exponent)--;
    }
    return keep_24(quotient, exponent, rest != 0);
}

/* By hand, for not every target's library divides 64 bits. */
static uint64_t whole_quotient(uint64_t value, uint64_t divisor) {
    uint64_t quotient = 0, rest = 0;
    for (int bit = 63; bit >= 0; bit--) {
        rest = rest << 1 | (value >> bit & 1);
        bool fits = rest >= divisor;
        quotient = quotient << 1 | fits;
        rest -= fits ? divisor : 0;
    }
    return quotient;
}

int32_t round_ratio(int64_t value, int64_t divisor, int32_t shift) {
    int64_t limit = (int64_t)1 << 40;
    if (shift > 20 || shift < -20 || divisor > limit >> 18 || value > limit || value < -limit) {
        return round_ratio_float(value, divisor, shift);
    }
    uint64_t by = (uint64_t)divisor << (shift > 0 ? shift : 0);
    int64_t scaled = (int64_t)((uint64_t)value << (shift < 0 ? -shift : 0));
    int64_t twice = 2 * scaled + (int64_t)by;
    if (twice >= 0) {
        return saturate((int64_t)whole_quotient((uint64_t)twice, 2 * by));
    }
    return saturate(-(int64_t)whole_quotient(2 * by - 1 + (uint64_t)-twice, 2 * by));
}

int32_t round_ratio_float(int64_t value, int64_t divisor, int32_t shift) {
    bool negative = value < 0;
    int32_t exponent = -shift;
    if (value == 0) {
        return 0;
    }
    uint64_t mantissa =
        divide(negative ? -(uint64_t)value : (uint64_t)value, (uint64_t)divisor, &exponent);
    return add_half_and_floor(negative, mantissa, exponent);
}

/* A float32 of mantissa * 2^exponent; 0 under the least normal one, infinity over the greatest. */
static uint32_t float_bits(uint64_t mantissa, int32_t exponent) {
    if (mantissa == 0) {
        return 0;
    }
    while (!(mantissa >> 23)) {
        mantissa <<= 1;
        exponent--;
    }
    if (mantissa >> 24) { /* rounded up to the next power of two */
        mantissa >>= 1;
        exponent++;
    }
    exponent += 150;
    if (exponent < 1) {
        return 0;
    }
    if (exponent > 254) {
        return 0x7f800000;
    }
    return (uint32_t)exponent << 23 | ((uint32_t)mantissa & 0x7fffff);
}

uint32_t float_of_ratio(uint64_t value, uint64_t divisor, int32_t exponent) {
    if (value == 0) {
        return 0;
    }
    uint64_t mantissa = divide(value, divisor, &exponent);
    return float_bits(mantissa, exponent);
}

uint32_t float_of_whole(int32_t value, int32_t exponent) {
    uint32_t size = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
    uint64_t mantissa = keep_24(size, &exponent, false);
    return float_bits(mantissa, exponent) | (value < 0 ? 0x80000000u : 0);
}

int32_t round_float(uint32_t bits, int32_t exponent) {
    uint32_t size = bits & 0x7fffffff;
    bool negative = bits >> 31;
    if (size > 0x7f800000) { /* not a number */
        return 0;
    }
    if (size == 0x7f800000) {
        return negative ? INT32_MIN : INT32_MAX;
    }
    int32_t power = (int32_t)(size >> 23);
    int64_t mantissa = (int64_t)((size & 0x7fffff) | (power == 0 ? 0u : 0x800000u));
    power += power == 0;
    return round_shift_float(negative ? -mantissa : mantissa, exponent - (power - 150));
}

uint64_t multiply_high(uint64_t a, uint64_t b) {
    uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
    uint64_t other = a0 * b1 + (uint32_t)middle;
    return a1 * b1 + (middle >> 32) + (other >> 32);
}
