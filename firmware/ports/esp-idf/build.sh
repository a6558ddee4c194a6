#!/bin/sh
# build.sh BOARD: the firmware of a board by ESP-IDF, into build/BOARD. Exit code 3: it is missing.
exec python3 "$(dirname "$0")/build.py" "$@"
