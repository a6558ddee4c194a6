/* A loaded model: its tensors, its steps in order, and the memory they lie in. */
#ifndef EDGEDEPLOY_MODEL_H
#define EDGEDEPLOY_MODEL_H

#include "core/engine.h"
#include "engine/flat.h"

#define MODEL_MAX_STEPS 4096
#define MODEL_MAX_TENSORS 16384
/* Tensors of one step; enough for any Concat seen, and short enough for a plain loop. */
#define MODEL_MAX_OPERANDS 64
#define MODEL_NONE UINT32_MAX

/* Element types that only parameters have, beside engine_type's. */
enum { MODEL_INT64 = 64, MODEL_UNKNOWN = 0 };

typedef enum {
    TENSOR_ABSENT,
    TENSOR_CONSTANT,
    TENSOR_INPUT,
    TENSOR_DECLARED,
    TENSOR_MADE,
} tensor_kind;

typedef struct {
    const char *name;
    uint32_t name_bytes;
    uint32_t hash;
    uint8_t kind; /* tensor_kind */
    uint8_t type;
    int8_t exponent;
    bool per_channel; /* it has more than one exponent */
    bool output;      /* of the model */
    uint8_t rank;
    int32_t shape[ENGINE_MAX_RANK];
    uint32_t count; /* elements */
    uint32_t bytes;
    const char *layout; /* of a parameter: the rest of "layout ==> ", not terminated */
    uint32_t layout_bytes;
    uint8_t *data; /* in the file for a parameter, else in an arena */
    /* Tensors that share memory form a chain to their root, which carries the life of them all. */
    uint32_t root;
    uint32_t first, last; /* steps; `last` of a tensor nobody reads is where it is made */
    uint32_t reads; /* how often an operand */
} tensor;

typedef struct model model;
typedef struct step step;

struct step {
    void (*run)(const model *model, const step *step);
    const char *op;
    flat_table node;
    const char *name;
    uint32_t name_bytes;
    uint32_t *operands; /* tensors: inputs, then outputs; MODEL_NONE for an input left out */
    uint32_t input_count, output_count;
    void *detail; /* what the operator keeps, in the arena */
    uint32_t scratch_bytes;
    uint8_t *scratch;
    /* An output clamp this operator can apply for the next one; NULL where it cannot. */
    int32_t *low, *high;
};

struct model {
    flat_file file;
    flat_table root, graph;
    uint32_t file_bytes; /* with its header */
    engine_memory memory;
    uint32_t fast_free, large_used; /* `fast` is taken from its end, `large` from its start */
    tensor *tensors;
    uint32_t tensor_count;
    uint32_t *places; /* open hash table of tensors by name; MODEL_NONE where empty */
    uint32_t place_count;
    step *steps;
    uint32_t step_count;
    uint32_t *inputs, *outputs;
    uint32_t input_count, output_count;
    uint64_t work; /* multiply-accumulates and copies of one run */
    engine_use use;
    char *error;
};

/* Writes a reason and returns false. In `format`: %s text, %d int32_t, %t a tensor's name,
 * %n the step's operator and name, as in "Conv of node /a/Conv". */
bool model_fail(model *model, const char *format, ...);

/* Memory kept as long as the model, 16-byte aligned and zeroed; NULL (with a reason) where there is
 * no more. */
void *model_take(model *model, uint32_t bytes);

/* Reads the file's header and tables; `model->memory` and `error` are set before. */
bool model_open(model *model, const uint8_t *file, uint32_t size);
bool model_read_tensors(model *model);
bool model_read_step(model *model, const flat_vector *nodes, uint32_t index, step *step);
uint32_t model_find(const model *model, const char *name, uint32_t bytes);

/* The memory of a tensor is needed up to that step. */
void lives_until(model *model, uint32_t index, uint32_t step);

/* Operands of a step; NULL where left out. */
tensor *step_input(const model *model, const step *step, uint32_t index);
tensor *step_output(const model *model, const step *step, uint32_t index);

/* Attributes of a step. */
int64_t step_int(const model *model, const step *step, const char *name, int64_t otherwise);
uint32_t step_float_bits(const model *model, const step *step, const char *name,
                         uint32_t otherwise);
bool step_text_is(const model *model, const step *step, const char *name, const char *text,
                  bool otherwise);
bool step_has(const model *model, const step *step, const char *name);
/* Up to `most` integers; false where there are more. `count` is 0 where it is absent. */
bool step_ints(const model *model, const step *step, const char *name, int64_t *values,
               uint32_t most, uint32_t *count);
/* The tensor a text attribute names; NULL where there is none. */
tensor *step_named(const model *model, const step *step, const char *name);

/* A whole number in a parameter of type int8, int16, int32, int64. */
int64_t tensor_value(const tensor *tensor, uint32_t index);
uint32_t type_bytes(uint8_t type);
/* Sets shape, count and bytes; false (with a reason) where it has no or too many elements. */
bool tensor_shape(model *model, tensor *tensor, uint32_t rank, const int32_t *shape);
bool same_shape(const tensor *a, const tensor *b);

#endif
