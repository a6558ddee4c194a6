#include "ports/bare/board.h"

#include "core/port.h"

/* The interrupt controller's registers for context 0 (hart 0, machine mode) and the UART's line. */
#define PRIORITY (*(volatile uint32_t *)0x0c000028)
#define ENABLE (*(volatile uint32_t *)0x0c002000)
#define THRESHOLD (*(volatile uint32_t *)0x0c200000)
#define CLAIM (*(volatile uint32_t *)0x0c200004)
#define UART_LINE 10
#define MACHINE_EXTERNAL 0x800

const port_facts *port_get_facts(void) {
    static port_facts facts = {
        .board = "qemu virt rv32imac",
        .cpu = "rv32imac",
        .compiler = "gcc " __VERSION__,
        /* Under -icount shift=0. */
        .tick_unit = "instructions",
        .ticks_per_count = 1,
        .clock_hz = 0,
        .virtual_board = true,
    };
    facts.code_bytes = (uint32_t)(board_code_end - board_code_start) +
                       (uint32_t)(board_constants_end - board_constants_start);
    facts.static_bytes = (uint32_t)(board_static_end - board_static_start);
    return &facts;
}

uint64_t port_ticks(void) {
    uint32_t high, low, again;
    do {
        __asm__ volatile("csrr %0, minstreth\n\tcsrr %1, minstret\n\tcsrr %2, minstreth"
                         : "=r"(high), "=r"(low), "=r"(again));
    } while (high != again);
    return (uint64_t)high << 32 | low;
}

void board_wait(void) {
    PRIORITY = 1;
    ENABLE = 1u << UART_LINE;
    THRESHOLD = 0;
    __asm__ volatile("csrs mie, %0\n\twfi" : : "r"(MACHINE_EXTERNAL) : "memory");
    uint32_t line = CLAIM;
    if (line != 0) {
        CLAIM = line;
    }
}
