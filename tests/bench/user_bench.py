"""User mode beside Debian's qemu-user and the host: start-up of a trivial program, what programs ask of the kernel, the set of
CPU programs, for each guest."""
import os
import re
import statistics
import subprocess
import time

here = os.path.dirname(os.path.abspath(__file__))
COMPILERS = {"x86_64": "gcc", "i386": "i686-linux-gnu-gcc", "aarch64": "aarch64-linux-gnu-gcc", "arm": "arm-linux-gnueabihf-gcc",
             "riscv64": "riscv64-linux-gnu-gcc"}
STARTS = 50


def compiled(work, guest, name):
    out = os.path.join(work, f"{name}-{guest}")
    subprocess.run([COMPILERS[guest], "-O2", "-static", "-pthread", "-o", out, os.path.join(here, name + ".c"), "-lm"], check=True)
    return out


def bench(build, work, runs, row, head, guest):
    """row(name, {emulator: [figures]}, unit), head(title): bench.py's."""
    who = {"rhea": [os.path.join(build, "bin", "rhea-" + guest)], "qemu": [f"qemu-{guest}-static"]}
    kernel, programs = (compiled(work, guest, name) for name in ("user_kernel", "programs"))
    host = {name: compiled(work, "x86_64", name) for name in ("user_kernel", "programs")}
    times = {}

    def take(name, emulator, seconds):
        times.setdefault(name, {}).setdefault(emulator, []).append(seconds)

    def output(emulator, path):
        text = subprocess.run([*who.get(emulator, []), path], check=True, capture_output=True, text=True, timeout=900).stdout
        for m in re.finditer(r"^([\w-]+) (\d+\.\d{6})", text, re.M):
            take(m[1], emulator, float(m[2]))
    for _ in range(runs):
        for emulator in ("rhea", "qemu", "native"):
            native = emulator == "native"
            start = time.monotonic()
            for _ in range(STARTS):
                subprocess.run([*who.get(emulator, []), host["user_kernel"] if native else kernel, "child"], check=True)
            take("start-up", emulator, (time.monotonic() - start) / STARTS)
            output(emulator, host["user_kernel"] if native else kernel)
            output(emulator, host["programs"] if native else programs)
    head(f"{guest}: programs of user mode")
    logs = []
    for name, values in times.items():
        mid = row(name, values, "s")
        if "rhea" in mid and "qemu" in mid and mid["rhea"]:
            logs.append(mid["qemu"] / mid["rhea"])
    print(f"  {'geometric mean of all':<66}{statistics.geometric_mean(logs):>9.2f}x", flush=True)
