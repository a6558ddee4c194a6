/* Integer routines that GCC calls on this core and that Debian's libgcc for it leaves out, because
 * the ESP8266 has them in ROM. */
#include <stdint.h>

typedef struct {
    uint32_t quotient, rest;
} divided;

uint32_t __udivsi3(uint32_t above, uint32_t below);
uint32_t __umodsi3(uint32_t above, uint32_t below);
int32_t __divsi3(int32_t above, int32_t below);
int32_t __modsi3(int32_t above, int32_t below);
uint64_t __umulsidi3(uint32_t one, uint32_t other);
int64_t __muldi3(int64_t one, int64_t other);
uint64_t __udivdi3(uint64_t above, uint64_t below);
uint64_t __umoddi3(uint64_t above, uint64_t below);
int64_t __divdi3(int64_t above, int64_t below);
int64_t __moddi3(int64_t above, int64_t below);

/* Division by 0 answers all ones, as on cores that have the instruction. */
static divided divide(uint32_t above, uint32_t below) {
    divided result = {.quotient = 0, .rest = above};
    if (below == 0) {
        result.quotient = UINT32_MAX;
        return result;
    }
    if (above < below) {
        return result;
    }
    int shift = __builtin_clz(below) - __builtin_clz(above);
    below <<= shift;
    for (; shift >= 0; shift--, below >>= 1) {
        result.quotient <<= 1;
        if (result.rest >= below) {
            result.rest -= below;
            result.quotient |= 1;
        }
    }
    return result;
}

static uint32_t size_of(int32_t value) {
    return value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
}

uint32_t __udivsi3(uint32_t above, uint32_t below) {
    return divide(above, below).quotient;
}

uint32_t __umodsi3(uint32_t above, uint32_t below) {
    return divide(above, below).rest;
}

int32_t __divsi3(int32_t above, int32_t below) {
    uint32_t size = divide(size_of(above), size_of(below)).quotient;
    return (int32_t)((above ^ below) < 0 ? 0u - size : size);
}

int32_t __modsi3(int32_t above, int32_t below) {
    uint32_t size = divide(size_of(above), size_of(below)).rest;
    return (int32_t)(above < 0 ? 0u - size : size);
}

uint64_t __umulsidi3(uint32_t one, uint32_t other) {
    uint32_t one_low = one & 0xffff, one_high = one >> 16;
    uint32_t other_low = other & 0xffff, other_high = other >> 16;
    uint32_t low = one_low * other_low;
    uint32_t first = one_low * other_high + (low >> 16);
    uint32_t second = one_high * other_low + (first & 0xffff);
    uint32_t high = one_high * other_high + (first >> 16) + (second >> 16);
    return (uint64_t)high << 32 | second << 16 | (low & 0xffff);
}

int64_t __muldi3(int64_t one, int64_t other) {
    uint32_t one_low = (uint32_t)one, one_high = (uint32_t)((uint64_t)one >> 32);
    uint32_t other_low = (uint32_t)other, other_high = (uint32_t)((uint64_t)other >> 32);
    uint64_t product = __umulsidi3(one_low, other_low);
    uint32_t high = (uint32_t)(product >> 32) + one_low * other_high + one_high * other_low;
    return (int64_t)((uint64_t)high << 32 | (uint32_t)product);
}

static int leading_zeros(uint64_t value) {
    uint32_t high = (uint32_t)(value >> 32);
    return high != 0 ? __builtin_clz(high) : 32 + __builtin_clz((uint32_t)value);
}

static uint64_t divide_wide(uint64_t above, uint64_t below, uint64_t *rest) {
    uint64_t quotient = 0;
    *rest = above;
    if (below == 0) {
        return UINT64_MAX;
    }
    if (above < below) {
        return 0;
    }
    int shift = leading_zeros(below) - leading_zeros(above);
    below <<= shift;
    for (; shift >= 0; shift--, below >>= 1) {
        quotient <<= 1;
        if (*rest >= below) {
            *rest -= below;
            quotient |= 1;
        }
    }
    return quotient;
}

static uint64_t wide_size_of(int64_t value) {
    return value < 0 ? 0u - (uint64_t)value : (uint64_t)value;
}

uint64_t __udivdi3(uint64_t above, uint64_t below) {
    uint64_t rest;
    return divide_wide(above, below, &rest);
}

uint64_t __umoddi3(uint64_t above, uint64_t below) {
    uint64_t rest;
    divide_wide(above, below, &rest);
    return rest;
}

int64_t __divdi3(int64_t above, int64_t below) {
    uint64_t rest, size = divide_wide(wide_size_of(above), wide_size_of(below), &rest);
    return (int64_t)((above ^ below) < 0 ? 0u - size : size);
}

int64_t __moddi3(int64_t above, int64_t below) {
    uint64_t rest;
    divide_wide(wide_size_of(above), wide_size_of(below), &rest);
    return (int64_t)(above < 0 ? 0u - rest : rest);
}
