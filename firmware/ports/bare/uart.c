#include "ports/bare/uart.h"

/* UART_AT and UART_REGISTER (the type of one) come from the port's build. */
#define UART ((volatile UART_REGISTER *)UART_AT)

enum { DATA, INTERRUPTS, FIFO, LINE_CONTROL, MODEM_CONTROL, LINE_STATUS };

#define HAS_BYTE 0x01
#define CAN_SEND 0x20
#define FIFO_CLEARED 0x07
#define EIGHT_BITS 0x03
#define ON_BYTE 0x01

void uart_start(void) {
    UART[LINE_CONTROL] = EIGHT_BITS;
    UART[FIFO] = FIFO_CLEARED;
    UART[INTERRUPTS] = ON_BYTE;
}

bool uart_has_byte(void) {
    return UART[LINE_STATUS] & HAS_BYTE;
}

uint8_t uart_read(void) {
    return (uint8_t)UART[DATA];
}

void uart_write(uint8_t byte) {
    while (!(UART[LINE_STATUS] & CAN_SEND)) {
    }
    UART[DATA] = byte;
}
