/* InsertZeros and a convolution that meets one pixel at a time: a transposed convolution again. */
#ifndef EDGEDEPLOY_UPSAMPLE_H
#define EDGEDEPLOY_UPSAMPLE_H

#include "engine/conv.h"
#include "engine/model.h"
#include "engine/weights.h"

/* True where the step before spreads the input by the very kernel of this convolution, whose window
 * then holds one pixel that is not zero: the two run as one, without the zeros. */
bool upsample_fits(const model *model, const step *step, const conv_shape *shape);
/* Makes the step run so, and the one before it nothing. */
bool upsample_prepare(model *model, step *step, const weight_source *source,
                      const conv_shape *shape, const int32_t *bias);

#endif
