/* The board's pin and memory, made ready once. */
#ifndef EDGEDEPLOY_ESP_IDF_BOARD_H
#define EDGEDEPLOY_ESP_IDF_BOARD_H

void board_start(void);

#endif
