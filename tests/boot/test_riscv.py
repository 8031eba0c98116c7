#!/usr/bin/python3
"""RISC-V: OpenSBI alone, Debian's kernel to a busybox userspace and a clean power-off, the installer to its first screen,
and the device tree as firmware gets it."""
import base64
import os
import re
import shutil
import subprocess
import tempfile
from boot import Machine, asset, initrd_with, program, run, soak

here = os.path.dirname(os.path.abspath(__file__))
rv64 = "rhea-system-riscv64"


def opensbi():
    with Machine(machine="virt", emulator=rv64, smp=2) as m:
        m.expect(r"OpenSBI v1\.", 120)
        m.expect(r"Platform Name +: riscv-virtio,qemu", 120)
        m.expect(r"Platform HART Count +: 2", 120)
        m.expect(r"Boot HART Base ISA +: rv64imafdc", 120)


def to_userspace(smp, accel="jit", machine="virt", cpu=None):
    def test():
        k = asset("kernel", "riscv64-trixie")
        args = ["-kernel", f"{k}/vmlinuz", "-initrd", f"{k}/initrd.gz", "-append",
                'console=ttyS0 panic=-1 rhea.run="dmesg -r | grep ^.[0-3]; echo end of dmesg"']
        with Machine(*args, *(["-cpu", cpu] if cpu else []), machine=machine, smp=smp, accel=accel, emulator=rv64) as m:
            m.expect(rf"userspace is up on riscv64, {smp} CPUs", 240)
            errors = m.expect(r"(?s)(.*)end of dmesg", 60)[1]
            status = m.wait(120)
            assert status == 0, f"power-off gave status {status}"
            m.clean()
            errors = re.findall(r"<[0-3]>.*", errors)
            assert not errors, "the guest complains:\n" + "\n".join(errors[:10])
    return f"kernel-{smp}-{accel}-{machine}-{cpu or 'rv64'}", test


def profile(cpu, firmware):
    """What perf asks of the kernel, and that of firmware: counters, and their overflow's interrupt (perf.c). By Debian's OpenSBI,
    and by the newer one of trixie."""
    def test():
        k = asset("kernel", "riscv64-trixie")
        more = ["-L", asset("riscv-firmware")] if firmware == "trixie" else []
        with tempfile.TemporaryDirectory() as d:
            initrd = initrd_with(f"{k}/initrd.gz", d, "riscv64-linux-gnu-gcc", "perf.c")
            with Machine("-cpu", cpu, *more, "-kernel", f"{k}/vmlinuz", "-initrd", initrd, "-append",
                         'console=ttyS0 panic=-1 rhea.run="/perf instructions; echo end of perf"', machine="virt", smp=2, emulator=rv64) as m:
                m.expect(r"userspace is up", 240)
                said = m.expect(r"(?s)(.*)end of perf", 300)[1]
                assert m.wait(120) == 0
                m.clean()
                for what in ("cycles are counted", "cycles are sampled", "instructions are counted", "instructions are sampled"):
                    assert what in said, f"not {what}: {said}"
    return f"profile-{cpu}-{firmware}", test


def contention():
    """A hart that waits for a spinlock stalls in WRS.NTO inside translated code: to leave it for each was millions of exits a boot."""
    k = asset("kernel", "riscv64-trixie")
    with Machine("-kernel", f"{k}/vmlinuz", "-initrd", f"{k}/initrd.gz", "-append", 'console=ttyS0 panic=-1 rhea.run="true"', "-no-shutdown",
                 machine="virt", smp=4, emulator=rv64) as m:
        m.expect(r"userspace is up on riscv64, 4 CPUs", 240)
        m.expect(r"Power down", 60)
        did = m.qmp("human-monitor-command", **{"command-line": "info jit"})
        exits = [int(n) for n in re.findall(r"exits to loop (\d+)", did)]
        assert len(exits) == 4 and max(exits) < 1000000, did
        m.qmp("quit")
        assert m.wait(60) == 0


def debian(smp, accel="jit"):
    """A disk with systemd: log in, network, a clean system, power off from inside."""
    def test():
        guest = asset("debian-riscv64")
        with tempfile.TemporaryDirectory() as d:
            disk = os.path.join(d, "disk.qcow2")
            subprocess.run([program("rhea-img"), "create", "-q", "-f", "qcow2", "-b", f"{guest}/root.qcow2", "-F", "qcow2", disk], check=True)
            with Machine("-kernel", f"{guest}/vmlinuz", "-initrd", f"{guest}/initrd.img", "-append", "root=/dev/vda rw console=ttyS0 systemd.default_device_timeout_sec=900",
                         "-drive", f"file={disk},if=virtio,format=qcow2", "-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n",
                         "-device", "virtio-rng-pci", "-fw_cfg", "name=opt/me,string=told", machine="virt", memory="1G", smp=smp, accel=accel,
                         emulator=rv64) as m:
                m.expect(r"login: ", 600)
                m.send("root\n")
                m.expect(r"# ", 90)
                m.send("until ping -c 1 -W 5 10.0.2.2 >/dev/null 2>&1; do sleep 1; done; echo ping-$?; systemctl is-system-running --wait | tr a-z A-Z\n")
                m.expect(r"ping-0", 180)
                m.expect(r"RUNNING", 300)
                m.send("modprobe qemu_fw_cfg; tr a-z A-Z < /sys/firmware/qemu_fw_cfg/by_name/opt/me/raw; echo\n")
                m.expect(r"TOLD", 90)
                m.send("dmesg -r | grep '^.[0-3]>'; echo end of 'dmesg'\n")
                errors = re.findall(r"<[0-3]>.*", m.expect(r"(?s)(.*)end of dmesg", 90)[1])
                assert not errors, "the guest complains:\n" + "\n".join(errors[:10])
                m.clean()
                m.send("poweroff\n")
                assert m.wait(180) == 0
    return f"debian-{smp}-{accel}", test


def installer(accel="jit"):
    def test():
        k = asset("kernel", "riscv64-installer")
        with Machine("-kernel", f"{k}/vmlinuz", "-initrd", f"{k}/initrd.gz", "-append", "console=ttyS0 TERM=vt102 priority=low",
                     machine="virt", memory="1G", smp=2, accel=accel, emulator=rv64) as m:
            m.expect(r"Select a language|Choose language|installer main menu", 400)
            m.clean()
    return f"installer-{accel}", test


def opensbi32():
    f = asset("riscv-firmware")
    with Machine("-L", f, machine="virt", emulator="rhea-system-riscv32", smp=2) as m:
        m.expect(r"Boot HART Base ISA +: rv32imafdc", 120)


def u_boot(how):
    def test():
        f = asset("riscv-firmware")
        args = ["-bios", f"{f}/u-boot.bin"] if how == "machine" else ["-kernel", f"{f}/u-boot-smode.bin"]
        with Machine(*args, machine="virt", emulator=rv64, smp=2) as m:
            m.expect(r"U-Boot 20", 120)
            m.expect(r"Hit any key to stop autoboot", 120)
            m.send("\r")
            m.expect(r"=> ", 120)
            m.send("poweroff\r")
            assert m.wait(60) == 0
    return f"u-boot-{how}", test


def firmware_args(d):
    """Trixie's EDK2 with variables of its own, and the OpenSBI of the same suite: 1.1 tells it of its memory in another way."""
    f = asset("riscv-firmware")
    if not os.path.exists(f"{d}/vars.fd"):
        shutil.copy(f"{f}/RISCV_VIRT_VARS.fd", f"{d}/vars.fd")
    return ["-L", f, "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={f}/RISCV_VIRT_CODE.fd", "-drive",
            f"if=pflash,unit=1,format=raw,file={d}/vars.fd"]


def edk2():
    with tempfile.TemporaryDirectory() as d:
        with Machine(*firmware_args(d), machine="virt", emulator=rv64, smp=2) as m:
            m.expect(r"RISC-V EDK2 firmware", 60)
            m.expect(r"UEFI Interactive Shell", 120)
            m.expect(r"Shell> ", 60)
            m.send("reset -s\r")
            assert m.wait(60) == 0


def complaints(text):
    errors = re.findall(r"<[0-3]>.*", text)
    assert not errors, "the guest complains:\n" + "\n".join(errors[:10])


def loader_starts_kernel(loader, machine, told_by):
    """A disk with a boot loader, which starts the kernel; that the machine is told of by ACPI, or by a device tree."""
    def test():
        image = asset("efi", "riscv64-trixie", loader) + "/disk.raw"
        with tempfile.TemporaryDirectory() as d:
            with Machine(*firmware_args(d), "-drive", f"if=virtio,format=raw,readonly=on,file={image}", machine=machine, smp=2,
                         emulator=rv64) as m:
                m.expect(r"EFI stub: Booting Linux", 240)
                m.expect(r"userspace is up on riscv64, 2 CPUs", 180)
                said = m.expect(r"(?s)(.*)end of dmesg", 60)[1]
                assert m.wait(120) == 0
                m.clean()
                complaints(said)
                # An EFI stub without a device tree makes an empty one, so that the folder is there under ACPI too.
                assert re.search(r"\bacpi\b", said) if told_by == "acpi" else not re.search(r"\bacpi\b", said), said
    return f"{loader}-{machine}", test


def edk2_starts_kernel():
    """-kernel, -initrd, -append reach a kernel through firmware; its tables hold together (iasl reads the DSDT)."""
    k = asset("kernel", "riscv64-trixie")
    command = ("for t in DSDT APIC FACP MCFG SPCR DBG2 PPTT; do echo table-$t; busybox base64 /sys/firmware/acpi/tables/$t; done; echo tables-end; "
               "grep -h PLIC /proc/interrupts; "
               "dmesg -r | grep ^.[0-3]; echo end of dmesg")
    with tempfile.TemporaryDirectory() as d:
        with Machine(*firmware_args(d), "-kernel", f"{k}/vmlinuz", "-initrd", f"{k}/initrd.gz", "-append",
                     f'console=ttyS0 panic=-1 rhea.run="{command}"', machine="virt", emulator=rv64, smp=2) as m:
            m.expect(r"ACPI: SPCR: console: uart,mmio,0x10000000", 240)
            m.expect(r"userspace is up on riscv64, 2 CPUs", 180)
            said = m.expect(r"(?s)(.*)end of dmesg", 60)[1].replace("\r", "")
            assert m.wait(120) == 0
        m.clean()
        complaints(said)
        assert re.search(r"ACPI:Ged", said), said
        tables = said[said.index("table-DSDT"):said.index("tables-end")]
        for part in tables.split("table-")[1:]:
            name, _, text = part.partition("\n")
            with open(f"{d}/{name}.dat", "wb") as f:
                f.write(base64.b64decode("".join(text.split())))
            p = subprocess.run(["iasl", "-d", f"{name}.dat"], cwd=d, capture_output=True, text=True, timeout=60)
            told = p.stdout + p.stderr
            assert p.returncode == 0 and not re.search(r"(?i)incorrect checksum|invalid|error", told), told
        p = subprocess.run(["iasl", "DSDT.dsl"], cwd=d, capture_output=True, text=True, timeout=60)
        assert "0 Errors, 0 Warnings" in p.stdout + p.stderr, p.stdout + p.stderr


def power_button():
    """system_powerdown, the power button, lets systemd shut the guest down: told by ACPI's event device."""
    guest = asset("debian-riscv64")
    with tempfile.TemporaryDirectory() as d:
        disk = os.path.join(d, "disk.qcow2")
        subprocess.run([program("rhea-img"), "create", "-q", "-f", "qcow2", "-b", f"{guest}/root.qcow2", "-F", "qcow2", disk], check=True)
        with Machine(*firmware_args(d), "-kernel", f"{guest}/vmlinuz", "-initrd", f"{guest}/initrd.img", "-append",
                     "root=/dev/vda rw console=ttyS0 systemd.default_device_timeout_sec=900", "-drive", f"file={disk},if=virtio,format=qcow2", machine="virt", memory="1G", smp=2,
                     emulator=rv64) as m:
            m.expect(r"login: ", 600)
            m.send("root\n")
            m.expect(r"# ", 90)
            m.send("systemctl is-active systemd-logind | tr a-z A-Z\n")
            m.expect(r"\bACTIVE", 90)
            m.qmp("system_powerdown")
            m.expect(r"Power down", 180)
            assert m.wait(90) == 0
            m.clean()


def privileged(width, accel, cpu):
    """riscv/system.c: traps, protection, translation, interrupts, by a program of our own."""
    def test():
        with tempfile.TemporaryDirectory() as d:
            image = os.path.join(d, "system.bin")
            subprocess.run([os.path.join(here, "riscv", "build.sh"), str(width), image], check=True, timeout=60)
            with Machine("-bios", image, "-cpu", cpu, machine="virt", emulator=f"rhea-system-riscv{width}", accel=accel,
                         smp=1 if "verify" in accel else 2) as m:
                said = m.expect(r"(?s)(.*)(all passed|some failed)", 120)
                assert said[2] == "all passed", said[1]
                assert m.wait(120) == 0
    return f"privileged-{width}-{accel}-{cpu}", test


# What firmware and people look for, at the addresses that they know.
NODES = """memory@80000000 cpus/cpu@1/interrupt-controller soc/plic@c000000 soc/clint@2000000 soc/serial@10000000 soc/test@100000
soc/rtc@101000 soc/virtio_mmio@10001000 soc/virtio_mmio@10008000 soc/pci@30000000 fw-cfg@10100000 poweroff reboot
chosen pmu""".split()


def device_tree():
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "virt.dtb")
        subprocess.run([program(rv64), "-machine", f"virt,dumpdtb={path}", "-smp", "2", "-display", "none"], check=True, timeout=60,
                       capture_output=True)
        source = subprocess.run(["dtc", "-I", "dtb", "-O", "dts", path], check=True, capture_output=True, text=True).stdout
        for node in NODES:
            found = subprocess.run(["fdtget", "-p", path, "/" + node], capture_output=True)
            assert found.returncode == 0, f"no /{node} in\n{source}"
        isa = subprocess.run(["fdtget", path, "/cpus/cpu@0", "riscv,isa"], check=True, capture_output=True, text=True).stdout
        assert isa.startswith("rv64imafdc_zicbom_"), isa


def erased_flash():
    """Two banks of 32 MiB read as ones, and take no memory while nobody looks."""
    with Machine(machine="virt", emulator=rv64) as m:
        m.expect(r"OpenSBI v1\.", 120)
        for address in (0x20000000, 0x21ffffe8, 0x23fffff8):
            said = m.qmp("human-monitor-command", **{"command-line": f"xp /1gx {address:#x}"})
            assert "0xffffffffffffffff" in said, said
        with open(f"/proc/{m.process.pid}/smaps") as f:
            resident = [int(kib) for kib in re.findall(r"erased-flash.*\n(?:.*\n)*?Rss: +(\d+)", f.read())]
        assert resident and sum(resident) < 8192, resident


def refused():
    """What is not modelled is refused with a reason, before anything runs."""
    for args, words in ((["-machine", "virt,aia=aplic"], "not modelled"), (["-cpu", "rv64,v=on"], "does not implement"),
                        (["-cpu", "rv64,d=on,f=off"], "needs"), (["-cpu", "rv65"], "no such model"),
                        (["-cpu", "rv64,zbq=on"], "zbq"), (["-bios", "/nowhere"], "/nowhere"),
                        (["-m", "4M", "-kernel", program(rv64)], "")):
        base = [program(rv64), "-display", "none"] + ([] if "-machine" in args else ["-machine", "virt"])
        p = subprocess.run(base + args, capture_output=True, text=True, timeout=60)
        assert p.returncode == 1 and words in p.stderr, f"{args}: status {p.returncode}, said {p.stderr!r}"


rv64_full = "rv64,svinval=on,svnapot=on,svpbmt=on,sscofpmf=on"
tests = [privileged(64, "jit", rv64_full), privileged(32, "jit", "rv32,svinval=on"), privileged(64, "interp", rv64_full),
         privileged(32, "interp", "max"), privileged(64, "jit,chaos=1", "max"), privileged(64, "jit,verify=on", rv64_full), opensbi, opensbi32, device_tree, erased_flash, refused, u_boot("machine"), u_boot("supervisor"), edk2, edk2_starts_kernel,
         loader_starts_kernel("systemd-boot", "virt", "acpi"), loader_starts_kernel("grub", "virt", "acpi"),
         loader_starts_kernel("grub", "virt,acpi=off", "devicetree"), installer(), to_userspace(1), to_userspace(2), to_userspace(4),
         to_userspace(2, cpu="max"), to_userspace(2, machine="virt,aclint=on", cpu="rv64,sstc=off,sv48=off"), debian(2), contention, profile("rv64,sscofpmf=on", "bookworm"), profile("max", "trixie"), power_button]
if soak:
    for n in range(20):                 # rounds over everything, every second one with forced timing
        accel = f"jit,chaos={n}" if n % 2 else "jit"
        tests += [to_userspace(smp, accel) for smp in (1, 2, 4)] + [debian(smp, accel) for smp in (1, 2, 4)] + [installer(accel)]
run(tests)
