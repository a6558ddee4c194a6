// esp-dl as far as the glue uses it, with a model of two layers, and a walk through the glue.
// As esp-dl does, a run takes the input's memory for another tensor.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "dl_model_base.hpp"
#include "dl_module_creator.hpp"

extern "C" {
#include "core/engine.h"
}

namespace {

constexpr int count = 8;
int8_t memory_of_input[count], memory_of_output[count];
int8_t embedded_input[count] = {1, 2, 3, 4, 5, 6, 7, -8};
int8_t embedded_output[count] = {4, 6, 8, 10, 12, 14, 16, -14};
dl::TensorBase input({1, count}, memory_of_input, -7, dl::DATA_TYPE_INT8);
dl::TensorBase output({1, count}, memory_of_output, -3, dl::DATA_TYPE_INT8);
std::string second_op = "Relu";
int models_alive, files_alive, loaders_alive;

void one_layer(int layer) {
    for (int i = 0; i < count; i++) {
        int8_t value = layer == 0 ? memory_of_input[i] + 1 : memory_of_input[i] * 2;
        (layer == 0 ? memory_of_input : memory_of_output)[i] = value;
    }
}

} // namespace

namespace dl {

const char *dtype_to_string(dtype_t) {
    return "of a stand-in";
}

TensorBase::TensorBase(std::vector<int> of, const void *element, int with, dtype_t type)
    : size(count), shape(of), dtype(type), exponent(with), auto_free(false),
      data(const_cast<void *>(element)) {}

TensorBase::~TensorBase() {}

int TensorBase::get_bytes() {
    return size;
}

Model::Model(fbs::FbsModel *, int, memory_manager_t,
             const std::map<std::string, std::vector<int>> &) {
    models_alive++;
}

Model::~Model() {
    models_alive--;
}

void Model::run(runtime_mode_t) {
    one_layer(0);
    one_layer(1);
}

void Model::run(TensorBase *, runtime_mode_t) {}

void Model::run(int stages, int stage, runtime_mode_t) {
    if (stages == 2) {
        one_layer(stage);
    }
}

std::map<std::string, mem_info_t> Model::get_memory_info() {
    return {{"parameter", {0, 0, 100}}, {"parameter_copy", {90, 10, 0}}, {"variable", {30, 20, 0}}};
}

std::map<std::string, TensorBase *> &Model::get_inputs() {
    static std::map<std::string, TensorBase *> none, one{{"x", &input}};
    return second_op == "Einsum" ? none : one;
}

TensorBase *Model::get_intermediate(const std::string &name) {
    return name == "x" ? &input : name == "y" ? &output : nullptr;
}

namespace module {

ModuleCreator *ModuleCreator::get_instance() {
    static ModuleCreator creator;
    return &creator;
}

Module *ModuleCreator::create(fbs::FbsModel *, const std::string &type, const std::string) {
    return type == "Einsum" ? nullptr : new Module;
}

} // namespace module
} // namespace dl

namespace fbs {

FbsLoader::FbsLoader(const char *, model_location_type_t) {
    loaders_alive++;
}

FbsLoader::~FbsLoader() {
    loaders_alive--;
}

FbsModel *FbsLoader::load(const uint8_t *, bool) {
    files_alive++;
    return new FbsModel;
}

FbsModel::~FbsModel() {
    files_alive--;
}

std::vector<std::string> FbsModel::topological_sort() {
    return {"/add", "/last"};
}

esp_err_t FbsModel::get_operation_inputs_and_outputs(std::string node, std::vector<std::string> &in,
                                                     std::vector<std::string> &out) {
    in = {node == "/add" ? "x" : "h"};
    out = {node == "/add" ? "h" : "y"};
    return ESP_OK;
}

std::string FbsModel::get_operation_type(std::string node) {
    return node == "/add" ? "Add" : second_op;
}

dl::TensorBase *FbsModel::get_test_input_tensor(std::string) {
    return new dl::TensorBase({1, count}, embedded_input, -7, dl::DATA_TYPE_INT8);
}

dl::TensorBase *FbsModel::get_test_output_tensor(std::string) {
    return new dl::TensorBase({1, count}, embedded_output, -3, dl::DATA_TYPE_INT8);
}

std::vector<std::string> FbsModel::get_test_outputs_name() {
    return {"y"};
}

std::vector<std::string> FbsModel::get_graph_inputs() {
    return {"x"};
}

std::vector<std::string> FbsModel::get_graph_outputs() {
    return {"y"};
}

void FbsModel::clear_map() {}

void FbsModel::load_map() {}

std::string FbsModel::get_model_metadata_prop(const std::string &key) {
    return key == "mlperf" ? "ic01" : "";
}

} // namespace fbs

namespace {

alignas(16) uint8_t large[4096];
char error[ENGINE_ERROR_BYTES];
std::string order;

bool load(std::vector<uint8_t> header, uint32_t extent, uint32_t large_bytes) {
    header.resize(extent < 16 ? 16 : extent);
    engine_memory memory = {nullptr, 1000, large, large_bytes};
    return engine_load(header.data(), extent, &memory, error);
}

void remember(void *, uint32_t layer, bool before) {
    order += std::to_string(layer) + (before ? "<" : "> ");
}

void show_output(const char *what) {
    printf("%s:", what);
    for (int i = 0; i < count; i++) {
        printf(" %d", static_cast<int8_t>(engine_output_data(0)[i]));
    }
    printf("\n");
}

} // namespace

int main() {
    const std::vector<uint8_t> good = {'E', 'D', 'L', '2', 0, 0, 0, 0, 32, 0, 0, 0};
    const struct {
        std::vector<uint8_t> header;
        uint32_t extent, large_bytes;
        const char *op;
    } refused[] = {
        {{}, 0, 4096, "Relu"},
        {{0xff, 0xff, 0xff, 0xff}, 64, 4096, "Relu"},
        {{'E', 'D', 'L', '2', 1}, 64, 4096, "Relu"},
        {{'E', 'D', 'L', '2', 0, 0, 0, 0, 49}, 64, 4096, "Relu"},
        {good, 64, 4096, "Einsum"},
        {good, 64, 0, "Relu"},
    };
    for (const auto &one : refused) {
        second_op = one.op;
        bool done = load(one.header, one.extent, one.large_bytes);
        printf("refused: %d %s\n", done, error);
    }
    second_op = "Relu";
    printf("loaded: %d\n", load(good, 64, 4096));
    engine_tensor tensor;
    engine_input(0, &tensor);
    printf("input: %.*s type %d exponent %d rank %d shape %d,%d bytes %u\n", tensor.name_bytes,
           tensor.name, tensor.type, tensor.exponent, tensor.rank, tensor.shape[0], tensor.shape[1],
           tensor.bytes);
    printf("none: %d %d %d\n", engine_input(1, &tensor), engine_output(1, &tensor),
           engine_input_data(1) != nullptr);
    for (int i = 0; i < count; i++) {
        engine_input_data(0)[i] = static_cast<uint8_t>(10 - i);
    }
    engine_run(nullptr, nullptr, error);
    show_output("first");
    engine_run(remember, nullptr, error);
    show_output("again");
    printf("order: %s\n", order.c_str());
    engine_check check;
    printf("self-test: %d", engine_self_test(&check, error));
    printf(" %u %u %u %u\n", check.vectors, check.failed, check.values, check.different);
    embedded_output[2] = 99;
    printf("spoilt: %d", engine_self_test(&check, error));
    printf(" %u %u %u %u at %u: %d, not %d\n", check.vectors, check.failed, check.values,
           check.different, check.first_bad, check.found, check.expected);
    engine_use use;
    engine_memory_use(&use);
    printf("memory: %u %u %u %u %u %u\n", use.model_bytes, use.parameter_bytes, use.unpacked_bytes,
           use.arena_fast_bytes, use.arena_large_bytes, use.largest_tensor_bytes);
    uint32_t bytes;
    const char *value = engine_metadata("mlperf", &bytes);
    printf("metadata: %.*s", static_cast<int>(bytes), value);
    printf(" %d\n", engine_metadata("other", &bytes) != nullptr);
    load({}, 0, 4096);
    printf("left: %d %d %d %d\n", engine_loaded(), models_alive, files_alive, loaders_alive);
    return 0;
}
