/* Reading a model file: its header, its tensors and its nodes. */
#include <stddef.h>

#include "engine/model.h"
#include "engine/read.h"

enum { MODEL_GRAPH = 7 };
enum { GRAPH_INITIALIZERS = 2, GRAPH_INPUTS = 4, GRAPH_OUTPUTS = 5, GRAPH_VALUES = 6 };
enum { NODE_INPUTS, NODE_OUTPUTS, NODE_NAME };
/* Names are hashed and compared; a longer one is a damaged length. */
enum { NAME_BYTES = 1024 };
enum { PARAMETER_DIMS, PARAMETER_TYPE, PARAMETER_NAME = 6, PARAMETER_DOC, PARAMETER_RAW };
enum { PARAMETER_EXPONENTS = 13, VALUE_EXPONENTS = 3 };

static bool damaged(model *model, const char *what) {
    return model_fail(model, "the model file is damaged: its %s", what);
}

bool model_open(model *model, const uint8_t *file, uint32_t size) {
    if (file == NULL || size < 20 || file[0] != 'E' || file[1] != 'D' || file[2] != 'L' ||
        (file[3] != '1' && file[3] != '2')) {
        return model_fail(model, "no model here: a file that begins with EDL2 is expected");
    }
    uint32_t header = file[3] == '2' ? 16 : 12;
    uint32_t bytes = flat_u32(file + 8);
    if (flat_u32(file + 4) != 0) {
        return model_fail(model, "the model file is encrypted; export it without encryption");
    }
    if (bytes > size - header || bytes > (1u << 30)) {
        return model_fail(model, "the model file is cut off: %d bytes of %d", (int32_t)size,
                          (int32_t)(bytes + header));
    }
    model->file = (flat_file){file + header, bytes};
    model->file_bytes = bytes + header;
    if (!flat_root(&model->file, &model->root) ||
        !flat_get_table(&model->file, &model->root, MODEL_GRAPH, &model->graph) ||
        model->graph.at == 0) {
        return damaged(model, "graph");
    }
    return true;
}

/* Types of the file to types of the engine; the numbers are the schema's TensorDataType. */
static uint8_t known_type(const uint8_t *at) {
    switch (at == NULL ? 0 : flat_u32(at)) {
    case 1:
        return ENGINE_FLOAT32;
    case 3:
        return ENGINE_INT8;
    case 5:
        return ENGINE_INT16;
    case 6:
        return ENGINE_INT32;
    case 7:
        return MODEL_INT64;
    default:
        return MODEL_UNKNOWN;
    }
}

static bool read_exponent(model *model, const flat_table *table, uint32_t slot, tensor *tensor) {
    flat_vector exponents;
    if (!flat_get_vector(&model->file, table, slot, 8, &exponents)) {
        return damaged(model, "exponents");
    }
    int64_t exponent = exponents.count == 0 ? 0 : flat_i64(model->file.bytes + exponents.at);
    if (exponent < -64 || exponent > 63) {
        return model_fail(model, "tensor %t has an exponent beyond -64 to 63", tensor);
    }
    tensor->exponent = (int8_t)exponent;
    tensor->per_channel = exponents.count > 1;
    return true;
}

static bool read_layout(model *model, const flat_table *table, tensor *tensor) {
    static const char start[] = "layout ==> ";
    flat_vector text;
    if (!flat_get_vector(&model->file, table, PARAMETER_DOC, 1, &text)) {
        return damaged(model, "texts");
    }
    const char *doc = (const char *)model->file.bytes + text.at;
    uint32_t skip = sizeof start - 1;
    for (uint32_t i = 0; i < skip; i++) {
        if (i >= text.count || doc[i] != start[i]) {
            return true;
        }
    }
    tensor->layout = doc + skip;
    tensor->layout_bytes = text.count - skip;
    return true;
}

bool read_parameter(model *model, const flat_table *table, tensor *tensor) {
    flat_vector dims, raw;
    int32_t shape[ENGINE_MAX_RANK];
    if (!flat_get_vector(&model->file, table, PARAMETER_DIMS, 8, &dims) ||
        !flat_get_vector(&model->file, table, PARAMETER_RAW, 16, &raw)) {
        return damaged(model, "parameters");
    }
    tensor->type = known_type(flat_get_bytes(&model->file, table, PARAMETER_TYPE, 4));
    if (!read_exponent(model, table, PARAMETER_EXPONENTS, tensor) ||
        !read_layout(model, table, tensor)) {
        return false;
    }
    tensor->kind = TENSOR_CONSTANT;
    if (raw.count == 0 || tensor->type == MODEL_UNKNOWN || dims.count > ENGINE_MAX_RANK) {
        tensor->type = MODEL_UNKNOWN; /* refused where an operator wants to read it */
        return true;
    }
    for (uint32_t i = 0; i < dims.count; i++) {
        int64_t dim = flat_i64(model->file.bytes + dims.at + 8 * i);
        shape[i] = dim < 0 || dim > INT32_MAX ? 0 : (int32_t)dim;
    }
    if (!tensor_shape(model, tensor, dims.count, shape)) {
        return false;
    }
    if (tensor->bytes > 16 * (uint64_t)raw.count) {
        return model_fail(model, "parameter %t is cut off", tensor);
    }
    tensor->data = (uint8_t *)(uintptr_t)(model->file.bytes + raw.at);
    model->use.parameter_bytes += tensor->bytes;
    return true;
}

/* The shape and type of a declared value; a value without a shape keeps rank 0 and count 0. */
static bool read_value(model *model, const flat_table *table, tensor *tensor) {
    flat_table info, value, shape;
    flat_vector dims;
    int32_t found[ENGINE_MAX_RANK];
    if (!flat_get_table(&model->file, table, 1, &info) ||
        !flat_get_table(&model->file, &info, 1, &value) ||
        !flat_get_table(&model->file, &value, 1, &shape) ||
        !flat_get_vector(&model->file, &shape, 0, 4, &dims)) {
        return damaged(model, "values");
    }
    tensor->type = known_type(flat_get_bytes(&model->file, &value, 0, 4));
    if (!read_exponent(model, table, VALUE_EXPONENTS, tensor)) {
        return false;
    }
    if (tensor->kind != TENSOR_INPUT || dims.count > ENGINE_MAX_RANK) {
        return true;
    }
    for (uint32_t i = 0; i < dims.count; i++) {
        flat_table dimension, dimension_value;
        if (!flat_element_table(&model->file, &dims, i, &dimension) ||
            !flat_get_table(&model->file, &dimension, 0, &dimension_value)) {
            return damaged(model, "shapes");
        }
        const uint8_t *at = flat_get_bytes(&model->file, &dimension_value, 1, 8);
        int64_t size = at == NULL ? 0 : flat_i64(at);
        found[i] = size < 0 || size > INT32_MAX ? 0 : (int32_t)size;
    }
    return tensor_shape(model, tensor, dims.count, found);
}

/* Adds the tensors of one of the graph's lists; those already known by name are left as they are.
 * `indices`, where not NULL, takes which they are. */
static bool read_list(model *model, uint32_t slot, uint32_t *indices, tensor_kind kind) {
    flat_vector list;
    flat_get_vector(&model->file, &model->graph, slot, 4, &list);
    for (uint32_t i = 0; i < list.count; i++) {
        flat_table table;
        flat_vector name;
        if (!flat_element_table(&model->file, &list, i, &table) ||
            !flat_get_vector(&model->file, &table, kind == TENSOR_CONSTANT ? PARAMETER_NAME : 0, 1,
                             &name) ||
            name.count > NAME_BYTES) {
            return damaged(model, "lists of tensors");
        }
        if (name.count == 0 && indices == NULL) {
            continue; /* an input left out */
        }
        uint32_t index = model_add(model, (const char *)model->file.bytes + name.at, name.count);
        tensor *added = &model->tensors[index];
        if (indices != NULL) {
            indices[i] = index;
        }
        if (added->kind != TENSOR_ABSENT) {
            continue;
        }
        added->kind = (uint8_t)kind;
        if (kind == TENSOR_CONSTANT ? !read_parameter(model, &table, added)
                                    : !read_value(model, &table, added)) {
            return false;
        }
    }
    return true;
}

bool model_read_tensors(model *model) {
    static const uint32_t slots[] = {GRAPH_INITIALIZERS, GRAPH_INPUTS, GRAPH_OUTPUTS, GRAPH_VALUES};
    uint32_t counts[4];
    uint32_t all = 0;
    for (uint32_t i = 0; i < 4; i++) {
        flat_vector list;
        if (!flat_get_vector(&model->file, &model->graph, slots[i], 4, &list) ||
            list.count > MODEL_MAX_TENSORS) {
            return damaged(model, "lists of tensors, which have over 16384 entries");
        }
        counts[i] = list.count;
        all += list.count;
    }
    if (all > MODEL_MAX_TENSORS || counts[1] == 0 || counts[1] > 16 || counts[2] == 0 ||
        counts[2] > 64) {
        return model_fail(model,
                          "the model has %d tensors, %d inputs and %d outputs; at most 16384, "
                          "16 and 64, and at least 1, are possible",
                          (int32_t)all, (int32_t)counts[1], (int32_t)counts[2]);
    }
    model->place_count = 16;
    while (model->place_count < 2 * all) {
        model->place_count *= 2;
    }
    model->input_count = counts[1];
    model->output_count = counts[2];
    model->tensors = model_take(model, all * (uint32_t)sizeof(tensor));
    model->places = model_take(model, model->place_count * (uint32_t)sizeof(uint32_t));
    model->inputs = model_take(model, counts[1] * (uint32_t)sizeof(uint32_t));
    model->outputs = model_take(model, counts[2] * (uint32_t)sizeof(uint32_t));
    if (model->tensors == NULL || model->places == NULL || model->inputs == NULL ||
        model->outputs == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < model->place_count; i++) {
        model->places[i] = MODEL_NONE;
    }
    if (!read_list(model, GRAPH_INITIALIZERS, NULL, TENSOR_CONSTANT) ||
        !read_list(model, GRAPH_INPUTS, model->inputs, TENSOR_INPUT) ||
        !read_list(model, GRAPH_OUTPUTS, model->outputs, TENSOR_DECLARED) ||
        !read_list(model, GRAPH_VALUES, NULL, TENSOR_DECLARED)) {
        return false;
    }
    for (uint32_t i = 0; i < model->input_count; i++) {
        if (model->tensors[model->inputs[i]].kind != TENSOR_INPUT ||
            model->tensors[model->inputs[i]].count == 0) {
            return model_fail(model, "input %t has no shape", &model->tensors[model->inputs[i]]);
        }
    }
    for (uint32_t i = 0; i < model->output_count; i++) {
        model->tensors[model->outputs[i]].output = true;
    }
    return true;
}

static bool read_operands(model *model, const flat_vector *names, uint32_t *operands,
                          const step *step) {
    for (uint32_t i = 0; i < names->count; i++) {
        flat_vector name;
        if (!flat_element_text(&model->file, names, i, &name) || name.count > NAME_BYTES) {
            return damaged(model, "nodes");
        }
        operands[i] = model_find(model, (const char *)model->file.bytes + name.at, name.count);
        if (name.count != 0 && operands[i] == MODEL_NONE) {
            return model_fail(model, "%n has an operand that is declared nowhere", step);
        }
    }
    return true;
}

bool model_read_step(model *model, const flat_vector *nodes, uint32_t index, step *step) {
    flat_vector inputs, outputs, name;
    if (!flat_element_table(&model->file, nodes, index, &step->node) ||
        !flat_get_vector(&model->file, &step->node, NODE_INPUTS, 4, &inputs) ||
        !flat_get_vector(&model->file, &step->node, NODE_OUTPUTS, 4, &outputs) ||
        !flat_get_vector(&model->file, &step->node, NODE_NAME, 1, &name)) {
        return damaged(model, "nodes");
    }
    step->name = (const char *)model->file.bytes + name.at;
    step->name_bytes = name.count > UINT16_MAX ? UINT16_MAX : name.count;
    step->input_count = inputs.count;
    step->output_count = outputs.count;
    if (inputs.count > MODEL_MAX_OPERANDS || outputs.count > MODEL_MAX_OPERANDS ||
        outputs.count == 0) {
        return model_fail(model, "%n has %d inputs and %d outputs", step, (int32_t)inputs.count,
                          (int32_t)outputs.count);
    }
    step->operands =
        model_take(model, (inputs.count + outputs.count) * (uint32_t)sizeof(uint32_t));
    return step->operands != NULL && read_operands(model, &inputs, step->operands, step) &&
           read_operands(model, &outputs, step->operands + inputs.count, step);
}
