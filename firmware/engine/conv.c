/* Convolution: rows of the input are widened once, then each tile of four output channels runs over
 * a row of output pixels. No patch matrix is made; the borders are zeros around the widened rows,
 * so that the inner loops know nothing of them. */
#include "engine/conv.h"

#include <stdbool.h>

#include "engine/kernels_dot.h"
#include "engine/kernels_rows.h"
#include "engine/kernels_sizes.h"

#define FLAT_PIXELS 16  /* a strip of a 1x1 convolution, where a row has no meaning */
#define FLAT_BYTES 8192 /* of scratch that such a strip may take, one pixel aside */

/* How the input lies in scratch. */
typedef struct {
    row_layout row;
    int32_t taps;     /* runs of lanes in one row of the kernel */
    int32_t quads;    /* fours of lanes in a run */
    int32_t tap_step; /* words from one run of a kernel row to the next */
    int32_t step;     /* words from one output pixel to the next */
    int32_t slots;    /* rows kept at a time */
    bool flat;        /* 1x1, each output from the input at its place: the image is one row */
    bool blank;       /* a row of zeros stands in above or below the image */
} layout;

static layout layout_of(const conv_shape *s) {
    layout l = {.taps = 1, .slots = (s->kernel_h - 1) * s->dilation_h + 1};
    int32_t lanes = (s->in_c + 3) & ~3;
    int32_t last = (s->out_h - 1) * s->stride_h - s->pad_top + l.slots - 1;
    l.row.channels = s->in_c;
    l.blank = s->pad_top > 0 || last >= s->in_h;
    l.flat = s->kernel_h == 1 && s->kernel_w == 1 && s->stride_h == 1 && s->stride_w == 1 &&
             s->out_h == s->in_h && s->out_w == s->in_w && s->pad_top == 0 && s->pad_left == 0;
    if (l.flat) {
        int32_t pixels = s->in_h * s->in_w;
        l.row.columns = pixels < FLAT_PIXELS ? pixels : FLAT_PIXELS;
        while (l.row.columns > 1 && l.row.columns * lanes * 2 > FLAT_BYTES) {
            l.row.columns >>= 1;
        }
        l.row.lanes = lanes;
        l.quads = lanes >> 2;
        l.step = lanes >> 1;
        return l;
    }
    if (s->in_c < 4 && s->dilation_w == 1) {
        /* Few channels: a row of the kernel is one run, gathered for each output column. */
        l.row.gathered = s->kernel_w * s->in_c;
        l.row.stride = s->stride_w * s->in_c;
        l.row.lanes = (l.row.gathered + 3) & ~3;
        l.row.columns = s->out_w;
        l.row.line = (s->out_w - 1) * l.row.stride + l.row.gathered;
        l.quads = l.row.lanes >> 2;
        l.step = l.row.lanes >> 1;
    } else {
        l.row.lanes = lanes;
        l.row.columns = (s->out_w - 1) * s->stride_w + (s->kernel_w - 1) * s->dilation_w + 1;
        l.quads = lanes >> 2;
        l.step = sizes_step(s->stride_w, lanes >> 1);
        if (s->dilation_w == 1) {
            l.quads = sizes_step(l.quads, s->kernel_w);
        } else {
            l.taps = s->kernel_w;
            l.tap_step = sizes_step(s->dilation_w, lanes >> 1);
        }
    }
    l.row.left = s->pad_left;
    l.row.width = s->in_w;
    return l;
}

static int32_t tiles_of(const conv_shape *s) {
    return (s->out_c + DOT_CHANNELS - 1) >> 2;
}

/* Words of one tile's weights. */
static uint64_t tile_words(const conv_shape *s, const layout *l) {
    uint64_t runs = sizes_times((uint32_t)s->kernel_h, (uint32_t)l->taps);
    return sizes_times(runs, (uint64_t)(uint32_t)l->quads * 2 * DOT_CHANNELS);
}

static uint32_t tiles_offset(uint32_t tiles) {
    return (uint32_t)sizes_align(tiles);
}

/* The packed weights: one byte for each tile, its dot_group, then the tiles. */
uint32_t conv_packed_bytes(const conv_shape *s) {
    const layout l = layout_of(s);
    uint32_t tiles = (uint32_t)tiles_of(s);
    uint64_t words = sizes_times(tiles, tile_words(s, &l));
    return sizes_total(tiles_offset(tiles) + sizes_align(words * 4));
}

/* Where a lane of a run stands in the kernel. */
typedef struct {
    int32_t x, channel;
    int32_t until; /* lanes of a column that hold something, and that there are */
    int32_t lanes;
} lane_place;

static bool lane_next(lane_place *place, int32_t *x, int32_t *channel) {
    bool there = place->channel < place->until;
    *x = place->x;
    *channel = place->channel;
    if (++place->channel == place->lanes) {
        place->channel = 0;
        place->x++;
    }
    return there;
}

/* Fill one run of one output channel: W = w_b + w_a * 2^16 for lanes a, b of a word. */
static void pack_run(const conv_shape *s, const layout *l, conv_weight weight, const void *source,
                     int32_t out, int32_t y, int32_t tap, uint32_t *words) {
    bool gathered = l->row.gathered > 0;
    lane_place place = {.x = tap,
                        .channel = 0,
                        .until = s->in_c,
                        .lanes = gathered ? s->in_c : l->row.lanes};
    int32_t octets = l->quads >> 1;
    for (int32_t quad = 0; quad < l->quads; quad++) {
        int32_t w[4];
        for (int i = 0; i < 4; i++) {
            int32_t x = 0;
            int32_t channel = 0;
            bool there = lane_next(&place, &x, &channel) && x < s->kernel_w && out < s->out_c;
            w[i] = there ? weight(source, out, y, x, channel) : 0;
        }
        bool whole = (quad >> 1) < octets;
        uint32_t *to = words + (quad >> 1) * 4 * DOT_CHANNELS;
        to += whole ? (quad & 1) * 2 + (out & 3) * 4 : (out & 3) * 2;
        to[0] = (uint32_t)w[2] + ((uint32_t)w[0] << 16);
        to[1] = (uint32_t)w[3] + ((uint32_t)w[1] << 16);
    }
}

/* The absolute weights in a packed word, added up. */
static int32_t size_of(uint32_t word) {
    int32_t low = (int16_t)word;
    int32_t high = (int32_t)(word - (uint32_t)low) >> 16;
    return (low < 0 ? -low : low) + (high < 0 ? -high : high);
}

/* The largest group whose every sum in one channel of one run stays in bounds. */
static dot_group group_of(const uint32_t *words, int32_t quads, int32_t channel) {
    dot_group group = DOT_OCTET;
    for (int32_t quad = 0; quad < quads; quad += 2) {
        int32_t count = quad + 1 < quads ? 4 : 2;
        const uint32_t *w = words + quad * 2 * DOT_CHANNELS + channel * count;
        int32_t octet = 0;
        for (int32_t i = 0; i < count; i += 2) {
            int32_t one = size_of(w[i]);
            int32_t two = size_of(w[i + 1]);
            octet += one + two;
            if (one + two > DOT_LIMIT) {
                group = DOT_WORD;
            }
        }
        if (octet > DOT_LIMIT && group == DOT_OCTET) {
            group = DOT_QUAD;
        }
    }
    return group;
}

void conv_pack(const conv_shape *s, conv_weight weight, const void *source, int8_t *packed) {
    const layout l = layout_of(s);
    int32_t tiles = tiles_of(s);
    int32_t run_words = l.quads * 2 * DOT_CHANNELS;
    uint32_t *words = (uint32_t *)(void *)(packed + tiles_offset((uint32_t)tiles));
    for (int32_t tile = 0; tile < tiles; tile++) {
        dot_group group = DOT_OCTET;
        for (int32_t y = 0; y < s->kernel_h; y++) {
            for (int32_t tap = 0; tap < l.taps; tap++) {
                for (int32_t c = 0; c < DOT_CHANNELS; c++) {
                    pack_run(s, &l, weight, source, tile * DOT_CHANNELS + c, y, tap, words);
                    dot_group one = group_of(words, l.quads, c);
                    group = one < group ? one : group;
                }
                words += run_words;
            }
        }
        packed[tile] = (int8_t)group;
    }
}

/* Groups that are taken apart for one output of a tile: each adds -1 (kernels_dot.h). */
static uint32_t groups_in(const conv_shape *s, const layout *l, dot_group group) {
    int32_t of_run = 0;
    switch (group) {
    case DOT_OCTET:
        of_run = (l->quads + 1) >> 1;
        break;
    case DOT_QUAD:
        of_run = l->quads;
        break;
    case DOT_WORD:
        of_run = l->quads * 2;
        break;
    }
    return (uint32_t)(s->kernel_h * l->taps * of_run);
}

/* Scratch: the bias with all constants, where the runs start, a line of bytes, the rows. */
typedef struct {
    uint32_t runs, line, rows; /* bytes from the start; the bias is at 0 */
    uint32_t total;
    int32_t row_words;
} areas;

static areas areas_of(const conv_shape *s, const layout *l) {
    uint64_t words = sizes_times((uint32_t)l->row.columns, (uint32_t)l->row.lanes >> 1);
    uint64_t rows = sizes_times(words, (uint32_t)l->slots + (l->blank ? 1u : 0u));
    uint64_t runs = sizes_times((uint32_t)s->kernel_h, (uint32_t)l->taps);
    uint64_t at_runs = (uint64_t)(uint32_t)tiles_of(s) * DOT_CHANNELS * 4;
    uint64_t at_line = at_runs + sizes_align(runs * sizeof(uint32_t *));
    uint64_t at_rows = at_line + sizes_align((uint32_t)l->row.line);
    return (areas){.runs = (uint32_t)at_runs,
                   .line = (uint32_t)at_line,
                   .rows = (uint32_t)at_rows,
                   .total = sizes_total(at_rows + sizes_align(rows * 4)),
                   .row_words = (int32_t)words};
}

uint32_t conv_scratch_bytes(const conv_shape *s) {
    const layout l = layout_of(s);
    return areas_of(s, &l).total;
}

/* All tiles over one strip. */
static void strip_run(const conv_shape *s, const layout *l, const int8_t *packed,
                      dot_strip *strip) {
    int32_t tiles = tiles_of(s);
    int32_t words = s->kernel_h * l->taps * l->quads * 2 * DOT_CHANNELS;
    strip->channels = DOT_CHANNELS;
    strip->simple = strip->q.early == 0;
    strip->weights = (const uint32_t *)(const void *)(packed + tiles_offset((uint32_t)tiles));
    for (int32_t tile = 0; tile < tiles; tile++) {
        if (tile == tiles - 1) {
            strip->channels = s->out_c - tile * DOT_CHANNELS;
            strip->simple = strip->simple && strip->channels == DOT_CHANNELS;
        }
        dot_strip_run(strip, (dot_group)packed[tile]);
        strip->weights += words;
        strip->bias += DOT_CHANNELS;
        strip->output += DOT_CHANNELS;
    }
}

static void run_flat(const conv_shape *s, const layout *l, const int8_t *input,
                     const int8_t *packed, uint32_t *row, dot_strip *strip, int8_t *output) {
    const uint32_t *bias = strip->bias;
    int32_t left = s->in_h * s->in_w;
    while (left > 0) {
        int32_t pixels = left < l->row.columns ? left : l->row.columns;
        row_widen(input, pixels, s->in_c, l->row.lanes, row);
        strip->pixels = pixels;
        strip->bias = bias;
        strip->output = output;
        strip_run(s, l, packed, strip);
        input += pixels * s->in_c;
        output += pixels * s->out_c;
        left -= pixels;
    }
}

/* Rows go round in `slots` places; `next` is the input row that is widened next. */
static void run_rows(const conv_shape *s, const layout *l, const areas *a, const int8_t *input,
                     const int8_t *packed, int8_t *scratch, dot_strip *strip, int8_t *output) {
    const uint32_t *bias = strip->bias;
    uint32_t *rows = (uint32_t *)(void *)(scratch + a->rows);
    const uint32_t *blank = rows + l->slots * a->row_words;
    const uint32_t **runs = (const uint32_t **)(void *)(scratch + a->runs);
    int32_t next = 0;
    int32_t slot = 0;
    __builtin_memset(scratch + a->line, 0, a->total - a->line);
    for (int32_t y = 0; y < s->out_h; y++) {
        int32_t top = y * s->stride_h - s->pad_top;
        int32_t bottom = top + l->slots;
        next = next < top ? top : next;
        for (; next < bottom && next < s->in_h; next++) {
            row_make(&l->row, input + next * s->in_w * s->in_c, scratch + a->line,
                     rows + slot * a->row_words);
            slot = slot + 1 == l->slots ? 0 : slot + 1;
        }
        for (int32_t ky = 0; ky < s->kernel_h; ky++) {
            int32_t in_y = top + ky * s->dilation_h;
            const uint32_t *row = blank;
            if (in_y >= 0 && in_y < s->in_h) {
                int32_t place = slot - (next - in_y);
                row = rows + (place < 0 ? place + l->slots : place) * a->row_words;
            }
            for (int32_t tap = 0; tap < l->taps; tap++) {
                runs[ky * l->taps + tap] = row + tap * l->tap_step;
            }
        }
        strip->bias = bias;
        strip->output = output;
        strip_run(s, l, packed, strip);
        output += s->out_w * s->out_c;
    }
}

void conv_run(const conv_shape *s, const int8_t *input, const int8_t *packed, const int32_t *bias,
              int8_t *scratch, int8_t *output) {
    const layout l = layout_of(s);
    const areas a = areas_of(s, &l);
    uint32_t *folded = (uint32_t *)(void *)(scratch);
    const uint32_t **runs = (const uint32_t **)(void *)(scratch + a.runs);
    uint32_t *rows = (uint32_t *)(void *)(scratch + a.rows);
    dot_strip strip = {.runs = runs,
                       .run_count = s->kernel_h * l.taps,
                       .octet_words = (l.quads >> 1) * 4,
                       .odd = l.quads & 1,
                       .step = l.step,
                       .pixels = s->out_w,
                       .bias = folded,
                       .output_step = s->out_c,
                       .q = requant_of(s)};
    uint32_t constant = requant_before(&strip.q);
    int32_t tiles = tiles_of(s);
    for (int32_t c = 0; c < tiles * DOT_CHANNELS; c++) {
        uint32_t own = c < s->out_c ? (uint32_t)bias[c] : 0u;
        folded[c] = own + constant + groups_in(s, &l, (dot_group)packed[c >> 2]);
    }
    if (l.flat) {
        runs[0] = rows;
        run_flat(s, &l, input, packed, rows, &strip, output);
        return;
    }
    run_rows(s, &l, &a, input, packed, scratch, &strip, output);
}
