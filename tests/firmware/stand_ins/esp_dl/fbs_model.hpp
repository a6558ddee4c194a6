#pragma once

#include <string>
#include <vector>

#include "dl_tensor_base.hpp"
#include "esp_err.h"

namespace fbs {

typedef enum {
    MODEL_LOCATION_IN_FLASH_RODATA = 0,
    MODEL_LOCATION_IN_FLASH_PARTITION = 1,
    MODEL_LOCATION_IN_SDCARD = 2,
} model_location_type_t;

class FbsModel {
public:
    ~FbsModel();
    std::vector<std::string> topological_sort();
    esp_err_t get_operation_inputs_and_outputs(std::string node_name,
                                               std::vector<std::string> &inputs,
                                               std::vector<std::string> &outputs);
    std::string get_operation_type(std::string node_name);
    dl::TensorBase *get_test_input_tensor(std::string tensor_name);
    dl::TensorBase *get_test_output_tensor(std::string tensor_name);
    std::vector<std::string> get_test_outputs_name();
    std::vector<std::string> get_graph_inputs();
    std::vector<std::string> get_graph_outputs();
    void clear_map();
    void load_map();
    std::string get_model_metadata_prop(const std::string &key);
};

} // namespace fbs
