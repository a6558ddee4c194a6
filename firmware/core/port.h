/* What a board offers the firmware: one file a port. No call allocates, none returns late. */
#ifndef EDGEDEPLOY_PORT_H
#define EDGEDEPLOY_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Facts that do not change while the firmware runs; texts are terminated. */
typedef struct {
    const char *board;    /* "esp32s3", "qemu lx60 lx106", … */
    const char *cpu;      /* "xtensa lx7", "rv32imac", … */
    const char *compiler; /* __VERSION__ of the compiler that built the firmware */
    /* What port_ticks counts: "cycles" on a chip, "instructions" in an emulator, "nanoseconds" in a
     * process of a host. */
    const char *tick_unit;
    uint32_t ticks_per_count; /* a tick counter that moves in steps of so many */
    uint32_t clock_hz;        /* of the processor; 0 where there is none (an emulator) */
    bool virtual_board;       /* true: no figure of this board is a time */
    uint32_t code_bytes;      /* of the firmware's own code and constants */
    uint32_t static_bytes;    /* of its data and zeroed memory, arenas left out */
} port_facts;

const port_facts *port_get_facts(void);

/* A byte from the host, or -1 where none has come within `wait_us` (0: do not wait). A port
 * without a usable clock waits for ever where wait_us is not 0. */
int port_read(uint32_t wait_us);
void port_write(const uint8_t *bytes, size_t count);

/* A counter that only grows, in `tick_unit`. */
uint64_t port_ticks(void);
/* Microseconds since the start; on a virtual board ticks / 1000. */
uint64_t port_microseconds(void);
/* Microseconds and ticks are read one after the other in a loop that times. */

/* A pin that is high exactly while inferences are being timed, for a power meter. */
void port_marker(bool high);

/* The model's place, mapped for reading: its full extent, not the file's size (the file tells
 * that itself). */
const uint8_t *port_model(uint32_t *extent);
/* Memory for an engine's use (see engine_memory): fast, then large. */
void port_arena(uint8_t **fast, uint32_t *fast_bytes, uint8_t **large, uint32_t *large_bytes);
/* Memory that a debug probe or an emulator fills with a set of samples and reads results from;
 * NULL with 0 bytes where the board has none. */
uint8_t *port_samples(uint32_t *bytes);
/* The deepest the stack has been, and its size; 0 and 0 where that is not known. */
void port_stack(uint32_t *deepest, uint32_t *size);

/* Start over, as after power on; does not return. */
void port_reset(void);

#endif
