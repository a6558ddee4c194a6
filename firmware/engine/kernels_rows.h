/* Rows of int8 pixels, widened to two lanes a word for the dot products. */
#ifndef EDGEDEPLOY_KERNELS_ROWS_H
#define EDGEDEPLOY_KERNELS_ROWS_H

#include <stdint.h>

typedef struct {
    int32_t channels; /* of the input */
    int32_t lanes;    /* of a column in scratch: channels, or what is gathered, zeros to a four */
    int32_t columns;  /* in scratch, the borders among them */
    int32_t left;     /* columns of zeros before the first pixel */
    int32_t width;    /* pixels of an input row */
    int32_t gathered; /* bytes that lie in a row for each output column; 0: not gathered */
    int32_t stride;   /* bytes from one gathered column to the next */
    int32_t line;     /* bytes of a row that are gathered from */
} row_layout;

/* `pixels` of `channels` bytes into columns of `lanes` lanes; the lanes left over become 0. */
void row_widen(const int8_t *input, int32_t pixels, int32_t channels, int32_t lanes,
               uint32_t *words);

/* One input row into scratch. `line` (row->line bytes) and the border columns of `words` hold
 * zeros before the first row and are left so. */
void row_make(const row_layout *row, const int8_t *input, int8_t *line, uint32_t *words);

#endif
