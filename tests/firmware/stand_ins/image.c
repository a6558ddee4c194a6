/* A program at an ESP32-S3's addresses, to be packed as an image; it would not run on one. */
#include <stdint.h>

struct app_description {
    uint32_t magic, secure_version, reserved[2];
    char version[32], project[32], time[16], date[16], idf[32];
    uint8_t elf_sha256[32];
    uint32_t rest[20];
};

const struct app_description description __attribute__((section(".description"), used)) = {
    .magic = 0xabcd5432,
    .version = "1.0.0",
    .project = "edgedeploy",
    .time = "00:00:00",
    .date = "Jan  1 2026",
    .idf = "v5.4",
};

static const uint32_t primes[] = {2, 3, 5, 7, 11, 13};
volatile uint32_t sum;
uint32_t started = 1;

void start(void) {
    for (uint32_t i = 0; i < sizeof primes / sizeof primes[0]; i++) {
        sum += primes[i] * started;
    }
}
