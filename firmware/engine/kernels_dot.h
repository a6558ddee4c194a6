/* Dot products of int8 with two products in each 32-bit multiplication, exact for all values. */
#ifndef EDGEDEPLOY_KERNELS_DOT_H
#define EDGEDEPLOY_KERNELS_DOT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/kernels_requant.h"

/* Two activations a, b lie in one word X = a + b * 2^16 and their weights crossed in another,
 * W = wb + wa * 2^16, so that modulo 2^32
 *
 *     X * W = a * wb + (a * wa + b * wb) * 2^16 = L + D * 2^16.
 *
 * D is what is wanted. Over a group of words the sums of L and of D stay within -32640..32640 as
 * long as the absolute weights of the group add up to at most 255 (each activation is at most 128
 * in size). Then (sum - 0x8000) >> 16 is D - 1 exactly, and the number of groups is added to the
 * bias. The weights are known when they are packed: the largest group that is safe is chosen for
 * each tile of output channels. One word alone is safe whatever the weights: only two of -128 add
 * up to more, and for them D is -32512..32768, where D - 1 still has 16 bits. */
#define DOT_CHANNELS 4 /* output channels of a tile */
#define DOT_LIMIT 255

typedef enum {
    DOT_WORD = 1,  /* groups of 1 word: 2 products */
    DOT_QUAD = 2,  /* of 2 words */
    DOT_OCTET = 4, /* of 4 words */
} dot_group;

/* Words of a quad of lanes 0..3 hold the lanes 0, 2 and 1, 3: cheap to make from four bytes. */
static inline void dot_widen(uint32_t bytes, uint32_t words[2]) {
    const uint32_t lanes = 0x00ff00ffu;
    const uint32_t offset = 0x00800080u;
    uint32_t biased = bytes ^ 0x80808080u;
    words[0] = (biased & lanes) - offset;
    words[1] = ((biased >> 8) & lanes) - offset;
}

/* A row of neighbouring output pixels for one tile of output channels. The weights of a tile are,
 * for each run and each eight lanes of it, 4 words for each of the channels; 2 words each for four
 * lanes left over at the end of a run. */
typedef struct {
    const uint32_t *const *runs; /* where the lanes of the first pixel start, for each run */
    int32_t run_count;
    int32_t octet_words;    /* of a run, whole eights of lanes */
    bool odd;               /* 2 words more */
    bool simple;            /* all channels of the tile exist, and no early shift: as usual */
    int32_t step;           /* words from a pixel to the next */
    int32_t pixels;
    const uint32_t *weights;
    const uint32_t *bias; /* of the tile's channels, all constants added */
    int8_t *output;
    int32_t output_step; /* bytes from a pixel to the next */
    int32_t channels;    /* of the tile that exist: 1..DOT_CHANNELS */
    requant q;
} dot_strip;

void dot_strip_run(const dot_strip *strip, dot_group group);

#endif
