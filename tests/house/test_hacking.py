#!/usr/bin/python3
"""HACKING.md's instruction and CPU model, taken from its text, put into the RISC-V guest, built and run.

usage: test_hacking.py BUILD"""
import os
import re
import subprocess
import sys
import tempfile

top = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
build = sys.argv[1]
text = open(os.path.join(top, "HACKING.md"), encoding="utf-8").read()


def block(kind):
    return re.search(rf"^```{kind}\n(.*?)^```", text, re.M | re.S)[1]


with tempfile.TemporaryDirectory(prefix="rhea-test-") as folder:
    def put(name, content):
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(content)
        return path

    def source(name):
        return open(os.path.join(top, name), encoding="utf-8").read()

    isa = put("riscv.isa", source("isa/riscv.isa") + block("isa"))
    insn = put("avgu.c", '#include "guest/riscv/riscv.h"\n' + block("c"))
    models = put("models.c", re.sub(r"(static const struct riscv_model models\[\] = \{\n.*?)(^\};)", lambda m: m[1] + block("model") + m[2],
                                    source("src/guest/riscv/models.c"), count=1, flags=re.M | re.S))
    header, rows = os.path.join(folder, "riscv-isa.h"), os.path.join(folder, "riscv-isa.c")
    subprocess.run([sys.executable, os.path.join(top, "gen/bits.py"), "riscv", "guest/riscv/riscv.h", header, rows, isa], check=True)
    # What programs over librhea are compiled and linked with.
    ninja = open(os.path.join(build, "build.ninja"), encoding="utf-8").read()
    rule = ninja[ninja.index("build src/main/rhea.p/main.c.o:"):ninja.index("build src/main/rhea-img.p/")]
    flags = [f for f in re.search(r"^ ARGS = (.*)", rule, re.M)[1].split() if f.startswith("-I/")]
    libs = [f for f in re.search(r"^ LINK_ARGS = (.*)", rule, re.M)[1].split() if "librhea" not in f and "-archive" not in f]
    program = os.path.join(folder, "hacking")
    # The new rows and models come first; those of the library give way.
    subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-o", program, f"-I{folder}", f"-I{top}/include", f"-I{top}/src",
                    f"-I{top}/src/guest/riscv", os.path.join(top, "tests/house/hacking.c"), insn, rows, models,
                    "-Wl,--allow-multiple-definition", *flags, "-Wl,--whole-archive",
                    os.path.join(build, "librhea.a"), "-Wl,--no-whole-archive", *libs], check=True)
    status = subprocess.run([program]).returncode
print(f"{int(not status)} passed, {int(bool(status))} failed")
sys.exit(status)
