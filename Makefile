# make deploy: set everything up and deploy. make test: set everything up and test.
# Variables of `make deploy`: TARGET (several, with commas), WORKLOAD (a name or a path), PRECISION,
# PORT (the serial port of a board), BESIDE (a workload that runs on the device at the same time),
# EMULATE=1 (an accuracy from this host where a toolchain is missing), STRICT=1 (a toolchain that did
# less than asked fails its row).
TARGET ?= host
WORKLOAD ?= digits
PRECISION ?=
PORT ?=
BESIDE ?=
EMULATE ?=
STRICT ?=
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OPTIONS := $(if $(PRECISION),--precision $(PRECISION)) $(if $(PORT),--port $(PORT)) \
  $(if $(BESIDE),--beside $(BESIDE)) $(if $(EMULATE),--emulate) $(if $(STRICT),--strict)

.PHONY: deploy test lint doctor bench wheel schema lock system toolchain firmware clean

deploy: $(VENV)/ready
	$(BIN)/edgedeploy deploy $(WORKLOAD) --target $(TARGET) $(OPTIONS)

doctor: $(VENV)/ready
	$(BIN)/edgedeploy doctor

test: $(VENV)/ready-dev
	$(BIN)/pytest -n 2 -m "not hardware and not slow" $(TESTS)

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/ready
	$(BIN)/python benchmarks/run.py

wheel: $(VENV)/ready
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

# The published schemas, made from the records.
schema: $(VENV)/ready
	$(BIN)/python -m edgedeploy.schemas

# System packages that some tests need: a browser for the HTML report, a fuzzer's compiler, an SSH
# server (the tests start their own on loopback; where systemd runs, the package starts one as well).
system: toolchain
	apt-get install --yes --no-install-recommends chromium clang libclang-rt-dev \
	  openssh-server openssh-client

# System packages of the virtual boards: cross compilers and the emulator.
toolchain:
	apt-get update
	apt-get install --yes --no-install-recommends make gcc libc6-dev gcc-xtensa-lx106 \
	  gcc-riscv64-unknown-elf qemu-system-misc

# The firmware of a board with the vendor's own toolchain; CONTAINER=1 runs it in its container.
firmware:
	firmware/ports/esp-idf/build.sh $(TARGET)

# Pins anew from what is installed; look at the difference before committing it.
lock: $(VENV)/ready-dev
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > new.lock

$(VENV)/python-checked:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "edgedeploy needs Python 3.11 or later; $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>&1). Run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/ready: $(VENV)/python-checked requirements.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	@touch $@

clean:
	rm -rf $(VENV) dist build
