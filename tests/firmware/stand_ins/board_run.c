/* The board's glue with made-up counters: does the 64-bit tick count hold over long waits? */
#include <stdio.h>

#include "board.h"
#include "core/port.h"
#include "driver/gpio.h"
#include "esp_clk_tree.h"
#include "esp_cpu.h"
#include "esp_heap_caps.h"
#include "esp_image_format.h"
#include "esp_partition.h"
#include "esp_system.h"
#include "esp_timer.h"
#include "freertos/task.h"
#include "line.h"

static uint64_t now_us;
static uint32_t level;

const uint8_t _data_start[64], _bss_end[64];

void line_drain(void) {}

uint32_t esp_cpu_get_cycle_count(void) {
    return (uint32_t)(now_us * 240);
}

int64_t esp_timer_get_time(void) {
    return (int64_t)now_us;
}

esp_err_t esp_clk_tree_src_get_freq_hz(soc_module_clk_t clk_src,
                                       esp_clk_tree_src_freq_precision_t precision,
                                       uint32_t *freq_value) {
    (void)clk_src;
    (void)precision;
    *freq_value = 240000000;
    return ESP_OK;
}

size_t heap_caps_get_largest_free_block(uint32_t caps) {
    (void)caps;
    return 200007;
}

esp_err_t esp_image_get_metadata(const esp_partition_pos_t *part, esp_image_metadata_t *metadata) {
    metadata->image_len = part->offset;
    return ESP_OK;
}

const esp_partition_t *esp_partition_find_first(esp_partition_type_t type,
                                                esp_partition_subtype_t subtype,
                                                const char *label) {
    static const esp_partition_t factory = {0x10000, 0x200000, "factory"};
    static const esp_partition_t model = {0x210000, 0x5f0000, "model"};
    (void)subtype;
    (void)label;
    return type == ESP_PARTITION_TYPE_APP ? &factory : &model;
}

esp_err_t esp_partition_mmap(const esp_partition_t *partition, size_t offset, size_t size,
                             esp_partition_mmap_memory_t memory, const void **out_ptr,
                             esp_partition_mmap_handle_t *out_handle) {
    (void)offset;
    (void)size;
    (void)memory;
    *out_ptr = partition;
    *out_handle = 1;
    return ESP_OK;
}

esp_err_t gpio_config(const gpio_config_t *pGPIOConfig) {
    return pGPIOConfig->pin_bit_mask == 1 << 4 ? ESP_OK : ESP_FAIL;
}

esp_err_t gpio_set_level(gpio_num_t gpio_num, uint32_t to) {
    level = to + (uint32_t)gpio_num * 10;
    return ESP_OK;
}

UBaseType_t uxTaskGetStackHighWaterMark(TaskHandle_t task) {
    (void)task;
    return 30000;
}

void esp_restart(void) {
    for (;;) {
    }
}

int main(void) {
    static const uint64_t waits_us[] = {1, 1000, 17000000, 18000000, 60000000, 3600000000, 5};
    uint32_t extent, fast_bytes, large_bytes, deepest, size;
    uint8_t *fast, *large;
    board_start();
    uint64_t started = port_ticks(), told = 0;
    for (unsigned i = 0; i < sizeof waits_us / sizeof waits_us[0]; i++) {
        now_us += waits_us[i];
        told = port_ticks() - started;
    }
    printf("ticks: %llu of %llu\n", (unsigned long long)told, (unsigned long long)now_us * 240);
    port_model(&extent);
    port_arena(&fast, &fast_bytes, &large, &large_bytes);
    port_stack(&deepest, &size);
    port_marker(true);
    const port_facts *facts = port_get_facts();
    printf("facts: %s, %s, %s, %u Hz, virtual %d, image %u\n", facts->board, facts->cpu,
           facts->tick_unit, (unsigned)facts->clock_hz, facts->virtual_board,
           (unsigned)facts->code_bytes);
    printf("memory: model %u, fast %u, large %u, stack %u of %u, marker %u\n", (unsigned)extent,
           (unsigned)fast_bytes, (unsigned)large_bytes, (unsigned)deepest, (unsigned)size,
           (unsigned)level);
    return 0;
}
