/* A loaded model: memory, errors, tensors by name, operands and attributes of steps. */
#include "engine/model.h"

#include <stdarg.h>
#include <stddef.h>

#include "engine/read.h"

enum { ATTRIBUTE_FLOAT = 1, ATTRIBUTE_INT = 2, ATTRIBUTE_TEXT = 3, ATTRIBUTE_INTS = 7 };
enum { NODE_ATTRIBUTES = 5 };

static uint32_t append(char *error, uint32_t used, const char *text, uint32_t bytes) {
    for (uint32_t i = 0; i < bytes && used + 1 < ENGINE_ERROR_BYTES; i++) {
        error[used++] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    }
    return used;
}

static uint32_t length(const char *text) {
    uint32_t bytes = 0;
    while (text[bytes] != 0) {
        bytes++;
    }
    return bytes;
}

static uint32_t append_number(char *error, uint32_t used, int32_t value) {
    char digits[12];
    uint32_t at = sizeof digits;
    uint32_t rest = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (value < 0) {
        digits[--at] = '-';
    }
    return append(error, used, digits + at, sizeof digits - at);
}

bool model_fail(model *model, const char *format, ...) {
    va_list arguments;
    uint32_t used = 0;
    va_start(arguments, format);
    for (const char *at = format; *at != 0; at++) {
        if (*at != '%') {
            used = append(model->error, used, at, 1);
            continue;
        }
        at++;
        if (*at == 's') {
            const char *text = va_arg(arguments, const char *);
            used = append(model->error, used, text, length(text));
        } else if (*at == 'd') {
            used = append_number(model->error, used, va_arg(arguments, int32_t));
        } else if (*at == 't') {
            const tensor *named = va_arg(arguments, const tensor *);
            used = append(model->error, used, named->name, named->name_bytes);
        } else {
            const step *failed = va_arg(arguments, const step *);
            used = append(model->error, used, failed->op, length(failed->op));
            used = append(model->error, used, " of node ", 9);
            used = append(model->error, used, failed->name, failed->name_bytes);
        }
    }
    va_end(arguments);
    model->error[used] = 0;
    return false;
}

static void *zeroed(uint8_t *memory, uint32_t bytes) {
    for (uint32_t i = 0; i < bytes; i++) {
        memory[i] = 0;
    }
    return memory;
}

void *model_take(model *model, uint32_t bytes) {
    uint32_t whole = (bytes + 15u) & ~15u;
    const engine_memory *memory = &model->memory;
    if (whole < bytes) {
        model_fail(model, "the model asks for %d bytes at once", (int32_t)bytes);
        return NULL;
    }
    if (memory->large != NULL && whole <= memory->large_bytes - model->large_used) {
        model->large_used += whole;
        return zeroed(memory->large + model->large_used - whole, whole);
    }
    if (whole <= model->fast_free) {
        model->fast_free -= whole;
        return zeroed(memory->fast + model->fast_free, whole);
    }
    model_fail(model,
               "the model does not fit: weights and tables need %d bytes more than there are",
               (int32_t)(whole - model->fast_free));
    return NULL;
}

static uint32_t hash_of(const char *name, uint32_t bytes) {
    uint32_t hash = 2166136261u;
    for (uint32_t i = 0; i < bytes; i++) {
        hash = (hash ^ (uint8_t)name[i]) * 16777619u;
    }
    return hash;
}

static bool same_text(const char *a, uint32_t a_bytes, const char *b, uint32_t b_bytes) {
    if (a_bytes != b_bytes) {
        return false;
    }
    for (uint32_t i = 0; i < a_bytes; i++) {
        if (a[i] != b[i]) {
            return false;
        }
    }
    return true;
}

static uint32_t place_of(const model *model, const char *name, uint32_t bytes) {
    uint32_t hash = hash_of(name, bytes);
    uint32_t place = hash & (model->place_count - 1);
    while (model->places[place] != MODEL_NONE) {
        const tensor *other = &model->tensors[model->places[place]];
        if (other->hash == hash && same_text(name, bytes, other->name, other->name_bytes)) {
            break;
        }
        place = (place + 1) & (model->place_count - 1);
    }
    return place;
}

uint32_t model_add(model *model, const char *name, uint32_t bytes) {
    uint32_t place = place_of(model, name, bytes);
    if (model->places[place] == MODEL_NONE) {
        uint32_t index = model->tensor_count++;
        tensor *added = &model->tensors[index];
        added->name = name;
        added->name_bytes = bytes;
        added->hash = hash_of(name, bytes);
        added->root = index;
        added->first = added->last = MODEL_NONE;
        model->places[place] = index;
    }
    return model->places[place];
}

uint32_t model_find(const model *model, const char *name, uint32_t bytes) {
    return bytes == 0 ? MODEL_NONE : model->places[place_of(model, name, bytes)];
}

tensor *step_input(const model *model, const step *step, uint32_t index) {
    if (index >= step->input_count || step->operands[index] == MODEL_NONE) {
        return NULL;
    }
    return &model->tensors[step->operands[index]];
}

tensor *step_output(const model *model, const step *step, uint32_t index) {
    return &model->tensors[step->operands[step->input_count + index]];
}

/* The attribute of that name and type; its table is at 0 where there is none. */
static flat_table attribute(const model *model, const step *step, const char *name, int32_t type) {
    flat_table none = {0, 0, 0};
    flat_vector all;
    if (!flat_get_vector(&model->file, &step->node, NODE_ATTRIBUTES, 4, &all)) {
        return none;
    }
    /* Bounded: an operator asks for a dozen attributes of every node. */
    for (uint32_t i = 0; i < all.count && i < 64; i++) {
        flat_table found;
        flat_vector text;
        if (!flat_element_table(&model->file, &all, i, &found) ||
            !flat_get_vector(&model->file, &found, 0, 1, &text)) {
            continue;
        }
        const uint8_t *kind = flat_get_bytes(&model->file, &found, 3, 4);
        bool fits = kind != NULL && (type == 0 || flat_u32(kind) == (uint32_t)type);
        if (fits && same_text((const char *)model->file.bytes + text.at, text.count, name,
                              length(name))) {
            return found;
        }
    }
    return none;
}

bool step_has(const model *model, const step *step, const char *name) {
    return attribute(model, step, name, 0).at != 0;
}

int64_t step_int(const model *model, const step *step, const char *name, int64_t otherwise) {
    flat_table found = attribute(model, step, name, ATTRIBUTE_INT);
    const uint8_t *value = flat_get_bytes(&model->file, &found, 5, 8);
    if (value != NULL) {
        return flat_i64(value);
    }
    int64_t one;
    uint32_t count;
    return step_ints(model, step, name, &one, 1, &count) && count == 1 ? one : otherwise;
}

uint32_t step_float_bits(const model *model, const step *step, const char *name,
                         uint32_t otherwise) {
    flat_table found = attribute(model, step, name, ATTRIBUTE_FLOAT);
    const uint8_t *value = flat_get_bytes(&model->file, &found, 4, 4);
    return value == NULL ? otherwise : flat_u32(value);
}

static bool attribute_text(const model *model, const step *step, const char *name,
                           flat_vector *text) {
    flat_table found = attribute(model, step, name, ATTRIBUTE_TEXT);
    return flat_get_vector(&model->file, &found, 6, 1, text) && text->count != 0;
}

bool step_text_is(const model *model, const step *step, const char *name, const char *text,
                  bool otherwise) {
    flat_vector found;
    if (!attribute_text(model, step, name, &found)) {
        return otherwise;
    }
    return same_text((const char *)model->file.bytes + found.at, found.count, text, length(text));
}

tensor *step_named(const model *model, const step *step, const char *name) {
    flat_vector found;
    if (!attribute_text(model, step, name, &found)) {
        return NULL;
    }
    uint32_t index = model_find(model, (const char *)model->file.bytes + found.at, found.count);
    return index == MODEL_NONE ? NULL : &model->tensors[index];
}

bool step_ints(const model *model, const step *step, const char *name, int64_t *values,
               uint32_t most, uint32_t *count) {
    flat_table found = attribute(model, step, name, ATTRIBUTE_INTS);
    flat_vector ints;
    *count = 0;
    if (!flat_get_vector(&model->file, &found, 11, 8, &ints) || ints.count > most) {
        return false;
    }
    for (uint32_t i = 0; i < ints.count; i++) {
        values[i] = flat_i64(model->file.bytes + ints.at + 8 * i);
    }
    *count = ints.count;
    return true;
}

uint32_t type_bytes(uint8_t type) {
    switch (type) {
    case ENGINE_INT8:
        return 1;
    case ENGINE_INT16:
        return 2;
    case ENGINE_INT32:
    case ENGINE_FLOAT32:
        return 4;
    case MODEL_INT64:
        return 8;
    default:
        return 0;
    }
}

int64_t tensor_value(const tensor *tensor, uint32_t index) {
    const uint8_t *at = tensor->data + (uint64_t)index * type_bytes(tensor->type);
    switch (tensor->type) {
    case ENGINE_INT8:
        return (int8_t)at[0];
    case ENGINE_INT16:
        return (int16_t)flat_u16(at);
    case ENGINE_INT32:
        return (int32_t)flat_u32(at);
    case MODEL_INT64:
        return flat_i64(at);
    default:
        return 0;
    }
}

bool tensor_shape(model *model, tensor *tensor, uint32_t rank, const int32_t *shape) {
    uint64_t count = 1;
    for (uint32_t i = 0; i < rank; i++) {
        count *= shape[i] > 0 ? (uint32_t)shape[i] : 0u;
        tensor->shape[i] = shape[i];
        if (count == 0 || count > (1u << 28)) {
            return model_fail(model, "tensor %t has %d in its shape", tensor, shape[i]);
        }
    }
    tensor->rank = (uint8_t)rank;
    tensor->count = (uint32_t)count;
    tensor->bytes = (uint32_t)count * type_bytes(tensor->type);
    if (tensor->bytes == 0) {
        return model_fail(model, "tensor %t has a type this engine lacks", tensor);
    }
    return true;
}

bool same_shape(const tensor *a, const tensor *b) {
    for (uint32_t i = 0; i < a->rank && a->rank == b->rank; i++) {
        if (a->shape[i] != b->shape[i]) {
            return false;
        }
    }
    return a->rank == b->rank;
}
