#include "board.h"

#include "core/port.h"
#include "driver/gpio.h"
#include "esp_attr.h"
#include "esp_clk_tree.h"
#include "esp_cpu.h"
#include "esp_heap_caps.h"
#include "esp_image_format.h"
#include "esp_partition.h"
#include "esp_system.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "line.h"
#include "sdkconfig.h"

#if CONFIG_IDF_TARGET_ESP32S3
#define CPU "xtensa lx7"
#define CONFIGURED_HZ (CONFIG_ESP_DEFAULT_CPU_FREQ_MHZ * 1000000u)
#elif CONFIG_IDF_TARGET_ESP32P4
#define CPU "riscv, 2 cores"
#define CONFIGURED_HZ (CONFIG_ESP_DEFAULT_CPU_FREQ_MHZ * 1000000u)
#else
#error "This firmware is for ESP32-S3 and ESP32-P4: idf.py set-target esp32s3"
#endif

static EXT_RAM_BSS_ATTR uint8_t inputs[CONFIG_EDGEDEPLOY_INPUT_BYTES] __attribute__((aligned(16)));
static const void *model;
static uint32_t model_bytes;
static uint32_t fast_bytes;
static uint32_t clock_hz;
static uint32_t image_bytes;

static uint32_t last_cycles;
static uint64_t cycles, last_us;

static void find_model(void) {
    const esp_partition_t *found =
        esp_partition_find_first(ESP_PARTITION_TYPE_DATA, ESP_PARTITION_SUBTYPE_ANY, "model");
    esp_partition_mmap_handle_t handle;
    if (found != NULL && esp_partition_mmap(found, 0, found->size, ESP_PARTITION_MMAP_DATA, &model,
                                            &handle) == ESP_OK) {
        model_bytes = found->size;
    }
}

static void find_image(void) {
    const esp_partition_t *found =
        esp_partition_find_first(ESP_PARTITION_TYPE_APP, ESP_PARTITION_SUBTYPE_APP_FACTORY, NULL);
    esp_image_metadata_t image;
    if (found != NULL) {
        const esp_partition_pos_t place = {.offset = found->address, .size = found->size};
        if (esp_image_get_metadata(&place, &image) == ESP_OK) {
            image_bytes = image.image_len;
        }
    }
}

void board_start(void) {
#if CONFIG_EDGEDEPLOY_MARKER_GPIO >= 0
    const gpio_config_t pin = {
        .pin_bit_mask = 1ULL << CONFIG_EDGEDEPLOY_MARKER_GPIO,
        .mode = GPIO_MODE_OUTPUT,
    };
    ESP_ERROR_CHECK(gpio_config(&pin));
    port_marker(false);
#endif
    uint32_t free_bytes = heap_caps_get_largest_free_block(MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT);
    if (free_bytes > CONFIG_EDGEDEPLOY_INTERNAL_RESERVE) {
        fast_bytes = (free_bytes - CONFIG_EDGEDEPLOY_INTERNAL_RESERVE) & ~15u;
    }
    if (esp_clk_tree_src_get_freq_hz(SOC_MOD_CLK_CPU, ESP_CLK_TREE_SRC_FREQ_PRECISION_CACHED,
                                     &clock_hz) != ESP_OK) {
        clock_hz = CONFIGURED_HZ;
    }
    find_model();
    find_image();
    last_cycles = esp_cpu_get_cycle_count();
    last_us = (uint64_t)esp_timer_get_time();
}

#if CONFIG_IDF_TARGET_ESP32S3
extern const uint8_t _data_start[], _bss_end[];
#define STATIC_BYTES ((uint32_t)(_bss_end - _data_start))
#else
/* Where the linker script has no such symbols it is not known. */
#define STATIC_BYTES 0
#endif

const port_facts *port_get_facts(void) {
    static port_facts facts = {
        .board = CONFIG_IDF_TARGET,
        .cpu = CPU,
        .compiler = "gcc " __VERSION__,
        .tick_unit = "cycles",
        .ticks_per_count = 1,
        .virtual_board = false,
    };
    facts.clock_hz = clock_hz;
    facts.code_bytes = image_bytes;
    facts.static_bytes = STATIC_BYTES;
    return &facts;
}

/* The counter of 32 bits goes round every 18 s at 240 MHz; the clock tells how often it has. */
uint64_t port_ticks(void) {
    uint32_t now = esp_cpu_get_cycle_count();
    uint64_t us = (uint64_t)esp_timer_get_time();
    uint32_t step = now - last_cycles;
    uint64_t expected = (us - last_us) * (clock_hz / 1000000u);
    uint64_t rounds = expected > step ? (expected - step + (1ULL << 31)) >> 32 : 0;
    cycles += step + (rounds << 32);
    last_cycles = now;
    last_us = us;
    return cycles;
}

uint64_t port_microseconds(void) {
    return (uint64_t)esp_timer_get_time();
}

void port_marker(bool high) {
#if CONFIG_EDGEDEPLOY_MARKER_GPIO >= 0
    gpio_set_level((gpio_num_t)CONFIG_EDGEDEPLOY_MARKER_GPIO, high);
#else
    (void)high;
#endif
}

const uint8_t *port_model(uint32_t *extent) {
    *extent = model_bytes;
    return model;
}

/* esp-dl takes its memory from the heap itself: of the internal RAM it gets a limit, and of the
 * PSRAM only what keeps the inputs. */
void port_arena(uint8_t **fast, uint32_t *fast_limit, uint8_t **large, uint32_t *large_bytes) {
    *fast = NULL;
    *fast_limit = fast_bytes;
    *large = inputs;
    *large_bytes = sizeof inputs;
}

uint8_t *port_samples(uint32_t *bytes) {
    *bytes = 0;
    return NULL;
}

void port_stack(uint32_t *deepest, uint32_t *size) {
    *size = CONFIG_ESP_MAIN_TASK_STACK_SIZE;
    *deepest = *size - (uint32_t)uxTaskGetStackHighWaterMark(NULL);
}

void port_reset(void) {
    line_drain();
    esp_restart();
}
