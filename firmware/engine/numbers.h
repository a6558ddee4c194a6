/* Integer arithmetic that equals the simulator's: round half up, exact for 16 bits, which it
 * computes in double; for 8 bits rounded as its float32 arithmetic does where a value needs more
 * bits than a float's 24. */
#ifndef EDGEDEPLOY_NUMBERS_H
#define EDGEDEPLOY_NUMBERS_H

#include <stdbool.h>
#include <stdint.h>

static inline int32_t clamp32(int32_t value, int32_t low, int32_t high) {
    return value < low ? low : value > high ? high : value;
}

/* floor(value * 2^-shift + 0.5) */
static inline int32_t round_shift(int32_t value, int32_t shift) {
    return shift == 0 ? value : (value + (int32_t)(1u << (shift - 1))) >> shift;
}

/* The same for any shift, also a negative one, saturated to int32. */
int32_t round_shift_wide(int64_t value, int32_t shift);
/* As float32 arithmetic gives it: value * 2^-shift and its sum with 0.5 are rounded to 24 bits. */
int32_t round_shift_float(int64_t value, int32_t shift);
/* floor(value / divisor * 2^-shift + 0.5), divisor over 0. */
int32_t round_ratio(int64_t value, int64_t divisor, int32_t shift);
/* The same as float32 arithmetic gives it. */
int32_t round_ratio_float(int64_t value, int64_t divisor, int32_t shift);

/* The bits of the float32 nearest to value / divisor * 2^exponent, divisor over 0. */
uint32_t float_of_ratio(uint64_t value, uint64_t divisor, int32_t exponent);
/* The same of value * 2^exponent. */
uint32_t float_of_whole(int32_t value, int32_t exponent);
/* The float32 of those bits in units of 2^exponent, rounded as round_shift_float does. */
int32_t round_float(uint32_t bits, int32_t exponent);
/* The upper 64 of the 128 bits of a product. */
uint64_t multiply_high(uint64_t a, uint64_t b);

/* The least and the greatest value of int8 or int16. */
static inline int32_t type_low(uint8_t bits) {
    return bits == 8 ? -128 : -32768;
}
static inline int32_t type_high(uint8_t bits) {
    return bits == 8 ? 127 : 32767;
}

#endif
