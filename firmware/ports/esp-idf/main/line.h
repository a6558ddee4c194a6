/* The line to the host: the chip's USB serial port, or UART 0. */
#ifndef EDGEDEPLOY_ESP_IDF_LINE_H
#define EDGEDEPLOY_ESP_IDF_LINE_H

void line_start(void);
/* Wait until all written bytes have left. */
void line_drain(void);

#endif
