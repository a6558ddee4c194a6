/* The engine of core/engine.h: loads a model file and runs it step by step. */
#include "core/engine.h"

#include <stddef.h>

#include "engine/model.h"
#include "engine/operators.h"
#include "engine/plan.h"
#include "engine/read.h"

/* Multiply-accumulates and moved elements of one inference; a file that asks for more is taken for
 * damaged. A fuzzer builds with less. */
#ifndef ENGINE_MAX_WORK
#define ENGINE_MAX_WORK ((uint64_t)1 << 36)
#endif

enum { GRAPH_NODES = 0, GRAPH_TEST_INPUTS = 8, GRAPH_TEST_OUTPUTS = 9, MODEL_METADATA = 8 };

static model loaded_model;
static bool loaded;

const char *engine_version(void) {
    return "edgedeploy-int8 1.0";
}

/* Reads all steps, and when each tensor is made and read. */
static bool read_steps(model *model, const flat_vector *nodes) {
    for (uint32_t i = 0; i < nodes->count; i++) {
        step *one = &model->steps[i];
        one->op = "operator";
        if (!model_read_step(model, nodes, i, one)) {
            return false;
        }
        for (uint32_t k = 0; k < one->input_count + one->output_count; k++) {
            if (one->operands[k] == MODEL_NONE) {
                continue;
            }
            tensor *operand = &model->tensors[one->operands[k]];
            if (k < one->input_count) {
                operand->last = i;
                operand->reads++;
            } else {
                operand->first = i;
            }
        }
    }
    return true;
}

static bool load(model *model, const uint8_t *file, uint32_t size) {
    flat_vector nodes;
    if (!model_open(model, file, size) || !model_read_tensors(model)) {
        return false;
    }
    if (!flat_get_vector(&model->file, &model->graph, GRAPH_NODES, 4, &nodes) ||
        nodes.count == 0 || nodes.count > MODEL_MAX_STEPS) {
        return model_fail(model, "the model has no nodes, or over %d", (int32_t)MODEL_MAX_STEPS);
    }
    model->step_count = nodes.count;
    model->steps = model_take(model, nodes.count * (uint32_t)sizeof(step));
    if (model->steps == NULL || !read_steps(model, &nodes)) {
        return false;
    }
    for (uint32_t i = 0; i < model->step_count; i++) {
        if (!operators_prepare(model, &model->steps[i])) {
            return false;
        }
    }
    for (uint32_t i = 0; i < model->output_count; i++) {
        const tensor *output = &model->tensors[model->outputs[i]];
        if (output->kind == TENSOR_DECLARED) {
            return model_fail(model, "no node makes the output %t", output);
        }
    }
    if (model->work > ENGINE_MAX_WORK) {
        return model_fail(model,
                          "one inference takes %d million operations, more than any model for a "
                          "microcontroller does",
                          (int32_t)(model->work >> 20));
    }
    model->use.model_bytes = model->file_bytes;
    return plan_memory(model);
}

bool engine_load(const uint8_t *file, uint32_t size, const engine_memory *memory,
                 char error[ENGINE_ERROR_BYTES]) {
    loaded = false;
    loaded_model = (model){
        .memory = *memory, .fast_free = memory->fast_bytes & ~15u, .error = error};
    error[0] = 0;
    loaded = load(&loaded_model, file, size);
    return loaded;
}

bool engine_loaded(void) {
    return loaded;
}

uint32_t engine_input_count(void) {
    return loaded ? loaded_model.input_count : 0;
}

uint32_t engine_output_count(void) {
    return loaded ? loaded_model.output_count : 0;
}

static const tensor *edge(const uint32_t *list, uint32_t count, uint32_t index) {
    return index < count ? &loaded_model.tensors[list[index]] : NULL;
}

static bool describe(const tensor *from, engine_tensor *to) {
    if (from == NULL) {
        return false;
    }
    *to = (engine_tensor){
        .name = from->name,
        .name_bytes = (uint16_t)from->name_bytes,
        .type = from->type,
        .exponent = from->exponent,
        .rank = from->rank,
        .bytes = from->bytes,
    };
    for (uint32_t i = 0; i < from->rank; i++) {
        to->shape[i] = from->shape[i];
    }
    return true;
}

bool engine_input(uint32_t index, engine_tensor *tensor) {
    return describe(edge(loaded_model.inputs, engine_input_count(), index), tensor);
}

bool engine_output(uint32_t index, engine_tensor *tensor) {
    return describe(edge(loaded_model.outputs, engine_output_count(), index), tensor);
}

uint8_t *engine_input_data(uint32_t index) {
    const tensor *input = edge(loaded_model.inputs, engine_input_count(), index);
    return input == NULL ? NULL : input->data;
}

const uint8_t *engine_output_data(uint32_t index) {
    const tensor *output = edge(loaded_model.outputs, engine_output_count(), index);
    return output == NULL ? NULL : output->data;
}

bool engine_run(engine_hook hook, void *context, char error[ENGINE_ERROR_BYTES]) {
    if (!loaded) {
        loaded_model.error = error;
        return model_fail(&loaded_model, "no model is loaded");
    }
    uint32_t layer = 0;
    for (uint32_t i = 0; i < loaded_model.step_count; i++) {
        const step *one = &loaded_model.steps[i];
        if (one->run == NULL) {
            continue; /* a view, or done by the step before */
        }
        if (hook != NULL) {
            hook(context, layer, true);
        }
        one->run(&loaded_model, one);
        if (hook != NULL) {
            hook(context, layer, false);
        }
        layer++;
    }
    return true;
}

uint32_t engine_layer_count(void) {
    uint32_t count = 0;
    for (uint32_t i = 0; loaded && i < loaded_model.step_count; i++) {
        count += loaded_model.steps[i].run != NULL;
    }
    return count;
}

bool engine_layer_at(uint32_t index, engine_layer *layer) {
    for (uint32_t i = 0; loaded && i < loaded_model.step_count; i++) {
        const step *one = &loaded_model.steps[i];
        if (one->run != NULL && index-- == 0) {
            *layer = (engine_layer){one->name, (uint16_t)one->name_bytes, one->op};
            return true;
        }
    }
    return false;
}

bool engine_memory_use(engine_use *use) {
    if (loaded) {
        *use = loaded_model.use;
    }
    return loaded;
}

const char *engine_metadata(const char *key, uint32_t *bytes) {
    flat_vector entries;
    *bytes = 0;
    if (!loaded || !flat_get_vector(&loaded_model.file, &loaded_model.root, MODEL_METADATA, 4,
                                    &entries)) {
        return NULL;
    }
    const char *text = (const char *)loaded_model.file.bytes;
    for (uint32_t i = 0; i < entries.count; i++) {
        flat_table entry;
        flat_vector name, value;
        if (!flat_element_table(&loaded_model.file, &entries, i, &entry) ||
            !flat_get_vector(&loaded_model.file, &entry, 0, 1, &name) ||
            !flat_get_vector(&loaded_model.file, &entry, 1, 1, &value)) {
            return NULL;
        }
        uint32_t k = 0;
        while (k < name.count && key[k] != 0 && text[name.at + k] == key[k]) {
            k++;
        }
        if (k == name.count && key[k] == 0) {
            *bytes = value.count;
            return text + value.at;
        }
    }
    return NULL;
}

static bool is_edge(const uint32_t *list, uint32_t count, const tensor *wanted) {
    for (uint32_t i = 0; i < count; i++) {
        if (&loaded_model.tensors[list[i]] == wanted) {
            return true;
        }
    }
    return false;
}

/* An embedded test value, and the model's input or output of that name (one of `edges`), NULL where
 * there is none; false with a reason. */
static bool read_test(const flat_vector *list, uint32_t index, const uint32_t *edges,
                      uint32_t edge_count, tensor *value, tensor **own) {
    flat_table table;
    flat_vector name;
    model *model = &loaded_model;
    *value = (tensor){0};
    if (!flat_element_table(&model->file, list, index, &table) ||
        !flat_get_vector(&model->file, &table, 6, 1, &name)) {
        return model_fail(model, "the embedded test values are damaged");
    }
    value->name = (const char *)model->file.bytes + name.at;
    value->name_bytes = name.count;
    uint32_t found = name.count > 1024 ? MODEL_NONE : model_find(model, value->name, name.count);
    *own = found == MODEL_NONE ? NULL : &model->tensors[found];
    if (*own == NULL || !is_edge(edges, edge_count, *own)) {
        *own = NULL; /* exporters drop tensors and keep their test values */
        return true;
    }
    if (!read_parameter(model, &table, value)) {
        return false;
    }
    if (value->type != (*own)->type || value->bytes != (*own)->bytes || (*own)->data == NULL) {
        return model_fail(model, "the embedded test value %t has another size or type", value);
    }
    return true;
}

static int32_t element_of(const uint8_t *data, uint8_t type, uint32_t index) {
    const uint8_t *at = data + index * type_bytes(type);
    if (type == ENGINE_INT8) {
        return (int8_t)at[0];
    }
    return type == ENGINE_INT16 ? (int16_t)flat_u16(at) : (int32_t)flat_u32(at);
}

/* Whole numbers are equal bit for bit. Float32 comes only from Softmax, which the simulator rounds
 * several times in an order of its own: 8 units in the last place count as equal. */
static bool equal(int32_t expected, int32_t found, uint8_t type) {
    if (type != ENGINE_FLOAT32 || expected == found) {
        return expected == found;
    }
    int64_t apart = (int64_t)expected - found;
    return expected >= 0 && found >= 0 && apart <= 8 && apart >= -8;
}

static void compare(const tensor *expected, const tensor *found, engine_check *check) {
    uint32_t different = 0;
    for (uint32_t i = 0; i < expected->count; i++) {
        int32_t wanted = element_of(expected->data, expected->type, i);
        int32_t got = element_of(found->data, found->type, i);
        if (!equal(wanted, got, expected->type)) {
            if (check->different + different == 0) {
                check->first_bad = i;
                check->expected = wanted;
                check->found = got;
            }
            different++;
        }
    }
    check->vectors++;
    check->failed += different != 0;
    check->values += expected->count;
    check->different += different;
}

bool engine_self_test(engine_check *check, char error[ENGINE_ERROR_BYTES]) {
    model *model = &loaded_model;
    flat_vector inputs, outputs;
    tensor value, *own;
    *check = (engine_check){0};
    model->error = error;
    if (!loaded) {
        return model_fail(model, "no model is loaded");
    }
    uint32_t parameters = model->use.parameter_bytes;
    if (!flat_get_vector(&model->file, &model->graph, GRAPH_TEST_INPUTS, 4, &inputs) ||
        !flat_get_vector(&model->file, &model->graph, GRAPH_TEST_OUTPUTS, 4, &outputs) ||
        inputs.count > 64 || outputs.count > 64) {
        return model_fail(model, "the embedded test values are damaged");
    }
    if (outputs.count == 0 || inputs.count == 0) {
        return true;
    }
    for (uint32_t i = 0; i < inputs.count; i++) {
        if (!read_test(&inputs, i, model->inputs, model->input_count, &value, &own)) {
            return false;
        }
        for (uint32_t k = 0; own != NULL && k < value.bytes; k++) {
            own->data[k] = value.data[k];
        }
    }
    if (!engine_run(NULL, NULL, error)) {
        return false;
    }
    for (uint32_t i = 0; i < outputs.count; i++) {
        if (!read_test(&outputs, i, model->outputs, model->output_count, &value, &own)) {
            return false;
        }
        if (own != NULL) {
            compare(&value, own, check);
        }
    }
    model->use.parameter_bytes = parameters; /* test values are none */
    return true;
}
