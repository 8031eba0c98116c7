#!/bin/bash
# Makes guests from Debian's packages, once, in the cache directory, and prints where each lies.
#
#   guest.sh debian        Debian 12 amd64 with systemd, network and ssh: root.qcow2, vmlinuz, initrd.img, ssh key
#   guest.sh debian-arm64, debian-riscv64   the same for these machines (riscv64: Debian 13), set up by a first boot under Rhea
#   guest.sh debian-test, debian-test-arm64, debian-test-armhf, debian-test-riscv64   the same with compilers, python3, openssl and
#                          stress-ng
#   guest.sh chroot ARCH   a Debian tree for user mode, set up under rhea-user: arm64, armhf, armel, i386, amd64, riscv64 (Debian 13)
#   guest.sh qemu-user     QEMU 10's user-mode emulators, trixie's: what tests/isa and make bench compare with
#   guest.sh runtimes ARCH language runtimes of Debian 13 for arm64, amd64, armhf, i386, riscv64: a folder for rhea-user's -L
#   guest.sh kernel NAME   a kernel and a busybox initramfs: cloud, stock (bookworm), trixie-cloud, trixie-stock, installer;
#                          of other machines: arm64-cloud, arm64-trixie, armhf ... (see kernel_rows)
#   guest.sh efi KERNEL LOADER   a disk from which EDK2 starts that kernel: systemd-boot, grub, xen; disk.raw
#   guest.sh riscv-firmware   trixie's OpenSBI of both widths, U-Boot and EDK2 for RISC-V
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/cache.sh"
. "$here/guest-foreign.sh"
version=3                       # of the recipes below: raise it to have images made again
build=${BUILD:-$here/../build}
mirror() { # suite: the sources of this machine, whose mirror is known to answer
    local uri
    uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -v security | head -n 1)
    printf '%s\n' "${uri:-http://deb.debian.org/debian/}"
}
# The name under which the mirror's index of packages is the one its Release file tells of. While a mirror updates itself they
# differ, which apt refuses; by its other name the suite may still be what it was before.
suite() { # codename architecture
    python3 - "$(mirror)" "$1" "$2" <<'END'
import sys, urllib.request
mirror, codename, arch = sys.argv[1:]
path = f"main/binary-{arch}/Packages.xz"

def agrees(name):
    try:
        release = urllib.request.urlopen(f"{mirror}dists/{name}/Release", timeout=60).read().decode()
        sizes = [line.split()[1] for line in release.split("SHA256:")[1].splitlines() if line.endswith(" " + path)]
        head = urllib.request.Request(f"{mirror}dists/{name}/{path}", method="HEAD")
        return f"\nCodename: {codename}\n" in release and [urllib.request.urlopen(head, timeout=60).headers["Content-Length"]] == sizes
    except (OSError, LookupError):
        return False

print(next((name for name in (codename, "stable", "oldstable") if agrees(name)), codename))
END
}
say() { printf '%s\n' "$*" >&2; }

# Runs a long step with a line that shows that it lives.
progress() { # text command...
    local text=$1 log; shift
    log=$(mktemp)
    ( "$@" ) >"$log" 2>&1 &
    local pid=$! start=$SECONDS
    while kill -0 $pid 2>/dev/null; do
        [ -t 2 ] && printf '\r%s ... %ds ' "$text" $((SECONDS - start)) >&2
        sleep 0.5
    done
    if wait $pid; then
        [ -t 2 ] && printf '\r' >&2
        say "$text: done in $((SECONDS - start)) s"
        rm -f "$log"
    else
        say; tail -n 30 "$log" >&2; say "rhea: $text failed (whole log: $log)"; return 1
    fi
}

# One at a time makes a guest; who comes second finds it made. Guests that are there need no lock.
make_once() { # directory function arguments...
    local out=$1; shift
    if [ ! -e "$out/done" ]; then
        exec 9>"$out.lock"
        flock -n 9 || { say "waiting for another process that makes $(basename "$out")"; flock 9; }
        [ -e "$out/done" ] || "$@"
        exec 9>&-
    fi
    printf '%s\n' "$out"
}

debian() { # name packages
    local out=$cache/$1-v$version extra=$2 tmp mode
    tmp=$cache/$1.tmp; rm -rf "$tmp" "$out"; mkdir -p "$tmp"
    ssh-keygen -q -t ed25519 -N '' -C rhea -f "$tmp/ssh_key"
    [ "$(id -u)" = 0 ] && mode=root || mode=unshare
    progress "Making a Debian 12 file system" mmdebstrap --mode=$mode --variant=minbase \
        --include=linux-image-cloud-amd64,initramfs-tools,systemd-sysv,systemd-resolved,udev,dbus,openssh-server,iproute2,iputils-ping,ca-certificates,wget,procps,kmod,less,login,apt,$extra \
        --aptopt='Acquire::Languages "none"' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --customize-hook='echo rhea > "$1/etc/hostname"; echo "127.0.1.1 rhea" >> "$1/etc/hosts"' \
        --customize-hook='printf "[Match]\nName=e*\n[Network]\nDHCP=yes\n" > "$1/etc/systemd/network/80-all.network"' \
        --customize-hook='chroot "$1" systemctl enable systemd-networkd systemd-resolved ssh serial-getty@ttyS0 >/dev/null' \
        --customize-hook='chroot "$1" passwd -d root; printf "PermitRootLogin yes\nPermitEmptyPasswords yes\nUseDNS no\n" > "$1/etc/ssh/sshd_config.d/rhea.conf"' \
        --customize-hook='mkdir -p "$1/root/.ssh"; cp '"$tmp"'/ssh_key.pub "$1/root/.ssh/authorized_keys"; chmod -R go= "$1/root/.ssh"' \
        --customize-hook='printf "/dev/vda / ext4 rw,relatime 0 1\n" > "$1/etc/fstab"' \
        --customize-hook='printf "\nDebian 12 on Rhea: log in as root, no password. poweroff ends it, Ctrl-a x too.\n\n" >> "$1/etc/issue"' \
        --customize-hook='cp -L "$1"/vmlinuz "$1"/initrd.img '"$tmp/" \
        bookworm "$tmp/root.tar" "deb $(mirror) $(suite bookworm amd64) main"
    progress "Making its disk image" make_image "$tmp"
    touch "$tmp/done"; mv "$tmp" "$out"
}

make_image() { # directory with root.tar
    local tree=$1/tree
    mkdir "$tree"
    if [ "$(id -u)" = 0 ]; then
        tar -C "$tree" --numeric-owner -xpf "$1/root.tar"
        truncate -s 4G "$1/root.raw"
        mkfs.ext4 -q -F -L root -d "$tree" "$1/root.raw"
    else
        unshare --map-auto --map-root-user bash -euc 'tar -C "$1/tree" --numeric-owner -xpf "$1/root.tar"; truncate -s 4G "$1/root.raw"; mkfs.ext4 -q -F -L root -d "$1/tree" "$1/root.raw"; rm -rf "$1/tree"' - "$1"
    fi
    "$build/bin/rhea-img" convert -O qcow2 "$1/root.raw" "$1/root.qcow2"
    rm -rf "$tree" "$1/root.raw" "$1/root.tar"
}

# An unpacked Debian package of another suite, through a private apt configuration.
fetch() { # suite directory package-pattern [architecture]
    local suite=$1 dir=$2 pattern=$3 arch=${4:-amd64} apt=$cache/apt-$1${4:+-$4}
    mkdir -p "$dir" "$apt"/{lists/partial,archives/partial}
    exec 8>"$apt/lock"; flock 8
    local o=(-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$apt/lists"
             -o Dir::Cache="$apt" -o Dir::State::status=/dev/null -o APT::Architecture=$arch -o APT::Architectures=$arch -o Acquire::Languages=none -qq)
    if [ -z "$(find "$apt/lists" -name '*Packages*' -mmin -600 2>/dev/null)" ]; then
        echo "deb [trusted=yes] $(mirror) $(suite "$suite" "$arch") main" > "$apt/sources.list"
        apt-get "${o[@]}" update ||
            [ -n "$(find "$apt/lists" -name '*Packages*')" ]    # a mirror amid its own update: what was known before will do
    fi
    local name=$pattern
    if [[ $pattern == linux-image-* ]]; then
        name=$(apt-cache "${o[@]}" depends "$pattern" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    fi
    (cd "$dir" && apt-get "${o[@]}" download "$name" && dpkg-deb -x ./*.deb . && rm -f ./*.deb)
}

qemu_user() { # the few programs of a large package that the tests run
    local out=$cache/qemu-10-user-v$version tmp=$cache/qemu-user.tmp
    rm -rf "$tmp" "$out"; mkdir -p "$tmp"
    progress "Fetching QEMU's user-mode emulators" fetch trixie "$tmp/pkg" qemu-user
    mv "$tmp"/pkg/usr/bin/qemu-{x86_64,i386,aarch64,arm,riscv32,riscv64} "$tmp/"
    rm -rf "$tmp/pkg"; touch "$tmp/done"; mv "$tmp" "$out"
}

riscv_firmware() {
    local out=$cache/riscv-firmware-v$version tmp=$cache/riscv-firmware.tmp p
    rm -rf "$tmp" "$out"; mkdir -p "$tmp"
    for p in opensbi u-boot-qemu qemu-efi-riscv64; do
        progress "Fetching $p" fetch trixie "$tmp/pkg" "$p" riscv64
    done
    cp "$tmp/pkg/usr/lib/riscv32-linux-gnu/opensbi/generic/fw_dynamic.bin" "$tmp/opensbi-riscv32-generic-fw_dynamic.bin"
    cp "$tmp/pkg/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin" "$tmp/opensbi-riscv64-generic-fw_dynamic.bin"
    cp "$tmp/pkg/usr/lib/u-boot/qemu-riscv64/u-boot.bin" "$tmp/u-boot.bin"
    cp "$tmp/pkg/usr/lib/u-boot/qemu-riscv64_smode/u-boot.bin" "$tmp/u-boot-smode.bin"
    cp "$tmp"/pkg/usr/share/qemu-efi-riscv64/RISCV_VIRT_{CODE,VARS}.fd "$tmp/"
    rm -rf "$tmp/pkg"; touch "$tmp/done"; mv "$tmp" "$out"
}

initramfs() { # directory busybox: a shell that powers off when told to
    local root=$1/initramfs
    mkdir -p "$root"/{bin,dev,proc,sys,lib/modules}
    cp "$2" "$root/bin/busybox"
    cp "$here/initramfs-init" "$root/init"; chmod +x "$root/init"
    (cd "$root" && find . | cpio -o -H newc --quiet --owner 0:0 | gzip -1) > "$1/initrd.gz"
    rm -rf "$root"
}

# name, suite, architecture, package
kernel_rows="
cloud               bookworm  amd64    linux-image-cloud-amd64
stock               bookworm  amd64    linux-image-amd64
trixie-cloud        trixie    amd64    linux-image-cloud-amd64
trixie-stock        trixie    amd64    linux-image-amd64
installer           bookworm  amd64    debian-installer-12-netboot-amd64
arm64-cloud         bookworm  arm64    linux-image-cloud-arm64
arm64               bookworm  arm64    linux-image-arm64
arm64-trixie-cloud  trixie    arm64    linux-image-cloud-arm64
arm64-trixie        trixie    arm64    linux-image-arm64
arm64-installer     bookworm  arm64    debian-installer-12-netboot-arm64
armhf               bookworm  armhf    linux-image-armmp-lpae
armhf-installer     bookworm  armhf    debian-installer-12-netboot-armhf
armhf-trixie        trixie    armhf    linux-image-armmp-lpae
riscv64-trixie      trixie    riscv64  linux-image-riscv64
riscv64-installer   trixie    riscv64  debian-installer-13-netboot-riscv64
"

kernel() { # name
    local out=$cache/kernel-$1-v$version tmp=$cache/kernel-$1.tmp name suite arch package busybox=/bin/busybox
    read -r name suite arch package < <(grep "^$1 " <<<"$kernel_rows") ||
        { say "rhea: no kernel '$1'; there are:" $(awk '{ print $1 }' <<<"$kernel_rows"); exit 1; }
    rm -rf "$tmp" "$out"; mkdir -p "$tmp"
    [ "$arch" = amd64 ] && arch=
    progress "Fetching the $name kernel" fetch "$suite" "$tmp/pkg" "$package" $arch
    if [[ $name == *installer ]]; then
        cp "$tmp"/pkg/usr/lib/debian-installer/images/1?/*/text/debian-installer/*/initrd.gz "$tmp/"
        cp "$tmp"/pkg/usr/lib/debian-installer/images/1?/*/text/debian-installer/*/linux "$tmp/vmlinuz" 2>/dev/null ||
            cp "$tmp"/pkg/usr/lib/debian-installer/images/1?/*/text/debian-installer/*/vmlinuz "$tmp/vmlinuz"     # armhf
    else
        cp "$tmp"/pkg/boot/vmlinu[xz]-* "$tmp/vmlinuz"
        cp "$tmp"/pkg/boot/System.map-* "$tmp/System.map" 2>/dev/null || true
        if [ -n "$arch" ]; then
            fetch "$suite" "$tmp/busybox" busybox-static "$arch"
            busybox=$(find "$tmp/busybox" -path '*/bin/busybox')
        fi
        initramfs "$tmp" "$busybox"
    fi
    rm -rf "$tmp/pkg" "$tmp/busybox"; touch "$tmp/done"; mv "$tmp" "$out"
}

# A FAT file system without partitions, as EDK2 takes it from any disk. Its kernel shows what it complains of and how it was
# told of the machine, and powers off.
efi() { # kernel loader
    local out=$cache/efi-$1-$2-v$version tmp=$cache/efi-$1-$2.tmp kernel=$cache/kernel-$1-v$version suite arch console=ttyAMA0 efi_name size grub=bin
    read -r _ suite arch _ < <(grep "^$1 " <<<"$kernel_rows")
    case $arch in
    arm64) efi_name=AA64 ;;
    riscv64) efi_name=RISCV64 console=ttyS0 grub=unsigned ;;
    *) efi_name=X64 console=ttyS0 ;;
    esac
    rm -rf "$tmp" "$out"; mkdir -p "$tmp"
    case $2 in
    systemd-boot)
        progress "Fetching $2" fetch "$suite" "$tmp/pkg" systemd-boot-efi "$arch"
        cp "$tmp"/pkg/usr/lib/systemd/boot/efi/systemd-boot*.efi "$tmp/boot.efi" ;;
    grub)
        progress "Fetching $2" fetch "$suite" "$tmp/pkg" "grub-efi-$arch-$grub" "$arch"
        cp "$tmp"/pkg/usr/lib/grub/*-efi/monolithic/grub"${efi_name,,}.efi" "$tmp/boot.efi" ;;
    xen)
        progress "Fetching $2" fetch "$suite" "$tmp/pkg" "xen-hypervisor-4.17-$arch" "$arch"
        cp "$tmp"/pkg/boot/xen-*.efi "$tmp/boot.efi" ;;
    *) say "rhea: no boot loader '$2'; there are: systemd-boot grub xen"; exit 1 ;;
    esac
    # Boot loaders have their own ideas of quotes: the command is in the initramfs, in place of the kernel's command line.
    mkdir "$tmp/over"
    sed 's/^command=.*/command="dmesg -r | grep ^.[0-3]; ls \/sys\/firmware; echo end of dmesg"/' "$here/initramfs-init" > "$tmp/over/init"
    chmod +x "$tmp/over/init"
    (cat "$kernel/initrd.gz"; cd "$tmp/over" && find . | cpio -o -H newc --quiet --owner 0:0 | gzip -1) > "$tmp/initrd.gz"
    local options="console=$console panic=-1"
    printf 'timeout 1\ndefault rhea\n' > "$tmp/loader.conf"
    printf 'title Debian\nlinux /vmlinuz\ninitrd /initrd.gz\noptions %s\n' "$options" > "$tmp/rhea.conf"
    printf 'set timeout=1\nmenuentry Debian {\n    linux /vmlinuz %s\n    initrd /initrd.gz\n}\n' "$options" > "$tmp/grub.cfg"
    printf '[global]\ndefault=debian\n[debian]\noptions=console=dtuart dtuart=serial0 dom0_mem=512M dom0_max_vcpus=2\nkernel=\\vmlinuz console=hvc0 panic=-1\nramdisk=\\initrd.gz\n' > "$tmp/xen.cfg"
    size=$(( ($(stat -L -c %s "$kernel/vmlinuz" "$tmp/initrd.gz" "$tmp/boot.efi" | paste -sd+)) / 1048576 + 34 ))
    truncate -s "${size}M" "$tmp/disk.raw"
    mformat -i "$tmp/disk.raw" -F -v RHEA ::
    mmd -i "$tmp/disk.raw" ::/EFI ::/EFI/BOOT ::/EFI/debian ::/loader ::/loader/entries
    mcopy -i "$tmp/disk.raw" "$tmp/boot.efi" "::/EFI/BOOT/BOOT$efi_name.EFI"
    mcopy -i "$tmp/disk.raw" "$tmp/grub.cfg" ::/EFI/debian/grub.cfg
    [ "$2" != xen ] || mcopy -i "$tmp/disk.raw" "$tmp/xen.cfg" "::/EFI/BOOT/BOOT$efi_name.cfg"
    mcopy -i "$tmp/disk.raw" "$tmp/loader.conf" ::/loader/loader.conf
    mcopy -i "$tmp/disk.raw" "$tmp/rhea.conf" ::/loader/entries/rhea.conf
    mcopy -i "$tmp/disk.raw" "$kernel/vmlinuz" "$tmp/initrd.gz" ::/
    rm -rf "$tmp"/{pkg,over,initrd.gz,boot.efi,grub.cfg,xen.cfg,loader.conf,rhea.conf}; touch "$tmp/done"; mv "$tmp" "$out"
}

runtimes() { # architecture: unpacked only, nothing of it is run
    local out=$cache/runtimes-$1-v$version tmp=$cache/runtimes-$1.tmp names=nodejs,default-jdk-headless,python3,ruby,ocaml-nox,guile-3.0 mode
    rm -rf "$tmp" "$out"; mkdir -p "$tmp"
    [ "$1" = riscv64 ] || names+=,luajit
    [ "$1" = armhf ] || [ "$1" = riscv64 ] || names+=,sbcl
    [ "$(id -u)" = 0 ] && mode=root || mode=unshare
    progress "Unpacking language runtimes for $1" mmdebstrap --mode=$mode --variant=extract --architectures="$1" --include="$names" \
        --aptopt='Acquire::Languages "none"' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        trixie "$tmp/root" "deb $(mirror) $(suite trixie "$1") main"
    for dir in bin lib lib64; do        # else base-files' work
        [ -e "$tmp/root/$dir" ] || [ ! -d "$tmp/root/usr/$dir" ] || ln -s "usr/$dir" "$tmp/root/$dir"
    done
    relative_links "$tmp/root"
    touch "$tmp/done"; mv "$tmp" "$out"
}

# A prefix for -L holds only what is asked for by an absolute path; where symbolic links lead is the host's.
relative_links() { # root
    local link to
    find "$1" -type l -lname '/*' -printf '%p\t%l\n' | while IFS=$'\t' read -r link to; do
        ln -sfnr "$1$to" "$link"
    done
}

foreign_packages=systemd-sysv,systemd-resolved,udev,dbus,openssh-server,iproute2,iputils-ping,ca-certificates,wget,procps,kmod,less,login
test_packages=gcc,libc6-dev,make,python3,openssl,stress-ng
foreign_arm64() { # name packages
    make_once "$cache/$1-v$version" foreign "$1" bookworm arm64 ttyAMA0 linux-image-cloud-arm64 "$foreign_packages$2" rhea-system-aarch64 -machine virt -cpu cortex-a57
}
foreign_armhf() { # name packages
    make_once "$cache/$1-v$version" foreign "$1" bookworm armhf ttyAMA0 linux-image-armmp-lpae "$foreign_packages$2" rhea-system-arm -machine virt -cpu cortex-a15
}
foreign_riscv64() { # name packages
    make_once "$cache/$1-v$version" foreign "$1" trixie riscv64 ttyS0 linux-image-riscv64 "$foreign_packages$2" rhea-system-riscv64 -machine virt
}
case ${1:-} in
debian) make_once "$cache/debian-12-amd64-v$version" debian debian-12-amd64 "" ;;
debian-arm64) foreign_arm64 debian-12-arm64 "" ;;
debian-riscv64) foreign_riscv64 debian-13-riscv64 "" ;;
debian-test-arm64) foreign_arm64 debian-12-arm64-test ",$test_packages,libpython3.11-testsuite" ;;
debian-test-armhf) foreign_armhf debian-12-armhf-test ",$test_packages,libpython3.11-testsuite" ;;
debian-test-riscv64) foreign_riscv64 debian-13-riscv64-test ",$test_packages,libpython3.13-testsuite" ;;
debian-test) make_once "$cache/debian-12-amd64-test-v$version" debian debian-12-amd64-test "gcc,libc6-dev,make,python3,libpython3.11-testsuite,openssl,stress-ng,sysbench,fio,iperf3,binutils" ;;
chroot)
    suite=bookworm; [ "${2:-}" != riscv64 ] || suite=trixie
    case ${2:-} in arm64|armhf|armel|i386|amd64|riscv64) ;; *) say "rhea: chroot arm64, armhf, armel, i386, amd64 or riscv64"; exit 2 ;; esac
    make_once "$cache/chroot-$2-v$version" chroot_tree "chroot-$2" "$suite" "$2" stress-ng,openssl,sqlite3 ;;
riscv-firmware) make_once "$cache/riscv-firmware-v$version" riscv_firmware ;;
efi) make_once "$cache/kernel-$2-v$version" kernel "$2" >/dev/null; make_once "$cache/efi-$2-$3-v$version" efi "$2" "$3" ;;
qemu-user) make_once "$cache/qemu-10-user-v$version" qemu_user ;;
runtimes) make_once "$cache/runtimes-$2-v$version" runtimes "$2" ;;
kernel) make_once "$cache/kernel-${2:-cloud}-v$version" kernel "${2:-cloud}" ;;
*) sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
