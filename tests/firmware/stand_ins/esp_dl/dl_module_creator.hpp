#pragma once

#include <string>

#include "fbs_model.hpp"

namespace dl {
namespace module {

class Module {
public:
    virtual ~Module() {}
};

class ModuleCreator {
public:
    static ModuleCreator *get_instance();
    Module *create(fbs::FbsModel *fbs_model, const std::string &op_type, const std::string name);
};

} // namespace module
} // namespace dl
