#!/bin/bash
# Installs the Debian packages that a step needs, if any is missing: build, guest (images and kernels), test, bench.
set -eu
declare -A packages=(
  [build]="gcc libc6-dev meson ninja-build ccache pkg-config python3 python3-yaml git
           libglib2.0-dev libjson-c-dev liburing-dev libcapstone-dev libslirp-dev zlib1g-dev libzstd-dev libdeflate-dev libseccomp-dev libfdt-dev
           libgcrypt20-dev libbz2-dev libcurl4-gnutls-dev libgnutls28-dev libfuse3-dev libssh-dev libiscsi-dev libnfs-dev librbd-dev"
  [guest]="mmdebstrap debootstrap kmod e2fsprogs cpio gzip xz-utils ca-certificates apt-utils openssh-client busybox-static iproute2 qemu-user-static arch-test mtools"
  [test]="qemu-utils e2fsprogs cryptsetup-bin libnbd-bin nbdkit tgt fio mtools dosfstools gnutls-bin fuse3 qemu-system-x86 binutils openssh-client python3-pexpect socat acpica-tools dmidecode seabios gdb gdb-multiarch busybox-static
          libvirt-clients libvirt-daemon libvirt-daemon-driver-qemu iproute2 kmod
          gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf gcc-riscv64-linux-gnu libc6-dev-arm64-cross libc6-dev-armhf-cross
          libc6-dev-riscv64-cross libc6-dev-i386-cross libgcc-12-dev-i386-cross gcc-i686-linux-gnu
          g++ libvixl-dev golang-go opensbi device-tree-compiler qemu-efi-aarch64 u-boot-qemu
          snek picolibc-riscv64-unknown-elf picolibc-arm-none-eabi picolibc-aarch64-linux-gnu"
  [bench]="libnbd-bin qemu-system-x86 qemu-system-arm qemu-system-misc qemu-utils hyperfine gcc-aarch64-linux-gnu libc6-dev-arm64-cross
           gcc-arm-linux-gnueabihf libc6-dev-armhf-cross gcc-riscv64-linux-gnu libc6-dev-riscv64-cross"
)
want=""
for step in "$@"; do want+=" ${packages[$step]}"; done
missing=""
for p in $want; do
    dpkg-query -W -f '${Status}\n' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=" $p"
done
[ -n "$missing" ] || exit 0
sudo=""
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "rhea: missing packages:$missing
      install them as root: apt-get install$missing" >&2; exit 1; }
    sudo=sudo
fi
echo "Installing:$missing"
log=$(mktemp)
if ! { $sudo apt-get update -q && DEBIAN_FRONTEND=noninteractive $sudo apt-get -o DPkg::Lock::Timeout=600 install -qy --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "rhea: apt-get could not install:$missing
      mend the package sources, or install them by hand" >&2
    exit 1
fi
rm -f "$log"
