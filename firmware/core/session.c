#include "core/session.h"

#include <stdbool.h>
#include <string.h>

#include "core/bytes.h"
#include "core/frame.h"
#include "core/port.h"
#include "core/request.h"
#include "core/version.h"

/* Room for the answers that are not kept, on the line: their texts are short. */
#define ASIDE_BYTES 96

static uint32_t session;
static frame_header current;
static uint8_t body[FRAME_BODY];

/* The last answer of this session as it went over the line. */
static struct {
    bool valid;
    uint16_t sequence;
    uint32_t bytes;
    uint8_t line[FRAME_ON_LINE];
} last;

void session_start(void) {
    session = 0;
    last.valid = false;
}

static frame_header answer_header(request_status status) {
    frame_header header = current;
    header.type |= FRAME_ANSWER;
    header.status = (uint8_t)status;
    return header;
}

void session_busy(uint32_t done) {
    uint8_t busy_body[FRAME_HEADER + 4 + 4], line[sizeof busy_body + 4];
    put_u32(busy_body + FRAME_HEADER, done);
    port_write(line, frame_encode(answer_header(STATUS_BUSY), busy_body, 4, line));
}

static request_status hello(request *asked) {
    static const char text[] = "edgedeploy " FIRMWARE_VERSION;
    if (asked->bytes != 6) {
        return request_refuse(asked, STATUS_BAD_REQUEST, "payload: hello takes 6 bytes");
    }
    if (get_u16(asked->payload) != PROTOCOL_VERSION) {
        return request_refuse(asked, STATUS_BAD_REQUEST, "version: this firmware speaks 1");
    }
    uint32_t wanted = get_u32(asked->payload + 2);
    if (wanted == 0) {
        return request_refuse(asked, STATUS_BAD_REQUEST, "session: not 0");
    }
    if (wanted != session) {
        session = wanted;
        last.valid = false;
    }
    put_u16(asked->answer, PROTOCOL_VERSION);
    put_u16(asked->answer + 2, FRAME_PAYLOAD);
    memcpy(asked->answer + 4, text, sizeof text - 1);
    asked->answer_bytes = 4 + sizeof text - 1;
    return STATUS_OK;
}

/* A host that asks for it again gets it once more, instead of the work being done twice. */
static void answer(request *asked, request_status status) {
    last.bytes = frame_encode(answer_header(status), body, asked->answer_bytes, last.line);
    last.sequence = current.sequence;
    last.valid = true;
    port_write(last.line, last.bytes);
}

/* An answer that leaves the last one where it is. */
static void answer_aside(request *asked, request_status status) {
    uint8_t line[ASIDE_BYTES];
    port_write(line, frame_encode(answer_header(status), body, asked->answer_bytes, line));
}

void session_frame(const uint8_t *from, uint32_t bytes) {
    current = frame_read_header(from);
    if (current.type & FRAME_ANSWER || current.status != 0) {
        return;
    }
    request asked = {
        .type = current.type,
        .payload = from + FRAME_HEADER,
        .bytes = bytes - FRAME_HEADER,
        .answer = body + FRAME_HEADER,
    };
    if (current.type == REQUEST_HELLO) {
        answer_aside(&asked, hello(&asked));
    } else if (current.session != session) {
        answer_aside(&asked, request_refuse(&asked, STATUS_BAD_REQUEST, "session"));
    } else if (last.valid && last.sequence == current.sequence) {
        port_write(last.line, last.bytes);
    } else if (current.type == REQUEST_RESET) {
        answer_aside(&asked, STATUS_OK);
        port_reset();
    } else {
        answer(&asked, request_carry_out(&asked));
    }
}
