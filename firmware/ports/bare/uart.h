/* A 16550 UART. The board says where its registers are, and how far apart. */
#ifndef EDGEDEPLOY_BARE_UART_H
#define EDGEDEPLOY_BARE_UART_H

#include <stdbool.h>
#include <stdint.h>

void uart_start(void);
bool uart_has_byte(void);
uint8_t uart_read(void);
void uart_write(uint8_t byte);

#endif
