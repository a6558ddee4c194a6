#include "ports/bare/board.h"

#include "core/port.h"

/* The core counts at 40 MHz, and under -icount shift=0 an instruction takes a nanosecond: the
 * counter moves once in so many instructions. */
#define STEP 25u
#define UART_INTERRUPT 1u

static uint32_t last_count;
static uint64_t counts;

const port_facts *port_get_facts(void) {
    static port_facts facts = {
        .board = "qemu lx60-nommu lx106",
        .cpu = "xtensa lx106",
        .compiler = "gcc " __VERSION__,
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

/* To the instruction all the same: 25 readings, two instructions apart, see the counter at every
 * place between two of its steps. The sum over k = 0..24 of floor((n + 2 k) / 25) is n + 12 for any
 * n, 2 and 25 having no common divisor; so readings that begin n instructions after the start add
 * up to n + 12. The counter of 32 bits goes round every 107 * 10^9 instructions, which is more than
 * an inference takes. */
uint64_t port_ticks(void) {
    uint32_t first, reading, sum;
    __asm__ volatile("rsr %0, ccount\n\t"
                     "mov %2, %0\n\t"
                     ".rept 24\n\t"
                     "rsr %1, ccount\n\t"
                     "add %2, %2, %1\n\t"
                     ".endr"
                     : "=&a"(first), "=&a"(reading), "=&a"(sum));
    counts += first - last_count;
    last_count = first;
    return counts * STEP + (sum - first * STEP - 12);
}

void board_wait(void) {
    __asm__ volatile("wsr %0, intenable\n\trsync\n\twaiti 0\n\trsil a15, 1"
                     :
                     : "a"(UART_INTERRUPT)
                     : "a15", "memory");
}
