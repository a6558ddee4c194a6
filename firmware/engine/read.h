/* What reading a file shares with the model it fills. */
#ifndef EDGEDEPLOY_READ_H
#define EDGEDEPLOY_READ_H

#include "engine/model.h"

/* The index of the tensor of that name, added where there is none. There is room for it. */
uint32_t model_add(model *model, const char *name, uint32_t bytes);
/* A parameter's, or a test value's, shape, type and bytes. */
bool read_parameter(model *model, const flat_table *table, tensor *tensor);

#endif
