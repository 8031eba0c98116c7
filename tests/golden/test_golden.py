#!/usr/bin/python3
"""The host code of hot patterns, for review: FILE.s is assembled, emitted, and compared with FILE.txt beside it.

usage: test_golden.py EMIT FOLDER        UPDATE=1 writes the .txt files anew
A .s begins with a comment `# GUEST MODE ASSEMBLER...`. Descriptors behind the code are not compared."""
import difflib
import glob
import os
import subprocess
import sys
import tempfile


def emitted(emit, path, folder):
    with open(path, encoding="ascii") as f:
        guest, mode, *assembler = f.readline().lstrip("/#* ").split()
    o, raw = os.path.join(folder, "o"), os.path.join(folder, "raw")
    subprocess.run([*assembler, "-o", o, path], check=True)
    prefix = assembler[0][:-2]
    subprocess.run([f"{prefix}objcopy", "-O", "binary", "-j", ".text", o, raw], check=True)
    text = subprocess.run([emit, guest, mode, raw], check=True, capture_output=True, text=True).stdout
    lines = text.splitlines(True)
    # Behind the last jump of the slow paths are their descriptors: data.
    ends = [n for n, l in enumerate(lines) if l.strip().startswith("jmp") or l.strip() == "ret"]
    first_call = next((n for n, l in enumerate(lines) if l.strip() == "call A" or l.strip().startswith("call A")), None)
    return "".join(lines[:first_call + 1] if first_call is not None else lines[:ends[-1] + 1])


def main():
    emit, here = sys.argv[1:]
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(glob.glob(os.path.join(here, "*.s"))):
            golden = path[:-2] + ".txt"
            now = emitted(emit, path, folder)
            if os.environ.get("UPDATE"):
                with open(golden, "w", encoding="ascii") as f:
                    f.write(now)
            with open(golden, encoding="ascii") as f:
                was = f.read()
            if was == now:
                passed += 1
                continue
            failed += 1
            print(f"{os.path.basename(path)}: other code than reviewed (UPDATE=1 takes it)")
            sys.stdout.writelines(difflib.unified_diff(was.splitlines(True), now.splitlines(True), "reviewed", "now"))
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed != 0 or not passed)


main()
