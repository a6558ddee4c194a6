# The fuzzers, with address and undefined-behaviour checks. Called by the Makefile above.
CC := clang
FLAGS := -std=c11 -Wall -Wextra -Werror -O1 -g -fno-omit-frame-pointer -I. -DENGINE_MAX_WORK=2000000 \
  -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
LINK := -fsanitize=fuzzer,address,undefined

ifeq ($(shell command -v $(CC)),)
$(error $(CC) is not here; "make system" installs it (clang libclang-rt-dev))
endif
RUNTIME := $(shell $(CC) -print-runtime-dir)
ifeq ($(wildcard $(RUNTIME)/libclang_rt.fuzzer*.a),)
$(error clang's libFuzzer is not here, looked for in $(RUNTIME); "make system" \
installs it (libclang-rt-dev))
endif

CORE := $(wildcard core/*.c)
INTERPRETER := $(wildcard $(ENGINE)/*.c)
NAME = $(BUILD)/fuzz-$(subst /,-,$(basename $(1))).o
OBJECTS := $(foreach source,$(CORE) $(INTERPRETER),$(call NAME,$(source)))
HARNESSES := $(call NAME,fuzz/protocol.c) $(call NAME,fuzz/model.c)

.DELETE_ON_ERROR:
.PHONY: all
all: $(BUILD)/fuzz-protocol $(BUILD)/fuzz-model
	@:

define COMPILE
$(call NAME,$(1)): $(1)
	@mkdir -p $$(BUILD)
	@$$(CC) $$(FLAGS) -MMD -MP -c $$< -o $$@
endef
$(foreach source,$(CORE) $(INTERPRETER) fuzz/protocol.c fuzz/model.c,$(eval $(call COMPILE,$(source))))

# An inference that the harness can end: a host may ask for 2^31 of them.
$(BUILD)/fuzz-protocol: $(OBJECTS) $(call NAME,fuzz/protocol.c)
	@$(CC) $(LINK) -Wl,--wrap=engine_run $^ -o $@

$(BUILD)/fuzz-model: $(foreach source,$(INTERPRETER),$(call NAME,$(source))) $(call NAME,fuzz/model.c)
	@$(CC) $(LINK) $^ -o $@

-include $(OBJECTS:.o=.d) $(HARNESSES:.o=.d)
