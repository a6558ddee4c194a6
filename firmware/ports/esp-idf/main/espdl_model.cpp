#include "espdl_model.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "dl_module_creator.hpp"

namespace espdl {

Loaded loaded;

bool refuse(char *error, const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(error, ENGINE_ERROR_BYTES, format, values);
    va_end(values);
    return false;
}

void forget() {
    delete loaded.model;
    delete loaded.file;
    delete loaded.loader;
    loaded = Loaded{};
}

bool type_of(dl::dtype_t type, uint8_t *found) {
    switch (type) {
    case dl::DATA_TYPE_INT8:
        *found = ENGINE_INT8;
        return true;
    case dl::DATA_TYPE_INT16:
        *found = ENGINE_INT16;
        return true;
    case dl::DATA_TYPE_INT32:
        *found = ENGINE_INT32;
        return true;
    case dl::DATA_TYPE_FLOAT:
        *found = ENGINE_FLOAT32;
        return true;
    default:
        return false;
    }
}

namespace {

constexpr char place[] = "model";
constexpr uint32_t header_bytes = 16;
#if CONFIG_EDGEDEPLOY_COPY_PARAMETERS
constexpr bool copy_parameters = true;
#else
constexpr bool copy_parameters = false;
#endif

uint32_t number(const uint8_t *at) {
    return at[0] | uint32_t{at[1]} << 8 | uint32_t{at[2]} << 16 | uint32_t{at[3]} << 24;
}

// esp-dl's own reader trusts the file, so what can be seen from outside is seen here.
bool check_file(const uint8_t *file, uint32_t size, char *error) {
    if (file == nullptr || size < header_bytes) {
        return refuse(error, "no flash partition named \"%s\"", place);
    }
    if (memcmp(file, "EDL2", 4) != 0) {
        return refuse(error, "no model in flash: it begins with %02x %02x %02x %02x, not with EDL2",
                      file[0], file[1], file[2], file[3]);
    }
    if (number(file + 4) != 0) {
        return refuse(error, "the model is encrypted; export it without encryption");
    }
    uint32_t bytes = number(file + 8);
    if (bytes > size - header_bytes) {
        return refuse(error, "the model says it has %lu bytes, its place in flash has %lu",
                      static_cast<unsigned long>(bytes), static_cast<unsigned long>(size));
    }
    loaded.file_bytes = header_bytes + bytes;
    return true;
}

void read_layers() {
    for (const std::string &name : loaded.file->topological_sort()) {
        loaded.layers.push_back({name, loaded.file->get_operation_type(name)});
    }
}

// The first operator the library does not make, to be named in the reason.
bool find_unknown(char *error) {
    auto *creator = dl::module::ModuleCreator::get_instance();
    for (const Layer &layer : loaded.layers) {
        dl::module::Module *made = creator->create(loaded.file, layer.op, layer.name);
        if (made == nullptr) {
            return refuse(error, "esp-dl has no operator %s (node %s)", layer.op.c_str(),
                          layer.name.c_str());
        }
        delete made;
    }
    return refuse(error, "esp-dl could not load the model; its log says why");
}

bool bind(const std::string &name, dl::TensorBase *tensor, std::vector<Bound> &to, char *error) {
    if (tensor == nullptr || tensor->data == nullptr) {
        return refuse(error, "esp-dl has no memory for tensor %s", name.c_str());
    }
    Bound bound{name, tensor, nullptr, {}};
    if (!type_of(tensor->dtype, &bound.described.type)) {
        return refuse(error, "tensor %s is of type %s", name.c_str(),
                      dl::dtype_to_string(tensor->dtype));
    }
    if (tensor->shape.size() > ENGINE_MAX_RANK) {
        return refuse(error, "tensor %s has more than %d axes", name.c_str(), ENGINE_MAX_RANK);
    }
    bound.described.exponent = static_cast<int8_t>(static_cast<int>(tensor->exponent));
    bound.described.rank = static_cast<uint8_t>(tensor->shape.size());
    for (size_t i = 0; i < tensor->shape.size(); i++) {
        bound.described.shape[i] = tensor->shape[i];
    }
    bound.described.bytes = static_cast<uint32_t>(tensor->get_bytes());
    to.push_back(bound);
    return true;
}

bool bind_all(char *error) {
    for (const std::string &name : loaded.file->get_graph_inputs()) {
        if (!bind(name, loaded.model->get_intermediate(name), loaded.inputs, error)) {
            return false;
        }
    }
    for (const std::string &name : loaded.file->get_graph_outputs()) {
        if (!bind(name, loaded.model->get_intermediate(name), loaded.outputs, error)) {
            return false;
        }
    }
    if (loaded.inputs.empty() || loaded.outputs.empty()) {
        return refuse(error, "the model has no input or no output");
    }
    return true;
}

bool keep_inputs(const engine_memory *memory, char *error) {
    uint32_t used = 0;
    for (Bound &input : loaded.inputs) {
        uint32_t bytes = (input.described.bytes + 15) & ~uint32_t{15};
        if (bytes > memory->large_bytes - used) {
            return refuse(error, "the inputs need more than the %lu bytes that are kept for them "
                                 "(EDGEDEPLOY_INPUT_BYTES)",
                          static_cast<unsigned long>(memory->large_bytes));
        }
        input.kept = memory->large + used;
        used += bytes;
        memset(input.kept, 0, input.described.bytes);
    }
    return true;
}

} // namespace

bool load(const uint8_t *file, uint32_t size, const engine_memory *memory, char *error) {
    forget();
    if (!check_file(file, size, error)) {
        return false;
    }
    loaded.loader = new fbs::FbsLoader(place, fbs::MODEL_LOCATION_IN_FLASH_PARTITION);
    loaded.file = loaded.loader->load(nullptr, copy_parameters);
    if (loaded.file == nullptr) {
        return refuse(error, "esp-dl cannot read the model file");
    }
    loaded.file->load_map();
    read_layers();
    loaded.model = new dl::Model(loaded.file, static_cast<int>(memory->fast_bytes));
    loaded.file->load_map();
    if (loaded.model->get_inputs().empty()) {
        return find_unknown(error);
    }
    return bind_all(error) && keep_inputs(memory, error);
}

void give_inputs() {
    for (const Bound &input : loaded.inputs) {
        memcpy(input.tensor->data, input.kept, input.described.bytes);
    }
}

} // namespace espdl
