/* Depthwise convolution: a block of channels at a time is laid out channel by channel, two outputs
 * to each 32-bit multiplication, exact for all values. */
#include "engine/conv.h"
#include "engine/kernels_channels.h"
#include "engine/kernels_planes.h"
#include "engine/kernels_sizes.h"

#define BLOCK_BYTES 8192 /* of scratch that a block of channels may take, four channels aside */

/* Packed weights: for each channel what is added to its bias, what its sums start from (room for
 * WAY_TWOS), and its way; then the weights as int16. */
typedef struct {
    uint32_t starts, ways, weights; /* bytes from the start */
    uint32_t total;
} parts;

static parts parts_of(const conv_shape *s) {
    uint32_t channels = (uint32_t)s->out_c;
    uint64_t rows = sizes_times(channels, (uint32_t)s->kernel_h);
    uint64_t sums = sizes_times(rows, ((uint32_t)s->kernel_w + 1u) >> 1);
    uint64_t taps = sizes_times(rows, (uint32_t)s->kernel_w);
    uint64_t at_starts = sizes_align((uint64_t)channels * 4);
    uint64_t at_ways = at_starts + sizes_align(sums * 4);
    uint64_t at_weights = at_ways + sizes_align(channels);
    return (parts){.starts = (uint32_t)at_starts,
                   .ways = (uint32_t)at_ways,
                   .weights = (uint32_t)at_weights,
                   .total = sizes_total(at_weights + sizes_align(taps * 2))};
}

uint32_t depthwise_packed_bytes(const conv_shape *s) {
    return parts_of(s).total;
}

/* What the sums of one channel start from when each row of weights is taken in groups of `group`;
 * all of them together, or more than 65535 where a sum would not hold. */
static uint32_t pack_starts(const conv_shape *s, const int16_t *w, int32_t group,
                            uint32_t *starts) {
    uint32_t offsets = 0;
    bool holds = true;
    for (int32_t y = 0; y < s->kernel_h; y++) {
        for (int32_t x = 0; x < s->kernel_w; x += group) {
            uint32_t size = 0;
            uint32_t negative = 0;
            for (int32_t i = x; i < x + group && i < s->kernel_w; i++, w++) {
                size += (uint32_t)(*w < 0 ? -*w : *w);
                negative += (uint32_t)(*w < 0 ? -*w : 0);
            }
            holds = holds && size <= CHANNELS_LIMIT;
            *starts++ = 255u * negative * 0x10001u;
            offsets += 255u * negative;
        }
    }
    return holds ? offsets : UINT32_MAX;
}

/* The way of one channel; its starts, and what to add to its bias. */
static way pack_channel(const conv_shape *s, const int16_t *w, uint32_t *starts, uint32_t *add) {
    int32_t taps = s->kernel_h * s->kernel_w;
    uint32_t sum = 0;
    uint32_t size = 0;
    for (int32_t i = 0; i < taps; i++) {
        sum += (uint32_t)(int32_t)w[i];
        size += (uint32_t)(w[i] < 0 ? -w[i] : w[i]);
    }
    *add = 0u - PLANES_OFFSET * sum;
    uint32_t offsets = pack_starts(s, w, s->kernel_w, starts);
    if (channels_usual(s) && size <= CHANNELS_LIMIT) {
        starts[0] = offsets * 0x10001u;
        *add -= offsets;
        return WAY_WHOLE;
    }
    if (!channels_usual(s) && offsets != UINT32_MAX) {
        *add -= offsets;
        return WAY_ROWS;
    }
    *add -= pack_starts(s, w, 2, starts);
    return WAY_TWOS;
}

void depthwise_pack(const conv_shape *s, conv_weight weight, const void *source, int8_t *packed) {
    const parts p = parts_of(s);
    uint32_t *add = (uint32_t *)(void *)packed;
    uint32_t *starts = (uint32_t *)(void *)(packed + p.starts);
    int16_t *weights = (int16_t *)(void *)(packed + p.weights);
    for (int32_t c = 0; c < s->out_c; c++) {
        int16_t *to = weights;
        for (int32_t y = 0; y < s->kernel_h; y++) {
            for (int32_t x = 0; x < s->kernel_w; x++) {
                *to++ = weight(source, c, y, x, 0);
            }
        }
        packed[p.ways + (uint32_t)c] = (int8_t)pack_channel(s, weights, starts, add + c);
        starts += channels_sums(s);
        weights = to;
    }
}

/* Scratch: where the rows of the kernel are, the bias with all constants, then a block's rows,
 * `plane` words for each channel; one row of zeros behind the `slots` that go round. */
typedef struct {
    int32_t slots;
    int32_t plane;
    int32_t channels;    /* of a block */
    uint32_t bias, rows; /* bytes from the start */
    uint32_t total;
} layout;

static layout layout_of(const conv_shape *s) {
    layout l = {.slots = (s->kernel_h - 1) * s->dilation_h + 1, .channels = s->out_c};
    /* Before the first column, room for one that is only another's neighbour. */
    l.plane = s->out_w * s->stride_w + (s->kernel_w - 1) * s->dilation_w + 1;
    uint64_t words = sizes_times((uint32_t)l.plane, (uint32_t)l.slots + 1u);
    while (l.channels > 4 && sizes_times(words, (uint32_t)l.channels) * 4 > BLOCK_BYTES) {
        l.channels = ((l.channels >> 1) + 3) & ~3;
    }
    uint64_t at_bias = sizes_align((uint64_t)(uint32_t)s->kernel_h * sizeof(uint32_t *));
    uint64_t at_rows = at_bias + sizes_align((uint64_t)(uint32_t)s->out_c * 4);
    words = sizes_times(words, (uint32_t)l.channels);
    l.bias = (uint32_t)at_bias;
    l.rows = (uint32_t)at_rows;
    l.total = sizes_total(at_rows + sizes_align(words * 4));
    return l;
}

uint32_t depthwise_scratch_bytes(const conv_shape *s) {
    return layout_of(s).total;
}

/* All rows of a block of channels. */
static void run_block(const layout *l, const int8_t *input, int8_t *scratch,
                      channels_block *block) {
    const conv_shape *s = block->shape;
    const uint32_t **table = (const uint32_t **)(void *)scratch;
    const int32_t row_words = l->channels * l->plane;
    uint32_t *first = (uint32_t *)(void *)(scratch + l->rows) + s->stride_w;
    const uint32_t *blank = first + l->slots * row_words;
    int32_t room = l->plane - s->stride_w - s->pad_left;
    int32_t least = s->in_w < room ? s->in_w : room;
    int32_t pixels = least > 0 ? least : 0;
    int32_t next = 0;
    int32_t slot = 0;
    block->rows = table;
    for (int32_t y = 0; y < s->out_h; y++) {
        int32_t top = y * s->stride_h - s->pad_top;
        next = next < top ? top : next;
        for (; next < top + l->slots && next < s->in_h; next++) {
            planes_make(input + next * s->in_w * s->in_c, pixels, block->channels, s->in_c,
                        first + slot * row_words + s->pad_left, l->plane, s->stride_w);
            slot = slot + 1 == l->slots ? 0 : slot + 1;
        }
        for (int32_t ky = 0; ky < s->kernel_h; ky++) {
            int32_t in_y = top + ky * s->dilation_h;
            table[ky] = blank;
            if (in_y >= 0 && in_y < s->in_h) {
                int32_t place = slot - (next - in_y);
                table[ky] = first + (place < 0 ? place + l->slots : place) * row_words;
            }
        }
        channels_row(block);
        block->output += s->out_w * s->out_c;
    }
}

void depthwise_run(const conv_shape *s, const int8_t *input, const int8_t *packed,
                   const int32_t *bias, int8_t *scratch, int8_t *output) {
    const layout l = layout_of(s);
    const parts p = parts_of(s);
    const uint32_t *add = (const uint32_t *)(const void *)packed;
    uint32_t *folded = (uint32_t *)(void *)(scratch + l.bias);
    channels_block block = {.shape = s,
                       .weights = (const int16_t *)(const void *)(packed + p.weights),
                       .starts = (const uint32_t *)(const void *)(packed + p.starts),
                       .bias = folded,
                       .ways = packed + p.ways,
                       .plane = l.plane,
                       .columns = s->out_w,
                       .step = s->out_c,
                       .q = requant_of(s)};
    for (int32_t c = 0; c < s->out_c; c++) {
        folded[c] = (uint32_t)bias[c] + add[c] + requant_before(&block.q);
    }
    /* The borders stay so: each block writes the same places inside them. */
    uint32_t *rows = (uint32_t *)(void *)(scratch + l.rows);
    for (int32_t i = 0; i < (l.slots + 1) * l.channels * l.plane; i++) {
        rows[i] = PLANES_ZEROS;
    }
    for (int32_t c = 0; c < s->out_c; c += l.channels) {
        int32_t left = s->out_c - c;
        block.channels = left < l.channels ? left : l.channels;
        block.output = output + c;
        run_block(&l, input + c, scratch, &block);
        block.weights += block.channels * s->kernel_h * s->kernel_w;
        block.starts += block.channels * channels_sums(s);
        block.bias += block.channels;
        block.ways += block.channels;
    }
}
