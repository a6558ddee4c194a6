#define _GNU_SOURCE

#include "core/port.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ports/posix/port.h"

#define READ_BYTES 4096
#define NANO 1000000000u

posix_resources posix_port;

static uint8_t read_bytes[READ_BYTES];
static size_t read_at, read_end;
static uint64_t start_ns;

extern const char __executable_start[], etext[], edata[], end[];

#if defined(__x86_64__)
#define CPU "x86-64"
#elif defined(__aarch64__)
#define CPU "aarch64"
#else
#define CPU "of this host"
#endif

const port_facts *port_get_facts(void) {
    static port_facts facts = {
        .board = "posix process",
        .cpu = CPU,
        .compiler = __VERSION__,
        .tick_unit = "nanoseconds",
        .ticks_per_count = 1,
        .clock_hz = 0,
        /* What a process on a busy host takes is no board's time. */
        .virtual_board = true,
    };
    facts.code_bytes = (uint32_t)(etext - __executable_start);
    facts.static_bytes = (uint32_t)(end - etext);
    return &facts;
}

static bool has_input(int wait_ms) {
    struct pollfd line = {.fd = posix_port.from_host, .events = POLLIN};
    return poll(&line, 1, wait_ms) > 0;
}

int port_read(uint32_t wait_us) {
    if (read_at < read_end) {
        return read_bytes[read_at++];
    }
    if (!has_input((int)((wait_us + 999) / 1000))) {
        return -1;
    }
    ssize_t count = read(posix_port.from_host, read_bytes, sizeof read_bytes);
    if (count <= 0) {
        if (count == 0 || errno != EINTR) {
            exit(posix_port.ends_with_input ? 0 : 1);
        }
        return -1;
    }
    read_at = 1;
    read_end = (size_t)count;
    return read_bytes[0];
}

void port_write(const uint8_t *bytes, size_t count) {
    while (count > 0) {
        ssize_t written = write(posix_port.to_host, bytes, count);
        if (written < 0 && errno != EINTR) {
            exit(1);
        }
        if (written > 0) {
            bytes += written;
            count -= (size_t)written;
        }
    }
}

uint64_t port_ticks(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t ns = (uint64_t)now.tv_sec * NANO + (uint64_t)now.tv_nsec;
    if (start_ns == 0) {
        start_ns = ns;
    }
    return ns - start_ns;
}

uint64_t port_microseconds(void) {
    return port_ticks() / 1000;
}

void port_marker(bool high) {
    (void)high;
}

const uint8_t *port_model(uint32_t *extent) {
    *extent = posix_port.model_bytes;
    return posix_port.model;
}

void port_arena(uint8_t **fast, uint32_t *fast_bytes, uint8_t **large, uint32_t *large_bytes) {
    *fast = posix_port.fast;
    *fast_bytes = posix_port.fast_bytes;
    *large = posix_port.large;
    *large_bytes = posix_port.large_bytes;
}

uint8_t *port_samples(uint32_t *bytes) {
    *bytes = posix_port.samples_bytes;
    return posix_port.samples;
}

void port_stack(uint32_t *deepest, uint32_t *size) {
    *deepest = 0;
    *size = 0;
}

/* The same program anew, on the same terminal, whose path the host knows. */
void port_reset(void) {
    char terminal[16];
    char *arguments[posix_port.argument_count + 3];
    int count = 0;
    for (int i = 0; i < posix_port.argument_count; i++) {
        if (strcmp(posix_port.arguments[i], "--terminal") == 0) {
            i++;
        } else {
            arguments[count++] = posix_port.arguments[i];
        }
    }
    if (!posix_port.ends_with_input) {
        snprintf(terminal, sizeof terminal, "%d", posix_port.from_host);
        arguments[count++] = "--terminal";
        arguments[count++] = terminal;
    }
    arguments[count] = NULL;
    execv("/proc/self/exe", arguments);
    perror("firmware: execv");
    exit(1);
}
