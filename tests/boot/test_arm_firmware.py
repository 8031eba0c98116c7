#!/usr/bin/python3
"""Firmware of Arm's virt board: EDK2 to its shell, on to boot loaders from a disk and to Xen; what it tells a kernel by ACPI; the
power button; U-Boot to its prompt."""
import base64
import gzip
import os
import re
import shutil
import subprocess
import tempfile
from boot import Machine, asset, build, complaints, run, soak

a64 = "rhea-system-aarch64"
COMMON_TABLES = {"APIC", "DBG2", "DSDT", "FACP", "GTDT", "MCFG", "PPTT", "SPCR"}


def firmware_args(d):
    """EDK2 with variables of its own."""
    variables = os.path.join(d, "vars.fd")
    if not os.path.exists(variables):
        shutil.copy("/usr/share/AAVMF/AAVMF_VARS.fd", variables)
    return ["-drive", f"if=pflash,format=raw,readonly=on,file=/usr/share/AAVMF/AAVMF_CODE.fd", "-drive", f"if=pflash,format=raw,file={variables}"]


def edk2(more="", smp=1):
    def test():
        with tempfile.TemporaryDirectory() as d:
            args = firmware_args(d)
            variables = os.path.join(d, "vars.fd")
            before = open(variables, "rb").read()
            with Machine("-cpu", "cortex-a57", *args, machine="virt" + more, smp=smp, emulator=a64) as m:
                m.expect(r"Shell> ", 120)
                m.send("reset -s\r")
                assert m.wait(60) == 0
            assert open(variables, "rb").read() != before, "no variable was kept"
    return f"edk2{more}-{smp}", test


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
        m.expect(r"U-Boot 20", 120)
        m.send("poweroff\n")
        assert m.wait(60) == 0


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
            assert not [l for l in lines if re.search(r"(?i)<[0-3]>|acpi|pci|gic|(?<!hr)timer", l)], "\n".join(lines)
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


tests = [u_boot, edk2(), edk2(",gic-version=3", 2), edk2_starts_kernel, acpi_tables("virt", COMMON_TABLES),
         acpi_tables("virt,gic-version=3,virtualization=on", COMMON_TABLES | {"IORT"}, 4),
         loader_starts_kernel("systemd-boot", "virt", "acpi"), loader_starts_kernel("grub", "virt,gic-version=3", "acpi"),
         loader_starts_kernel("grub", "virt,acpi=off", "devicetree"), boots_from((2, 1), "VenHw(837DCA9E"), boots_from((1, 2), "/Pci("),
         xen(3, "cortex-a57"), power_button("virt")]
if soak:
    tests += [xen(2, "cortex-a72"), power_button("virt,gic-version=3")]
run(tests)
