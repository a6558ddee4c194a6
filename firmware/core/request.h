/* The framed requests: one handler a type. */
#ifndef EDGEDEPLOY_REQUEST_H
#define EDGEDEPLOY_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#define PROTOCOL_VERSION 1

typedef enum {
    STATUS_OK = 0,
    STATUS_BUSY = 1,
    STATUS_BAD_REQUEST = 2,
    STATUS_NO_MODEL = 3,
    STATUS_CHECKSUM = 4,
    STATUS_ENGINE = 5,
} request_status;

typedef enum {
    REQUEST_HELLO = 0x01,
    REQUEST_INFO,
    REQUEST_LOAD,
    REQUEST_TENSOR,
    REQUEST_WRITE,
    REQUEST_RUN,
    REQUEST_READ,
    REQUEST_SAMPLES,
    REQUEST_PROFILE,
    REQUEST_LAYERS,
    REQUEST_MEMORY,
    REQUEST_HASH,
    REQUEST_SELF_TEST,
    REQUEST_BATCH,
    REQUEST_RESET,
} request_type;

typedef struct {
    uint8_t type;
    const uint8_t *payload;
    uint32_t bytes;
    uint8_t *answer; /* room for FRAME_PAYLOAD bytes */
    uint32_t answer_bytes;
} request;

/* Carry out any request but hello and reset. */
request_status request_carry_out(request *asked);
/* Answer with a text that says why; returns `status`. */
request_status request_refuse(request *asked, request_status status, const char *why);

#endif
