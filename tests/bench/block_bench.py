"""make bench BENCH=block: rhea-img beside qemu-img. Seconds of CPU for what the processor bounds, of the clock for requests."""
import os
import random
import subprocess


def source(path, size=256 << 20):
    """A quarter each of text-like bytes twice, noise, and holes."""
    r = random.Random(1)
    words = [bytes(r.choices(b"abcdefghijklmnopqrstuvwxyz", k=r.randrange(2, 10))) + b" " for _ in range(5000)]
    with open(path, "wb") as f:
        f.truncate(size)
        for i in range(size >> 20):
            if i % 4 == 3:
                continue
            f.seek(i << 20)
            f.write(r.randbytes(1 << 20) if i % 4 == 2 else b"".join(r.choices(words, k=200000))[:1 << 20])


def bench(build, work, runs, measured, row, head):
    tools = {"rhea": os.path.join(build, "bin/rhea-img"), "qemu": "qemu-img"}
    src, q, c = (os.path.join(work, n) for n in ("src.raw", "disk.qcow2", "packed.qcow2"))
    out = os.path.join(work, "out")
    source(src)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", src, q], check=True)
    subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", src, c], check=True)
    os.sync()                           # else the disk writes them while the first rows are measured
    requests = ["bench", "-f", "qcow2", "-c", "100000"]
    nbd = {"rhea": os.path.join(build, "bin/rhea-nbd"), "qemu": "qemu-nbd"}
    # name, arguments, CPU time counts (else the clock's), needs a new output
    rows = [
        ("convert raw -> qcow2", ["convert", "-O", "qcow2", src, out], False),
        ("convert qcow2 -> raw", ["convert", "-O", "raw", q, out], False),
        ("convert -c (zlib)", ["convert", "-c", "-W", "-O", "qcow2", src, out], True),
        ("convert -c (zstd)", ["convert", "-c", "-W", "-O", "qcow2", "-o", "compression_type=zstd", src, out], True),
        ("convert packed -> raw", ["convert", "-O", "raw", c, out], True),
        ("compare", ["compare", src, q], False),
        ("4K reads, depth 1", [*requests, "-d", "1", q], False),
        ("4K reads, depth 64", [*requests, "-d", "64", q], False),
        ("4K reads all over, depth 64", [*requests, "-d", "64", "-S", "1130496", q], False),
        ("4K writes, depth 1", [*requests, "-t", "unsafe", "-w", "-d", "1", q], False),
        ("4K writes, depth 64", [*requests, "-t", "unsafe", "-w", "-d", "64", q], False),
    ]
    head("disk images")
    for name, args, cpu in rows:
        values = {}
        for _ in range(runs):
            for e, tool in tools.items():
                if os.path.exists(out):
                    os.unlink(out)
                text, wall, used, _ = measured([tool, *args])
                if "rror" in text:
                    raise RuntimeError(f"{tool} {' '.join(args)}: {text[-500:]}")
                values.setdefault(e, []).append(used if cpu else wall)
        row(name, values, "s CPU" if cpu else "s")
    for name, image in (("nbdcopy from raw", ["-f", "raw", src]), ("nbdcopy from qcow2", ["-f", "qcow2", q])):
        values = {}
        for _ in range(runs):
            for e, tool in nbd.items():
                text, wall, _, _ = measured(["nbdcopy", "--", "[", tool, "-r", "-e", "0", *image, "]", "null:"])
                if "rror" in text:
                    raise RuntimeError(f"{tool}: {text[-500:]}")
                values.setdefault(e, []).append(wall)
        row(name, values, "s")
