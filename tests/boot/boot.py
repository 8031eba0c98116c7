"""Boots a guest under Rhea and talks to its serial console. Used by the tests beside it.

A Machine is a context: it starts, `expect` reads the console until a pattern, `send` types, and the end of the context
ends the program. Everything the guest said is kept for the report.
"""
import gzip
import json
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time

top = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(top, "tests"))
from cases import run, until  # noqa: E402, F401

build = os.environ.get("BUILD", os.path.join(top, "build"))
soak = bool(os.environ.get("SOAK"))
# Words in a kernel's log that mean that the machine is not what it says it is.
BAD = re.compile(r"unchecked MSR|BUG:|Oops|Call Trace|WARNING:|Unable to calibrate|general protection|Kernel panic"
                 r"|soft lockup|rcu: INFO|clocksource.*unstable|Firmware Bug|ACPI Error|ACPI BIOS Error")


def program(name="rhea-system-x86_64"):
    return os.path.join(build, "bin", name)


def asset(*args):
    p = subprocess.run([os.path.join(top, "tools", "guest.sh"), *args], capture_output=True, text=True,
                       env={**os.environ, "BUILD": build})
    if p.returncode:
        raise RuntimeError(p.stderr)
    return p.stdout.strip().splitlines()[-1]


def initrd_with(initrd, folder, compiler, *sources):
    """A copy of the initramfs, in the folder, that has these programs beside: compiled for the guest, /NAME each."""
    names = []
    for source in sources:
        names.append(os.path.splitext(os.path.basename(source))[0])
        subprocess.run([compiler, "-O1", "-static", "-Wall", "-Werror", "-o", names[-1], os.path.join(top, "tests", "boot", source)], cwd=folder, check=True)
    more = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input="\n".join(names).encode(), cwd=folder, stdout=subprocess.PIPE, check=True)
    path = os.path.join(folder, "initrd.gz")
    with open(initrd, "rb") as old, open(path, "wb") as f:
        f.write(old.read() + gzip.compress(more.stdout))
    return path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Machine:
    def __init__(self, *args, memory="512M", smp=1, machine="q35", accel="jit", emulator="rhea-system-x86_64"):
        self.dir = tempfile.TemporaryDirectory(prefix="rhea-test-")
        self.qmp_path = os.path.join(self.dir.name, "qmp")
        self.argv = [program(emulator), "-machine", machine, "-accel", accel, "-m", memory, "-smp", str(smp), "-nodefaults",
                     "-display", "none", "-serial", "stdio", "-no-reboot", "-qmp", f"unix:{self.qmp_path},server=on,wait=off",
                     *args]
        self.text = ""
        self.at = 0

    def __enter__(self):
        self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stdin.close()
        self.dir.cleanup()

    def expect(self, pattern, timeout=60):
        deadline = time.monotonic() + timeout
        while True:
            m = re.compile(pattern).search(self.text, self.at)
            if m:
                self.at = m.end()
                return m
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no {pattern!r} within {timeout} s; the console's end:\n{self.text[-2500:]}")
            ready, _, _ = select.select([self.process.stdout], [], [], min(left, 1))
            if ready:
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    m = re.compile(pattern).search(self.text, self.at)
                    if m:
                        continue
                    raise AssertionError(f"ended (status {self.process.wait()}) before {pattern!r}:\n{self.text[-2500:]}")
                self.text += data.decode(errors="replace")

    def send(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def wait(self, timeout=60):
        """The program's exit status, once its console has ended."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self.process.stdout], [], [], 0.5)
            if ready:
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    return self.process.wait(max(1, deadline - time.monotonic()))
                self.text += data.decode(errors="replace")
        raise AssertionError(f"still running after {timeout} s:\n{self.text[-2500:]}")

    def clean(self):
        bad = [l for l in self.text.splitlines() if BAD.search(l)]
        assert not bad, "the guest complains:\n" + "\n".join(bad[:10])

    def qmp(self, command, **arguments):
        """One command over a connection of its own; its return value."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(120)
            s.connect(self.qmp_path)
            f = s.makefile("rwb")
            f.readline()
            for c in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                f.write(json.dumps(c).encode() + b"\r\n")
                f.flush()
                while True:
                    reply = json.loads(f.readline())
                    if "return" in reply or "error" in reply:
                        break
            assert "return" in reply, reply
            return reply["return"]


def complaints(text):
    """Fails for what `dmesg -r` shows as an error or worse."""
    errors = re.findall(r"<[0-3]>.*", text)
    assert not errors, "the guest complains:\n" + "\n".join(errors[:10])
