#!/usr/bin/python3
"""Language runtimes in user mode. exact.c is what they rest on: signals at any instruction, handlers that edit contexts, code that is
written while it runs, memory order. runtimes/ has a program for each runtime; Go's is cross-compiled for all guests by the host's
compiler, the others run from Debian's packages, arm64's. Under SOAK=1 ten times each (ROUNDS=N: N times), with all of the JVM's
collectors, on all guests, and Go's own tests of what leans on the kernel.

usage: test_runtimes.py BUILD-FOLDER [PART|GUEST...]; a part is exact, go, gostd, packages or a runtime of the packages: java, node"""
import os
import subprocess
import sys
import tempfile
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
from cases import finish, report            # noqa: E402

top = os.path.dirname(os.path.dirname(here))
build = os.path.abspath(sys.argv[1])
soak = bool(os.environ.get("SOAK"))
rounds = int(os.environ.get("ROUNDS", 10 if soak else 1))
work = tempfile.TemporaryDirectory(prefix="rhea-runtimes-")

# guest: compiler, Go's name, Debian's
GUESTS = {
    "x86_64": ("gcc", "amd64", "amd64"),
    "i386": ("i686-linux-gnu-gcc", "386", "i386"),
    "aarch64": ("aarch64-linux-gnu-gcc", "arm64", "arm64"),
    "arm": ("arm-linux-gnueabihf-gcc", "arm", "armhf"),
    "riscv64": ("riscv64-linux-gnu-gcc", "riscv64", "riscv64"),
}
guests = [g for g in sys.argv[2:] if g in GUESTS] or list(GUESTS)
only = [a for a in sys.argv[2:] if a not in GUESTS]
# runtime: program in the packages, arguments, what it prints
RUNTIMES = {
    "node": ("usr/bin/node", ["stress.js"]),
    "java": ("usr/lib/jvm/default-java/bin/java", ["-Xmx256m", "Stress.java"]),
    "python": ("usr/bin/python3", ["stress.py"]),
    "ruby": ("usr/bin/ruby", ["stress.rb"]),
    "lua": ("usr/bin/luajit", ["stress.lua"]),
    "lisp": ("usr/bin/sbcl", ["--noinform", "--no-sysinit", "--no-userinit", "--disable-debugger", "--load", "stress.lisp"]),
    "ocaml": ("usr/bin/ocamlrun", ["usr/bin/ocaml", "stress.ml"]),
    "guile": ("usr/bin/guile-3.0", ["stress.scm"]),
}
COLLECTORS = ["Serial", "Parallel", "G1", "Shenandoah", "Z"]


def run(argv, timeout=600, **kw):
    env = {"PATH": "/usr/bin:/bin", "HOME": work.name, "LANG": "C.UTF-8", "GUILE_AUTO_COMPILE": "0", **kw.pop("env", {})}
    try:
        return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=timeout,
                              stdin=subprocess.DEVNULL, env=env, **kw)
    except subprocess.TimeoutExpired as e:
        return subprocess.CompletedProcess(argv, -1, (e.stdout or b"").decode(errors="replace") + "no end within the time given")


def rhea(guest):
    return os.path.join(build, "bin", "rhea-" + guest)


def expect(name, argv, line):
    for n in range(rounds):
        start = time.monotonic()
        r = run(argv)
        good = r.returncode == 0 and line in r.stdout.splitlines()
        report(f"{name} ({n + 1} of {rounds})", good, f"{r.stdout[-3000:]}\nexit {r.returncode} after {time.monotonic() - start:.0f} s")
        if not good:
            return


def test_exact():
    for guest in guests:
        compiler = GUESTS[guest][0]
        program = os.path.join(work.name, "exact-" + guest)
        r = run([compiler, "-O1", "-static", "-pthread", "-o", program, os.path.join(here, "exact.c")])
        report(f"exact.c for {guest}", r.returncode == 0, r.stdout)
        expect(f"exact {guest}", [rhea(guest), program], "0 failures")
        if guest == "x86_64":
            expect("exact native", [program], "0 failures")


def test_go():
    cache = {"GOCACHE": os.path.join(work.name, "go-cache"), "CGO_ENABLED": "0", "GOFLAGS": "-p=2"}
    for guest in guests:
        name = GUESTS[guest][1]
        if guest not in ("x86_64", "aarch64") and not soak:
            continue                    # each takes the host's compiler half a minute
        program = os.path.join(work.name, "go-" + guest)
        r = run(["go", "build", "-o", program, os.path.join(here, "runtimes", "stress.go")], env={**cache, "GOARCH": name})
        report(f"go build for {guest}", r.returncode == 0, r.stdout)
        expect(f"go {guest}", [rhea(guest), program], "go ok")
        expect(f"go {guest}, checked", [rhea(guest), "-E", "GODEBUG=gccheckmark=1", "-E", "GOGC=5", program], "go ok")
        if guest == "x86_64":
            expect("go native", [program], "go ok")


# Go's own: what leans on the kernel. Not for here are those that run the host's gdb, or have the host's nohup start the foreign
# program, and one that wants the guest's packages compiled.
GO_TESTS = ["sync", "sync/atomic", "os/signal", "net", "runtime"]
GO_NOT = ("TestGdb", "TestNohup", "TestDetectNohup", "TestAtomicAlignment")


def test_gostd():
    source = os.path.join(run(["go", "env", "GOROOT"]).stdout.strip(), "src")
    env = {"GOCACHE": os.path.join(work.name, "go-cache"), "CGO_ENABLED": "0", "GOFLAGS": "-p=2"}
    for guest in guests:
        name = GUESTS[guest][1]
        for package in GO_TESTS if soak or "gostd" in only else []:
            program = os.path.join(work.name, "go-tests")
            r = run(["go", "test", "-c", "-o", program, package], env={**env, "GOARCH": name})
            report(f"go test -c {package} for {guest}", r.returncode == 0, r.stdout)
            r = run([rhea(guest), program, "-test.short", "-test.v"], 3600, cwd=os.path.join(source, package), env={**env, "GOARCH": name})
            lines = r.stdout.splitlines()
            bad = [s for s in lines if s.startswith("--- FAIL: ") and not s.split()[2].startswith(GO_NOT)]
            report(f"go test {package} {guest}", r.returncode in (0, 1) and {"PASS", "FAIL"} & set(lines) and not bad,
                   "\n".join(bad) + f"\n{r.stdout[-3000:]}\nexit {r.returncode}")


def packages(arch):
    out = subprocess.run([os.path.join(top, "tools", "guest.sh"), "runtimes", arch], check=True, stdout=subprocess.PIPE, text=True).stdout
    return os.path.join(out.strip(), "root")


def runtime(guest, root, name):
    program, args = RUNTIMES[name]
    if not os.path.exists(os.path.join(root, program)):
        return                          # Debian has none for this architecture
    args = [os.path.join(root if a.startswith("usr/") else os.path.join(here, "runtimes"), a) if "." in a or "/" in a else a for a in args]
    argv = [rhea(guest), "-L", root, os.path.realpath(os.path.join(root, program))]
    if name != "java" or not soak:
        expect(f"{name} {guest}", [*argv, *args], f"{name} ok")
        return
    r = run([*argv, "-version"])
    report(f"{name} {guest} starts", r.returncode == 0, r.stdout)
    for collector in COLLECTORS:        # not each machine has each
        flag = f"-XX:+Use{collector}GC"
        if run([*argv, flag, "-version"]).returncode == 0:
            expect(f"{name} {guest} {collector}", [*argv, flag, *args], f"{name} ok")


def test_packages():
    for guest in guests:
        if guest != "aarch64" and not soak:
            continue
        root = packages(GUESTS[guest][2])
        for name in RUNTIMES:
            if not only or name in only or "packages" in only:
                runtime(guest, root, name)


if __name__ == "__main__":
    for part in (test_exact, test_go, test_gostd, test_packages):
        name = part.__name__.removeprefix("test_")
        if not only or name in only or (name == "packages" and set(only) & set(RUNTIMES)):
            part()
    finish()
