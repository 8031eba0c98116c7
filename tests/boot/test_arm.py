#!/usr/bin/python3
"""Arm's virt board: Debian's kernels to a busybox userspace and a clean power-off, with either interrupt controller; EDK2 to
its shell; U-Boot to its prompt; a Debian disk to its login prompt with network; the device tree; what is refused."""
import base64
import gzip
import os
import re
import shutil
import subprocess
import tempfile
from boot import Machine, asset, build, free_port, program, run, soak

a64 = "rhea-system-aarch64"
firmware = "/usr/share/AAVMF/AAVMF_CODE.fd"


def to_userspace(smp=1, gic=2, kernel="arm64-cloud", cpu="cortex-a57", accel="jit", more=""):
    emulator, name = ("rhea-system-arm", "armv7l") if kernel.startswith("armhf") else (a64, "aarch64")

    def test():
        k = asset("kernel", kernel)
        args = ["-cpu", cpu, "-kernel", f"{k}/vmlinuz", "-initrd", f"{k}/initrd.gz", "-append",
                'console=ttyAMA0 panic=-1 rhea.run="dmesg -r | grep ^.[0-3]; echo end of dmesg"']
        with Machine(*args, machine=f"virt,gic-version={gic}{more}", smp=smp, accel=accel, emulator=emulator) as m:
            m.expect(rf"userspace is up on {name}, {smp} CPUs", 240)
            errors = m.expect(r"(?s)(.*)end of dmesg", 60)[1]
            status = m.wait(120)
            assert status == 0, f"power-off gave status {status}"
            m.clean()
            complaints(errors)
    return f"kernel-{kernel}-{smp}-gic{gic}-{cpu}-{accel}{more}", test


def edk2(more="", smp=1):
    def test():
        with tempfile.TemporaryDirectory() as d:
            variables = os.path.join(d, "vars.fd")
            shutil.copy("/usr/share/AAVMF/AAVMF_VARS.fd", variables)
            before = open(variables, "rb").read()
            with Machine("-cpu", "cortex-a57", "-drive", f"if=pflash,format=raw,readonly=on,file={firmware}",
                         "-drive", f"if=pflash,format=raw,file={variables}", machine="virt" + more, smp=smp, emulator=a64) as m:
                m.expect(r"Shell> ", 120)
                m.send("reset -s\r")
                assert m.wait(60) == 0
            assert open(variables, "rb").read() != before, "no variable was kept"
    return f"edk2{more}-{smp}", test


def installer(kernel, cpu, emulator):
    """Debian's installer to its first question."""
    def test():
        k = asset("kernel", kernel)
        with Machine("-cpu", cpu, "-kernel", f"{k}/vmlinuz", "-initrd", f"{k}/initrd.gz", "-append", "console=ttyAMA0", machine="virt",
                     smp=2, memory="1G", emulator=emulator) as m:
            m.expect(r"Choose the language|Select a language", 300)
            m.clean()
    return f"installer-{kernel}", test


def debug_and_profile(cpu):
    """What gdb and perf ask of the kernel: watchpoints, breakpoints, steps, cycles that interrupt (arm/debug.c)."""
    def test():
        k = asset("kernel", "arm64-cloud")
        with tempfile.TemporaryDirectory() as d:
            source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "arm", "debug.c")
            subprocess.run(["aarch64-linux-gnu-gcc", "-O1", "-static", "-Wall", "-o", "debug", source], cwd=d, check=True)
            initrd = os.path.join(d, "initrd.gz")
            with open(initrd, "wb") as f:
                more = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=b"debug\n", cwd=d, stdout=subprocess.PIPE, check=True)
                f.write(open(f"{k}/initrd.gz", "rb").read() + gzip.compress(more.stdout))
            with Machine("-cpu", cpu, "-kernel", f"{k}/vmlinuz", "-initrd", initrd, "-append",
                         'console=ttyAMA0 panic=-1 rhea.run="/debug; echo end of debug"', machine="virt", smp=2, emulator=a64) as m:
                m.expect(r"userspace is up", 120)
                said = m.expect(r"(?s)(.*)end of debug", 120)[1]
                assert m.wait(60) == 0
                for what in ("watchpoint", "step", "breakpoint", "profile"):
                    assert f"{what} works" in said, f"{what}: {said}"
    return f"debug-{cpu}", test


def firmware_args(d):
    """EDK2 with variables of its own."""
    variables = os.path.join(d, "vars.fd")
    if not os.path.exists(variables):
        shutil.copy("/usr/share/AAVMF/AAVMF_VARS.fd", variables)
    return ["-drive", f"if=pflash,format=raw,readonly=on,file={firmware}", "-drive", f"if=pflash,format=raw,file={variables}"]


def complaints(text):
    errors = re.findall(r"<[0-3]>.*", text)
    assert not errors, "the guest complains:\n" + "\n".join(errors[:10])


def loader_starts_kernel(loader, machine, told_by, disk="if=virtio"):
    """A disk with a boot loader, which starts the kernel; that the machine is told of by ACPI, or by a device tree."""
    def test():
        image = asset("efi", "arm64-cloud", loader) + "/disk.raw"
        with tempfile.TemporaryDirectory() as d:
            with Machine("-cpu", "cortex-a57", *firmware_args(d), "-drive", f"{disk},format=raw,readonly=on,file={image}", machine=machine,
                         smp=2, emulator=a64) as m:
                m.expect(r"EFI stub: Booting Linux", 180)
                m.expect(r"userspace is up on aarch64, 2 CPUs", 120)
                said = m.expect(r"(?s)(.*)end of dmesg", 60)[1]
                assert m.wait(120) == 0
                m.clean()
                complaints(said)
                assert re.search(rf"^{told_by}\b", said, re.M), f"not told by {told_by}: {said}"
    return f"{loader}-{machine}-{told_by}", test


def xen(gic, cpu):
    """Xen at EL2, which EDK2 starts, with a Debian kernel as Dom0 on two virtual CPUs."""
    def test():
        image = asset("efi", "arm64", "xen") + "/disk.raw"
        with tempfile.TemporaryDirectory() as d:
            with Machine("-cpu", cpu, *firmware_args(d), "-drive", f"if=virtio,format=raw,readonly=on,file={image}", memory="1G", smp=2,
                         machine=f"virt,acpi=off,virtualization=on,gic-version={gic}", emulator=a64) as m:
                m.expect(r"\(XEN\) Xen version 4\.", 120)
                m.expect(r"userspace is up on aarch64, 2 CPUs", 240)
                said = m.expect(r"(?s)(.*)end of dmesg", 60)[1]
                m.expect(r"\(XEN\) Hardware Dom0 halted", 60)
                assert m.wait(60) == 0
                m.clean()
                # Xen on Arm takes no PCI devices from its Dom0
                complaints("\n".join(l for l in said.splitlines() if "Failed to add - passthrough" not in l))
    return f"xen-gic{gic}-{cpu}", test


def boots_from(order, expected):
    """bootindex= decides which of two disks EDK2 starts: one has systemd-boot, one GRUB."""
    def test():
        disks = [asset("efi", "arm64-cloud", l) + "/disk.raw" for l in ("systemd-boot", "grub")]
        with tempfile.TemporaryDirectory() as d:
            more = []
            for n, (disk, device) in enumerate(zip(disks, ("virtio-blk-pci", "virtio-blk-device"))):
                more += ["-drive", f"if=none,id=d{n},format=raw,readonly=on,file={disk}", "-device", f"{device},drive=d{n},bootindex={order[n]}"]
            with Machine("-cpu", "cortex-a57", *firmware_args(d), *more, machine="virt", emulator=a64) as m:
                found = m.expect(r"BdsDxe: starting Boot\S+ \"([^\"]*)\" from (\S+)\s", 120)
                assert expected in found[2], f"started {found[1]} from {found[2]}"
    return f"boot-order-{order[0]}{order[1]}", test


# what a kernel with all of the machine's devices has to say of them, and the ACPI tables in its hands
DUMP = "cd /sys/firmware/acpi/tables; for f in [A-Z]*; do echo table $f; gzip -c $f | base64; done; dmesg -r | grep ^.[0-4]; echo end of dmesg"


def acpi_tables(machine, expected, smp=2):
    """Linux under acpi=force complains of nothing; iasl and acpiexec neither, of the tables that it was given."""
    def test():
        k = asset("kernel", "arm64-cloud")
        with tempfile.TemporaryDirectory() as d:
            with Machine("-cpu", "cortex-a57", *firmware_args(d), "-kernel", f"{k}/vmlinuz", "-initrd", f"{k}/initrd.gz", "-append",
                         f'console=ttyAMA0 acpi=force panic=-1 rhea.run="{DUMP}"', "-device", "virtio-rng-pci", "-device", "virtio-rng-device",
                         machine=machine, smp=smp, emulator=a64) as m:
                m.expect(r"userspace is up", 180)
                said = m.expect(r"(?s)(.*)end of dmesg", 60)[1].replace("\r", "")
                assert m.wait(120) == 0
                m.clean()
            lines = re.findall(r"<[0-4]>.*", said)
            assert not [l for l in lines if re.search(r"(?i)<[0-3]>|acpi|pci|gic|timer", l)], "\n".join(lines)
            tables = dict(re.findall(r"table (\w+)\n((?:[A-Za-z0-9+/=]+\n)+)", said))
            assert set(tables) == expected, f"tables: {sorted(tables)}"
            for name, text in tables.items():
                with open(os.path.join(d, name + ".dat"), "wb") as f:
                    f.write(gzip.decompress(base64.b64decode(text)))
            sh = lambda c: subprocess.run(["sh", "-c", c], cwd=d, capture_output=True, text=True).stdout
            log = sh("iasl -d *.dat 2>&1")
            assert not re.search(r"(?i)error|warning|invalid|unknown", log), log
            log = sh("iasl -vw 3141 -vw 2089 DSDT.dsl 2>&1")
            assert "0 Errors, 0 Warnings" in log, log
            log = sh("acpiexec -b 'namespace,integrity,resources *' DSDT.dat 2>&1")
            assert not re.search(r"AE_[A-Z]|Error|Exception", log), log
    return f"acpi-{machine}-{smp}", test


def power_button(machine):
    """system_powerdown, the power button, lets systemd shut the guest down: told by ACPI's event device."""
    def test():
        guest = asset("debian-arm64")
        with tempfile.TemporaryDirectory() as d:
            disk = os.path.join(d, "disk.qcow2")
            subprocess.run([os.path.join(build, "bin", "rhea-img"), "create", "-q", "-f", "qcow2", "-b", f"{guest}/root.qcow2", "-F",
                            "qcow2", disk], check=True)
            with Machine("-cpu", "cortex-a57", *firmware_args(d), "-kernel", f"{guest}/vmlinuz", "-initrd", f"{guest}/initrd.img", "-append",
                         "root=/dev/vda rw console=ttyAMA0", "-drive", f"file={disk},if=virtio,format=qcow2", machine=machine,
                         memory="1G", smp=2, emulator=a64) as m:
                m.expect(r"login: ", 400)
                m.send("root\n")
                m.expect(r"# ", 60)
                m.send("systemctl is-active systemd-logind | tr a-z A-Z\n")
                m.expect(r"\bACTIVE", 60)
                m.qmp("system_powerdown")
                m.expect(r"Power down", 120)
                assert m.wait(60) == 0
                m.clean()
    return f"power-button-{machine}", test


def edk2_starts_kernel():
    """-kernel beside firmware: EDK2 takes it from fw_cfg."""
    k = asset("kernel", "arm64-cloud")
    with Machine("-cpu", "cortex-a57", "-bios", "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd", "-kernel", f"{k}/vmlinuz", "-initrd",
                 f"{k}/initrd.gz", "-append", 'console=ttyAMA0 panic=-1 rhea.run="true"', machine="virt", smp=2, emulator=a64) as m:
        m.expect(r"EFI stub: Booting Linux", 120)
        m.expect(r"userspace is up on aarch64, 2 CPUs", 120)
        assert m.wait(120) == 0


def u_boot():
    with Machine("-cpu", "cortex-a57", "-bios", "/usr/lib/u-boot/qemu_arm64/u-boot.bin", machine="virt", emulator=a64) as m:
        m.expect(r"Hit any key to stop autoboot", 60)
        m.send("\n")
        m.expect(r"=> ", 60)
        m.send("version\n")
        m.expect(r"U-Boot 20", 20)
        m.send("poweroff\n")
        assert m.wait(60) == 0


def debian(gic, smp):
    def test():
        guest = asset("debian-arm64")
        port = free_port()
        with tempfile.TemporaryDirectory() as d:
            disk = os.path.join(d, "disk.qcow2")
            subprocess.run([os.path.join(build, "bin", "rhea-img"), "create", "-q", "-f", "qcow2", "-b", f"{guest}/root.qcow2", "-F",
                            "qcow2", disk], check=True)
            with Machine("-cpu", "cortex-a57", "-kernel", f"{guest}/vmlinuz", "-initrd", f"{guest}/initrd.img", "-append",
                         "root=/dev/vda rw console=ttyAMA0", "-drive", f"file={disk},if=virtio,format=qcow2", "-netdev",
                         f"user,id=n,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-net-pci,netdev=n", "-device",
                         "virtio-rng-pci", machine=f"virt,gic-version={gic}", memory="1G", smp=smp, emulator=a64) as m:
                m.expect(r"login: ", 400)
                m.send("root\n")
                m.expect(r"# ", 60)
                m.send("ping -c 1 -W 5 10.0.2.2 >/dev/null; echo ping-$?; systemctl is-system-running --wait | tr a-z A-Z\n")
                m.expect(r"ping-0", 60)
                m.expect(r"RUNNING", 120)
                m.clean()
                m.send("poweroff\n")     # this kernel has no driver for the button
                assert m.wait(120) == 0
    return f"debian-gic{gic}-{smp}", test


NODES = """memory@40000000 cpus/cpu@0 cpus/cpu@1 cpus/cpu-map/socket0/cluster0/core1 psci timer intc@8000000 pl011@9000000 pl031@9010000
pl061@9030000 gpio-keys/poweroff fw-cfg@9020000 virtio_mmio@a000000 virtio_mmio@a003e00 pcie@10000000 chosen apb-pclk""".split()


def device_tree(gic, node):
    def test():
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "virt.dtb")
            subprocess.run([program(a64), "-machine", f"virt,gic-version={gic},dumpdtb={path}", "-smp", "2", "-display", "none"], check=True,
                           timeout=60, capture_output=True)
            said = subprocess.run(["dtc", "-I", "dtb", "-O", "dts", path], check=True, capture_output=True, text=True)
            for n in NODES + [f"intc@8000000/{node}"]:
                found = subprocess.run(["fdtget", "-p", path, "/" + n], capture_output=True)
                assert found.returncode == 0, f"no /{n} in\n{said.stdout}"
    return f"device-tree-gic{gic}", test


def refused():
    """What is not modelled is refused with a reason, before anything runs."""
    for args, words in ((["-machine", "virt,gic-version=4"], "2, 3 and max"), (["-machine", "virt,gic-version=host"], "KVM"),
                        (["-machine", "virt,mte=on"], "not modelled"), (["-machine", "virt,ras=on"], "not modelled"),
                        (["-machine", "virt,iommu=smmuv3"], "SMMU"), (["-machine", "virt,gic-version=2", "-smp", "9"], "8 CPUs"),
                        (["-cpu", "cortex-z1"], "no such model"), (["-bios", "/nowhere"], "/nowhere"),
                        (["-m", "8M", "-kernel", program(a64)], "")):
        base = [program(a64), "-display", "none"] + ([] if "-machine" in args else ["-machine", "virt"])
        p = subprocess.run(base + args, capture_output=True, text=True, timeout=60)
        assert p.returncode == 1 and words in p.stderr, f"{args}: status {p.returncode}, said {p.stderr!r}"


COMMON_TABLES = {"APIC", "DBG2", "DSDT", "FACP", "GTDT", "MCFG", "PPTT", "SPCR"}
tests = [device_tree(2, "v2m@8020000"), device_tree(3, "its@8080000"), refused, u_boot, edk2(), edk2(",gic-version=3", 2), edk2_starts_kernel,
         to_userspace(1, 2), to_userspace(2, 2), to_userspace(4, 2), to_userspace(1, 3), to_userspace(2, 3), to_userspace(4, 3),
         to_userspace(2, 3, "arm64"), to_userspace(2, 3, "arm64-trixie-cloud"), to_userspace(2, 3, cpu="max"), to_userspace(2, 2, more=",secure=on"),
         to_userspace(2, 3, more=",secure=on,virtualization=on"),
         acpi_tables("virt", COMMON_TABLES), acpi_tables("virt,gic-version=3,virtualization=on", COMMON_TABLES | {"IORT"}, 4),
         loader_starts_kernel("systemd-boot", "virt", "acpi"), loader_starts_kernel("grub", "virt,gic-version=3", "acpi"),
         loader_starts_kernel("grub", "virt,acpi=off", "devicetree"), boots_from((2, 1), "VenHw(837DCA9E"), boots_from((1, 2), "/Pci("),
         debug_and_profile("cortex-a57"), debug_and_profile("max"), xen(2, "cortex-a72"), xen(3, "cortex-a57"), power_button("virt"),
         to_userspace(1, 2, "armhf", "cortex-a15"), to_userspace(2, 2, "armhf", "cortex-a7"), to_userspace(4, 2, "armhf", "cortex-a15"),
         to_userspace(2, 3, "arm64-trixie"), installer("arm64-installer", "cortex-a57", a64),
         installer("armhf-installer", "cortex-a15", "rhea-system-arm"), debian(2, 2), debian(3, 4)]
if soak:
    tests += [to_userspace(smp, gic, accel=f"jit,chaos={n}" if n % 2 else "jit") for smp in (1, 2, 4) for gic in (2, 3) for n in range(20)]
run(tests)
