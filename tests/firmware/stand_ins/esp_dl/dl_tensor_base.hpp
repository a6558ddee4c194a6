#pragma once

#include <cstdint>
#include <vector>

#include "dl_define.hpp"

namespace dl {

class ExponentInfo {
public:
    ExponentInfo(int exponent = 0) : m_exponent(exponent) {}
    operator int() const { return m_exponent; }

private:
    int m_exponent;
};

typedef enum {
    DATA_TYPE_UNDEFINED = 0,
    DATA_TYPE_FLOAT = 1,
    DATA_TYPE_UINT8 = 2,
    DATA_TYPE_INT8 = 3,
    DATA_TYPE_UINT16 = 4,
    DATA_TYPE_INT16 = 5,
    DATA_TYPE_INT32 = 6,
} dtype_t;

const char *dtype_to_string(dtype_t dtype);

class TensorBase {
public:
    int size;
    std::vector<int> shape;
    dtype_t dtype;
    ExponentInfo exponent;
    bool auto_free;
    void *data;

    TensorBase(std::vector<int> shape, const void *element, int exponent, dtype_t dtype);
    virtual ~TensorBase();
    int get_bytes();
};

} // namespace dl
