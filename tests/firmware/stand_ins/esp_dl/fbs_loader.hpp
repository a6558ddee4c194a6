#pragma once

#include "fbs_model.hpp"

namespace fbs {

class FbsLoader {
public:
    FbsLoader(const char *rodata_address_or_partition_label_or_path = nullptr,
              model_location_type_t location = MODEL_LOCATION_IN_FLASH_RODATA);
    ~FbsLoader();
    FbsModel *load(const uint8_t *key = nullptr, bool param_copy = true);
    FbsModel *load(const int model_index, const uint8_t *key = nullptr, bool param_copy = true);
    FbsModel *load(const char *model_name, const uint8_t *key = nullptr, bool param_copy = true);
};

} // namespace fbs
