/* The conversation in frames: sessions, repeated requests, answers. */
#ifndef EDGEDEPLOY_SESSION_H
#define EDGEDEPLOY_SESSION_H

#include <stdint.h>

/* As after power on. */
void session_start(void);
/* Take a frame's body without its CRC; writes the answer to the line. */
void session_frame(const uint8_t *body, uint32_t bytes);
/* Tell the host that its request goes on, `done` units so far. */
void session_busy(uint32_t done);

#endif
