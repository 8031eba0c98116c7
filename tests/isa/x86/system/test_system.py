#!/usr/bin/python3
"""Runs a bare-metal image under Rhea and compares what it prints to port E9 with what was reviewed against the manuals.

usage: test_system.py PROGRAM IMAGE EXPECTED CPUS[@MACHINE] ACCEL...    (each accelerator in turn)
QEMU's translator prints the same but for segment limits, RF in pushed flags and non-canonical MSR values, which it does
not model."""
import difflib
import os
import subprocess
import sys
import tempfile

DONE = 0x10 << 1 | 1                    # isa-debug-exit


def observe(program, image, cpus, accel):
    cpus, _, machine = cpus.partition("@")
    with tempfile.TemporaryDirectory(prefix="rhea-test-") as folder:
        out = os.path.join(folder, "out")
        argv = [program, "-machine", machine or "pc", "-accel", accel, "-cpu", "max", "-m", "64", "-smp", cpus, "-bios", image, "-nodefaults",
                "-no-reboot", "-display", "none", "-chardev", f"file,id=log,path={out}",
                "-device", "isa-debugcon,iobase=0xe9,chardev=log", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
        p = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        with open(out, encoding="ascii", errors="replace") as f:
            return p.returncode, f.read(), p.stderr


def main():
    program, image, expected, cpus, *accels = sys.argv[1:]
    with open(expected, encoding="ascii") as f:
        want = f.read()
    bad = 0
    for accel in accels:
        status, text, err = observe(program, image, cpus, accel)
        if status == DONE and text == want:
            print(f"{accel}: {text.count(chr(10))} lines agree")
            continue
        bad = 1
        print(f"{accel}: status {status}, {err.strip()}")
        sys.stdout.writelines(difflib.unified_diff(want.splitlines(True), text.splitlines(True), "expected", accel))
    sys.exit(bad)


main()
