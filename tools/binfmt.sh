#!/bin/bash
# Writes binfmt.d files (systemd-binfmt; binfmt_misc of the kernel) that have foreign programs run by rhea-user.
#   tools/binfmt.sh PROGRAM FOLDER [GUEST...]     PROGRAM: absolute path of rhea-user; default: all guests but the host's
# F: the kernel opens rhea-user now, so it works in containers and chroots; P: the program's own argv[0] is kept.
set -eu
program=$1 folder=$2
shift 2
declare -A class=([aarch64]=2 [arm]=1 [riscv64]=2 [riscv32]=1 [i386]=1 [x86_64]=2)
declare -A machine=([aarch64]='\xb7' [arm]='\x28' [riscv64]='\xf3' [riscv32]='\xf3' [i386]='\x03' [x86_64]='\x3e')
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
guests=("$@")
if [ $# = 0 ]; then
    for g in aarch64 arm riscv64 riscv32 i386 x86_64; do
        case $(uname -m)-$g in x86_64-x86_64 | x86_64-i386 | aarch64-aarch64) ;; *) guests+=("$g") ;; esac
    done
fi
mkdir -p "$folder"
for g in "${guests[@]}"; do
    printf '%s\n' ":rhea-$g:M::\\x7fELF\\x0${class[$g]}\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00${machine[$g]}\\x00:$mask:$program:PF" \
        >"$folder/rhea-$g.conf"
done
