#!/usr/bin/python3
"""Translations kept between runs (-cache, RHEA_CACHE): the next run loads them and translates nothing, whatever happened to the
folder, the program or the CPU model meanwhile the program does what it should. Counted by -d cache, never timed.

usage: test_cache.py BUILD-FOLDER [PART...]"""
import concurrent.futures
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
from cases import finish, report            # noqa: E402

build = os.path.abspath(sys.argv[1])
only = sys.argv[2:]
soak = bool(os.environ.get("SOAK"))
work = tempfile.TemporaryDirectory(prefix="rhea-cache-")

COMPILERS = {"x86_64": "gcc", "i386": "i686-linux-gnu-gcc", "aarch64": "aarch64-linux-gnu-gcc",
             "arm": "arm-linux-gnueabihf-gcc", "riscv64": "riscv64-linux-gnu-gcc"}
FOLDERS = {"x86_64": "/", "i386": "/usr/i686-linux-gnu", "aarch64": "/usr/aarch64-linux-gnu",
           "arm": "/usr/arm-linux-gnueabihf", "riscv64": "/usr/riscv64-linux-gnu"}
HEAD_BYTES, SEGMENT_BYTES = 64, 32      # of a file: its own head, a segment's


class Ran:
    """One run: what the program printed, and the regions of all its processes: loaded, translated, written."""

    def __init__(self, guest, folder, *argv, cpu=None, env=None):
        self.argv = [os.path.join(build, "bin", "rhea-" + guest), "-L", FOLDERS[guest], "-d", "cache,int", "-cache", folder,
                     *(["-cpu", cpu] if cpu else []), *argv]
        r = subprocess.run(self.argv, capture_output=True, text=True, errors="replace", timeout=300, stdin=subprocess.DEVNULL,
                           env={**os.environ, **(env or {})})
        self.status, self.out, self.err = r.returncode, r.stdout, r.stderr
        counts = re.findall(r"^cache: regions from files: (\d+) loaded, (\d+) translated, (\d+) written$", r.stderr, re.M)
        self.loaded, self.made, self.written = (sum(int(c[n]) for c in counts) for n in range(3))
        self.used = bool(counts)

    def __str__(self):
        return (f"{self.argv}: exit {self.status}, loaded {self.loaded}, translated {self.made}, written {self.written}\n"
                f"{self.out[-500:]}{self.err[-500:]}")


def folder():
    return tempfile.mkdtemp(dir=work.name)


def compiled(guest, name, *flags, source="cached.c"):
    out = os.path.join(folder(), name)
    subprocess.run([COMPILERS[guest], "-O1", "-w", "-pthread", "-o", out, os.path.join(here, source), *flags], check=True)
    return out


def right(r):
    return r.status == 0 and r.out == EXPECTED


def nearly_all(r):
    return right(r) and r.loaded > 100 and r.made * 10 <= r.loaded


def cached_files(cache):
    return sorted(os.path.join(cache, n) for n in os.listdir(cache) if n.endswith(".rhea"))


def test_second_run():
    for guest in COMPILERS:
        for kind, flags in (("dynamic", []), ("static", ["-static"])):
            program, cache = compiled(guest, "cached", *flags), folder()
            first, second = (Ran(guest, cache, program) for _ in range(2))
            report(f"{guest} {kind}: first run translates and writes", right(first) and first.made > 100 and first.written > 100, first)
            report(f"{guest} {kind}: second run loads", nearly_all(second), second)
            sizes = [os.path.getsize(f) for f in cached_files(cache)]
            third = Ran(guest, cache, program)
            report(f"{guest} {kind}: nothing new, nothing written", third.made or sizes == [os.path.getsize(f) for f in cached_files(cache)], third)


def test_calls():
    """All that programs expect of the kernel, from loaded code: signals at exact instructions, threads, code that is written."""
    for guest in COMPILERS:
        program, cache = compiled(guest, "calls", "-static", "-lrt", source="calls.c"), folder()
        for area in ("memory", "processes", "threads", "signals"):
            for turn in range(3 if soak else 2):
                r = Ran(guest, cache, program, area)
                bad = "\n".join(line for line in r.out.splitlines() if not line.startswith("ok "))
                report(f"{guest} {area}, run {turn}", r.status == 0 and "\n0 failures\n" in r.out and (turn == 0 or r.loaded > r.made),
                       f"{bad}\n{r}")


def test_hostile():
    """Whatever lies in the folder: cut off anywhere, changed anywhere, something else."""
    rng = random.Random(4)
    program, cache = compiled("aarch64", "cached", "-static"), folder()
    report("first", right(Ran("aarch64", cache, program)))
    path = max(cached_files(cache), key=os.path.getsize)
    with open(path, "rb") as f:
        good = f.read()
    second_head = HEAD_BYTES + SEGMENT_BYTES

    def attempt(name, data):
        with open(path, "wb") as f:
            f.write(data)
        r = Ran("aarch64", cache, program)
        report(f"hostile: {name}", right(r) and r.used, r)
        after = Ran("aarch64", cache, program)
        report(f"hostile: mended after {name}", nearly_all(after), after)
    for n in (0, 1, 63, 64, 65, second_head - 1, second_head, second_head + 5, len(good) // 2, len(good) - 1,
              *(rng.randrange(len(good)) for _ in range(40 if soak else 4))):
        attempt(f"cut at {n}", good[:n])
    for n in range(60 if soak else 12):
        data = bytearray(good)
        span = len(data) if n % 3 else second_head + 4096       # heads and places of entries, too
        for _ in range(rng.choice((1, 10, 1000))):
            data[rng.randrange(span)] = rng.randrange(256)
        attempt(f"bytes changed, {n}", bytes(data))
    attempt("zeros", bytes(len(good)))
    attempt("head only, then zeros", good[:HEAD_BYTES] + bytes(len(good)))
    attempt("head only, then ones", good[:HEAD_BYTES] + b"\xff" * len(good))
    attempt("a segment twice", good + good[HEAD_BYTES:])
    attempt("the rest of a segment", good + good[HEAD_BYTES:HEAD_BYTES + 1000])


def test_trust():
    program, cache = compiled("riscv64", "cached", "-static"), folder()
    report("first", right(Ran("riscv64", cache, program)))
    os.chmod(cache, 0o777)
    r = Ran("riscv64", cache, program)
    report("a folder that others may write is not used", right(r) and not r.used, r)
    os.chmod(cache, 0o700)
    for name in cached_files(cache):
        os.chmod(name, 0o666)
    r = Ran("riscv64", cache, program)
    report("files that others may write are not used", right(r) and r.loaded == 0 and r.written == 0, r)
    for name in cached_files(cache):
        os.chmod(name, 0o600)
        os.rename(name, name + ".kept")
        os.symlink(name + ".kept", name)
    r = Ran("riscv64", cache, program)
    report("links are not followed", right(r) and r.loaded == 0 and r.written == 0, r)
    if os.geteuid() == 0:
        for name in cached_files(cache):
            os.remove(name)
            os.rename(name + ".kept", name)
            os.chown(name, 12345, 12345)
        r = Ran("riscv64", cache, program)
        report("somebody else's files are not used", right(r) and r.loaded == 0 and r.written == 0, r)
        os.chown(cache, 12345, 12345)
        r = Ran("riscv64", cache, program)
        report("somebody else's folder is not used", right(r) and not r.used, r)
    elsewhere = os.path.join(work.name, "a", "b")
    r = Ran("riscv64", elsewhere, program)
    report("a folder that cannot be made", right(r) and not r.used, r)
    os.mkdir(os.path.dirname(elsewhere))
    r = Ran("riscv64", elsewhere, program)
    report("a folder is made", right(r) and r.written > 100 and os.stat(elsewhere).st_mode & 0o777 == 0o700, r)


def test_changed_program():
    """Another program under the name; and one that differs in instructions alone, behind its first page."""
    program, cache = compiled("x86_64", "cached", "-static"), folder()
    report("first", right(Ran("x86_64", cache, program)))
    other = compiled("x86_64", "other", "-static", "-DOTHER")
    shutil.copy(other, program)
    for turn in range(2):
        r = Ran("x86_64", cache, program)
        report("another program of the name", r.status == 0 and r.out == EXPECTED.replace("answer 42", "answer 43"), r)
    for guest, one, two in (("x86_64", b"\xb8\x11\x22\x33\x44", b"\xb8\x22\x22\x33\x44"), ("aarch64", b"\x69\x24\x86\x52", b"\x89\x26\x86\x52")):
        program, cache = compiled(guest, "marked", "-static", "-DMARKED"), folder()
        first, second = (Ran(guest, cache, program) for _ in range(2))
        with open(program, "rb") as f:
            data = f.read()
        report(f"{guest}: one place to change", data.count(one) == 1 and data.index(one) > 4096, data.count(one))
        with open(program, "wb") as f:
            f.write(data.replace(one, two))
        third, fourth = (Ran(guest, cache, program) for _ in range(2))
        report(f"{guest}: changed code is not taken for the old", first.out == second.out != third.out == fourth.out
               and third.status == 0 and 0 < third.made < 40 and fourth.made < 40, f"{first}{second}{third}{fourth}")


def test_models():
    """What a region was translated for is part of its name."""
    program, cache = compiled("aarch64", "cached", "-static"), folder()
    report("first", right(Ran("aarch64", cache, program, cpu="max")))
    r = Ran("aarch64", cache, program, cpu="cortex-a53")
    report("another CPU model loads nothing", right(r) and r.loaded == 0 and r.made > 100, r)
    r = Ran("aarch64", cache, program, cpu="max", env={"RHEA_HOST_FLOOR": "1"})
    report("a host with less loads nothing", right(r) and r.loaded == 0 and r.made > 100, r)
    for cpu, env in (("max", {}), ("cortex-a53", {}), ("max", {"RHEA_HOST_FLOOR": "1"})):
        r = Ran("aarch64", cache, program, cpu=cpu, env=env)
        report(f"all are kept: {cpu} {env}", nearly_all(r), r)


def test_together():
    """Many at a time, some of which do less than others, all in one folder."""
    guests = ["aarch64", "arm"]
    programs = {g: compiled(g, "cached") for g in guests}
    cache = folder()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(Ran, guests[n % 2], cache, programs[guests[n % 2]]) for n in range(60 if soak else 16)]
        for r in runs:
            report("together", right(r.result()), r.result())
    for guest in guests:
        Ran(guest, cache, programs[guest])      # who found the lock held wrote nothing
        r = Ran(guest, cache, programs[guest])
        report(f"together: {guest} afterwards", nearly_all(r), r)
    report("no temporary files are left", all(n.endswith(".rhea") for n in os.listdir(cache)), os.listdir(cache))


def test_growth():
    """A file that was written to by many runs is written anew, and has what they wrote."""
    program, cache = compiled("arm", "cached", "-static"), folder()
    for n in range(45):
        r = Ran("arm", cache, program, "function", str(n))
        report(f"growth: function {n}", r.status == 0 and r.out.startswith(f"function {n} is "), r)
    report("growth: one file", len(os.listdir(cache)) == 1, os.listdir(cache))
    for n in (0, 1, 20, 44):
        r = Ran("arm", cache, program, "function", str(n))
        report(f"growth: function {n} again", r.status == 0 and r.loaded > 20 and r.made * 10 <= r.loaded + 100, r)


def test_exec():
    """Processes that exec others hand the folder on, whatever their environment; forked children see what their siblings wrote."""
    program, cache = compiled("riscv64", "cached", "-static"), folder()
    first = Ran("riscv64", cache, program, "children", "5")
    report("children: right", first.status == 0 and first.out == "child\n" * 5, first)
    second = Ran("riscv64", cache, program, "children", "5")
    report("children: from the cache", second.status == 0 and second.out == first.out and second.loaded > 300 and second.made < 40, second)


parts = {"second": test_second_run, "calls": test_calls, "hostile": test_hostile, "trust": test_trust, "changed": test_changed_program,
         "models": test_models, "together": test_together, "growth": test_growth, "exec": test_exec}
os.environ.pop("RHEA_CACHE", None)
EXPECTED = subprocess.run([compiled("x86_64", "native")], check=True, capture_output=True, text=True).stdout
for part_name, part in parts.items():
    if not only or part_name in only:
        part()
finish()
