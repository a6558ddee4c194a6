/* What the two emulated boards share, and what each adds. */
#ifndef EDGEDEPLOY_BARE_BOARD_H
#define EDGEDEPLOY_BARE_BOARD_H

#include <stdint.h>

/* Of a linker script: where things begin and end. */
extern uint8_t board_code_start[], board_code_end[], board_constants_start[], board_constants_end[];
extern uint8_t board_static_start[], board_static_end[], board_stack_low[], board_stack_high[];
extern uint8_t board_fast[], board_fast_end[], board_large[], board_large_end[];
extern uint8_t board_model[], board_model_end[], board_samples[], board_samples_end[];

/* What the start code fills the stack with, to see later how deep it has been. */
#define BOARD_STACK_PAINT 0xa5a5a5a5u

/* Of the board: sleep until the UART holds a byte; it may return early. */
void board_wait(void);

/* Of the start code: all anew, as after power on. */
_Noreturn void board_restart(void);

/* C begins here; the stack is painted, constants and data are in place. */
_Noreturn void board_main(void);

/* A fault of the program: said as text, then the board starts over. */
_Noreturn void board_trap(uint32_t cause, uint32_t pc, uint32_t address);

#endif
