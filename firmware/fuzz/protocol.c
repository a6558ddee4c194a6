/* The protocol under a fuzzer: whatever a host sends, nothing breaks and every answer is whole.
 *
 * The first byte of an input says what the rest is: even, the bytes of the line as they are; odd,
 * requests one behind the other as type, u16 length, payload, which get right headers and CRCs here
 * (a mutation would never find one). EDGEDEPLOY_FUZZ_MODEL names a model file for the board. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/engine.h"
#include "core/firmware.h"
#include "core/frame.h"
#include "core/port.h"
#include "core/request.h"

#define FAST_BYTES 65536
#define LARGE_BYTES 262144
#define SAMPLES_BYTES 4096
#define SESSION 1
#define INFERENCES_AN_INPUT 6

static uint8_t *model, *fast, *large, *samples;
static uint32_t model_bytes;
static uint64_t now;
static uint32_t inferences;
static jmp_buf end_of_input;
static stream answers;

static uint8_t *memory(size_t bytes) {
    uint8_t *at = aligned_alloc(16, (bytes + 15) & ~(size_t)15);
    if (at == NULL) {
        abort();
    }
    memset(at, 0, bytes);
    return at;
}

static void read_model(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        perror(path);
        exit(1);
    }
    model_bytes = (uint32_t)ftell(file);
    rewind(file);
    model = memory(model_bytes);
    if (fread(model, 1, model_bytes, file) != model_bytes) {
        perror(path);
        exit(1);
    }
    fclose(file);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count);
bool __real_engine_run(engine_hook hook, void *context, char error[ENGINE_ERROR_BYTES]);
bool __wrap_engine_run(engine_hook hook, void *context, char error[ENGINE_ERROR_BYTES]);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    const char *path = getenv("EDGEDEPLOY_FUZZ_MODEL");
    if (path != NULL) {
        read_model(path);
    }
    fast = memory(FAST_BYTES);
    large = memory(LARGE_BYTES);
    samples = memory(SAMPLES_BYTES);
    return 0;
}

bool __wrap_engine_run(engine_hook hook, void *context, char error[ENGINE_ERROR_BYTES]) {
    if (++inferences > INFERENCES_AN_INPUT) {
        longjmp(end_of_input, 1);
    }
    return __real_engine_run(hook, context, error);
}

const port_facts *port_get_facts(void) {
    static const port_facts facts = {
        .board = "fuzzed \"board\"\n",
        .cpu = "none",
        .compiler = __VERSION__,
        .tick_unit = "calls",
        .ticks_per_count = 1,
        .virtual_board = true,
    };
    return &facts;
}

int port_read(uint32_t wait_us) {
    (void)wait_us;
    return -1;
}

/* What the firmware sends is read by its own reader: a frame in it must be an answer. */
void port_write(const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (stream_byte(&answers, bytes[i]) == STREAM_FRAME) {
            frame_header header = frame_read_header(answers.bytes);
            if (!(header.type & FRAME_ANSWER) || header.status > STATUS_ENGINE) {
                abort();
            }
        }
    }
}

uint64_t port_ticks(void) {
    return now++;
}

/* Half a second passes with each look, so that every inference tells its progress. */
uint64_t port_microseconds(void) {
    return now += 500000;
}

void port_marker(bool high) {
    (void)high;
}

const uint8_t *port_model(uint32_t *extent) {
    *extent = model_bytes;
    return model;
}

void port_arena(uint8_t **fast_at, uint32_t *fast_bytes, uint8_t **large_at,
                uint32_t *large_bytes) {
    *fast_at = fast;
    *fast_bytes = FAST_BYTES;
    *large_at = large;
    *large_bytes = LARGE_BYTES;
}

uint8_t *port_samples(uint32_t *bytes) {
    *bytes = SAMPLES_BYTES;
    return samples;
}

void port_stack(uint32_t *deepest, uint32_t *size) {
    *deepest = 0;
    *size = 0;
}

void port_reset(void) {
    longjmp(end_of_input, 1);
}

static void send(const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        firmware_byte(bytes[i]);
    }
}

static void send_request(uint8_t type, uint16_t sequence, const uint8_t *payload, uint32_t bytes) {
    uint8_t body[FRAME_BODY], line[FRAME_ON_LINE];
    frame_header header = {.type = type, .sequence = sequence, .session = SESSION};
    memcpy(body + FRAME_HEADER, payload, bytes);
    send(line, frame_encode(header, body, bytes, line));
}

static void send_requests(const uint8_t *data, size_t count) {
    static const uint8_t hello[] = {PROTOCOL_VERSION, 0, SESSION, 0, 0, 0};
    send_request(REQUEST_HELLO, 0, hello, sizeof hello);
    for (uint16_t sequence = 1; count >= 3; sequence++) {
        uint32_t bytes = get_u16(data + 1) % (FRAME_PAYLOAD + 1);
        uint8_t type = data[0];
        data += 3;
        count -= 3;
        if (bytes > count) {
            bytes = (uint32_t)count;
        }
        send_request(type & ~FRAME_ANSWER, sequence, data, bytes);
        data += bytes;
        count -= bytes;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    inferences = 0;
    answers = (stream){0};
    firmware_start();
    if (count == 0) {
        return 0;
    }
    if (setjmp(end_of_input) == 0) {
        if (data[0] % 2 == 0) {
            send(data + 1, count - 1);
        } else {
            send_requests(data + 1, count - 1);
        }
    }
    return 0;
}
