#include "core/firmware.h"

#include "core/bench.h"
#include "core/frame.h"
#include "core/port.h"
#include "core/session.h"
#include "core/text.h"

#define WAIT_MICROSECONDS 1000000u

static stream from_host;

void firmware_start(void) {
    from_host = (stream){0};
    bench_forget();
    session_start();
    text_boot();
}

void firmware_byte(uint8_t byte) {
    switch (stream_byte(&from_host, byte)) {
    case STREAM_TEXT:
        text_command((char *)from_host.bytes, false);
        break;
    case STREAM_LONG_TEXT:
        text_command((char *)from_host.bytes, true);
        break;
    case STREAM_FRAME:
        session_frame(from_host.bytes, from_host.count);
        break;
    case STREAM_NOTHING:
        break;
    }
}

void firmware(void) {
    firmware_start();
    for (;;) {
        int byte = port_read(WAIT_MICROSECONDS);
        if (byte >= 0) {
            firmware_byte((uint8_t)byte);
        }
    }
}
