// esp-dl as the firmware's engine: core/engine.h over dl::Model.
#include <map>

#include "espdl_model.hpp"

using espdl::Bound;
using espdl::Layer;
using espdl::loaded;

namespace {

bool describe(const std::vector<Bound> &of, uint32_t index, engine_tensor *tensor) {
    if (index >= of.size()) {
        return false;
    }
    *tensor = of[index].described;
    tensor->name = of[index].name.data();
    tensor->name_bytes = static_cast<uint16_t>(of[index].name.size());
    return true;
}

} // namespace

bool engine_load(const uint8_t *file, uint32_t size, const engine_memory *memory,
                 char error[ENGINE_ERROR_BYTES]) {
    bool done = espdl::load(file, size, memory, error);
    if (!done) {
        espdl::forget();
    }
    return done;
}

bool engine_loaded(void) {
    return loaded.model != nullptr;
}

const char *engine_version(void) {
    return espdl::version;
}

uint32_t engine_input_count(void) {
    return static_cast<uint32_t>(loaded.inputs.size());
}

uint32_t engine_output_count(void) {
    return static_cast<uint32_t>(loaded.outputs.size());
}

bool engine_input(uint32_t index, engine_tensor *tensor) {
    return describe(loaded.inputs, index, tensor);
}

bool engine_output(uint32_t index, engine_tensor *tensor) {
    return describe(loaded.outputs, index, tensor);
}

uint8_t *engine_input_data(uint32_t index) {
    return index < loaded.inputs.size() ? loaded.inputs[index].kept : nullptr;
}

const uint8_t *engine_output_data(uint32_t index) {
    return index < loaded.outputs.size()
               ? static_cast<const uint8_t *>(loaded.outputs[index].tensor->data)
               : nullptr;
}

// Without a hook esp-dl runs the whole plan, as an application would; with one, a layer at a time.
bool engine_run(engine_hook hook, void *context, char error[ENGINE_ERROR_BYTES]) {
    if (loaded.model == nullptr) {
        return espdl::refuse(error, "no model is loaded");
    }
    espdl::give_inputs();
    if (hook == nullptr) {
        loaded.model->run(espdl::mode);
        return true;
    }
    int layers = static_cast<int>(loaded.layers.size());
    for (int i = 0; i < layers; i++) {
        hook(context, static_cast<uint32_t>(i), true);
        loaded.model->run(layers, i, espdl::mode);
        hook(context, static_cast<uint32_t>(i), false);
    }
    return true;
}

uint32_t engine_layer_count(void) {
    return static_cast<uint32_t>(loaded.layers.size());
}

bool engine_layer_at(uint32_t index, engine_layer *layer) {
    if (index >= loaded.layers.size()) {
        return false;
    }
    layer->name = loaded.layers[index].name.data();
    layer->name_bytes = static_cast<uint16_t>(loaded.layers[index].name.size());
    layer->op = loaded.layers[index].op.c_str();
    return true;
}

bool engine_memory_use(engine_use *use) {
    *use = engine_use{};
    if (loaded.model == nullptr) {
        return false;
    }
    std::map<std::string, dl::mem_info_t> info = loaded.model->get_memory_info();
    use->model_bytes = loaded.file_bytes;
    use->parameter_bytes = static_cast<uint32_t>(info["parameter"].flash);
    use->unpacked_bytes =
        static_cast<uint32_t>(info["parameter_copy"].psram + info["parameter_copy"].internal);
    use->arena_fast_bytes = static_cast<uint32_t>(info["variable"].internal);
    use->arena_large_bytes = static_cast<uint32_t>(info["variable"].psram);
    for (const Layer &layer : loaded.layers) {
        std::vector<std::string> ins, outs;
        loaded.file->get_operation_inputs_and_outputs(layer.name, ins, outs);
        for (const std::string &name : outs) {
            dl::TensorBase *tensor = loaded.model->get_intermediate(name);
            if (tensor != nullptr &&
                static_cast<uint32_t>(tensor->get_bytes()) > use->largest_tensor_bytes) {
                use->largest_tensor_bytes = static_cast<uint32_t>(tensor->get_bytes());
            }
        }
    }
    return true;
}

bool engine_self_test(engine_check *check, char error[ENGINE_ERROR_BYTES]) {
    *check = engine_check{};
    if (loaded.model == nullptr) {
        return espdl::refuse(error, "no model is loaded");
    }
    return espdl::test(check, error);
}

const char *engine_metadata(const char *key, uint32_t *bytes) {
    loaded.metadata = loaded.file == nullptr ? "" : loaded.file->get_model_metadata_prop(key);
    *bytes = static_cast<uint32_t>(loaded.metadata.size());
    return loaded.metadata.empty() ? nullptr : loaded.metadata.data();
}
