#include <string.h>

#include <stdint.h>

/* A word that may alias anything. */
typedef uint32_t __attribute__((may_alias)) word;

static int aligned(const void *one, const void *other) {
    return (((uintptr_t)one | (uintptr_t)other) & 3) == 0;
}

/* Right also where `to` is below `from` and they overlap: a group is read before it is written. */
static void *upwards(void *to, const void *from, size_t count) {
    uint8_t *out = to;
    const uint8_t *in = from;
    if (aligned(to, from)) {
        for (; count >= 16; count -= 16, out += 16, in += 16) {
            word a = ((const word *)in)[0], b = ((const word *)in)[1];
            word c = ((const word *)in)[2], d = ((const word *)in)[3];
            ((word *)out)[0] = a;
            ((word *)out)[1] = b;
            ((word *)out)[2] = c;
            ((word *)out)[3] = d;
        }
        for (; count >= 4; count -= 4, out += 4, in += 4) {
            *(word *)out = *(const word *)in;
        }
    }
    while (count-- > 0) {
        *out++ = *in++;
    }
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t count) {
    return upwards(to, from, count);
}

void *memmove(void *to, const void *from, size_t count) {
    uint8_t *out = to;
    const uint8_t *in = from;
    if (out <= in || out >= in + count) {
        return upwards(to, from, count);
    }
    while (count-- > 0) {
        out[count] = in[count];
    }
    return to;
}

void *memset(void *to, int byte, size_t count) {
    uint8_t *out = to;
    if (((uintptr_t)out & 3) == 0) {
        word four = (uint8_t)byte * 0x01010101u;
        for (; count >= 4; count -= 4, out += 4) {
            *(word *)out = four;
        }
    }
    while (count-- > 0) {
        *out++ = (uint8_t)byte;
    }
    return to;
}

int memcmp(const void *one, const void *other, size_t count) {
    const uint8_t *a = one, *b = other;
    for (; count > 0; count--, a++, b++) {
        if (*a != *b) {
            return *a - *b;
        }
    }
    return 0;
}

size_t strlen(const char *text) {
    size_t count = 0;
    while (text[count] != 0) {
        count++;
    }
    return count;
}

int strncmp(const char *one, const char *other, size_t count) {
    for (; count > 0; count--, one++, other++) {
        if (*one != *other || *one == 0) {
            return (uint8_t)*one - (uint8_t)*other;
        }
    }
    return 0;
}

int strcmp(const char *one, const char *other) {
    return strncmp(one, other, SIZE_MAX);
}
