// The test vectors that a model file carries, against what esp-dl makes of them.
#include <cstring>

#include "espdl_model.hpp"

namespace espdl {

namespace {

int32_t element(const uint8_t *data, uint32_t index, uint8_t type) {
    if (type == ENGINE_INT8) {
        return static_cast<int8_t>(data[index]);
    }
    if (type == ENGINE_INT16) {
        return static_cast<int16_t>(data[2 * index] | data[2 * index + 1] << 8);
    }
    int32_t word;
    memcpy(&word, data + 4 * index, sizeof word);
    return word;
}

void compare(dl::TensorBase *found, dl::TensorBase *expected, engine_check *check) {
    uint8_t type = 0;
    check->vectors++;
    if (found == nullptr || !type_of(found->dtype, &type) || found->dtype != expected->dtype ||
        found->size != expected->size) {
        check->failed++;
        return;
    }
    const auto *is = static_cast<const uint8_t *>(found->data);
    const auto *should = static_cast<const uint8_t *>(expected->data);
    bool equal = true;
    for (uint32_t i = 0; i < static_cast<uint32_t>(found->size); i++) {
        int32_t a = element(is, i, type), b = element(should, i, type);
        if (a != b && check->different++ == 0) {
            check->first_bad = i;
            check->found = a;
            check->expected = b;
        }
        equal = equal && a == b;
    }
    check->values += static_cast<uint32_t>(found->size);
    check->failed += !equal;
}

// An intermediate output holds only until another layer takes its memory: compared at once.
void compare_outputs_of(const std::string &layer, engine_check *check) {
    std::vector<std::string> ins, outs;
    loaded.file->get_operation_inputs_and_outputs(layer, ins, outs);
    std::vector<std::string> embedded = loaded.file->get_test_outputs_name();
    for (const std::string &name : outs) {
        for (const std::string &with_values : embedded) {
            if (name != with_values) {
                continue;
            }
            dl::TensorBase *expected = loaded.file->get_test_output_tensor(name);
            if (expected != nullptr) {
                compare(loaded.model->get_intermediate(name), expected, check);
                delete expected;
            }
        }
    }
}

bool give_embedded_inputs(char *error) {
    for (const Bound &input : loaded.inputs) {
        dl::TensorBase *given = loaded.file->get_test_input_tensor(input.name);
        if (given == nullptr) {
            return refuse(error, "the file holds no values for input %s", input.name.c_str());
        }
        bool fits = given->get_bytes() == static_cast<int>(input.described.bytes);
        if (fits) {
            memcpy(input.kept, given->data, input.described.bytes);
        }
        delete given;
        if (!fits) {
            return refuse(error, "the file's values for input %s have another size",
                          input.name.c_str());
        }
    }
    give_inputs();
    return true;
}

} // namespace

bool test(engine_check *check, char *error) {
    if (loaded.file->get_test_outputs_name().empty()) {
        return true;
    }
    if (!give_embedded_inputs(error)) {
        return false;
    }
    int layers = static_cast<int>(loaded.layers.size());
    for (int i = 0; i < layers; i++) {
        loaded.model->run(layers, i, mode);
        compare_outputs_of(loaded.layers[static_cast<size_t>(i)].name, check);
    }
    return true;
}

} // namespace espdl
