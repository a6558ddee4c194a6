# A RISC-V board that QEMU executes: -M virt -cpu rv32 -m 256M -bios none.
CC := riscv64-unknown-elf-gcc
PACKAGES := gcc-riscv64-unknown-elf
PORT_FOLDERS := ports/qemu-riscv ports/bare
PROGRAM := firmware.elf
# Nothing of a C library is used; the compiler may still know what memcpy does.
PORT_FLAGS := -march=rv32imac -misa-spec=2.2 -mabi=ilp32 -mcmodel=medany -mstrict-align \
  -ffreestanding -fbuiltin -isystem ports/bare/include -DUART_AT=0x10000000u -DUART_REGISTER=uint8_t
# Its loops must not become calls of the functions they are.
FLAGS_ports-bare-string := -fno-builtin -fno-tree-loop-distribute-patterns
LINK_SCRIPT := ports/qemu-riscv/link.ld
LINK_FLAGS := -nostdlib -T $(LINK_SCRIPT) -lgcc
