#!/bin/bash
# build.sh 64|32 OUT: the bare-metal test as a raw image for -bios.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ "$1" = 64 ] && flags="-march=rv64imac_zicsr_zifencei -mabi=lp64" || flags="-march=rv32imac_zicsr_zifencei -mabi=ilp32"
riscv64-linux-gnu-gcc $flags -mcmodel=medany -O1 -g -ffreestanding -fno-pic -fno-stack-protector -nostdlib -static -Wl,--build-id=none \
    -Wl,--no-warn-rwx-segments -T "$here/test.ld" "$here/start.S" "$here/system.c" -o "$2.elf"
riscv64-linux-gnu-objcopy -O binary "$2.elf" "$2"
