#include "ports/posix/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: firmware [--stdio] [--model FILE] [--model-bytes N] [--samples FILE]\n"
    "                [--fast-bytes N] [--large-bytes N]\n"
    "Without --stdio it opens a pseudo terminal and prints its path.\n";

static void wrong(const char *what, const char *value) {
    fprintf(stderr, "firmware: %s: %s\n%s", what, value, usage);
    exit(2);
}

static uint32_t number(const char *option, const char *text) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 0);
    if (errno != 0 || end == text || *end != 0 || text[0] == '-' || value > (1u << 30)) {
        wrong(option, text);
    }
    return (uint32_t)value;
}

options read_options(int count, char **arguments) {
    options found = {
        .terminal = -1,
        .model_bytes = 8u << 20,
        .fast_bytes = 320u << 10,
        .large_bytes = 8u << 20,
    };
    for (int i = 1; i < count; i++) {
        const char *option = arguments[i];
        if (strcmp(option, "--stdio") == 0) {
            found.stdio = true;
            continue;
        }
        if (i + 1 == count) {
            wrong("an option that is unknown or has no value", option);
        }
        const char *value = arguments[++i];
        if (strcmp(option, "--model") == 0) {
            found.model = value;
        } else if (strcmp(option, "--samples") == 0) {
            found.samples = value;
        } else if (strcmp(option, "--model-bytes") == 0) {
            found.model_bytes = number(option, value);
        } else if (strcmp(option, "--fast-bytes") == 0) {
            found.fast_bytes = number(option, value);
        } else if (strcmp(option, "--large-bytes") == 0) {
            found.large_bytes = number(option, value);
        } else if (strcmp(option, "--terminal") == 0) {
            found.terminal = (int)number(option, value);
        } else {
            wrong("an unknown option", option);
        }
    }
    return found;
}
