# Sourced by guest.sh: a Debian disk of another architecture, without anything of that architecture running here but under
# Rhea. debootstrap's first stage unpacks; the second, which runs the packages' scripts, is the disk's first boot.
#
# The kernel is not installed as a package (its scripts would make an initramfs, which takes an emulated machine minutes):
# its modules are copied, and the initramfs is busybox with those that reach the disk.

# The kernel of a machine without firmware, and an initramfs that mounts /dev/vda and starts init= of the command line.
foreign_kernel() { # directory suite architecture package
    local dir=$1 suite=$2 arch=$3 root=$1/initramfs release m
    fetch "$suite" "$dir/kernel" "$4" "$arch"
    fetch "$suite" "$dir/busybox" busybox-static "$arch"
    [ -e "$dir/kernel/lib" ] || ln -s usr/lib "$dir/kernel/lib"         # where later kernels have them
    release=$(ls "$dir"/kernel/lib/modules)
    cp "$dir"/kernel/boot/vmlinu[xz]-* "$dir/vmlinuz"
    depmod -b "$dir/kernel" "$release"
    mkdir -p "$root"/{bin,dev,proc,sys,new,modules}
    cp "$(find "$dir/busybox" -path '*/bin/busybox')" "$root/bin/"
    modprobe -S "$release" -d "$dir/kernel" -a --show-depends virtio_mmio virtio_pci virtio_blk virtio_net ext4 2>/dev/null |
        awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r m; do
            cp "$m" "$root/modules/"; basename "$m"
        done > "$root/modules/order"
    cp "$here/initramfs-disk" "$root/init"; chmod +x "$root/init"
    (cd "$root" && find . | cpio -o -H newc --quiet --owner 0:0 | gzip -1) > "$dir/initrd.img"
}

foreign_unpack() { # directory suite architecture packages
    local tree=$1/tree
    debootstrap --foreign --arch="$3" --variant=minbase --include="$4" "$(suite "$2" "$3")" "$tree" "$(mirror)"
    mkdir -p "$tree/lib/modules" "$tree/root/.ssh"
    cp -a "$1"/kernel/lib/modules/* "$tree/lib/modules/"
    cp "$1/ssh_key.pub" "$tree/root/.ssh/authorized_keys"; chmod -R go= "$tree/root/.ssh"
    cp "$here/second-stage" "$tree/second-stage"; chmod +x "$tree/second-stage"
    truncate -s 4G "$1/root.raw"
    mkfs.ext4 -q -F -L root -d "$tree" "$1/root.raw"
    rm -rf "$tree"
}

foreign_first_boot() { # directory architecture console emulator arguments...
    local dir=$1 tty=$3; shift 3
    "$build/bin/$1" "${@:2}" -m 1G -smp 2 -display none -serial "file:$dir/console" -kernel "$dir/vmlinuz" -initrd "$dir/initrd.img" \
        -append "console=$tty rw init=/second-stage panic=-1" -no-reboot -drive "file=$dir/root.raw,if=virtio,format=raw,cache=unsafe"
    cat "$dir/console"
    grep -q "second stage: done" "$dir/console"
}

foreign() { # name suite architecture console kernel-package packages emulator arguments...
    local out=$cache/$1-v$version tmp=$cache/$1.tmp suite=$2 arch=$3 tty=$4 kernel=$5 packages=$6; shift 6
    rm -rf "$tmp" "$out"; mkdir -p "$tmp"
    ssh-keygen -q -t ed25519 -N '' -C rhea -f "$tmp/ssh_key"
    progress "Fetching a kernel for $arch" foreign_kernel "$tmp" "$suite" "$arch" "$kernel"
    progress "Unpacking Debian $suite for $arch" foreign_unpack "$tmp" "$suite" "$arch" "$packages"
    progress "Setting it up under Rhea" foreign_first_boot "$tmp" "$arch" "$tty" "$@"
    "$build/bin/rhea-img" convert -O qcow2 "$tmp/root.raw" "$tmp/root.qcow2"
    rm -rf "$tmp"/{root.raw,kernel,busybox,initramfs}
    touch "$tmp/done"; mv "$tmp" "$out"
}

# A tree for user mode, unpacked here and set up by its own programs under rhea-user.
chroot_unpack() { # directory suite architecture packages
    local run=
    [ "$(id -u)" = 0 ] || run="unshare --map-auto --map-root-user"
    $run debootstrap --foreign --arch="$3" --variant=minbase --include="$4" "$(suite "$2" "$3")" "$1/tree" "$(mirror)"
    $run bash -euc 'printf "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n" > "$1/etc/dpkg/dpkg.cfg.d/rhea"' - "$1/tree"
}

chroot_tree() { # name suite architecture packages
    local out=$cache/$1-v$version tmp=$cache/$1.tmp
    [ "$(id -u)" = 0 ] || unshare --map-auto --map-root-user rm -rf "$tmp" "$out"
    rm -rf "$tmp" "$out"; mkdir -p "$tmp"
    progress "Unpacking Debian $2 for $3" chroot_unpack "$tmp" "$2" "$3" "$4"
    progress "Setting it up under rhea-user" env RHEA_USER="$build/bin/rhea-user" "$here/chroot-enter" -w "$tmp/tree" /debootstrap/debootstrap --second-stage
    touch "$tmp/done"; mv "$tmp" "$out"
}
