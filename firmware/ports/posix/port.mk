# The firmware as a process of this host, on a pseudo terminal.
CC := gcc
PACKAGES := gcc
PORT_FOLDERS := ports/posix
PROGRAM := firmware
ifeq ($(SANITIZE),1)
PORT_FLAGS := -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined
endif
