#!/usr/bin/python3
"""Runs the tests that meson knows (tests/**/meson.build), two at once, and counts cases.

SUITE=isa/x86 runs those whose suite/name begins so; SOAK=1 is passed on to tests that have a long form.
A program is one case, unless it prints "N passed, N failed" or TAP lines itself. The last line is the sum.
"""
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import threading
import time

build = os.path.abspath(os.environ.get("BUILD", "build"))
want = os.environ.get("SUITE", "")
soak = os.environ.get("SOAK", "")
tty = sys.stderr.isatty()
lock = threading.Lock()


def load():
    out = subprocess.run(["meson", "introspect", "--tests", build], check=True, capture_output=True, text=True).stdout
    tests = []
    for t in json.loads(out):
        suite = t["suite"][0].split(":")[-1] if t["suite"] else "unit"
        t["label"] = f"{suite}/{t['name']}"
        if t["label"].startswith(want):
            tests.append(t)
    # the longest first, so that the last ones do not run alone
    return sorted(tests, key=lambda t: (-t.get("priority", 0), -t["timeout"], t["label"]))


def count(text, code):
    sums = re.findall(r"^(\d+) passed, (\d+) failed", text, re.M)
    if sums:
        passed, failed = int(sums[-1][0]), int(sums[-1][1])
    else:
        passed = len(re.findall(r"^ok \d+", text, re.M))
        failed = len(re.findall(r"^not ok \d+", text, re.M))
    if code != 0 and failed == 0:
        failed = 1
    if passed + failed == 0:
        passed = 1
    return passed, failed


def run(t):
    env = {**os.environ, **t.get("env", {}), "BUILD": build}
    if not soak:
        env.pop("SOAK", None)           # `make` hands on an empty one
    limit = t["timeout"] * (60 if soak else 1) or None
    start = time.monotonic()
    try:
        p = subprocess.run(t["cmd"], env=env, cwd=t.get("workdir") or build, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit)
        text, code = p.stdout.decode(errors="replace"), p.returncode
    except subprocess.TimeoutExpired as e:
        text, code = (e.stdout or b"").decode(errors="replace") + f"\nno end within {limit} s", 1
    passed, failed = count(text, code)
    with lock:
        if failed:
            print(f"--- {t['label']}: {failed} failed (status {code}, {time.monotonic() - start:.1f} s)")
            print("\n".join(text.splitlines()[-40:]))
        else:
            print(f"    {t['label']}: {passed} passed ({time.monotonic() - start:.1f} s)")
        sys.stdout.flush()
    return passed, failed


tests = load()
if not tests:
    print(f"no test is named {want}...", file=sys.stderr)
    print("0 passed, 1 failed")
    sys.exit(1)
passed = failed = 0
alone = [t for t in tests if not t.get("is_parallel", True)]
with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
    for p, f in pool.map(run, [t for t in tests if t not in alone]):
        passed, failed = passed + p, failed + f
for t in alone:
    p, f = run(t)
    passed, failed = passed + p, failed + f
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
