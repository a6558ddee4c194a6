#define _GNU_SOURCE

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "core/firmware.h"
#include "ports/posix/options.h"
#include "ports/posix/port.h"

static void fail(const char *what, const char *which) {
    fprintf(stderr, "firmware: %s: ", which);
    perror(what);
    exit(1);
}

/* A pseudo terminal whose other end passes bytes as they are. We keep that end open too, so that a
 * host may come and go. */
static int open_terminal(void) {
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) {
        fail("posix_openpt", "pseudo terminal");
    }
    const char *path = ptsname(terminal);
    int other_end = open(path, O_RDWR | O_NOCTTY);
    struct termios settings;
    if (other_end < 0 || tcgetattr(other_end, &settings) != 0) {
        fail("open", path);
    }
    cfmakeraw(&settings);
    if (tcsetattr(other_end, TCSANOW, &settings) != 0) {
        fail("tcsetattr", path);
    }
    printf("%s\n", path);
    fflush(stdout);
    return terminal;
}

static void *memory(size_t bytes) {
    void *at = mmap(NULL, bytes == 0 ? 1 : bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        fail("mmap", "memory");
    }
    return at;
}

/* Flash that is erased but for the file. */
static uint8_t *open_model(const char *path, uint32_t extent) {
    uint8_t *at = memory(extent);
    memset(at, 0xff, extent);
    if (path == NULL) {
        return at;
    }
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fail("fopen", path);
    }
    fread(at, 1, extent, file);
    if (ferror(file) || fgetc(file) != EOF) {
        fprintf(stderr, "firmware: %s: cannot be read, or is larger than --model-bytes\n", path);
        exit(1);
    }
    fclose(file);
    return at;
}

static uint8_t *open_samples(const char *path, uint32_t *bytes) {
    struct stat found;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0 || fstat(file, &found) != 0) {
        fail("open", path);
    }
    if (found.st_size == 0 || found.st_size > 1 << 30) {
        fprintf(stderr, "firmware: %s: must have 1 byte to 1 GiB\n", path);
        exit(1);
    }
    void *at = mmap(NULL, (size_t)found.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (at == MAP_FAILED) {
        fail("mmap", path);
    }
    close(file);
    *bytes = (uint32_t)found.st_size;
    return at;
}

int main(int count, char **arguments) {
    options chosen = read_options(count, arguments);
    signal(SIGPIPE, SIG_IGN);
    posix_port.arguments = arguments;
    posix_port.argument_count = count;
    posix_port.ends_with_input = chosen.stdio;
    if (chosen.stdio) {
        posix_port.from_host = STDIN_FILENO;
        posix_port.to_host = STDOUT_FILENO;
    } else {
        int terminal = chosen.terminal >= 0 ? chosen.terminal : open_terminal();
        posix_port.from_host = terminal;
        posix_port.to_host = terminal;
    }
    posix_port.model = open_model(chosen.model, chosen.model_bytes);
    posix_port.model_bytes = chosen.model_bytes;
    posix_port.fast = memory(chosen.fast_bytes);
    posix_port.fast_bytes = chosen.fast_bytes;
    posix_port.large = chosen.large_bytes == 0 ? NULL : memory(chosen.large_bytes);
    posix_port.large_bytes = chosen.large_bytes;
    if (chosen.samples != NULL) {
        posix_port.samples = open_samples(chosen.samples, &posix_port.samples_bytes);
    }
    firmware();
    return 0;
}
