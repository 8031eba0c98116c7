#!/usr/bin/python3
"""User mode: programs of each architecture under rhea-user. calls.c is what a program may expect of the kernel; it runs natively
and under the incumbent too, so that a check that is wrong itself is found. Options, environment, -strace, -L, exec across
architectures are tested with the same program and with small ones.

usage: test_user.py BUILD-FOLDER [PART...]"""
import difflib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
from cases import finish, report            # noqa: E402

build = os.path.abspath(sys.argv[1])
only = sys.argv[2:]
work = tempfile.TemporaryDirectory(prefix="rhea-user-")

# guest: compiler, -L folder, incumbent
GUESTS = {
    "x86_64": ("gcc", "/", None),
    "i386": ("i686-linux-gnu-gcc", "/usr/i686-linux-gnu", "qemu-i386-static"),
    "aarch64": ("aarch64-linux-gnu-gcc", "/usr/aarch64-linux-gnu", "qemu-aarch64-static"),
    "arm": ("arm-linux-gnueabihf-gcc", "/usr/arm-linux-gnueabihf", "qemu-arm-static"),
    "riscv64": ("riscv64-linux-gnu-gcc", "/usr/riscv64-linux-gnu", "qemu-riscv64-static"),
}
AREAS = ["files", "sockets", "memory", "processes", "threads", "signals", "async_io", "others"]


def run(argv, timeout=120, env=None, **kw):
    try:
        return subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=timeout, stdin=subprocess.DEVNULL,
                              env={**os.environ, **(env or {})}, **kw)
    except subprocess.TimeoutExpired as e:
        return subprocess.CompletedProcess(argv, -1, (e.stdout or b"").decode(errors="replace"), "no end within the time given")


def rhea(guest):
    return os.path.join(build, "bin", "rhea-" + guest)


def compile_for(guest, source, name, *flags):
    out = os.path.join(work.name, f"{name}-{guest}")
    r = run([GUESTS[guest][0], "-O1", "-w", "-o", out, source, "-pthread", "-lrt", *flags])
    if r.returncode:
        report(f"compile {name} for {guest}", False, r.stderr)
    return out


def source(name, text):
    path = os.path.join(work.name, name)
    with open(path, "w") as f:
        f.write(text)
    return path


def calls(argv, name):
    for area in AREAS:
        r = run([*argv, area], env={"NATIVE": "1"} if name == "native" else None)
        bad = "\n".join(line for line in r.stdout.splitlines() if not line.startswith("ok "))
        report(f"calls {name}: {area}", r.returncode == 0 and "\n0 failures\n" in r.stdout, f"{bad}\n{r.stderr}exit {r.returncode}")


def test_calls():
    for guest in GUESTS:
        program = compile_for(guest, os.path.join(here, "calls.c"), "calls-static", "-static")
        calls([rhea(guest), "-eager", program], guest + " static, all translated")
        program = compile_for(guest, os.path.join(here, "calls.c"), "calls")
        calls([rhea(guest), "-L", GUESTS[guest][1], program], guest + " dynamic")
        if guest == "x86_64":
            calls([program], "native")


def test_ioctls():
    """Structures of other sizes and with addresses: what the kernel tells each guest's program is what it tells the host's."""
    def say(*argv):
        r = run(argv)
        return r.returncode, r.stdout
    program = os.path.join(here, "ioctls.c")
    native = say(compile_for("x86_64", program, "ioctls", "-static"))
    for guest in GUESTS:
        binary = compile_for(guest, program, "ioctls", "-static")
        said = say(rhea(guest), binary)
        report(f"ioctl requests {guest}", said == native and native[0] == 0 and len(native[1]) > 1000,
               "".join(difflib.unified_diff(native[1].splitlines(True), said[1].splitlines(True), "native", guest, n=0)) + f"exit {said[0]}")
        r = run([rhea(guest), "-strace", binary])
        report(f"ioctl requests by name {guest}", all(f",{n}," in r.stderr for n in ("TCGETS", "TUNSETIFF", "FS_IOC_GETFLAGS", "SIOCETHTOOL")), r.stderr)


def test_uring():
    """io_uring: a program of each 64-bit guest, and Debian's fio, which reads back what it wrote."""
    for guest in ("x86_64", "aarch64", "riscv64"):
        program = compile_for(guest, os.path.join(here, "uring.c"), "uring", "-static")
        for name, argv in [(guest, [rhea(guest), program])] + ([("native", [program])] if guest == "x86_64" else []):
            r = run(argv)
            report(f"io_uring {name}", r.returncode == 0 and ("\n0 failures\n" in r.stdout or "no io_uring" in r.stdout), r.stdout + r.stderr)
    r = run([rhea("x86_64"), shutil.which("fio"), "--name=x", f"--filename={work.name}/fio", "--size=8m", "--rw=randrw", "--ioengine=io_uring",
             "--iodepth=16", "--verify=crc32c", "--verify_state_save=0", "--output-format=json"])
    report("io_uring fio", r.returncode == 0 and '"error" : 0' in r.stdout, r.stdout[-2000:] + r.stderr)


HELLO = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/utsname.h>
#include <sys/auxv.h>
int main(int argc, char **argv) {
    struct utsname u;
    uname(&u);
    if (argc > 2 && !strcmp(argv[1], "exec")) {
        fflush(stdout);
        execv(argv[2], argv + 2);
        perror("exec");
        return 9;
    }
    printf("%s|%s|%d", argv[0], u.machine, argc);
    for (int n = 1; n < argc; n++) printf("|%s", argv[n]);
    printf("|X=%s|%s|%d\n", getenv("X") ? getenv("X") : "-", u.release, getauxval(AT_PAGESZ) == 4096 && getauxval(AT_HWCAP) + 1 && getauxval(AT_ENTRY));
    return 3;
}
"""
MACHINE = {"x86_64": "x86_64", "i386": "i686", "aarch64": "aarch64", "arm": "armv7l", "riscv64": "riscv64"}


def test_sandbox():
    """seccomp filters judge the guest's own calls; in the native run the kernel checks the checks."""
    for guest in GUESTS:
        program = compile_for(guest, os.path.join(here, "sandbox.c"), "sandbox", "-static")
        for name, argv in [(guest, [rhea(guest), program])] + ([("native", [program])] if guest == "x86_64" else []):
            r = run(argv)
            report(f"sandbox {name}", r.returncode == 0 and "\n0 failures\n" in r.stdout, r.stdout + r.stderr)


def test_ldt():
    """Segments of a program's own, here and on the processor."""
    for guest in ("x86_64", "i386"):
        program = compile_for(guest, os.path.join(here, "ldt.c"), "ldt", "-static")
        for name, argv in [(guest, [rhea(guest), program]), (f"{guest}, interpreted", [rhea(guest), "-interp", program]),
                           (f"{guest}, by the processor", [program])]:
            r = run(argv)
            report(f"ldt {name}", r.returncode == 0 and r.stdout == "0 failures\n", r.stdout + r.stderr)


def test_int80():
    """i386's system calls in a 64-bit program, here and on the processor."""
    program = compile_for("x86_64", os.path.join(here, "int80.c"), "int80", "-static")
    for name, argv in [("", [rhea("x86_64"), program]), (", interpreted", [rhea("x86_64"), "-interp", program]), (", by the processor", [program])]:
        r = run(argv)
        report(f"int 0x80{name}", r.returncode == 0 and r.stdout == "0x80\n0 failures\n", f"{r.stdout}{r.stderr}exit {r.returncode}")


# Branches to what is no landing pad, and ends with status 0 if it may.
NO_LANDING_PAD = """
.arch armv8.5-a
.globl _start
_start: bti j
    adr x9, 1f
    br x9
1:  mov x8, #93
    mov x0, #0
    svc #0
"""


def test_bti():
    """Guarded pages of AArch64: bti.c against Debian's QEMU, which goes by what a page was when it translated it and has another
    si_code than Linux (ILL_ILLOPC); programs whose ELF property asks for them."""
    program = compile_for("aarch64", os.path.join(here, "bti.c"), "bti", "-static")
    want = run([GUESTS["aarch64"][2], "-cpu", "max", program]).stdout.replace(", code 2,", ", code 1,")
    want = want.replace("mprotect without: refused", "mprotect without: allowed")
    report("bti: the incumbent runs it", "a thread that ran before: refused" in want and want.endswith("moved: refused\n"), want)
    for option in ([], ["-interp"]):
        r = run([rhea("aarch64"), *option, program])
        diff = "\n".join(difflib.unified_diff(want.splitlines(), r.stdout.splitlines(), lineterm="", n=0))
        report(f"bti {option}", r.returncode == 0 and not diff, f"{diff}\n{r.stderr}exit {r.returncode}")
    r = run([rhea("aarch64"), "-cpu", "cortex-a57", program])
    report("bti on a CPU without", r.stdout == "none: refused\n", r.stdout + r.stderr)
    text = source("pad.s", NO_LANDING_PAD)
    for flag, model, status in (("force-bti", "max", -4), ("force-bti", "cortex-a57", 0), ("noexecstack", "max", 0)):
        path = compile_for("aarch64", text, f"pad-{flag}", "-nostdlib", "-static", "-Wl,-z," + flag)
        r = run([rhea("aarch64"), "-cpu", model, path])
        report(f"bti by the program's property: {flag}, {model}", r.returncode == status, f"exit {r.returncode} {r.stderr}")


def test_picolibc():
    """riscv32: static programs on picolibc, with floating point in registers and without."""
    folder = "/usr/lib/picolibc/riscv64-unknown-elf"
    for arch, abi in (("rv32imafdc", "ilp32d"), ("rv32imac", "ilp32")):
        program = os.path.join(work.name, "picolibc-" + arch)
        r = run(["riscv64-unknown-elf-gcc", f"-march={arch}", f"-mabi={abi}", "-O1", "-nostdlib", "-static", "-ftls-model=local-exec", "-isystem",
                 f"{folder}/include", "-L", f"{folder}/lib/{arch}/{abi}", "-o", program, os.path.join(here, "picolibc32.c"), "-lm", "-lc", "-lgcc"])
        report(f"compile picolibc32.c for {arch}", r.returncode == 0, r.stderr)
        for flags in ([], ["-interp"]):
            r = run([rhea("riscv32"), *flags, program, "word"])
            report(f"picolibc {arch} {flags}", r.returncode == 0 and r.stdout == "0 failures\n", f"{r.stdout}{r.stderr}exit {r.returncode}")


def test_strings():
    """REP string instructions do what their single forms do, here and on the processor."""
    for guest in ("x86_64", "i386"):
        program = compile_for(guest, os.path.join(here, "strings.c"), "strings", "-static")
        for name, argv in [(guest, [rhea(guest), program]), (f"{guest}, by the processor", [program])]:
            r = run(argv)
            report(f"strings {name}", r.returncode == 0 and "\n0 failures\n" in r.stdout, r.stdout + r.stderr)


def test_exec_without_proc():
    """execve() of a foreign program works where /proc is not mounted: a chroot's first steps."""
    program = compile_for("riscv64", source("chain.c", """
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) { if (argc > 1) execv(argv[1], argv + 1); else puts("reached"); return argc > 1; }
"""), "chain", "-static")
    script = f"mount -t tmpfs none /proc && exec {rhea('riscv64')} {program} {program} {program}"
    r = run(["unshare", "-U", "-r", "-m", "bash", "-c", script])
    report("exec without /proc", r.stdout == "reached\n", f"{r.stdout}{r.stderr}exit {r.returncode}")


def test_call_fuzz():
    """Random system calls end a program as the kernel would, and never Rhea itself."""
    soak = bool(os.environ.get("SOAK"))
    own = shutil.copy(rhea("user"), os.path.join(work.name, "rhea-user"))       # where nobody may read
    for guest in GUESTS:
        program = compile_for(guest, os.path.join(here, "sysfuzz.c"), "sysfuzz", "-static")
        folder = os.path.join(work.name, "fuzz-" + guest)
        os.mkdir(folder)
        os.chmod(folder, 0o777)
        os.chmod(work.name, 0o755)
        # nobody's user, network and processes of its own
        argv = ["unshare", "-Urnip", "--fork", "--kill-child", own, program, os.environ.get("SEED", "1"),
                "400" if soak else "6", "1000" if soak else "300"]
        if os.getuid() == 0:
            argv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *argv]
        r = run(argv, cwd=folder, timeout=7200 if soak else 600)
        report(f"random system calls {guest}", r.returncode == 0 and "fault of its own" not in r.stderr,
               f"{r.stdout}{r.stderr[-2000:]}exit {r.returncode}")


def test_options():
    program = {g: compile_for(g, source("hello.c", HELLO), "hello", "-static") for g in GUESTS}
    release = os.uname().release
    for guest, path in program.items():
        machine = MACHINE[guest]
        r = run([rhea(guest), path, "a", "b c"], env={"X": "y"})
        report(f"{guest}: arguments", r.stdout == f"{path}|{machine}|3|a|b c|X=y|{release}|1\n" and r.returncode == 3, r.stdout + r.stderr)
        r = run([os.path.join(build, "bin", "rhea-user"), "-0", "zero", "-r", "9.8.7", "-E", "X=new", path, "-L"])
        report(f"{guest}: by its ELF header, -0 -r -E", r.stdout == f"zero|{machine}|2|-L|X=new|9.8.7|1\n", r.stdout + r.stderr)
        r = run([rhea(guest), "-U", "X", "-strace", path], env={"X": "y"})
        report(f"{guest}: -U, -strace", "|X=-|" in r.stdout and " uname(0x" in r.stderr and "exit_group(3)" in r.stderr, r.stdout + r.stderr)
        r = run([rhea(guest), "-interp", path])
        report(f"{guest}: interpreted", r.returncode == 3 and machine in r.stdout, r.stdout + r.stderr)
        r = run([os.path.join(build, "bin", "compat", "qemu-" + guest), path], env={"QEMU_UNAME": "5.4.3", "QEMU_SET_ENV": "X=q"})
        report(f"{guest}: compatible name and environment", "|X=q|5.4.3|" in r.stdout, r.stdout + r.stderr)
    for guest in GUESTS:            # each to each, no binfmt_misc needed
        for other in GUESTS:
            r = run([rhea(guest), program[guest], "exec", program[other], "x"])
            report(f"{guest} executes {other}", r.stdout.startswith(f"{program[other]}|{MACHINE[other]}|2|x|") and r.returncode == 3,
                   r.stdout + r.stderr)
    script = source("script", f"#!{program['riscv64']} one two\n")
    os.chmod(script, 0o755)
    r = run([rhea("aarch64"), program["aarch64"], "exec", script, "three"])
    report("a script with a foreign interpreter", f"|riscv64|4|one two|{script}|three|" in r.stdout, r.stdout + r.stderr)
    r = run([rhea("arm"), program["riscv64"]])
    report("wrong architecture", r.returncode == 1 and "is for riscv64, not for arm" in r.stderr, r.stderr)
    r = run([rhea("arm"), "/nonexistent"])
    report("no such program", r.returncode == 1 and "No such file" in r.stderr, r.stderr)
    r = run([rhea("arm"), source("text", "text\n" * 40)])
    report("not a program", r.returncode == 1 and "not a program" in r.stderr, r.stderr)
    r = run([rhea("arm"), "-g", "99999", program["arm"]])
    report("-g at no port", r.returncode == 1 and "99999" in r.stderr, r.stderr)


CLOCKS = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static int64_t ns(struct timespec t) { return t.tv_sec * 1000000000LL + t.tv_nsec; }
int main(void) {
    struct timespec a, b, res;
    struct timeval v;
    int backwards = 0;
    if (!getauxval(AT_SYSINFO_EHDR)) return 1;
    for (int c = 0; c < 8; c++) {
        if (c == 2 || c == 3) continue;
        if (clock_gettime(c, &a) || clock_getres(c, &res) || ns(res) <= 0) return 2;
        for (int n = 0; n < 1000; n++, a = b) {
            if (clock_gettime(c, &b)) return 3;
            backwards += ns(b) < ns(a);
        }
    }
    if (backwards) return 4;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a) || ns(a) <= 0) return 5;
    if (clock_gettime(77, &a) != -1 || errno != EINVAL) return 6;
    clock_gettime(CLOCK_REALTIME, &a);
    gettimeofday(&v, NULL);
    clock_gettime(CLOCK_REALTIME, &b);
    if (v.tv_sec * 1000000LL + v.tv_usec < ns(a) / 1000 || v.tv_sec * 1000000LL + v.tv_usec > ns(b) / 1000) return 7;
    if (time(NULL) < a.tv_sec - 1) return 8;
    return 42;
}
"""


def test_vdso():
    for guest in GUESTS:
        path = compile_for(guest, source("clocks.c", CLOCKS), "clocks", "-static")
        r = run([rhea(guest), "-strace", path])
        n = r.stderr.count("clock_gettime")
        report(f"{guest}: the vdso tells the time without system calls", r.returncode == 42 and n <= 3, f"exit {r.returncode}, {n} calls")
        r = run([rhea(guest), "-interp", path])
        report(f"{guest}: the vdso, interpreted", r.returncode == 42, f"exit {r.returncode}")


ODD = [0, 1, 7, 0xfff, 0x1000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffff000, 0xffffffff, 0x7fffffffffff, 0x7fffffffffffffff, 1 << 63,
       (1 << 64) - 4096, (1 << 64) - 1]


def damaged(rng, good):
    """Cut off, or with bytes or whole fields of its headers changed."""
    data = bytearray(good)
    if rng.randrange(5) == 0:
        data = data[:rng.randrange(min(len(data), rng.choice([64, 1000, len(data)])))]
    for _ in range(rng.randrange(1, 4)):
        at, n = rng.randrange(min(len(data), 600) or 1), rng.choice([2, 4, 8])
        if at < len(data) and rng.randrange(2):
            data[at] = rng.choice([0, 1, 0x7f, 0x80, 0xff, rng.randrange(256)])
        elif at // n * n + n <= len(data):
            at -= at % n
            data[at:at + n] = (rng.choice(ODD) + rng.choice([0, 0, 1, -1, -4096]) & (1 << 8 * n) - 1).to_bytes(n, "little")
    return data


def test_hostile_elf():
    """Damaged ELF files, and dynamic linkers, end as an error or as the guest's own signal, never as a crash of Rhea."""
    import random
    rng = random.Random(int(os.environ.get("SEED", "1")))
    text, linker = source("small.c", "int main(void) { return 0; }"), os.path.join(work.name, "linker")
    target = os.path.join(work.name, "hostile")
    kinds = []
    for guest, (_, prefix, _) in GUESTS.items():
        kinds.append((guest, compile_for(guest, text, "small", "-static"), target))
        found = compile_for(guest, text, "small-dynamic")
        kinds.append((guest, found, target))
        program = compile_for(guest, text, "small-linked", f"-Wl,--dynamic-linker,{linker}")
        own = re.search(rb"/lib[^\0]*/ld-[^\0]*", open(found, "rb").read())[0].decode()
        kinds.append((guest, os.path.join(prefix, own[1:]), linker, program))
    images = {k[1]: open(k[1], "rb").read() for k in kinds}
    bad = []
    for guest, origin, path, *program in kinds:
        r = run([rhea(guest), "-L", GUESTS[guest][1], *(program if shutil.copy(origin, path) and program else [path])])
        report(f"{guest}: {os.path.basename(origin)} runs as long as it is whole", r.returncode == 0, r.stderr)
    for n in range(210 if not os.environ.get("SOAK") else 6000):
        guest, origin, path, *program = kinds[n % len(kinds)]
        with open(path, "wb") as f:
            f.write(damaged(rng, images[origin]))
        os.chmod(path, 0o755)
        r = run([rhea(guest), "-d", "int", "-strace", "-L", GUESTS[guest][1], *(program or [path])], timeout=900,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (10, 60)))       # ends a loop of its own
        own = f"killed by signal {-r.returncode} " in r.stderr or "kill(" in r.stderr or r.returncode == -signal.SIGXCPU
        if (r.returncode < 0 and not own) or "Sanitizer" in r.stderr or "runtime error: " in r.stderr:      # Rhea's end, or none in time
            bad.append(f"{n} {guest} {origin}: exit {r.returncode} {r.stderr[-200:]}")
            if os.environ.get("KEEP"):
                shutil.copy(path, f"{os.environ['KEEP']}/{n}-{guest}-{os.path.basename(path)}")
    report("hostile ELF files", not bad, "\n".join(bad))


def test_binfmt():
    """binfmt.d files as make install-binfmt writes them, registered in a namespace of the test's own."""
    top = os.path.dirname(os.path.dirname(here))
    folder = os.path.join(work.name, "binfmt.d")
    program = compile_for("riscv64", source("hello.c", HELLO), "hello-binfmt", "-static")
    subprocess.run([os.path.join(top, "tools", "binfmt.sh"), os.path.join(build, "bin", "rhea-user"), folder, "riscv64"], check=True)
    script = (f"mount -t binfmt_misc none /proc/sys/fs/binfmt_misc || exit 66; printf %s \"$(cat {folder}/rhea-riscv64.conf)\""
              f" >/proc/sys/fs/binfmt_misc/register && exec -a other {program} one")
    r = run(["unshare", "-U", "-r", "-m", "bash", "-c", script])
    if r.returncode == 66:
        return                      # before Linux 6.7 the table is the whole machine's: not a test's to change
    report("binfmt_misc", r.stdout.startswith("other|riscv64|2|one|"), f"{r.stdout}{r.stderr}exit {r.returncode}")


parts = {"binfmt": test_binfmt, "calls": test_calls, "ioctls": test_ioctls, "uring": test_uring, "options": test_options, "vdso": test_vdso, "hostile": test_hostile_elf, "sandbox": test_sandbox,
         "noproc": test_exec_without_proc, "fuzz": test_call_fuzz, "strings": test_strings, "picolibc": test_picolibc, "ldt": test_ldt, "int80": test_int80, "bti": test_bti}
for name, part in parts.items():
    if not only or name in only:
        part()
finish()
