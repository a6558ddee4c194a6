// The model as esp-dl has it, and what the firmware must know of it beside.
#ifndef EDGEDEPLOY_ESPDL_MODEL_HPP
#define EDGEDEPLOY_ESPDL_MODEL_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "dl_model_base.hpp"
#include "fbs_loader.hpp"
#include "sdkconfig.h"

extern "C" {
#include "core/engine.h"
}

namespace espdl {

#if CONFIG_EDGEDEPLOY_BOTH_CORES
inline constexpr dl::runtime_mode_t mode = dl::RUNTIME_MODE_MULTI_CORE;
inline constexpr char version[] = "esp-dl, both cores";
#else
inline constexpr dl::runtime_mode_t mode = dl::RUNTIME_MODE_SINGLE_CORE;
inline constexpr char version[] = "esp-dl, one core";
#endif

struct Bound {
    std::string name;
    dl::TensorBase *tensor;
    uint8_t *kept; // of an input: what the host wrote; esp-dl reuses the tensor's own memory
    engine_tensor described;
};

struct Layer {
    std::string name, op;
};

struct Loaded {
    fbs::FbsLoader *loader = nullptr;
    fbs::FbsModel *file = nullptr;
    dl::Model *model = nullptr;
    uint32_t file_bytes = 0;
    std::vector<Bound> inputs, outputs;
    std::vector<Layer> layers;
    std::string metadata;
};

extern Loaded loaded;

// Write the reason into `error`; always false.
bool refuse(char *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Replace what is loaded by the model in the flash partition, of which `file` is a view.
bool load(const uint8_t *file, uint32_t size, const engine_memory *memory, char *error);
void forget();

// The element type in the firmware's terms; false where it has none.
bool type_of(dl::dtype_t type, uint8_t *found);

// What the host wrote, into esp-dl's tensors.
void give_inputs();

// Run on the inputs embedded in the file, and compare each embedded output as soon as it is made.
bool test(engine_check *check, char *error);

} // namespace espdl

#endif
