/* Where each tensor lies: those that are never needed together may share a place. */
#include "engine/plan.h"

#include <stddef.h>

#include "engine/operators.h"

/* A piece of memory from its first to its last step; for a tensor, or a step's scratch. */
typedef struct block {
    uint32_t bytes, first, last, offset;
    tensor *tensor;
    step *step;
    struct block *next; /* in its area, by offset */
} block;

typedef struct {
    uint8_t *memory;
    uint32_t bytes, used;
    block *blocks;
} area;

static uint32_t root_of(const model *model, uint32_t index) {
    while (model->tensors[index].root != index) {
        index = model->tensors[index].root;
    }
    return index;
}

static uint32_t last_use(const tensor *tensor) {
    return tensor->last == MODEL_NONE ? tensor->first : tensor->last;
}

void lives_until(model *model, uint32_t index, uint32_t step) {
    tensor *root = &model->tensors[root_of(model, index)];
    if (root->kind == TENSOR_MADE && step > last_use(root)) {
        root->last = step;
    }
}

void share_memory(model *model, const step *step, uint32_t input, uint32_t output) {
    uint32_t root = root_of(model, step->operands[input]);
    tensor *shared = &model->tensors[root];
    tensor *joined = step_output(model, step, output);
    lives_until(model, root, last_use(joined));
    shared->output = shared->output || joined->output;
    joined->root = root;
}

void share_if_last(model *model, step *step, uint32_t input, uint32_t output) {
    const tensor *shared = &model->tensors[root_of(model, step->operands[input])];
    uint32_t now = (uint32_t)(step - model->steps);
    if (shared->kind == TENSOR_MADE && !shared->output && last_use(shared) <= now &&
        shared->bytes == step_output(model, step, output)->bytes) {
        share_memory(model, step, input, output);
    }
}

static bool comes_before(const block *a, const block *b) {
    return a->bytes != b->bytes ? a->bytes > b->bytes : a->first < b->first;
}

/* The largest first: a heap sort, for a hostile file may have thousands. */
static void sort(block *blocks, uint32_t count) {
    for (uint32_t end = count, start = count / 2; end > 1;) {
        block moved;
        if (start > 0) {
            moved = blocks[--start];
        } else {
            moved = blocks[--end];
            blocks[end] = blocks[0];
        }
        uint32_t hole = start;
        for (uint32_t child = 2 * hole + 1; child < end; child = 2 * hole + 1) {
            child += child + 1 < end && comes_before(&blocks[child], &blocks[child + 1]);
            if (!comes_before(&moved, &blocks[child])) {
                break;
            }
            blocks[hole] = blocks[child];
            hole = child;
        }
        blocks[hole] = moved;
    }
}

/* The lowest gap that is free over the block's life. */
static bool place(area *area, block *wanted) {
    block **link = &area->blocks, **before = NULL;
    uint32_t offset = 0;
    for (; *link != NULL; link = &(*link)->next) {
        const block *other = *link;
        bool together = other->first <= wanted->last && wanted->first <= other->last;
        if (!together) {
            continue;
        }
        if (other->offset >= offset && other->offset - offset >= wanted->bytes) {
            break;
        }
        if (other->offset + other->bytes > offset) {
            offset = other->offset + other->bytes;
        }
    }
    if (wanted->bytes > area->bytes || offset > area->bytes - wanted->bytes) {
        return false;
    }
    wanted->offset = offset;
    before = &area->blocks;
    while (*before != NULL && (*before)->offset < offset) {
        before = &(*before)->next;
    }
    wanted->next = *before;
    *before = wanted;
    area->used = offset + wanted->bytes > area->used ? offset + wanted->bytes : area->used;
    return true;
}

static uint32_t whole_16(uint32_t bytes) {
    return (bytes + 15u) & ~15u;
}

static uint32_t collect(model *model, block *blocks) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        tensor *one = &model->tensors[i];
        if (one->root != i || (one->kind != TENSOR_MADE && one->kind != TENSOR_INPUT)) {
            continue;
        }
        bool input = one->kind == TENSOR_INPUT;
        blocks[count++] = (block){
            .bytes = whole_16(one->bytes),
            .first = input ? 0 : one->first,
            .last = input || one->output ? model->step_count : last_use(one),
            .tensor = one,
        };
    }
    for (uint32_t i = 0; i < model->step_count; i++) {
        step *one = &model->steps[i];
        if (one->scratch_bytes != 0) {
            blocks[count++] = (block){
                .bytes = whole_16(one->scratch_bytes), .first = i, .last = i, .step = one};
        }
    }
    return count;
}

static void hand_out(block *block, const area *area) {
    uint8_t *memory = area->memory + block->offset;
    if (block->tensor != NULL) {
        block->tensor->data = memory;
    } else {
        block->step->scratch = memory;
    }
}

bool plan_memory(model *model) {
    const engine_memory *memory = &model->memory;
    uint32_t most = model->tensor_count + model->step_count;
    block *blocks = model_take(model, most * (uint32_t)sizeof(block));
    if (blocks == NULL) {
        return false;
    }
    area fast = {memory->fast, model->fast_free, 0, NULL};
    area large = {NULL, 0, 0, NULL};
    if (memory->large != NULL) {
        large.memory = memory->large + model->large_used;
        large.bytes = memory->large_bytes - model->large_used;
    }
    uint32_t count = collect(model, blocks);
    sort(blocks, count);
    for (uint32_t i = 0; i < count; i++) {
        block *one = &blocks[i];
        area *chosen = place(&fast, one) ? &fast : place(&large, one) ? &large : NULL;
        if (chosen == NULL) {
            return model_fail(model, "the model does not fit: %d bytes for %t beside the %d and %d "
                                     "bytes that are taken",
                              (int32_t)one->bytes,
                              one->tensor != NULL ? one->tensor : step_output(model, one->step, 0),
                              (int32_t)fast.used, (int32_t)large.used);
        }
        hand_out(one, chosen);
        if (one->tensor != NULL && one->tensor->bytes > model->use.largest_tensor_bytes) {
            model->use.largest_tensor_bytes = one->tensor->bytes;
        }
    }
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        model->tensors[i].data = model->tensors[root_of(model, i)].data;
    }
    model->use.arena_fast_bytes = fast.used + memory->fast_bytes - model->fast_free;
    model->use.arena_large_bytes = large.used + model->large_used;
    return true;
}
