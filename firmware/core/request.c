#include "core/request.h"

#include <string.h>

#include "core/bench.h"
#include "core/bytes.h"
#include "core/crc32.h"
#include "core/engine.h"
#include "core/frame.h"
#include "core/info.h"
#include "core/deployed.h"
#include "core/port.h"
#include "core/session.h"
#include "core/sha256.h"

#define HASH_CHUNK 65536u
#define LAYER_NAME_LIMIT 255
#define NO_MODEL "no model is loaded: load comes first"

request_status request_refuse(request *asked, request_status status, const char *why) {
    size_t bytes = strlen(why);
    asked->answer_bytes = (uint32_t)(bytes < FRAME_PAYLOAD ? bytes : FRAME_PAYLOAD);
    memcpy(asked->answer, why, asked->answer_bytes);
    return status;
}

static request_status bad(request *asked, const char *why) {
    return request_refuse(asked, STATUS_BAD_REQUEST, why);
}

static uint8_t *room(request *asked, uint32_t bytes) {
    uint8_t *at = asked->answer + asked->answer_bytes;
    asked->answer_bytes += bytes;
    return at;
}

static uint32_t room_left(const request *asked) {
    return FRAME_PAYLOAD - asked->answer_bytes;
}

static void add_u8(request *asked, uint8_t value) {
    *room(asked, 1) = value;
}

static void add_u16(request *asked, uint16_t value) {
    put_u16(room(asked, 2), value);
}

static void add_u32(request *asked, uint32_t value) {
    put_u32(room(asked, 4), value);
}

static void add_u64(request *asked, uint64_t value) {
    put_u64(room(asked, 8), value);
}

static void add_bytes(request *asked, const void *from, uint32_t bytes) {
    memcpy(room(asked, bytes), from, bytes);
}

static uint32_t smaller(uint32_t one, uint32_t other) {
    return one < other ? one : other;
}

static request_status info(request *asked) {
    uint32_t bytes = 0, offset = get_u32(asked->payload);
    const char *json = info_json(&bytes);
    if (offset > bytes) {
        return bad(asked, "offset: behind the end of the text");
    }
    add_u32(asked, bytes);
    add_bytes(asked, json + offset, smaller(bytes - offset, room_left(asked)));
    return STATUS_OK;
}

static request_status load(request *asked) {
    char error[ENGINE_ERROR_BYTES];
    engine_use use = {0};
    bench_forget();
    if (!deployed_load(error)) {
        return request_refuse(asked, STATUS_ENGINE, error);
    }
    engine_memory_use(&use);
    add_u16(asked, (uint16_t)engine_input_count());
    add_u16(asked, (uint16_t)engine_output_count());
    add_u16(asked, (uint16_t)engine_layer_count());
    add_u32(asked, use.model_bytes);
    return STATUS_OK;
}

static bool side_of(uint8_t byte, deployed_side *side) {
    *side = byte == 0 ? DEPLOYED_INPUTS : DEPLOYED_OUTPUTS;
    return byte <= 1;
}

static request_status tensor(request *asked) {
    deployed_side side;
    engine_tensor found = {0};
    if (!side_of(asked->payload[0], &side) || !deployed_tensor(side, asked->payload[1], &found)) {
        return bad(asked, "tensor: there is none of that number");
    }
    add_u8(asked, found.type);
    add_u8(asked, (uint8_t)found.exponent);
    add_u8(asked, found.rank);
    for (uint32_t i = 0; i < found.rank; i++) {
        add_u32(asked, (uint32_t)found.shape[i]);
    }
    add_u32(asked, found.bytes);
    add_bytes(asked, found.name, smaller(found.name_bytes, room_left(asked)));
    return STATUS_OK;
}

static request_status write(request *asked) {
    engine_tensor input = {0};
    uint8_t index = asked->payload[0];
    uint32_t offset = get_u32(asked->payload + 1), bytes = asked->bytes - 5;
    if (!engine_input(index, &input)) {
        return bad(asked, "input: there is none of that number");
    }
    if (offset > input.bytes || bytes > input.bytes - offset) {
        return bad(asked, "offset: beyond the input's end");
    }
    memcpy(engine_input_data(index) + offset, asked->payload + 5, bytes);
    return STATUS_OK;
}

static request_status run(request *asked) {
    char error[ENGINE_ERROR_BYTES];
    uint32_t warm_up = get_u32(asked->payload), count = get_u32(asked->payload + 4);
    if (count == 0 || count > SAMPLE_CAPACITY) {
        return bad(asked, "count: from 1 to the sample capacity");
    }
    if (deployed_crc(DEPLOYED_INPUTS) != get_u32(asked->payload + 8)) {
        return request_refuse(asked, STATUS_CHECKSUM, "inputs: not what the host says it wrote");
    }
    if (!bench_run(warm_up, count, session_busy, error)) {
        return request_refuse(asked, STATUS_ENGINE, error);
    }
    add_u32(asked, bench_sample_count());
    add_u32(asked, deployed_crc(DEPLOYED_OUTPUTS));
    return STATUS_OK;
}

static request_status read(request *asked) {
    engine_tensor output = {0};
    uint8_t index = asked->payload[0];
    uint32_t offset = get_u32(asked->payload + 1), bytes = get_u16(asked->payload + 5);
    if (!engine_output(index, &output)) {
        return bad(asked, "output: there is none of that number");
    }
    if (bytes > FRAME_PAYLOAD || offset > output.bytes || bytes > output.bytes - offset) {
        return bad(asked, "count: beyond the output's end, or an answer's size");
    }
    add_bytes(asked, engine_output_data(index) + offset, bytes);
    return STATUS_OK;
}

static request_status samples(request *asked) {
    uint32_t first = get_u32(asked->payload), total = bench_sample_count();
    add_u32(asked, total);
    for (uint32_t i = first; i < total && room_left(asked) >= 16; i++) {
        add_u64(asked, bench_samples()[i].ticks);
        add_u64(asked, bench_samples()[i].microseconds);
    }
    return STATUS_OK;
}

static request_status profile(request *asked) {
    char error[ENGINE_ERROR_BYTES];
    uint32_t count = get_u32(asked->payload);
    if (count == 0) {
        return bad(asked, "count: at least 1");
    }
    if (engine_layer_count() > LAYER_CAPACITY) {
        return bad(asked, "layers: this firmware profiles at most 512");
    }
    if (!bench_profile(count, session_busy, error)) {
        return request_refuse(asked, STATUS_ENGINE, error);
    }
    add_u16(asked, (uint16_t)bench_layer_count());
    return STATUS_OK;
}

static request_status layers(request *asked) {
    uint32_t total = bench_layer_count();
    add_u16(asked, (uint16_t)total);
    for (uint32_t i = get_u16(asked->payload); i < total; i++) {
        engine_layer layer = {0};
        if (!engine_layer_at(i, &layer)) {
            return request_refuse(asked, STATUS_ENGINE, "layers: the engine does not know one");
        }
        uint32_t op_bytes = smaller((uint32_t)strlen(layer.op), LAYER_NAME_LIMIT);
        uint32_t name_bytes = smaller(layer.name_bytes, LAYER_NAME_LIMIT);
        if (room_left(asked) < 8 + 1 + op_bytes + 2 + name_bytes) {
            break;
        }
        add_u64(asked, bench_layer_ticks(i));
        add_u8(asked, (uint8_t)op_bytes);
        add_bytes(asked, layer.op, op_bytes);
        add_u16(asked, (uint16_t)name_bytes);
        add_bytes(asked, layer.name, name_bytes);
    }
    return STATUS_OK;
}

static request_status memory(request *asked) {
    engine_use use = {0};
    uint8_t *fast, *large;
    uint32_t fast_bytes, large_bytes, stack_deepest, stack_bytes;
    engine_memory_use(&use);
    port_arena(&fast, &fast_bytes, &large, &large_bytes);
    port_stack(&stack_deepest, &stack_bytes);
    const port_facts *facts = port_get_facts();
    const uint32_t numbers[] = {
        use.model_bytes,       use.parameter_bytes,      use.unpacked_bytes, use.arena_fast_bytes,
        use.arena_large_bytes, use.largest_tensor_bytes, fast_bytes,         large_bytes,
        stack_deepest,         stack_bytes,              facts->code_bytes,  facts->static_bytes,
    };
    for (uint32_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        add_u32(asked, numbers[i]);
    }
    return STATUS_OK;
}

static request_status hash(request *asked) {
    uint32_t extent = 0, bytes = get_u32(asked->payload), done = 0;
    const uint8_t *file = port_model(&extent);
    sha256 running;
    if (bytes > extent) {
        return bad(asked, "bytes: more than the model's place has");
    }
    sha256_start(&running);
    while (bytes - done >= SHA256_BLOCK) {
        uint32_t chunk = smaller(bytes - done, HASH_CHUNK) / SHA256_BLOCK * SHA256_BLOCK;
        sha256_blocks(&running, file + done, chunk / SHA256_BLOCK);
        done += chunk;
        if (done % (1u << 20) == 0) {
            session_busy(done);
        }
    }
    sha256_end(&running, file + done, bytes - done, room(asked, SHA256_BYTES));
    return STATUS_OK;
}

static request_status self_test(request *asked) {
    char error[ENGINE_ERROR_BYTES] = "";
    engine_check check = {0};
    port_marker(true);
    bool done = engine_self_test(&check, error);
    port_marker(false);
    error[ENGINE_ERROR_BYTES - 1] = 0;
    if (!done) {
        return request_refuse(asked, STATUS_ENGINE, error);
    }
    add_u16(asked, check.vectors);
    add_u16(asked, check.failed);
    add_u32(asked, check.values);
    add_u32(asked, check.different);
    add_u32(asked, check.first_bad);
    add_u32(asked, (uint32_t)check.expected);
    add_u32(asked, (uint32_t)check.found);
    return STATUS_OK;
}

static request_status batch(request *asked) {
    char error[ENGINE_ERROR_BYTES];
    uint32_t extent = 0, count = get_u32(asked->payload);
    uint8_t *area = port_samples(&extent);
    uint64_t sample_bytes = (uint64_t)count * deployed_bytes(DEPLOYED_INPUTS);
    uint64_t results_at = (sample_bytes + 15) & ~(uint64_t)15;
    uint64_t results_bytes = (uint64_t)count * deployed_bytes(DEPLOYED_OUTPUTS);
    if (results_at + results_bytes > extent) {
        return bad(asked, "count: samples and results need more room than there is");
    }
    if (crc32(0, area, (uint32_t)sample_bytes) != get_u32(asked->payload + 4)) {
        return request_refuse(asked, STATUS_CHECKSUM, "samples: not what the host says it wrote");
    }
    if (!bench_batch(count, area, area + results_at, session_busy, error)) {
        return request_refuse(asked, STATUS_ENGINE, error);
    }
    add_u32(asked, (uint32_t)results_at);
    add_u32(asked, (uint32_t)results_bytes);
    add_u32(asked, crc32(0, area + results_at, (uint32_t)results_bytes));
    return STATUS_OK;
}

/* Of a payload: exactly so many bytes, or with `open` at least so many. */
static const struct {
    request_status (*carry_out)(request *asked);
    uint8_t bytes;
    bool open;
    bool needs_model;
} handlers[] = {
    [REQUEST_INFO] = {info, 4, false, false},
    [REQUEST_LOAD] = {load, 0, false, false},
    [REQUEST_TENSOR] = {tensor, 2, false, true},
    [REQUEST_WRITE] = {write, 5, true, true},
    [REQUEST_RUN] = {run, 12, false, true},
    [REQUEST_READ] = {read, 7, false, true},
    [REQUEST_SAMPLES] = {samples, 4, false, false},
    [REQUEST_PROFILE] = {profile, 4, false, true},
    [REQUEST_LAYERS] = {layers, 2, false, true},
    [REQUEST_MEMORY] = {memory, 0, false, false},
    [REQUEST_HASH] = {hash, 4, false, false},
    [REQUEST_SELF_TEST] = {self_test, 0, false, true},
    [REQUEST_BATCH] = {batch, 8, false, true},
};

#define HANDLER_COUNT (sizeof handlers / sizeof handlers[0])

request_status request_carry_out(request *asked) {
    asked->answer_bytes = 0;
    if (asked->type >= HANDLER_COUNT || handlers[asked->type].carry_out == NULL) {
        return bad(asked, "type: there is no such request");
    }
    uint32_t bytes = handlers[asked->type].bytes;
    if (asked->bytes < bytes || (asked->bytes > bytes && !handlers[asked->type].open)) {
        return bad(asked, "payload: not the size of this request");
    }
    if (handlers[asked->type].needs_model && !deployed_loaded()) {
        return request_refuse(asked, STATUS_NO_MODEL, NO_MODEL);
    }
    return handlers[asked->type].carry_out(asked);
}
