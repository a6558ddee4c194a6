/* Frames in and out of the byte stream: docs/device-protocol.md. */
#ifndef EDGEDEPLOY_FRAME_H
#define EDGEDEPLOY_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#define TEXT_BYTES 80
#define FRAME_PAYLOAD 1024
#define FRAME_HEADER 8
#define FRAME_BODY (FRAME_HEADER + FRAME_PAYLOAD + 4)
/* COBS adds a byte for every 254 begun; three zeros stand around it. */
#define FRAME_ENCODED (FRAME_BODY + FRAME_BODY / 254 + 1)
#define FRAME_ON_LINE (FRAME_ENCODED + 3)

#define FRAME_ANSWER 0x80

typedef struct {
    uint8_t type;
    uint8_t status;
    uint16_t sequence;
    uint32_t session;
} frame_header;

typedef enum {
    STREAM_NOTHING,
    STREAM_TEXT,      /* a command without its '%', terminated, in `bytes` */
    STREAM_LONG_TEXT, /* one that was longer than TEXT_BYTES; its end is lost */
    STREAM_FRAME,     /* a body whose CRC is right, in `bytes`, `count` long, its CRC left out */
} stream_event;

/* What has come from the host since the last whole command or frame. All zero at the start. */
typedef struct {
    uint8_t bytes[FRAME_ENCODED];
    uint32_t count;
    bool in_frame;  /* a zero has come; text begins behind the next one that ends bytes */
    bool too_long;
    bool delivered; /* the caller has what is in `bytes` */
} stream;

/* Take one byte. What an event promises in `bytes` holds until the next call. */
stream_event stream_byte(stream *from, uint8_t byte);

frame_header frame_read_header(const uint8_t *body);

/* Write a header in front of the payload, which is at body + FRAME_HEADER already, and the CRC
 * behind it, then all of it as it goes over the line. Answers the bytes at `line`. */
uint32_t frame_encode(frame_header header, uint8_t *body, uint32_t payload_bytes, uint8_t *line);

#endif
