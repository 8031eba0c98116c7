#!/usr/bin/python3
"""Memory order: litmus.c under a Debian kernel on four processors of each architecture. Forbidden outcomes are never seen and
no update is lost; SOAK=1 runs each for a minute, also under chaos."""
import gzip
import os
import re
import subprocess
import sys
import tempfile

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../boot"))
from boot import Machine, asset, run, soak  # noqa: E402

# name: emulator, kernel, console, -machine, -cpu, compiler
GUESTS = {
    "x86": ("x86_64", "cloud", "ttyS0", "q35", "max", "gcc"),
    "arm64": ("aarch64", "arm64-cloud", "ttyAMA0", "virt,gic-version=3", "cortex-a57", "aarch64-linux-gnu-gcc"),
    "arm64-lse": ("aarch64", "arm64-cloud", "ttyAMA0", "virt,gic-version=3", "max", "aarch64-linux-gnu-gcc"),
    "arm": ("arm", "armhf", "ttyAMA0", "virt", "cortex-a15", "arm-linux-gnueabihf-gcc"),
    "riscv64": ("riscv64", "riscv64-trixie", "ttyS0", "virt", "rv64", "riscv64-linux-gnu-gcc"),
}


def initrd(kernel, compiler, folder):
    """The kernel's own initramfs and, behind it, an archive with the program."""
    os.makedirs(f"{folder}/root/bin")
    subprocess.run([compiler, "-std=gnu17", "-O2", "-static", "-pthread", os.path.join(here, "litmus.c"), "-o", f"{folder}/root/bin/litmus"],
                   check=True)
    more = subprocess.run("find bin | cpio -o -H newc --quiet --owner 0:0", shell=True, cwd=f"{folder}/root", check=True, capture_output=True)
    with open(f"{folder}/initrd", "wb") as out:
        out.write(open(f"{kernel}/initrd.gz", "rb").read())
        out.write(gzip.compress(more.stdout, 1))
    return f"{folder}/initrd"


def litmus(name, accel, seconds):
    def test():
        emulator, kernel, console, machine, cpu, compiler = GUESTS[name]
        k = asset("kernel", kernel)
        with tempfile.TemporaryDirectory() as folder:
            files = ["-kernel", f"{k}/vmlinuz", "-initrd", initrd(k, compiler, folder)]
            with Machine(*files, "-cpu", cpu, "-append", f'console={console} quiet panic=-1 rhea.run="litmus {seconds}"', machine=machine,
                         smp=4, accel=accel, emulator=f"rhea-system-{emulator}") as m:
                m.expect(r"userspace is up on \S+, 4 CPUs", 240)
                said = m.expect(r"(?s)(.*)litmus: (\d+) laps, (\d+) forbidden, (\d+) lost(, LSE)?\r?\n", seconds * 4 + 240)
                print(f"{name}: {said[2]} laps;", *re.findall(r"allowed (.*?)\r?\n", said[1]), sep="  ", flush=True)
                assert said[3] == said[4] == "0", said[0]
                assert ("lse" in name) == bool(said[5])
    return f"{name}-{accel}", test


tests = [litmus(name, accel, 60 if soak else 4) for accel in (["jit", "jit,chaos=1"] if soak else ["jit"]) for name in GUESTS]
run(tests)
