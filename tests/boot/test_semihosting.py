#!/usr/bin/python3
"""Semihosting on every guest that has it: all calls by a program of our own, with good and bad arguments; picolibc's library on
top of them; Debian's Snek, a language that lives in it; what is refused."""
import os
import select
import subprocess
import tempfile
import time
from boot import Machine, program, run

here = os.path.dirname(os.path.abspath(__file__))
GUESTS = {"riscv64": ("riscv64", "rv64"), "riscv32": ("riscv32", "rv32"), "aarch64": ("aarch64", "cortex-a57"), "arm": ("arm", "cortex-a15"),
          "thumb": ("arm", "cortex-a15")}


def command(guest, elf, options="enable=on", more=(), accel="jit"):
    name, cpu = GUESTS[guest]
    firmware = ["-bios", "none"] if name.startswith("riscv") else []
    return [program(f"rhea-system-{name}"), "-machine", "virt", "-cpu", cpu, "-accel", accel, "-nodefaults", "-display", "none",
            *firmware, "-kernel", elf, "-semihosting-config", options, *more]


class Program:
    def __init__(self, argv, cwd=None):
        self.text = ""
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def expect(self, text, timeout=60):
        end = time.monotonic() + timeout
        while text not in self.text:
            assert time.monotonic() < end, f"no {text!r} in\n{self.text}"
            if select.select([self.process.stdout], [], [], 1)[0]:
                data = os.read(self.process.stdout.fileno(), 65536)
                assert data, f"ended before {text!r}:\n{self.text}"
                self.text += data.decode(errors="replace")
        self.text = self.text.split(text, 1)[1]

    def send(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()


def calls(guest, flags=("-DSPAWN",), more=(), options="", accel="jit", status=42):
    def test():
        with tempfile.TemporaryDirectory() as d:
            subprocess.run([os.path.join(here, "semihosting", "build.sh"), guest, f"{d}/calls", *flags], check=True, timeout=60)
            argv = command(guest, f"{d}/calls", f"enable=on,arg=one,arg=two{options}", more, accel)
            with Program(argv, d) as p:
                p.expect("to the console\n")
                p.expect("type now\n")
                p.send("typed!")
                p.expect("all passed\n")
                got = p.process.wait(60)
                assert got == status, f"status {got}"
            assert os.listdir(d) == ["calls"], os.listdir(d)
    return "-".join(w.lstrip("-").removeprefix("D").lower() for w in ("calls", guest, *flags, *more, accel) if w != "-DSPAWN"), test


COMPILERS = {
    "riscv64": ["riscv64-unknown-elf-gcc", "-march=rv64imafdc", "-mabi=lp64d", "-mcmodel=medany"],
    "riscv32": ["riscv64-unknown-elf-gcc", "-march=rv32imac", "-mabi=ilp32", "-mcmodel=medany"],
    "aarch64": ["aarch64-linux-gnu-gcc"],
    "arm": ["arm-none-eabi-gcc", "-march=armv7-a+fp", "-mfloat-abi=hard", "-marm"],
    "thumb": ["arm-none-eabi-gcc", "-march=armv7-a+fp", "-mfloat-abi=hard", "-mthumb"],
}
HELLO = r"""
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    char line[64];
    FILE *f = fopen("out.txt", "w");

    printf("pointers of %d bytes, pi is %.6f\n", (int)sizeof(void *), 3.14159265);
    fprintf(f, "written %d\n", 42);
    fclose(f);
    f = fopen("out.txt", "r");
    printf("it says: %s", fgets(line, sizeof(line), f));
    fclose(f);
    remove("out.txt");
    exit(fgets(line, sizeof(line), stdin) && line[0] == 'y' ? 3 : 4);
}
"""


def picolibc(guest):
    def test():
        base = 0x80000000 if guest.startswith("riscv") else 0x40100000
        places = {"flash": base, "flash_size": 1 << 20, "ram": base + (1 << 20), "ram_size": 1 << 20}
        with tempfile.TemporaryDirectory() as d:
            with open(f"{d}/hello.c", "w") as f:
                f.write(HELLO)
            subprocess.run([*COMPILERS[guest], "-O2", "--specs=picolibc.specs", "--crt0=semihost", "--oslib=semihost",
                            *[f"-Wl,--defsym=__{k}={v:#x}" for k, v in places.items()], "-o", f"{d}/hello", f"{d}/hello.c"],
                           check=True, timeout=60)
            p = subprocess.run(command(guest, f"{d}/hello"), cwd=d, input="yes\n", text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
            size = 8 if guest.endswith("64") else 4
            assert p.stdout == f"pointers of {size} bytes, pi is 3.141593\nit says: written 42\n", p
            assert p.returncode == 3, p
    return f"picolibc-{guest}", test


def snek():
    """Debian's package, as its own script starts it."""
    argv = [program("rhea-system-riscv32"), "-chardev", "stdio,mux=on,id=stdio0", "-serial", "none", "-monitor", "none",
            "-semihosting-config", "enable=on,chardev=stdio0,arg=", "-machine", "virt,accel=tcg", "-cpu", "sifive-e31", "-kernel",
            "/usr/share/snek/snek-qemu-riscv-1.9.elf", "-nographic", "-bios", "none"]
    with Program(argv) as p:
        p.expect("Welcome to snek")
        p.expect("> ")
        p.send("2**10 + 24\n")
        p.expect("1048")
        p.send("def f(n):\n if n < 2:\n  return n\n return f(n-1)+f(n-2)\n\n")
        p.send("f(15)\n")
        p.expect("610")
        p.send("exit(0)\n")


def off(guest):
    """Without the option the instruction is what the manual says: an exception, here into nothing. And it can be stopped."""
    def test():
        with tempfile.TemporaryDirectory() as d:
            subprocess.run([os.path.join(here, "semihosting", "build.sh"), guest, f"{d}/calls"], check=True, timeout=60)
            argv = command(guest, f"{d}/calls", "enable=off")
            with Program(argv, d) as p:
                time.sleep(1)
                assert p.process.poll() is None
                p.process.terminate()
                p.process.wait(120)
            assert os.listdir(d) == ["calls"], os.listdir(d)
    return f"off-{guest}", test


def waiting():
    """A program that waits for input can be stopped, queried and ended."""
    with tempfile.TemporaryDirectory() as d:
        subprocess.run([os.path.join(here, "semihosting", "build.sh"), "riscv64", f"{d}/calls"], check=True, timeout=60)
        with Machine("-bios", "none", "-kernel", f"{d}/calls", "-chardev", f"file,id=c,path={d}/console", "-semihosting-config",
                     "enable=on,chardev=c,arg=one two", machine="virt", emulator="rhea-system-riscv64") as m:
            end = time.monotonic() + 60
            while "type now" not in (open(f"{d}/console").read() if os.path.exists(f"{d}/console") else ""):
                assert time.monotonic() < end, m.text
                time.sleep(0.05)
            m.qmp("stop")
            assert m.qmp("query-status")["status"] == "paused"
            m.qmp("cont")
            m.qmp("system_reset")
            m.qmp("quit")
            assert m.wait(120) == 0


def refused():
    for options, words in (("enable=on,target=gdb", "gdb"), ("enable=on,target=x", "no such target"), ("enable=on,chardev=none", "none"),
                           ("enable=perhaps", ""), ("enable=on,colour=red", "colour")):
        p = subprocess.run([program("rhea-system-riscv64"), "-machine", "virt", "-display", "none", "-bios", "none", "-semihosting-config",
                            options], capture_output=True, text=True, timeout=60)
        assert p.returncode == 1 and words in p.stderr, f"{options}: {p}"


tests = [calls("riscv64"), calls("riscv32"), calls("aarch64"), calls("arm"), calls("thumb"), calls("arm", ["-DSPAWN", "-DCALL_HLT"]),
         calls("thumb", ["-DSPAWN", "-DCALL_HLT"]), calls("thumb", ["-DSPAWN", "-DCALL_BKPT"]), calls("riscv64", [], ["-sandbox", "on"]), calls("riscv64", accel="interp"), calls("aarch64", accel="interp"),
         *[picolibc(g) for g in COMPILERS], snek, off("riscv64"), off("aarch64"), waiting, refused]
run(tests)
