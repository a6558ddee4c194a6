/* What the process was given, for the port's functions. */
#ifndef EDGEDEPLOY_POSIX_PORT_H
#define EDGEDEPLOY_POSIX_PORT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    char **arguments;
    int argument_count;
    int from_host, to_host;
    bool ends_with_input;
    uint8_t *model, *fast, *large, *samples;
    uint32_t model_bytes, fast_bytes, large_bytes, samples_bytes;
} posix_resources;

extern posix_resources posix_port;

#endif
