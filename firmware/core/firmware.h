/* The whole firmware, for a port's own start code to call. */
#ifndef EDGEDEPLOY_FIRMWARE_H
#define EDGEDEPLOY_FIRMWARE_H

#include <stdint.h>

/* Say the boot messages, with nothing remembered. */
void firmware_start(void);
/* Take one byte from the host, and do what it completes. */
void firmware_byte(uint8_t byte);
/* Both, for ever. */
void firmware(void);

#endif
