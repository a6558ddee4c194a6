/* Text to the host, gathered so that a port writes whole lines. */
#ifndef EDGEDEPLOY_PRINT_H
#define EDGEDEPLOY_PRINT_H

#include <stdint.h>

#include "core/engine.h"

void print_text(const char *text);
/* At most `bytes` of a text that is not terminated. */
void print_part(const char *text, uint32_t bytes);
void print_number(uint64_t value);
void print_hex(uint8_t byte);
/* mantissa * 2^exponent with three decimals, a half away from zero; "inf" from 2^63 on. */
void print_scaled(int64_t mantissa, int32_t exponent);
/* Element `index` of a tensor as the number it stands for, with three decimals. */
void print_element(const engine_tensor *tensor, const uint8_t *data, uint32_t index);
void print_flush(void);

#endif
