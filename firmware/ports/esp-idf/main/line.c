#include "line.h"

#include <stddef.h>
#include <stdint.h>

#include "core/port.h"
#include "esp_err.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "sdkconfig.h"
#if CONFIG_EDGEDEPLOY_LINE_UART
#include "driver/uart.h"
#else
#include "driver/usb_serial_jtag.h"
#endif

/* Frames of a host that asks again while a request is carried out wait here. */
#define RECEIVE_BYTES 8192
#define SEND_BYTES 4096
#define CHUNK_BYTES 256
/* A host that no longer reads must not stop the board. */
#define SEND_TICKS pdMS_TO_TICKS(500)

static uint8_t chunk[CHUNK_BYTES];
static int chunk_at, chunk_end;

#if CONFIG_EDGEDEPLOY_LINE_UART

void line_start(void) {
    const uart_config_t settings = {
        .baud_rate = CONFIG_EDGEDEPLOY_BAUD,
        .data_bits = UART_DATA_8_BITS,
        .parity = UART_PARITY_DISABLE,
        .stop_bits = UART_STOP_BITS_1,
        .flow_ctrl = UART_HW_FLOWCTRL_DISABLE,
        .source_clk = UART_SCLK_DEFAULT,
    };
    ESP_ERROR_CHECK(uart_driver_install(UART_NUM_0, RECEIVE_BYTES, SEND_BYTES, 0, NULL, 0));
    ESP_ERROR_CHECK(uart_param_config(UART_NUM_0, &settings));
}

void line_drain(void) {
    uart_wait_tx_done(UART_NUM_0, SEND_TICKS);
}

static int receive(uint8_t *to, uint32_t count, TickType_t wait) {
    return uart_read_bytes(UART_NUM_0, to, count, wait);
}

static int send(const uint8_t *bytes, size_t count) {
    return uart_write_bytes(UART_NUM_0, bytes, count);
}

#else

void line_start(void) {
    usb_serial_jtag_driver_config_t settings = {
        .tx_buffer_size = SEND_BYTES,
        .rx_buffer_size = RECEIVE_BYTES,
    };
    ESP_ERROR_CHECK(usb_serial_jtag_driver_install(&settings));
}

void line_drain(void) {
    vTaskDelay(SEND_TICKS / 5);
}

static int receive(uint8_t *to, uint32_t count, TickType_t wait) {
    return usb_serial_jtag_read_bytes(to, count, wait);
}

static int send(const uint8_t *bytes, size_t count) {
    return usb_serial_jtag_write_bytes(bytes, count, SEND_TICKS);
}

#endif

/* The first byte is waited for, and what came with it is taken without waiting for more. */
int port_read(uint32_t wait_us) {
    if (chunk_at == chunk_end) {
        chunk_at = 0;
        chunk_end = receive(chunk, 1, pdMS_TO_TICKS((wait_us + 999) / 1000));
        if (chunk_end <= 0) {
            chunk_end = 0;
            return -1;
        }
        int more = receive(chunk + 1, CHUNK_BYTES - 1, 0);
        chunk_end += more > 0 ? more : 0;
    }
    return chunk[chunk_at++];
}

void port_write(const uint8_t *bytes, size_t count) {
    while (count > 0) {
        int sent = send(bytes, count < CHUNK_BYTES ? count : CHUNK_BYTES);
        if (sent <= 0) {
            return;
        }
        bytes += sent;
        count -= (size_t)sent;
    }
}
