#include "core/text.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/engine.h"
#include "core/input.h"
#include "core/deployed.h"
#include "core/port.h"
#include "core/print.h"

/* The largest input of MLPerf Tiny, an image of 96 x 96 x 3 bytes. */
#define BUFFER_BYTES 27648
#define DUMP_LINE 8
#define DEFAULT_WARM_UP 10

static uint8_t buffer[BUFFER_BYTES];
static uint32_t buffer_wanted, buffer_filled;

static char *next_word(char **rest) {
    char *word = *rest;
    while (*word == ' ' || *word == '\r' || *word == '\n' || *word == '\t') {
        word++;
    }
    char *end = word;
    while ((uint8_t)*end > ' ') {
        end++;
    }
    *rest = *end == 0 ? end : end + 1;
    *end = 0;
    return word;
}

/* Decimal digits and nothing else, up to 2^31 - 1. */
static bool read_count(const char *word, uint32_t *count) {
    uint64_t value = 0;
    for (uint32_t i = 0; word[i] != 0; i++) {
        if (word[i] < '0' || word[i] > '9') {
            return false;
        }
        value = value * 10 + (uint32_t)(word[i] - '0');
        if (value > INT32_MAX) {
            return false;
        }
    }
    *count = (uint32_t)value;
    return word[0] != 0;
}

static void error(const char *text) {
    print_text("e-[");
    for (; *text != 0; text++) {
        /* A bracket or the end of a line in a model's own name must not end the message. */
        bool plain = (uint8_t)*text >= ' ' && *text != ']';
        print_part(plain ? text : "?", 1);
    }
    print_text("]\r\n");
}

static void line_of(const char *text, uint64_t value) {
    print_text(text);
    print_number(value);
    print_text("\r\n");
}

static void lap(void) {
    line_of("m-lap-us-", port_microseconds());
}

static void name(char *rest) {
    (void)rest;
    print_text("m-name-dut-[edgedeploy]\r\n");
}

static void timestamp(char *rest) {
    (void)rest;
    lap();
}

static void profile(char *rest) {
    char reason[ENGINE_ERROR_BYTES];
    uint32_t bytes = 0;
    (void)rest;
    const char *id = deployed_need(reason) ? engine_metadata("mlperf", &bytes) : NULL;
    print_text("m-profile-[ULPMark for tinyML Firmware V0.0.1]\r\nm-model-[");
    if (id != NULL && bytes > 0 && bytes <= 16) {
        print_part(id, bytes);
    } else {
        print_text("none");
    }
    print_text("]\r\n");
}

static void buffer_load(char *rest) {
    uint32_t bytes = 0;
    if (!read_count(next_word(&rest), &bytes) || bytes == 0) {
        error("Command 'db load' takes the number of bytes, more than 0");
    } else if (bytes > BUFFER_BYTES) {
        error("The buffer holds 27648 bytes");
    } else {
        buffer_wanted = bytes;
        buffer_filled = 0;
        print_text("m-[Expecting ");
        print_number(bytes);
        print_text(" bytes]\r\n");
    }
}

static void buffer_print(void) {
    for (uint32_t i = 0; i < buffer_filled; i++) {
        print_text(i % DUMP_LINE == 0 ? "m-buffer-" : "-");
        print_hex(buffer[i]);
        if (i % DUMP_LINE == DUMP_LINE - 1 || i + 1 == buffer_filled) {
            print_text("\r\n");
        }
    }
}

static int hex_digit(char character) {
    if (character >= '0' && character <= '9') {
        return character - '0';
    }
    char lower = (char)(character | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static void buffer_add(const char *digits) {
    size_t count = strlen(digits);
    for (size_t i = 0; i < count; i++) {
        if (hex_digit(digits[i]) < 0) {
            error("Command 'db' takes load, print or hex digits");
            return;
        }
    }
    if (count % 2 != 0) {
        error("Command 'db' takes an even number of hex digits");
        return;
    }
    if (buffer_filled == buffer_wanted) {
        error("Command 'db load' comes first");
        return;
    }
    for (size_t i = 0; i < count && buffer_filled < buffer_wanted; i += 2) {
        buffer[buffer_filled++] = (uint8_t)(hex_digit(digits[i]) << 4 | hex_digit(digits[i + 1]));
    }
    if (buffer_filled == buffer_wanted) {
        print_text("m-load-done\r\n");
    }
}

static void db(char *rest) {
    char *word = next_word(&rest);
    if (word[0] == 0) {
        error("Command 'db' takes load, print or hex digits");
    } else if (strcmp(word, "load") == 0) {
        buffer_load(rest);
    } else if (strcmp(word, "print") == 0) {
        buffer_print();
    } else {
        buffer_add(word);
    }
}

static void print_results(void) {
    engine_tensor tensor;
    const char *comma = "";
    print_text("m-results-[");
    for (uint32_t i = 0; i < engine_output_count() && engine_output(i, &tensor); i++) {
        for (uint32_t k = 0; k < deployed_elements_of(&tensor); k++) {
            print_text(comma);
            print_element(&tensor, engine_output_data(i), k);
            comma = ",";
        }
    }
    print_text("]\r\n");
}

static void results(char *rest) {
    char reason[ENGINE_ERROR_BYTES];
    (void)rest;
    if (deployed_need(reason)) {
        print_results();
    } else {
        error(reason);
    }
}

static bool run_times(uint32_t count, char *reason) {
    for (uint32_t i = 0; i < count; i++) {
        if (!deployed_run(NULL, NULL, reason)) {
            error(reason);
            return false;
        }
    }
    return true;
}

static void infer_times(uint32_t count, uint32_t warm_up) {
    char reason[ENGINE_ERROR_BYTES];
    line_of("m-warmup-start-", warm_up);
    print_flush();
    if (!run_times(warm_up, reason)) {
        return;
    }
    print_text("m-warmup-done\r\n");
    line_of("m-infer-start-", count);
    print_flush();
    /* Sent behind the inferences: its time on the line is none of theirs. */
    lap();
    port_marker(true);
    bool done = run_times(count, reason);
    port_marker(false);
    if (done) {
        lap();
        print_text("m-infer-done\r\n");
        print_results();
    }
}

static void infer(char *rest) {
    char reason[ENGINE_ERROR_BYTES];
    uint32_t count = 1, warm_up = DEFAULT_WARM_UP;
    char *first = next_word(&rest), *second = next_word(&rest);
    if (first[0] != 0 && (!read_count(first, &count) || count == 0)) {
        error("Inference iterations must be >0");
    } else if (second[0] != 0 && !read_count(second, &warm_up)) {
        error("Inference warmup must be >=0");
    } else if (!deployed_need(reason)) {
        error(reason);
    } else if (buffer_filled != buffer_wanted) {
        error("The input is not all there: 'db load' announced more bytes");
    } else if (buffer_filled > 0 && !input_take(buffer, buffer_filled)) {
        print_text("e-[The model's input has ");
        print_number(deployed_bytes(DEPLOYED_INPUTS));
        print_text(" bytes, loaded were ");
        print_number(buffer_filled);
        print_text("]\r\n");
    } else {
        infer_times(count, warm_up);
    }
}

static void help(char *rest);

static const struct {
    const char *word;
    void (*carry_out)(char *rest);
    const char *help;
} commands[] = {
    {"help", help, "these commands"},
    {"name", name, "of the device"},
    {"profile", profile, "of the firmware, and the benchmark's model"},
    {"timestamp", timestamp, "microseconds since the start"},
    {"db", db, "load N, then HEX.. until N bytes are there; print"},
    {"infer", infer, "N [W=10]: N inferences after W to warm up"},
    {"results", results, "of the last inference"},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static void help(char *rest) {
    (void)rest;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        print_text(commands[i].word);
        print_text(": ");
        print_text(commands[i].help);
        print_text("\r\n");
    }
}

static void dispatch(char *command) {
    char *rest = command;
    char *word = next_word(&rest);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(word, commands[i].word) == 0) {
            commands[i].carry_out(rest);
            return;
        }
    }
    if (word[0] != 0) {
        error("Unknown command, see help");
    }
}

void text_command(char *command, bool too_long) {
    if (too_long) {
        error("A command has at most 80 bytes");
    } else {
        dispatch(command);
    }
    print_text("m-ready\r\n");
    print_flush();
}

void text_boot(void) {
    buffer_wanted = 0;
    buffer_filled = 0;
    print_text("m-timestamp-mode-performance\r\n");
    lap();
    print_text("m-init-done\r\nm-ready\r\n");
    print_flush();
}
