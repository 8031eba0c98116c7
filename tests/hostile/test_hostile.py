#!/usr/bin/python3
"""Hostile guests: random and adversarial values to every register, ring and table of each board (hostile.c). The emulator
must answer its monitor at any time, end with a status of its own, and under a sanitizer report nothing.

usage: test_hostile.py [BOARD...]
SEED=N repeats a run, SECONDS=N sets how long each board is run (SOAK=1: ten minutes), BUILD=build-san the sanitizers' build."""
import json
import os
import random
import re
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time

here = os.path.dirname(os.path.abspath(__file__))
build = os.path.abspath(os.environ.get("BUILD", os.path.join(here, "../../build")))
seconds = float(os.environ.get("SECONDS", 600 if os.environ.get("SOAK") else 4))
# One life: long enough to reach depths, short enough that a guest that stopped itself costs little.
LIFE = float(os.environ.get("LIFE", 2))
REPORT = re.compile(rb"ERROR: \w+Sanitizer|runtime error|SUMMARY: |Assertion|assertion|CRITICAL|GLib.*WARNING")

PCI = ["-device", "virtio-blk-pci,drive=d0", "-device", "virtio-net-pci,netdev=n0", "-device", "virtio-rng-pci", "-device",
       "virtio-serial-pci,id=s0", "-device", "virtconsole,bus=s0.0,chardev=c1", "-device", "virtio-blk-pci,drive=d2,packed=on,num-queues=2",
       "-device", "pci-bridge,id=b0,chassis_nr=9", "-device", "virtio-rng-pci,bus=b0,addr=1"]
EXPRESS = ["-device", "pcie-root-port,id=r0,chassis=1,slot=1", "-device", "virtio-net-pci,bus=r0,netdev=n2", "-device", "pcie-pci-bridge"]
MMIO = ["-device", "virtio-blk-device,drive=d1", "-device", "virtio-net-device,netdev=n1", "-device", "virtio-rng-device", "-device",
        "virtio-serial-device,id=s1", "-device", "virtserialport,bus=s1.0,chardev=c2"]
# name: program, image, -machine, board number, arguments
BOARDS = {
    "q35": ("x86_64", "x86", "q35", 0, PCI + EXPRESS + ["-device", "isa-debugcon,iobase=0xe9,chardev=c3"]),
    "pc": ("x86_64", "x86", "pc", 1, PCI),
    "microvm": ("x86_64", "x86.elf", "microvm", 2, MMIO),
    "arm64-gic2": ("aarch64", "arm64", "virt,gic-version=2", 0, PCI + EXPRESS + MMIO + ["-cpu", "cortex-a57"]),
    "arm64-gic3": ("aarch64", "arm64", "virt,gic-version=3", 1, PCI + EXPRESS + MMIO + ["-cpu", "cortex-a57"]),
    "arm64-el2": ("aarch64", "arm64", "virt,gic-version=3,virtualization=on", 1, PCI + MMIO + ["-cpu", "max"]),
    "arm64-el3": ("aarch64", "arm64", "virt,gic-version=2,secure=on", 0, PCI + MMIO + ["-cpu", "cortex-a57"]),
    "arm64-el3-gic3": ("aarch64", "arm64", "virt,gic-version=3,secure=on", 1, PCI + MMIO + ["-cpu", "max"]),
    "arm-gic2": ("arm", "arm", "virt,gic-version=2", 0, PCI + MMIO + ["-cpu", "cortex-a15"]),
    "arm-gic3": ("arm", "arm", "virt,gic-version=3", 1, PCI + MMIO + ["-cpu", "cortex-a15"]),
    "riscv64": ("riscv64", "riscv64", "virt", 0, PCI + EXPRESS + MMIO),
    "riscv32": ("riscv32", "riscv32", "virt", 0, PCI + MMIO + ["-cpu", "max"]),
}

RAM = {"x86_64": 0, "aarch64": 0x40000000, "arm": 0x40000000, "riscv64": 0x80000000, "riscv32": 0x80000000}


def image(arch, folder):
    path = os.path.join(folder, arch)
    if not os.path.exists(path):
        subprocess.run([os.path.join(here, "build.sh"), arch.removesuffix(".elf"), path.removesuffix(".elf")], check=True)
    return path


def configured(path, folder, seed, board, cpus):
    """The image with its struct config filled in."""
    data = bytearray(open(path, "rb").read())
    at = data.index(b"HOSTILE\0")
    struct.pack_into("<QII", data, at + 8, seed, board, cpus)
    out = os.path.join(folder, "image")
    with open(out, "wb") as f:
        f.write(data)
    return out


def arguments(name, seed, folder, images):
    program, arch, machine, board, more = BOARDS[name]
    cpus = 1 + seed % 3
    guest = configured(image(arch, images), folder, seed, board, cpus)
    for n in range(3):
        with open(f"{folder}/disk{n}", "wb") as f:
            f.truncate(1 << 20)
    with open(f"{folder}/flash", "wb") as f:
        f.truncate(64 << 20 if program in ("aarch64", "arm") else 32 << 20)
    argv = [f"{build}/bin/rhea-system-{program}", "-M", machine, "-m", "64", "-smp", str(cpus), "-nodefaults", "-display", "none",
            "-bios" if arch in ("x86", "riscv64", "riscv32") else "-kernel", guest, "-qmp", f"unix:{folder}/qmp,server=on,wait=off",
            "-d", "guest_errors,unimp", "-D", f"{folder}/log", "-chardev", "null,id=c0", "-serial", "chardev:c0"]
    for n in range(3):
        argv += ["-netdev", f"user,id=n{n}", "-chardev", f"null,id=c{n + 1}"]
        argv += ["-drive", f"if=none,id=d{n},format=raw,file={folder}/disk{n}"]
    if arch.startswith("arm") and "secure" not in machine:
        argv += ["-drive", f"if=pflash,format=raw,file={folder}/flash,unit=1"]
    if arch.startswith("riscv"):
        argv += ["-drive", f"if=pflash,format=raw,file={folder}/flash,unit=1"]
    argv += more
    # A balloon takes the guest's own code away before long.
    if seed % 5 == 0:
        argv += ["-device", "virtio-balloon-device" if machine == "microvm" or seed % 2 and machine[0] == "v" else "virtio-balloon-pci"]
    return argv + ["-accel", "jit" if seed % 4 else f"jit,chaos={seed % 100}"]


class Life:
    """One machine with one seed."""

    def __init__(self, name, seed, images):
        self.folder = tempfile.TemporaryDirectory(prefix="rhea-hostile-")
        self.program, self.actions = BOARDS[name][0], 0
        self.argv = arguments(name, seed, self.folder.name, images)
        self.errors = open(f"{self.folder.name}/errors", "w+b")
        self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors)

    def monitor(self, command):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(90)
            s.connect(f"{self.folder.name}/qmp")
            f = s.makefile("rwb")
            f.readline()
            for c in ("qmp_capabilities", *command):
                c = c if isinstance(c, dict) else {"execute": c}
                f.write(json.dumps(c).encode() + b"\n")
                f.flush()
                while True:
                    line = f.readline()
                    if not line:
                        return None
                    reply = json.loads(line)
                    if "event" not in reply:
                        break
            return reply

    def alive_after(self, e):
        """The guest may have ended its machine while we spoke; a sanitizer's end takes its time."""
        if os.environ.get("KEEP") and self.process.poll() is None:
            print(f"left for a debugger: process {self.process.pid}, {self.folder.name}", flush=True)
            sys.exit(1)
        try:
            self.process.wait(90)
            return ""
        except subprocess.TimeoutExpired:
            self.process.kill()
            return f"does not answer its monitor ({e!r})"

    def end(self, life):
        """Lets it live for so long, then asks it to end; what is wrong, or nothing."""
        born = time.monotonic() + 90            # on a loaded machine, under a sanitizer
        while self.process.poll() is None and not os.path.exists(f"{self.folder.name}/qmp") and time.monotonic() < born:
            time.sleep(0.05)
        deadline = time.monotonic() + life
        while self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        said = ""
        if self.process.poll() is None:
            try:
                # stop needs every vCPU to come out of whatever it does
                ram = RAM[self.program]
                sign = {"execute": "human-monitor-command", "arguments": {"command-line": f"xp /1gx {ram + (48 << 20) + 16:#x}"}}
                self.actions = int(self.monitor(["stop", sign])["return"].split()[-1], 16)
                self.monitor(["cont", "quit"])
                self.process.wait(90)
            except (OSError, ValueError, TypeError, subprocess.TimeoutExpired) as e:
                said = self.alive_after(e)
        status = self.process.wait()
        self.errors.seek(0)
        text = self.errors.read()
        if not said and (status < 0 or REPORT.search(text) or (status and not text.strip())):
            said = f"ended with status {status}"
        if not said and status:
            said = f"did not start (status {status})" if time.monotonic() < deadline - life + 2 else f"status {status}"
        return said, text.decode(errors="replace")

    def close(self):
        self.errors.close()
        self.folder.cleanup()


def board(name, images, first):
    lives = actions = 0
    end = time.monotonic() + seconds
    # A guest may undo itself at once, or switch itself off; but not each time.
    while lives == 0 or time.monotonic() < end or (actions == 0 and lives < 8):
        seed = first + lives
        life = Life(name, seed, images)
        try:
            said, text = life.end(min(LIFE, max(1, end - time.monotonic())))
            if said:
                print(f"not ok - {name}: seed {seed} {said}\n{text[-6000:]}", flush=True)
                return False
        finally:
            life.close()
        lives += 1
        actions += life.actions
        if "SEED" in os.environ:
            break
    if not actions and "SEED" not in os.environ:
        print(f"not ok - {name}: from seed {first} on the guest did nothing", flush=True)
        return False
    print(f"ok: {name}, {lives} lives from seed {first}, {actions} actions", flush=True)
    return True


def main():
    os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=1:allocator_may_return_null=1")
    os.environ.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=0")
    names = sys.argv[1:] or list(BOARDS)
    first = int(os.environ.get("SEED", random.randrange(1 << 31)))
    with tempfile.TemporaryDirectory() as images:
        failed = sum(not board(n, images, first) for n in names)
    print(f"{len(names) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
