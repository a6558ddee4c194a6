/* Where each tensor lies: those that are never needed together may share a place. */
#ifndef EDGEDEPLOY_PLAN_H
#define EDGEDEPLOY_PLAN_H

#include "engine/model.h"

/* Gives every tensor and every step's scratch its memory, `fast` first, then `large`; false (with a
 * reason) where there is not enough. */
bool plan_memory(model *model);

#endif
