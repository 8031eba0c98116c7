#!/usr/bin/python3
"""The engine of user mode: programs of this folder, compiled for each guest, run translated, interpreted, and with a cache so
small that it is flushed all the time. They check themselves, and must also pass natively."""
import concurrent.futures
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
CROSS32 = ["-m32", "-isystem", "/usr/i686-linux-gnu/include", "-B/usr/i686-linux-gnu/lib", "-L/usr/i686-linux-gnu/lib",
           "-B/usr/lib/gcc-cross/i686-linux-gnu/12", "-L/usr/lib/gcc-cross/i686-linux-gnu/12"]
GUESTS = {
    "x86_64": ["gcc"],
    "i386": ["gcc", *CROSS32],
    "aarch64": ["aarch64-linux-gnu-gcc"],
    "arm": ["arm-linux-gnueabihf-gcc"],
    "armel": ["arm-linux-gnueabihf-gcc", "-marm"],
    "riscv64": ["riscv64-linux-gnu-gcc"],
}
PROGRAMS = ("signals", "code")
WAYS = {"jit": [], "interp": ["-interp"], "small-cache": ["-tb-size", "4"]}


def compile_one(folder, guest, program):
    out = os.path.join(folder, f"{program}-{guest}")
    subprocess.run([*GUESTS[guest], "-O2", "-static", "-pthread", "-o", out, os.path.join(HERE, program + ".c")], check=True)
    return out


def run(command):
    try:
        p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=120)
        return p.returncode, p.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as e:
        return -1, (e.stdout or b"").decode(errors="replace") + "no end within 120 s"


def main():
    user = sys.argv[1]
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for guest in GUESTS:
            for program in PROGRAMS:
                binary = compile_one(folder, guest, program)
                if guest == "x86_64":
                    cases.append((f"{program} native", [binary]))
                cases += [(f"{program} {guest} {way}", [user, *args, binary]) for way, args in WAYS.items()]
        failed = 0
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for (name, _), (code, text) in zip(cases, pool.map(run, [c for _, c in cases])):
                if code:
                    failed += 1
                    print(f"{name}: exit status {code}\n{text[-2000:]}")
    print(f"{len(cases) - failed} passed, {failed} failed")
    return failed != 0


sys.exit(main())
