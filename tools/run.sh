#!/bin/bash
# The main job: boots Debian 12 from a qcow2 virtio disk to a login prompt in this terminal. Changes stay in an overlay
# in the cache directory; RHEA_FRESH=1 begins anew. RHEA_ARGS adds options.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${BUILD:-$here/../build}
guest=$("$here/guest.sh" debian)
. "$here/cache.sh"
disk=$cache/run.qcow2
[ -z "${RHEA_FRESH:-}" ] || rm -f "$disk"
# An overlay of an image that was made anew since is useless.
if [ ! -e "$disk" ] || [ "$guest/root.qcow2" -nt "$disk" ]; then
    rm -f "$disk"
    "$build/bin/rhea-img" create -q -f qcow2 -b "$guest/root.qcow2" -F qcow2 "$disk"
fi
port=${RHEA_SSH_PORT:-2222}
while ss -ltn 2>/dev/null | grep -q "127.0.0.1:$port "; do port=$((port + 1)); done
echo "Debian 12 boots. Log in as root, no password. From another terminal:
    ssh -i $guest/ssh_key -o StrictHostKeyChecking=no -p $port root@127.0.0.1
'poweroff' in the guest ends it; Ctrl-a x ends it at once, Ctrl-a c opens the monitor."
exec "$build/bin/rhea-system-x86_64" -machine q35 -smp "${RHEA_SMP:-2}" -m "${RHEA_MEM:-1G}" -nographic -no-reboot \
    -kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" -append "root=/dev/vda rw console=ttyS0 quiet" \
    -drive file="$disk",if=virtio,format=qcow2 \
    -netdev user,id=net0,hostfwd=tcp:127.0.0.1:"$port"-:22 -device virtio-net-pci,netdev=net0 \
    -device virtio-rng-pci ${RHEA_ARGS:-}
