#!/usr/bin/python3
"""Rhea beside Debian's QEMU (TCG) and the host, in one run: medians and ratios.

bench.py [start|boot|cpu|io|login|block|user ...] [boot:GUEST|cpu:GUEST|user:GUEST ...]      default: all; GUEST: see `guests` below
Environment: BUILD (build folder), RUNS (default 3), KERNEL (cloud, stock, ... of x86), CPU (-cpu of both emulators).
Seconds of host CPU are what counts for boots; the programs time themselves inside the guest. Ratio: QEMU's figure
divided by Rhea's, so that more than 1 is faster than QEMU.
"""
import json
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import block_bench
import user_bench

here = os.path.dirname(os.path.abspath(__file__))
top = os.path.join(here, "..", "..")
build = os.path.abspath(os.environ.get("BUILD", os.path.join(top, "build")))
runs = int(os.environ.get("RUNS", "3"))
cpu = os.environ.get("CPU")
emulators = ("rhea", "qemu")
# What boots each guest: machine, processor, kernel of tools/guest.sh, console, compiler of the programs.
guests = {
    "x86_64": {"machine": ["-machine", "q35"], "kernel": os.environ.get("KERNEL", "cloud"), "console": "ttyS0", "cc": "gcc"},
    "aarch64": {"machine": ["-machine", "virt", "-cpu", "cortex-a72"], "kernel": "arm64-cloud", "console": "ttyAMA0",
                "cc": "aarch64-linux-gnu-gcc"},
    "arm": {"machine": ["-machine", "virt", "-cpu", "cortex-a15"], "kernel": "armhf", "console": "ttyAMA0",
            "cc": "arm-linux-gnueabihf-gcc"},
    "riscv64": {"machine": ["-machine", "virt"], "kernel": "riscv64-trixie", "console": "ttyS0", "cc": "riscv64-linux-gnu-gcc"},
}
work = tempfile.mkdtemp(prefix="rhea-bench-")


def program(emulator, guest="x86_64"):
    return os.path.join(build, f"bin/rhea-system-{guest}") if emulator == "rhea" else f"qemu-system-{guest}"


def kernel(name):
    out = subprocess.run([os.path.join(top, "tools/guest.sh"), "kernel", name], check=True, capture_output=True, text=True).stdout
    return out.strip().splitlines()[-1]


def measured(argv, timeout=600, **kw):
    """Runs argv; gives (output, wall seconds, CPU seconds, peak RSS in KiB)."""
    start = time.monotonic()
    out = tempfile.TemporaryFile(dir=work)
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, **kw)
    deadline = start + timeout
    while True:
        pid, status, usage = os.wait4(p.pid, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > deadline:
            p.kill()
            os.wait4(p.pid, 0)
            raise RuntimeError(f"{os.path.basename(argv[0])}: no end within {timeout} s")
        time.sleep(0.005)
    wall = time.monotonic() - start
    p.returncode = os.waitstatus_to_exitcode(status)
    out.seek(0)
    return out.read().decode(errors="replace"), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def machine(emulator, smp=1, memory="512M", extra=(), guest="x86_64"):
    argv = [program(emulator, guest), *guests[guest]["machine"], "-accel", "tcg,thread=multi", "-smp", str(smp), "-m", memory,
            "-display", "none", "-no-reboot", "-nodefaults", "-serial", "stdio"]
    if cpu:
        argv += ["-cpu", cpu]
    return argv + list(extra)


COLUMNS = ("rhea", "qemu", "native")


def row(name, values, unit="s", smaller_is_better=True, columns=COLUMNS):
    """values: {emulator: [figures]}. A ratio for each column called qemu..."""
    mid = {k: statistics.median(v) for k, v in values.items() if v}
    cells = "".join(f"{mid[k]:>12.4g}" if k in mid else f"{'-':>12}" for k in columns)
    for k in columns:
        if k.startswith("qemu"):
            known = mid.get("rhea") and mid.get(k)
            r = (mid[k] / mid["rhea"] if smaller_is_better else mid["rhea"] / mid[k]) if known else None
            cells += f"{r:>{len(k) + 5}.2f}x" if known else " " * (len(k) + 6)
    print(f"{name:<34}{cells}   {unit}", flush=True)
    return mid


def head(title, columns=COLUMNS):
    ratios = "".join(f" {k}/rhea" for k in columns if k.startswith("qemu"))
    print(f"\n{title:<34}" + "".join(f"{k:>12}" for k in columns) + ratios, flush=True)


def boot(guest, k, emulator, smp, append="", initrd=None, memory="512M", timeout=600):
    args = ["-kernel", f"{k}/vmlinuz", "-initrd", initrd or f"{k}/initrd.gz", "-append",
            f"console={guests[guest]['console']} panic=-1 {append}".strip()]
    return measured(machine(emulator, smp, memory, args, guest), timeout)


def bench_start():
    head("start (to QMP and out)")
    for name, extra in (("-M none", ["-M", "none"]), ("-S -m 512 q35", ["-M", "q35", "-m", "512", "-S"])):
        wall, rss = {}, {}
        for e in emulators:
            wall[e], rss[e] = [], []
            for _ in range(max(runs, 5)):
                out, w, c, r = measured([program(e), *extra, "-accel", "tcg", "-display", "none", "-nodefaults", "-monitor", "none",
                                         "-chardev", f"pipe,id=q,path={fifo_pair()}", "-mon", "chardev=q,mode=control"], 20)
                wall[e].append(w * 1000)
                rss[e].append(r / 1024)
        row(name, wall, "ms wall")
        row(name + ", memory", rss, "MiB")


def fifo_pair():
    """A QMP client that only quits: its commands wait in a pipe."""
    path = os.path.join(work, "qmp")
    for end in (".in", ".out"):
        if os.path.exists(path + end):
            os.unlink(path + end)
        os.mkfifo(path + end)
    script = ("exec 3<>\"$0.in\" 4<>\"$0.out\"; printf '{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}' >&3; sleep 3")
    subprocess.Popen(["sh", "-c", script, path], stdin=subprocess.DEVNULL)
    return path


def bench_boot(guest="x86_64"):
    k = kernel(guests[guest]["kernel"])
    head(f"{guest}: boot to userspace and poweroff")
    for smp in (1, 2):
        wall, used, rss = ({e: [] for e in emulators} for _ in range(3))
        for _ in range(runs):
            for e in emulators:
                out, w, c, r = boot(guest, k, e, smp, 'rhea.run="true"')
                if "userspace is up" not in out:
                    sys.exit(f"{e} did not boot:\n{out[-3000:]}")
                wall[e].append(w)
                used[e].append(c)
                rss[e].append(r / 1024)
        row(f"{smp} CPU", used, "s CPU")
        row(f"{smp} CPU, wall", wall, "s wall")
        row(f"{smp} CPU, memory with guest's 512", rss, "MiB")


def programs_built(cc, name):
    binary = os.path.join(work, name)
    subprocess.run([cc, "-O2", "-static", "-o", binary, os.path.join(here, "programs.c"), "-lm"], check=True)
    return binary


def programs_initrd(k, cc):
    """The busybox initramfs with the program set in it."""
    binary = programs_built(cc, "programs")
    root = os.path.join(work, "extra", "bin")
    os.makedirs(root, exist_ok=True)
    shutil.copy(binary, root)
    extra = subprocess.run("find . | cpio -o -H newc --quiet --owner 0:0 | gzip -1", shell=True, check=True,
                           cwd=os.path.join(work, "extra"), capture_output=True).stdout
    path = os.path.join(work, "initrd.gz")
    with open(path, "wb") as f:         # the kernel takes archives one after the other
        f.write(open(f"{k}/initrd.gz", "rb").read() + extra)
    return path


def bench_cpu(guest="x86_64"):
    k = kernel(guests[guest]["kernel"])
    native, initrd = programs_built("gcc", "native"), programs_initrd(k, guests[guest]["cc"])
    times = {}

    def take(who, text):
        for m in re.finditer(r"^([\w-]+) (\d+\.\d{6}) ([0-9a-f]+)\r?$", text, re.M):
            times.setdefault(m[1], {}).setdefault(who, []).append(float(m[2]))
            sums.setdefault(m[1], {}).setdefault(m[3], set()).add(who)
    sums = {}
    for _ in range(runs):
        take("native", subprocess.run([native], check=True, capture_output=True, text=True).stdout)
        for e in emulators:
            out, *_ = boot(guest, k, e, 1, 'quiet rhea.run="programs"', initrd, timeout=900)
            take(e, out)
    head(f"{guest}: programs inside the guest")
    groups = {"integer": "integer branches calls indirect interpreter sha256 compress", "memory": "chase-l1 chase-ram memcpy",
              "floating point": "nbody mandelbrot trig", "SIMD": "sgemm blend strings",
              "kernel": "syscall clock signal pipe fork faults"}
    for group, names in groups.items():
        logs = []
        for name in names.split():
            mid = row(name, times.get(name, {}), "s")
            if "rhea" in mid and "qemu" in mid:
                logs.append(mid["qemu"] / mid["rhea"])
            differ = {k: sorted(v - {"native"}) for k, v in sums.get(name, {}).items() if v != {"native"}}
            if len(differ) > 1:         # natively another compiler made the program
                print(f"    results differ: {differ}")
        if logs:
            print(f"  {group + ', geometric mean':<66}{statistics.geometric_mean(logs):>9.2f}x")


def bench_io():
    out = subprocess.run([os.path.join(top, "tools/guest.sh"), "debian-test"], check=True, capture_output=True, text=True).stdout
    guest = out.strip().splitlines()[-1]
    head("disk and network (Debian guest)")
    figures = {}
    for e in emulators:
        for _ in range(runs):
            for name, value in guest_io(guest, e).items():
                figures.setdefault(name, {}).setdefault(e, []).append(value)
    for name, values in figures.items():
        row(name, values, name.split(", ")[-1], smaller_is_better=False)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def debian_machine(guest, e, port, overlay, smp=1):
    data = os.path.join(work, "data.raw")
    with open(data, "wb") as f:
        f.truncate(1 << 30)
    subprocess.run([os.path.join(build, "bin/rhea-img"), "create", "-q", "-f", "qcow2", "-b", f"{guest}/root.qcow2", "-F", "qcow2",
                    overlay], check=True)
    return machine(e, smp, "1G", ["-kernel", f"{guest}/vmlinuz", "-initrd", f"{guest}/initrd.img", "-append",
                                  "root=/dev/vda rw console=ttyS0 quiet", "-drive", f"file={overlay},if=virtio,format=qcow2",
                                  "-drive", f"file={data},if=virtio,format=raw,cache=none",
                                  "-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-net-pci,netdev=n",
                                  "-device", "virtio-rng-pci"])


def ssh(guest, port, command, timeout=120):
    return subprocess.run(["ssh", "-i", f"{guest}/ssh_key", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                           "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5", "-p", str(port), "root@127.0.0.1", command],
                          capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)


def guest_io(guest, e):
    port, overlay = free_port(), os.path.join(work, f"{e}.qcow2")
    p = subprocess.Popen(debian_machine(guest, e, port, overlay), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    web = None
    result = {}
    try:
        for _ in range(60):
            try:
                if ssh(guest, port, "true", 15).returncode == 0:
                    break
            except subprocess.TimeoutExpired:
                pass
            time.sleep(1)
        # reads first: who writes more finds less of the disk empty afterwards
        for name, options in (("4 KiB random reads, depth 1, IOPS", "--rw=randread --bs=4k --iodepth=1"),
                              ("4 KiB random reads, depth 32, IOPS", "--rw=randread --bs=4k --iodepth=32"),
                              ("sequential reads, MB/s", "--rw=read --bs=1m --iodepth=4"),
                              ("4 KiB random writes, depth 32, IOPS", "--rw=randwrite --bs=4k --iodepth=32")):
            r = ssh(guest, port, "fio --name=x --filename=/dev/vdb --direct=1 --ioengine=libaio --runtime=5 --time_based "
                                 f"--output-format=json {options}")
            job = json.loads(r.stdout[r.stdout.index("{"):])["jobs"][0]
            result[name] = job["read"]["bw"] / 1000 if "MB/s" in name else job["read"]["iops"] + job["write"]["iops"]
        with open(os.path.join(work, "file"), "wb") as f:
            f.write(os.urandom(1 << 20) * 64)
        wport = free_port()
        web = subprocess.Popen([sys.executable, "-m", "http.server", str(wport), "--bind", "127.0.0.1", "--directory", work],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        r = ssh(guest, port, f"s=$(date +%s%N); wget -qO /dev/null http://10.0.2.2:{wport}/file; e=$(date +%s%N); echo $((e-s))")
        result["network, host to guest, MB/s"] = (64 << 20) / 1e6 / (int(r.stdout) / 1e9)
        start = time.monotonic()
        r = ssh(guest, port, f"cat /dev/zero | head -c {32 << 20}")
        result["network, guest to host (ssh), MB/s"] = (32 << 20) / 1e6 / (time.monotonic() - start)
    finally:
        try:
            ssh(guest, port, "poweroff", 20)
            p.wait(60)
        except subprocess.TimeoutExpired:
            p.kill()
        if web:
            web.kill()
        os.unlink(overlay)
    return result


def bench_login():
    out = subprocess.run([os.path.join(top, "tools/guest.sh"), "debian"], check=True, capture_output=True, text=True).stdout
    guest = out.strip().splitlines()[-1]
    head("Debian disk to login prompt")
    for smp in (1, 2):
        wall, used = ({e: [] for e in emulators} for _ in range(2))
        for _ in range(runs):
            for e in emulators:
                w, c = to_login(guest, e, smp)
                wall[e].append(w)
                used[e].append(c)
        row(f"{smp} CPU", used, "s CPU")
        row(f"{smp} CPU, wall", wall, "s wall")


def to_login(guest, e, smp):
    overlay = os.path.join(work, "login.qcow2")
    argv = debian_machine(guest, e, free_port(), overlay, smp)
    start = time.monotonic()
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = b""
    os.set_blocking(p.stdout.fileno(), False)
    while b"login:" not in text:
        if time.monotonic() - start > 300 or p.poll() is not None:
            p.kill()
            sys.exit(f"{e}: no login prompt\n{text.decode(errors='replace')[-2000:]}")
        text += p.stdout.read() or b""
        time.sleep(0.02)
    wall = time.monotonic() - start
    fields = open(f"/proc/{p.pid}/stat").read().rsplit(")", 1)[1].split()
    used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    p.kill()
    p.wait()
    os.unlink(overlay)
    return wall, used


def main():
    parts = {"start": bench_start, "boot": bench_boot, "cpu": bench_cpu, "login": bench_login, "io": bench_io,
             "block": lambda: block_bench.bench(build, work, runs, measured, row, head)}
    for guest in guests:
        parts[f"boot:{guest}"] = lambda guest=guest: bench_boot(guest)
        parts[f"cpu:{guest}"] = lambda guest=guest: bench_cpu(guest)
    for guest in user_bench.COMPILERS:
        parts[f"user:{guest}"] = lambda guest=guest: user_bench.bench(build, work, runs, row, head, guest)
    parts["user"] = lambda: [parts[f"user:{guest}"]() for guest in user_bench.COMPILERS]
    wanted = sys.argv[1:] or [p for p in parts if not p.endswith(":x86_64") and not p.startswith("user:")]
    for w in wanted:
        if w not in parts:
            sys.exit(f"bench.py: no part '{w}': {', '.join(parts)}")
    version = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    print(f"{runs} runs, medians; {version}; {os.cpu_count()} host CPUs")
    try:
        for w in wanted:
            parts[w]()
    finally:
        shutil.rmtree(work, ignore_errors=True)


main()
