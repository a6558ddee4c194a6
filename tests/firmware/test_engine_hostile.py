"""Files that are cut, damaged or made up never harm the engine: it refuses them, or runs."""

import random
import shutil
import subprocess
import time
from pathlib import Path

import engine_host as host
import pytest

# a run is bounded by the engine itself; here as low as a network of this size allows
FLAGS = ("-DENGINE_MAX_WORK=1000000",)
SECONDS = 6.0

# reads a list of files from its arguments, each as "PATH SIZE" with bytes behind SIZE not mapped
DRIVER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine.h"

static uint8_t fast[1 << 16] __attribute__((aligned(16)));
static uint8_t large[1 << 18] __attribute__((aligned(16)));

static int attempt(const uint8_t *bytes, size_t size) {
    char error[ENGINE_ERROR_BYTES];
    engine_check check;
    engine_memory memory = {fast, sizeof fast, large, sizeof large};
    uint8_t *file = aligned_alloc(16, (size + 16) / 16 * 16);
    uint32_t count;
    /* at the end of the allocation, so that a read behind it is seen */
    memcpy(file, bytes, size);
    int loaded = engine_load(file, (uint32_t)size, &memory, error);
    if (loaded) {
        engine_run(NULL, NULL, error);
        engine_self_test(&check, error);
        engine_metadata("edgedeploy", &count);
    } else if (error[0] == 0 || memchr(error, 0, sizeof error) == NULL) {
        abort();
    }
    free(file);
    return loaded;
}

int main(int argc, char **argv) {
    static uint8_t bytes[1 << 20];
    FILE *file = fopen(argv[1], "rb");
    size_t size = fread(bytes, 1, sizeof bytes, file);
    unsigned seed = (unsigned)atoi(argv[2]);
    int rounds = atoi(argv[3]), loaded = 0;
    static uint8_t changed[1 << 20];
    (void)argc;
    for (size_t cut = 0; rounds == 0 && cut < size; cut++) {
        loaded += attempt(bytes, cut);
        memcpy(changed, bytes, cut);
        if (cut > 16) { /* cut, and the header says so */
            uint32_t left = (uint32_t)cut - 16;
            memcpy(changed + 8, &left, 4);
            attempt(changed, cut);
        }
    }
    srand(seed);
    for (int round = 0; round < rounds; round++) {
        memcpy(changed, bytes, size);
        for (int flips = 1 + rand() % 4; flips > 0; flips--) {
            size_t at = (size_t)rand() % size;
            int kind = rand() % 4;
            if (kind == 0) {
                changed[at] ^= (uint8_t)(1 << rand() % 8);
            } else if (kind == 1) {
                changed[at] = (uint8_t)rand();
            } else {
                static const uint32_t odd[] = {0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff,
                                               0x80000000, 0xffffffff, 16, 4096, 1u << 28};
                uint32_t value = odd[(size_t)rand() % (sizeof odd / sizeof odd[0])];
                at = at / 4 * 4;
                memcpy(changed + at, &value, at + 4 <= size ? 4 : 0);
            }
        }
        loaded += attempt(changed, size);
    }
    printf("%d\n", loaded);
    return 0;
}
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine with address and undefined-behaviour checks, and a program that feeds it."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not here")
    folder = tmp_path_factory.mktemp("hostile")
    source, program = folder / "driver.c", folder / "driver"
    source.write_text(DRIVER)
    command = [compiler, "-std=gnu11", "-O1", "-g", "-fsanitize=address,undefined", *FLAGS]
    command += ["-fno-sanitize-recover=all", f"-I{host.FIRMWARE}", str(source)]
    command += sorted(str(path) for path in (host.FIRMWARE / "engine").glob("*.c"))
    done = subprocess.run(
        [*command, "-o", str(program)], capture_output=True, text=True, check=False
    )
    if "cannot find -lasan" in done.stderr or "cannot find -lubsan" in done.stderr:
        pytest.skip("gcc has no sanitizers here")
    assert done.returncode == 0, done.stderr
    return program


def feed(driver: Path, name: str, seed: int, rounds: int) -> int:
    """How many of the files loaded all the same."""
    command = [str(driver), str(host.networks() / f"{name}.espdl"), str(seed), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
    return int(done.stdout)


def test_a_file_cut_anywhere_is_refused(driver: Path) -> None:
    assert feed(driver, "odds", 0, 0) == 0


@pytest.mark.parametrize("name", ["mobile", "places", "sixteen", "pools", "odds", "up"])
def test_damaged_files_do_no_harm(driver: Path, name: str) -> None:
    seed, start, loaded = 0, time.monotonic(), 0
    while seed < 4 and time.monotonic() - start < SECONDS:
        loaded += feed(driver, name, seed, 1000)
        seed += 1
    assert 0 < loaded < 1000 * seed


def test_made_up_bytes_are_refused() -> None:
    draw = random.Random(0)
    for _ in range(300):
        size = draw.randrange(0, 400)
        body = draw.randbytes(size)
        header = b"EDL2" + bytes(4) + size.to_bytes(4, "little") + bytes(4)
        with pytest.raises(host.Refused, match=r"\w"):
            host.Engine(header + body)


def test_a_file_that_asks_for_endless_work_is_refused() -> None:
    file = (host.networks() / "windows.espdl").read_bytes()
    host.Engine(file)
    with pytest.raises(host.Refused, match="takes 0 million operations, more than any"):
        host.Engine(file, "-DENGINE_MAX_WORK=100000")
