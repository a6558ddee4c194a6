#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace dl {

typedef enum {
    RUNTIME_MODE_AUTO = 0,
    RUNTIME_MODE_SINGLE_CORE = 1,
    RUNTIME_MODE_MULTI_CORE = 2,
} runtime_mode_t;

typedef struct mem_info_s {
    size_t psram;
    size_t internal;
    size_t flash;
} mem_info_t;

} // namespace dl
