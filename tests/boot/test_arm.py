#!/usr/bin/python3
"""Arm's virt board: Debian's kernels to a busybox userspace and a clean power-off, with either interrupt controller and on the
32-bit machine; the installers; a Debian disk to its login prompt with network; debugger and profiler; the device tree; what is
refused."""
import os
import re
import subprocess
import tempfile
from boot import Machine, asset, build, complaints, free_port, initrd_with, program, run, soak

a64 = "rhea-system-aarch64"


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


def installer(kernel, cpu, emulator, accel="jit"):
    """Debian's installer to its first question."""
    def test():
        k = asset("kernel", kernel)
        with Machine("-cpu", cpu, "-kernel", f"{k}/vmlinuz", "-initrd", f"{k}/initrd.gz", "-append", "console=ttyAMA0", machine="virt",
                     smp=2, memory="1G", accel=accel, emulator=emulator) as m:
            m.expect(r"Choose the language|Select a language", 300)
            m.clean()
    return f"installer-{kernel}-{accel}", test


def debug_and_profile(cpu):
    """What gdb and perf ask of the kernel: watchpoints, breakpoints, steps, cycles that interrupt (arm/debug.c, perf.c)."""
    def test():
        k = asset("kernel", "arm64-cloud")
        with tempfile.TemporaryDirectory() as d:
            initrd = initrd_with(f"{k}/initrd.gz", d, "aarch64-linux-gnu-gcc", "arm/debug.c", "perf.c")
            with Machine("-cpu", cpu, "-kernel", f"{k}/vmlinuz", "-initrd", initrd, "-append",
                         'console=ttyAMA0 panic=-1 rhea.run="/debug; /perf; echo end of debug"', machine="virt", smp=2, emulator=a64) as m:
                m.expect(r"userspace is up", 120)
                said = m.expect(r"(?s)(.*)end of debug", 240)[1]
                assert m.wait(60) == 0
                for what in ("watchpoint works", "step works", "breakpoint works", "cycles are counted", "cycles are sampled"):
                    assert what in said, f"not {what}: {said}"
    return f"debug-{cpu}", test


def power_button(acpi):
    """system_powerdown reaches a kernel that knows the machine by its device tree alone: gpio-keys on the PL061 (arm/button.c)."""
    def test():
        k = asset("kernel", "arm64-installer")
        with tempfile.TemporaryDirectory() as d:
            initrd = initrd_with(f"{k}/initrd.gz", d, "aarch64-linux-gnu-gcc", "arm/button.c")
            with Machine("-cpu", "cortex-a57", "-kernel", f"{k}/vmlinuz", "-initrd", initrd, "-append",
                         "console=ttyAMA0 panic=-1 rdinit=/button", machine=f"virt,acpi={acpi}", smp=2, emulator=a64) as m:
                m.expect(r'Name="gpio-keys"\s+B: KEY=10000000000000 0\s', 240)          # bit 116, KEY_POWER
                m.expect(r"ready for the button", 60)
                m.qmp("system_powerdown")
                m.expect(r"the button was pressed", 120)
                assert m.wait(120) == 0
                m.clean()
    return f"power-button-acpi-{acpi}", test


def debian(gic, smp, accel="jit"):
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
                         "virtio-rng-pci", "-fw_cfg", "name=opt/me,string=told", machine=f"virt,gic-version={gic}", memory="1G", smp=smp,
                         accel=accel, emulator=a64) as m:
                m.expect(r"login: ", 400)
                m.send("root\n")
                m.expect(r"# ", 60)
                m.send("until ping -c 1 -W 5 10.0.2.2 >/dev/null 2>&1; do sleep 1; done; echo ping-$?; systemctl is-system-running --wait | tr a-z A-Z\n")
                m.expect(r"ping-0", 180)
                m.expect(r"RUNNING", 300)
                m.expect(r"# ", 60)              # type at a prompt, as a user does
                m.send("modprobe qemu_fw_cfg; tr a-z A-Z < /sys/firmware/qemu_fw_cfg/by_name/opt/me/raw; echo\n")
                m.expect(r"TOLD", 90)
                m.expect(r"# ", 60)
                m.clean()
                m.send("poweroff\n")     # this kernel has no driver for the button
                assert m.wait(120) == 0
    return f"debian-{smp}-gic{gic}-{accel}", test


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


tests = [device_tree(2, "v2m@8020000"), device_tree(3, "its@8080000"), refused,
         to_userspace(1, 2), to_userspace(2, 2), to_userspace(4, 2), to_userspace(1, 3), to_userspace(2, 3), to_userspace(4, 3),
         to_userspace(2, 3, "arm64"), to_userspace(2, 3, "arm64-trixie-cloud"), to_userspace(2, 3, "arm64-trixie"),
         to_userspace(2, 3, cpu="max"), to_userspace(2, 3, "arm64-trixie", "max"), to_userspace(2, 2, more=",secure=on"),
         to_userspace(2, 3, more=",secure=on,virtualization=on"), to_userspace(2, 2, "armhf", "cortex-a15", more=",secure=on,virtualization=on"),
         to_userspace(1, 2, "armhf", "cortex-a15"), to_userspace(2, 2, "armhf", "cortex-a7"), to_userspace(4, 2, "armhf", "cortex-a15"),
         debug_and_profile("cortex-a57"), debug_and_profile("max"), installer("arm64-installer", "cortex-a57", a64),
         installer("armhf-installer", "cortex-a15", "rhea-system-arm"), power_button("on"), power_button("off"), debian(2, 2), debian(3, 4)]
if soak:
    for n in range(20):                 # rounds over everything, every second one with forced timing
        accel = f"jit,chaos={n}" if n % 2 else "jit"
        tests += [to_userspace(smp, 2 + n // 2 % 2, kernel, accel=accel) for smp in (1, 2, 4)
                  for kernel in ("arm64-cloud", "arm64", "arm64-trixie-cloud", "arm64-trixie")]
        tests += [to_userspace(smp, 2, "armhf", cpu, accel) for smp, cpu in ((1, "cortex-a7"), (2, "cortex-a15"), (4, "cortex-a15"))]
        tests += [installer("arm64-installer", "cortex-a57", a64, accel), installer("armhf-installer", "cortex-a15", "rhea-system-arm", accel)]
        tests += [debian(2 + n // 2 % 2, smp, accel) for smp in (1, 2, 4)]
run(tests)
