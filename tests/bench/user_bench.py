"""User mode beside Debian's qemu-user, bookworm's and trixie's, and the host: start-up of a trivial program, what programs ask of the kernel, the set of
CPU programs, for each guest; compilers and language runtimes, and what they take when their translations were kept (-cache)."""
import glob
import os
import re
import shutil
import statistics
import subprocess
import time

here = os.path.dirname(os.path.abspath(__file__))
COMPILERS = {"x86_64": "gcc", "i386": "i686-linux-gnu-gcc", "aarch64": "aarch64-linux-gnu-gcc", "arm": "arm-linux-gnueabihf-gcc",
             "riscv64": "riscv64-linux-gnu-gcc"}
STARTS = 50
# tools/guest.sh runtimes: Debian's name. The host has its own of x86_64.
RUNTIMES = {"aarch64": "arm64", "arm": "armhf", "riscv64": "riscv64"}
PYTHON = "d={}\nfor n in range(400000): d[n % 977] = d.get(n % 977, 0) + n * n % 7\nprint(sum(d.values()))"
NODE = "let d={};for(let n=0;n<4e6;n++)d[n%977]=(d[n%977]||0)+n*n%7;console.log(Object.values(d).length)"
LUA = "local d={} for n=0,2e6 do d[n%977]=(d[n%977] or 0)+n*n%7 end print(#d)"


# Where a guest's baseline has no SIMD: what it is called, options that give it, programs that make use of them.
EXTENSIONS = {"arm": ("NEON", ["-O3", "-mfpu=neon-vfpv4", "-ffast-math"], ["nbody", "mandelbrot", "sgemm", "blend"])}
COLUMNS = ("rhea", "qemu", "qemu 10", "native")


def emulators(build, guest, *options):
    fetch = os.path.join(here, "..", "..", "tools", "guest.sh")
    ten = subprocess.run([fetch, "qemu-user"], check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1]
    return {"rhea": [os.path.join(build, "bin", "rhea-" + guest), *options], "qemu": [f"qemu-{guest}-static", *options],
            "qemu 10": [os.path.join(ten, "qemu-" + guest), *options]}


def compiled(work, guest, name, options=("-O2",)):
    out = os.path.join(work, f"{name}-{guest}{''.join(options)}")
    subprocess.run([COMPILERS[guest], *options, "-static", "-pthread", "-o", out, os.path.join(here, name + ".c"), "-lm"], check=True)
    return out


def bench(build, work, runs, row, head, guest):
    """row(name, {emulator: [figures]}, unit), head(title): bench.py's."""
    who = emulators(build, guest)
    kernel, programs = (compiled(work, guest, name) for name in ("user_kernel", "programs"))
    host = {name: compiled(work, "x86_64", name) for name in ("user_kernel", "programs")}
    extension, options, chosen = EXTENSIONS.get(guest, ("", [], []))
    extended = chosen and compiled(work, guest, "programs", options)
    host_extended = chosen and compiled(work, "x86_64", "programs", [o for o in options if not o.startswith("-mfpu")])
    times = {}

    def take(name, emulator, seconds):
        times.setdefault(name, {}).setdefault(emulator, []).append(seconds)

    def output(emulator, path, names=(), suffix=""):
        """As binfmt_misc has it, a child of an emulated program is run by the emulator."""
        env = {**os.environ, "RUNNER": shutil.which(who[emulator][0])} if emulator.startswith("qemu") else None
        text = subprocess.run([*who.get(emulator, []), path, *names], check=True, capture_output=True, text=True, timeout=900, env=env).stdout
        for m in re.finditer(r"^([\w-]+) (\d+\.\d{6})", text, re.M):
            take(m[1] + suffix, emulator, float(m[2]))
    for _ in range(runs):
        for emulator in COLUMNS:
            native = emulator == "native"
            start = time.monotonic()
            for _ in range(STARTS):
                subprocess.run([*who.get(emulator, []), host["user_kernel"] if native else kernel, "child"], check=True)
            take("start-up", emulator, (time.monotonic() - start) / STARTS)
            output(emulator, host["user_kernel"] if native else kernel)
            output(emulator, host["programs"] if native else programs)
            if chosen:
                output(emulator, host_extended if native else extended, chosen, ", " + extension)
    head(f"{guest}: programs of user mode" + (f" ({extension}: built with {' '.join(options)})" if chosen else ""), COLUMNS)
    mids = [row(name, values, "s", columns=COLUMNS) for name, values in times.items()]
    for rival in ("qemu", "qemu 10"):
        ratios = [mid[rival] / mid["rhea"] for mid in mids if mid.get("rhea") and mid.get(rival)]
        print(f"  geometric mean of all, {rival}/rhea: {statistics.geometric_mean(ratios):.2f}", flush=True)
    languages(build, work, runs, row, guest)


def ten_thousand_lines(work):
    path = os.path.join(work, "long.c")
    with open(path, "w") as f:
        for n in range(1000):
            f.write(f"int f{n}(int *p, int k)\n{{\n    int s = {n}, i;\n\n    for (i = 0; i < k; i++) {{\n        if (p[i] % {n + 2} == 1)\n"
                    f"            s += p[i] * {n + 3};\n    }}\n    return s;\n}}\n")
    return path


def programs_of(guest, work):
    """The folder for -L; (name, program or None, arguments)."""
    cache = os.environ.get("RHEA_GUESTS", os.path.expanduser("~/.cache/rhea"))
    if guest == "x86_64":
        root = "/"
        cc1 = subprocess.run(["gcc", "-print-prog-name=cc1"], check=True, capture_output=True, text=True).stdout.strip()
    else:
        made = sorted(glob.glob(os.path.join(cache, f"runtimes-{RUNTIMES.get(guest)}-v*", "root")))
        if not made:
            return "", []               # tools/guest.sh runtimes makes them
        root = made[-1]
        cc1 = os.path.join(root, "usr/libexec/gcc/*/*/cc1")
    rows = (("cc1: 10,000 lines", cc1, ["-quiet", "-O0", ten_thousand_lines(work), "-o", "/dev/null"]),
            ("cc1: nothing", cc1, ["-quiet", "-O0", "/dev/null", "-o", "/dev/null"]),
            ("python3: loop", "usr/bin/python3", ["-c", PYTHON]), ("python3: nothing", "usr/bin/python3", ["-c", ""]),
            ("node: loop", "usr/bin/node", ["-e", NODE]), ("lua: loop", "usr/bin/lua*", ["-e", LUA]))
    return root, [(name, next(iter(sorted(glob.glob(os.path.join(root, pattern)))), None), args) for name, pattern, args in rows]


def languages(build, work, runs, row, guest):
    root, rows = programs_of(guest, work)
    kept = os.path.join(work, "translations")
    for name, program, args in rows:
        if not program:
            continue
        who = emulators(build, guest, "-L", root)
        who["again"] = [*who["rhea"], "-cache", kept]
        if guest == "x86_64":
            who["native"] = []
        subprocess.run([*who["again"], program, *args], check=True, capture_output=True, timeout=900)
        times = {e: [] for e in who}
        for _ in range(runs):
            for e, prefix in who.items():
                start = time.monotonic()
                r = subprocess.run([*prefix, program, *args], capture_output=True, timeout=900)
                if r.returncode == 0:           # some of them are beyond some emulators
                    times[e].append(time.monotonic() - start)
        kept_times = {**times, "rhea": times["again"]}
        row(name, times, "s", columns=COLUMNS)
        row(name + ", kept", kept_times, "s", columns=COLUMNS)
