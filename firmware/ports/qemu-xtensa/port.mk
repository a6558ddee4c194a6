# An Xtensa board that QEMU executes: -M lx60-nommu -cpu lx106.
CC := xtensa-lx106-elf-gcc
PACKAGES := gcc-xtensa-lx106
PORT_FOLDERS := ports/qemu-xtensa ports/bare
PROGRAM := firmware.elf
# Nothing of a C library is used; the compiler may still know what memcpy does.
PORT_FLAGS := -ffreestanding -fbuiltin -isystem ports/bare/include -mtext-section-literals \
  -mlongcalls -DUART_AT=0x9d050020u -DUART_REGISTER=uint32_t
# Its loops must not become calls of the functions they are.
FLAGS_ports-bare-string := -fno-builtin -fno-tree-loop-distribute-patterns
LINK_SCRIPT := ports/qemu-xtensa/link.ld
LINK_FLAGS := -nostdlib -T $(LINK_SCRIPT) -lgcc
