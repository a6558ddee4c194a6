#include "core/sha256.h"

#include <string.h>

/* First 32 bits of the fractions of the cube roots of the first 64 primes (FIPS 180-4, 4.2.2). */
static const uint32_t round_constant[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t value, int bits) {
    return value >> bits | value << (32 - bits);
}

static uint32_t big_endian(const uint8_t *from) {
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

static void big_endian_to(uint8_t *to, uint32_t value) {
    for (int i = 0; i < 4; i++) {
        to[i] = (uint8_t)(value >> (24 - 8 * i));
    }
}

static void one_block(uint32_t state[8], const uint8_t *block) {
    uint32_t word[16];
    for (int i = 0; i < 16; i++) {
        word[i] = big_endian(block + 4 * i);
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i++) {
        if (i >= 16) {
            uint32_t far = word[(i + 1) & 15], near = word[(i + 14) & 15];
            word[i & 15] += (rotate(far, 7) ^ rotate(far, 18) ^ far >> 3) + word[(i + 9) & 15] +
                            (rotate(near, 17) ^ rotate(near, 19) ^ near >> 10);
        }
        uint32_t first = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) +
                         round_constant[i] + word[i & 15];
        uint32_t second =
            (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g;
        g = f;
        f = e;
        e = d + first;
        d = c;
        c = b;
        b = a;
        a = first + second;
    }
    const uint32_t sum[8] = {a, b, c, d, e, f, g, h};
    for (int i = 0; i < 8; i++) {
        state[i] += sum[i];
    }
}

void sha256_start(sha256 *hash) {
    /* The same of the square roots of the first 8 primes. */
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, start, sizeof start);
    hash->bytes = 0;
}

void sha256_blocks(sha256 *hash, const uint8_t *bytes, uint32_t blocks) {
    hash->bytes += (uint64_t)blocks * SHA256_BLOCK;
    for (; blocks > 0; blocks--, bytes += SHA256_BLOCK) {
        one_block(hash->state, bytes);
    }
}

void sha256_end(sha256 *hash, const uint8_t *rest, uint32_t count, uint8_t digest[SHA256_BYTES]) {
    uint8_t block[SHA256_BLOCK] = {0};
    uint64_t bits = (hash->bytes + count) * 8;
    if (count > 0) { /* else `rest` may be NULL */
        memcpy(block, rest, count);
    }
    block[count] = 0x80;
    if (count >= SHA256_BLOCK - 8) {
        one_block(hash->state, block);
        memset(block, 0, sizeof block);
    }
    big_endian_to(block + 56, (uint32_t)(bits >> 32));
    big_endian_to(block + 60, (uint32_t)bits);
    one_block(hash->state, block);
    for (int i = 0; i < 8; i++) {
        big_endian_to(digest + 4 * i, hash->state[i]);
    }
}
