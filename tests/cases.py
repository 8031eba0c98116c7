"""Runs the cases of a Python test and tells where one failed; the last line is what tools/test.py counts."""
import os
import sys
import tempfile
import time
import traceback


def named(namespace):
    """The test_ functions of a file, by name."""
    return [(name[5:], fn) for name, fn in namespace.items() if name.startswith("test_")]


def until(holds, seconds=120):
    """Waits for a condition; its last value."""
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


held = {True: 0, False: 0}      # what report() was told


def report(name, ok, detail=""):
    """One check of many in a test that goes on after a failure; detail is shown of what failed."""
    held[bool(ok)] += 1
    if not ok:
        print(f"FAILED {name}\n{str(detail)[-8000:]}", flush=True)


def finish():
    """Ends a test of report()s."""
    print(f"{held[True]} passed, {held[False]} failed")
    sys.exit(1 if held[False] or not held[True] else 0)


def run(cases, folder=None):
    """Runs functions or (name, function) pairs, those named on the command line if any, each in an empty folder of its own where
    a prefix for its name is given; then ends the program."""
    passed = failed = 0
    for case in cases:
        name, fn = case if isinstance(case, tuple) else (case.__name__, case)
        if len(sys.argv) > 1 and not any(word in name for word in sys.argv[1:]):
            continue
        start = time.monotonic()
        try:
            if folder:
                with tempfile.TemporaryDirectory(prefix=folder) as d:
                    os.chdir(d)
                    try:
                        fn()
                    finally:
                        os.chdir("/")
            else:
                fn()
            passed += 1
            print(f"ok: {name} ({time.monotonic() - start:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED: {name}\n{traceback.format_exc(-2)}", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)
