/* The board's start: ESP-IDF calls app_main in the main task, on core 0. */
#include "board.h"
#include "core/firmware.h"
#include "line.h"

void app_main(void) {
    board_start();
    line_start();
    firmware();
}
