#include "ports/bare/board.h"

#include "core/firmware.h"
#include "core/port.h"
#include "ports/bare/uart.h"

int port_read(uint32_t wait_us) {
    while (!uart_has_byte()) {
        if (wait_us == 0) {
            return -1;
        }
        board_wait();
    }
    return uart_read();
}

void port_write(const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uart_write(bytes[i]);
    }
}

uint64_t port_microseconds(void) {
    return port_ticks() / 1000;
}

/* For a debugger or a trace: an emulated board has no pins. */
volatile uint32_t board_marker;

void port_marker(bool high) {
    board_marker = high;
}

const uint8_t *port_model(uint32_t *extent) {
    *extent = (uint32_t)(board_model_end - board_model);
    return board_model;
}

void port_arena(uint8_t **fast, uint32_t *fast_bytes, uint8_t **large, uint32_t *large_bytes) {
    *fast = board_fast;
    *fast_bytes = (uint32_t)(board_fast_end - board_fast);
    *large = board_large;
    *large_bytes = (uint32_t)(board_large_end - board_large);
}

uint8_t *port_samples(uint32_t *bytes) {
    *bytes = (uint32_t)(board_samples_end - board_samples);
    return board_samples;
}

void port_stack(uint32_t *deepest, uint32_t *size) {
    const uint32_t *untouched = (const uint32_t *)board_stack_low;
    while (untouched < (const uint32_t *)board_stack_high && *untouched == BOARD_STACK_PAINT) {
        untouched++;
    }
    *deepest = (uint32_t)(board_stack_high - (const uint8_t *)untouched);
    *size = (uint32_t)(board_stack_high - board_stack_low);
}

void port_reset(void) {
    board_restart();
}

static void say(const char *text) {
    for (; *text != 0; text++) {
        uart_write((uint8_t)*text);
    }
}

static void say_hex(uint32_t value) {
    for (int shift = 28; shift >= 0; shift -= 4) {
        uart_write((uint8_t)"0123456789abcdef"[value >> shift & 15]);
    }
}

void board_trap(uint32_t cause, uint32_t pc, uint32_t address) {
    say("e-[trap cause 0x");
    say_hex(cause);
    say(" pc 0x");
    say_hex(pc);
    say(" address 0x");
    say_hex(address);
    say("]\r\n");
    board_restart();
}

void board_main(void) {
    uart_start();
    firmware();
    board_restart();
}
