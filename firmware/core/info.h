/* Facts of board and firmware as JSON, for the request `info`. */
#ifndef EDGEDEPLOY_INFO_H
#define EDGEDEPLOY_INFO_H

#include <stdint.h>

/* The text, not terminated, and its length; made at the first call. */
const char *info_json(uint32_t *bytes);

#endif
