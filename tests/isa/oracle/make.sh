#!/bin/bash
# Builds the oracle's runner for a guest (aarch64, arm, riscv32, riscv64) into a directory and sees to QEMU's user-mode
# emulators; prints both programs, a line each. vixl: builds the oracle that is vixl's simulator, and prints it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
guest=$1 out=$2
source=$here/runner.c runner=$out/runner-$guest
common="-O2 -g -ffreestanding -fno-stack-protector -fno-pie -no-pie -nostdlib -static -Wall -Wl,--build-id=none"
libraries=-lgcc
case $guest in
aarch64) compile="aarch64-linux-gnu-gcc -Wl,-Ttext-segment=0x2b00000000" ;;
arm) compile="arm-linux-gnueabihf-gcc -marm -march=armv7-a+fp -Wl,-Ttext-segment=0x5b000000" ;;
riscv64) compile="riscv64-linux-gnu-gcc -march=rv64gc -mcmodel=medany -Wl,--no-relax -Wl,-Ttext-segment=0x2b00000000" ;;
riscv32) compile="riscv64-linux-gnu-gcc -march=rv32imafdc_zifencei -mabi=ilp32d -Wl,-m,elf32lriscv -Wl,--no-relax -Wl,-Ttext-segment=0x5b000000" ;;
vixl) source=$here/vixl.cc compile=g++ common="-O1 -g -std=c++17 -isystem /usr/include/vixl -DVIXL_INCLUDE_TARGET_A32 -DVIXL_INCLUDE_TARGET_T32"
    common+=" -DVIXL_INCLUDE_TARGET_A64 -DVIXL_INCLUDE_SIMULATOR_AARCH64 -DVIXL_CODE_BUFFER_MMAP -Wall" libraries=-lvixl
    [ -e /usr/include/vixl/aarch64/simulator-aarch64.h ] || { echo "rhea: libvixl-dev is missing: tools/deps.sh test installs it" >&2; exit 1; } ;;
*) echo "no oracle for '$guest'" >&2; exit 2 ;;
esac
command -v "${compile%% *}" >/dev/null || { echo "rhea: ${compile%% *} is missing: tools/deps.sh test installs it" >&2; exit 1; }
mkdir -p "$out"
if [ ! "$runner" -nt "$source" ] || [ ! "$runner" -nt "$here/case.h" ] || [ ! "$runner" -nt "$0" ]; then
    $compile $common "$source" -o "$runner.$$" $libraries
    mv "$runner.$$" "$runner"
fi
[ "$guest" != vixl ] || { printf '%s\n' "$runner"; exit 0; }
qemu=$("$here/../../../tools/guest.sh" qemu-user)
printf '%s\n' "$qemu/qemu-$guest" "$runner"
