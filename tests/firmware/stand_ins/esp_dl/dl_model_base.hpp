#pragma once

#include <map>
#include <string>
#include <vector>

#include "dl_tensor_base.hpp"
#include "fbs_loader.hpp"
#include "fbs_model.hpp"

namespace dl {

typedef enum { MEMORY_MANAGER_GREEDY = 0, LINEAR_MEMORY_MANAGER = 1 } memory_manager_t;

class Model {
public:
    Model(fbs::FbsModel *fbs_model, int internal_size = 0,
          memory_manager_t mm_type = MEMORY_MANAGER_GREEDY,
          const std::map<std::string, std::vector<int>> &input_shapes = {});
    virtual ~Model();
    virtual void run(runtime_mode_t mode = RUNTIME_MODE_SINGLE_CORE);
    virtual void run(TensorBase *input, runtime_mode_t mode = RUNTIME_MODE_SINGLE_CORE);
    virtual void run(int stage_num, int stage_index,
                     runtime_mode_t mode = RUNTIME_MODE_SINGLE_CORE);
    std::map<std::string, mem_info_t> get_memory_info();
    virtual std::map<std::string, TensorBase *> &get_inputs();
    virtual TensorBase *get_intermediate(const std::string &name);
};

} // namespace dl
