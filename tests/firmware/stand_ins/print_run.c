/* Prints what the firmware makes of numbers: lines of a type of core/engine.h, an exponent and the
 * number's bits. */
#include <inttypes.h>
#include <stdio.h>

#include "core/bytes.h"
#include "core/port.h"
#include "core/print.h"

void port_write(const uint8_t *bytes, size_t count) {
    fwrite(bytes, 1, count, stdout);
}

int main(void) {
    unsigned type;
    int exponent;
    uint32_t bits;
    while (scanf("%u %d %" SCNu32, &type, &exponent, &bits) == 3) {
        uint8_t data[4];
        engine_tensor tensor = {.type = (uint8_t)type, .exponent = (int8_t)exponent};
        put_u32(data, bits);
        print_element(&tensor, data, 0);
        print_text("\n");
    }
    print_flush();
    return 0;
}
