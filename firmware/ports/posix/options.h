/* The command line of the firmware as a process. */
#ifndef EDGEDEPLOY_POSIX_OPTIONS_H
#define EDGEDEPLOY_POSIX_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    bool stdio;          /* speak over standard input and output, and end with the input */
    int terminal;        /* of a start over: the pseudo terminal opened before; else -1 */
    const char *model;   /* file that lies at the model's place; NULL: erased flash */
    const char *samples; /* file that is the memory for samples, shared with who maps it too */
    uint32_t model_bytes, fast_bytes, large_bytes;
} options;

/* Ends the process with code 2 and a line that says why where the command line is wrong. */
options read_options(int count, char **arguments);

#endif
