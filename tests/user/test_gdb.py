#!/usr/bin/python3
"""rhea-user -g under an unmodified gdb-multiarch: breakpoints, steps, backtraces, watchpoints, threads, signals, system calls,
files of the target, in each guest; and packets as no client sends them.

usage: test_gdb.py BUILD-FOLDER [PART...]"""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
from cases import finish, report, until     # noqa: E402

build = os.path.abspath(sys.argv[1])
only = sys.argv[2:]
work = tempfile.TemporaryDirectory(prefix="rhea-gdb-")
DEADLINE = 300
GUESTS = {
    "x86_64": ("gcc", "rip", None),
    "i386": ("i686-linux-gnu-gcc", "eip", "/usr/i686-linux-gnu"),
    "aarch64": ("aarch64-linux-gnu-gcc", "pc", "/usr/aarch64-linux-gnu"),
    "arm": ("arm-linux-gnueabihf-gcc", "pc", "/usr/arm-linux-gnueabihf"),
    "riscv64": ("riscv64-linux-gnu-gcc", "pc", "/usr/riscv64-linux-gnu"),
}


def program(guest, *flags):
    out = os.path.join(work.name, "debuggee-" + guest + "-".join(flags))
    if not os.path.exists(out):
        subprocess.run([GUESTS[guest][0], "-g", "-O1", "-fno-omit-frame-pointer", "-w", "-o", out, os.path.join(here, "debuggee.c"),
                        "-pthread", *flags], check=True)
    return out


class Rhea:
    """A program that waits for a debugger at a socket's path."""

    def __init__(self, guest, path, *args, options=(), env=None):
        self.socket = os.path.join(work.name, f"socket-{time.monotonic_ns()}")
        self.output = tempfile.TemporaryFile(dir=work.name)
        self.process = subprocess.Popen([os.path.join(build, "bin", "rhea-" + guest), *options, "-g", self.socket, path, *args],
                                        stdin=subprocess.PIPE, stdout=self.output, stderr=subprocess.STDOUT,
                                        env={**os.environ, **(env or {})})
        deadline = time.monotonic() + DEADLINE
        while not os.path.exists(self.socket) and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)

    def said(self):
        return os.pread(self.output.fileno(), 1 << 20, 0).decode(errors="replace")      # its place is the program's

    def end(self, wait=True):
        """(exit status, output)"""
        try:
            self.process.stdin.close()
            status = self.process.wait(timeout=DEADLINE if wait else 0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = "none within the time given" if wait else "still there"
        return status, self.said()


def gdb(rhea, path, commands):
    script = os.path.join(work.name, "script")
    with open(script, "w") as f:
        f.write("\n".join(["set pagination off", "set confirm off", "set width 0", "set sysroot target:", "set breakpoint pending on",
                           *([f"file {path}"] if path else []), f"target remote {rhea.socket}", *commands, ""]))
    r = subprocess.run(["gdb-multiarch", "-q", "-nx", "-batch", "-x", script], capture_output=True, text=True, errors="replace",
                       timeout=DEADLINE, stdin=subprocess.DEVNULL, env={**os.environ, "HOME": work.name, "DEBUGINFOD_URLS": ""})
    return r.stdout + r.stderr


def session(name, guest, args, commands, expected, status=None, output=None, flags=("-static",), options=(), file=True):
    path = program(guest, *flags)
    rhea = Rhea(guest, path, *args, options=options)
    text = gdb(rhea, path if file else None, commands)
    got, out = rhea.end()
    at = 0
    missing = None
    for pattern in expected:            # in this order
        m = re.compile(pattern).search(text, at)
        if not m:
            missing = pattern
            break
        at = m.end()
    ok = missing is None and (status is None or status == got) and (output is None or output in out)
    report(f"{guest}: {name}", ok, f"not found: {missing}\nexit {got}, wanted {status}\n{text}\n{out}")


def test_session():
    for guest, (_, pc, _) in GUESTS.items():
        session("break, step, backtrace, watch, registers", guest, [],
                ["break inner", "continue", "backtrace", "info registers " + pc, "finish", "watch watched", "continue", "delete 2", "next", "next",
                 "print half", "stepi", "print $_siginfo.si_signo", "set var half = 2.5", "print half * 2", "delete", "print inner(4)", "continue"],
                [r"Breakpoint 1, inner \(n=", r"#0 .*inner", r"#1 .*outer", r"#2 .*main", pc + r" +0x", r"Value returned is \$1 = 42",
                 r"Hardware watchpoint 2: watched", r"Old value = 0\nNew value = 42", r"= 21\n", r"= 5\n", r"= 5\n", r"= 8\n", r"exited with code 02"],
                2, "outer 43")


def test_signals():
    for guest in GUESTS:
        session("a signal passed", guest, ["signal"], ["continue", "backtrace 2", "continue"],
                [r"received signal SIGUSR1", r"#0 ", r"exited with code 01"], 1, "handled 10")
        session("a signal that is discarded", guest, ["signal"], ["handle SIGUSR1 nopass", "continue", "continue"],
                [r"received signal SIGUSR1", r"exited"], 1, "handled 0")
        session("a signal that does not stop", guest, ["signal"], ["handle SIGUSR1 nostop noprint pass", "continue"],
                [r"exited with code 01"], 1, "handled 10")
        session("backtrace out of a handler", guest, ["signal"], ["handle SIGUSR1 nostop noprint pass", "break handler", "continue",
                                                                  "backtrace", "continue"],
                [r"Breakpoint 1, handler \(sig=10\)", r"#0 .*handler", r"<signal handler called>", r"main", r"exited"], 1, "handled 10")
        session("SIGSEGV with its address", guest, ["segv"],
                ["continue", "print $_siginfo.si_code", "print $_siginfo._sifields._sigfault.si_addr", "backtrace 1", "continue"],
                [r"received signal SIGSEGV", r"= 1\n", r"0x10", r"main", r"terminated with signal SIGSEGV"], -11)
        session("a signal that kills", guest, ["kill"], ["continue", "continue"],
                [r"received signal SIGTERM", r"terminated with signal SIGTERM"], -15)


def test_threads():
    for guest in GUESTS:
        session("threads stop together", guest, ["threads"],
                ["break all_here", "continue", "info threads", "thread apply all backtrace", "continue"],
                [r"Breakpoint 1, all_here", r"(?s)1 .*?2 .*?3 .*?4 ", r"(?s)Thread 4.*worker.*Thread 3.*worker.*Thread 2.*worker.*Thread 1.*all_here.*main",
                 r"exited with code 01"], 1, "joined 101")


def test_watch_in_threads():
    for guest in ("aarch64", "x86_64", "riscv64"):
        session("a watchpoint meets threads begun later", guest, ["threads"],
                ["break threads", "continue", "watch by_thread", "continue", "info threads", "delete", "continue"],
                [r"Breakpoint 1, threads", r"Hardware watchpoint 2: by_thread", r"Old value = 0\nNew value = 1", r"\* [234] ",
                 r"exited with code 01"], 1, "joined 101")


def test_calls():
    for guest in GUESTS:
        if guest != "riscv64":          # gdb 13 does not know its calls' names
            session("catch syscall", guest, [], ["catch syscall write", "continue", "continue", "delete", "continue"],
                    [r"call to syscall write", r"returned from syscall write", r"exited with code 01"], 1)
        session("auxv, exec-file and libraries of the target", guest, ["x"],
                ["info auxv", "break inner", "continue", "info sharedlibrary", "delete", "continue"],
                [r"AT_ENTRY|Entry point", r"Breakpoint 1, inner", r"libc\.so", r"exited with code 01"], 1, flags=(),
                options=("-L", GUESTS[guest][2]) if GUESTS[guest][2] else (), file=False)


class Client:
    """Packets by hand."""

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(DEADLINE)
        self.s.connect(path)
        self.left = b""

    def send(self, data):
        if isinstance(data, str):
            data = data.encode()
        self.s.sendall(b"$" + data + b"#%02x" % (sum(data) & 255))

    def receive(self):
        while True:
            m = re.search(rb"\$([^#]*)#..", self.left, re.S)
            if m:
                self.left = self.left[m.end():]
                try:
                    self.s.sendall(b"+")
                except BrokenPipeError:     # it was the last word: that of the end
                    pass
                return m[1].decode("latin-1")
            more = self.s.recv(65536)
            if not more:
                return None
            self.left += more

    def ask(self, data):
        self.send(data)
        return self.receive()


# Packets that no client sends, and the least that an answer must be: an error, nothing, or what is harmless.
HOSTILE = ["", "g" * 100, "G", "G0", "Gzz", "p", "pffffffffffffffff", "pffffffff", "p-1", "P", "P0", "P0=", "P0=12", "Pffff=00", "m", "m0", "m,",
           "m0,ffffffffffffffff", "mffffffffffffffff,10", "m0,0", "M0,10:00", "M0,ffffffffffffffff:", "Mffffffffffffffff,1:00", "X0,", "X0,5:a",
           "X0,ffffffffffffffff:a", "Z", "Z9,0,0", "Z0", "Z0,", "Z0,0,0", "Z0,ffffffffffffffff,4", "Z0,0,ffffffff", "Z2,0,0", "z0,123,4",
           "z3,123,4", "H", "Hg", "Hgp", "Hgpzz.1", "Hgffffffffff", "T", "Tzz", "Tffffff", "vCont", "vCont;", "vCont;x", "vCont;c:", "vCont;r",
           "vCont;r1", "vCont;r1,", "vCont;C", "vCont;S1:p", "vCont" + ";c:1" * 200, "vFile:", "vFile:open:", "vFile:open:zz,0,0", "vFile:open:2f,1,0",
           "vFile:open:" + "41" * 5000 + ",0,0", "vFile:pread:0,10,0", "vFile:pread:ffffffff,10,0", "vFile:close:5", "vFile:fstat:99", "vFile:readlink:",
           "vFile:pwrite:0,0,x", "qXfer:", "qXfer:features:read:target.xml", "qXfer:features:read:target.xml:", "qXfer:features:read:target.xml:ffffffffffffffff,fff",
           "qXfer:features:read:../../etc/passwd:0,fff", "qXfer:auxv:write::0,1", "qXfer:siginfo:read::0,10", "qRcmd,zz", "qSupported:" + ";x" * 3000,
           "QPassSignals:zz", "QPassSignals:" + "1;" * 2000, "QCatchSyscalls:", "QCatchSyscalls:2", "QCatchSyscalls:1;" + "1;" * 2000, "D;zz", "C", "Czz", "S",
           "c1234", "k" * 0 + "R00", "B", "j", "\x00\x01\xff"]


def test_hostile():
    path = program("aarch64", "-static")
    rhea = Rhea("aarch64", path, "x")
    c = Client(rhea.socket)
    bad = [p for p in HOSTILE if c.ask(p.encode("latin-1")) is None]
    report("hostile packets are answered", not bad, bad)
    c.s.sendall(b"$" + b"m" * 100000 + b"#00" + b"-" * 50 + b"#" * 1000 + b"$$$##")
    c.s.sendall(b"$g#00$?#3f")
    deadline = time.monotonic() + DEADLINE
    answer = ""
    while answer is not None and not answer.startswith("T05thread:") and time.monotonic() < deadline:
        answer = c.receive()
    report("packets too long, with a wrong sum, or none", answer and answer.startswith("T05thread:"), answer)
    answer = c.ask("m10,4")
    report("memory that is not there", answer and answer.startswith("E"), answer)
    first, rest = c.ask("qXfer:features:read:target.xml:0,10"), c.ask("qXfer:features:read:target.xml:10,ffffff")
    report("a part of an object", first.startswith("m<?xml") and rest[0] in "lm" and "aarch64.core" in rest, (first, rest[:200]))
    c.s.close()                         # without a word: the program goes on
    status, out = rhea.end()
    report("a client that goes away", status == 1 and "outer 43" in out, f"{status}\n{out}")


def test_interrupt():
    """A program that blocks in a system call is stopped, looked at, made to call a function, and goes on in its call."""
    for guest in ("aarch64", "i386"):
        path = program(guest, "-static")
        rhea = Rhea(guest, path, "block")
        c = Client(rhea.socket)
        c.ask("?")
        c.send("vCont;c")
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            rhea.output.seek(0)
            if b"outer" in rhea.output.read():
                break
            time.sleep(0.05)
        c.s.sendall(b"\x03")
        stop = c.receive()
        regs = c.ask("g")
        c.s.sendall(b"\x03")            # it stands: nothing comes of it
        report(f"{guest}: interrupt", stop and stop.startswith("T02") and regs and len(regs) > 100, f"{stop} {regs}")
        c.send("vCont;c")
        c.s.sendall(b"\x03")
        stop = c.receive()
        report(f"{guest}: interrupt at once", stop and stop.startswith("T02"), stop)
        report(f"{guest}: detach", c.ask("D") == "OK")
        rhea.process.stdin.write(b"x")
        status, out = rhea.end()
        report(f"{guest}: the call goes on", "read 1" in out and status == 1, f"{status}\n{out}")


def test_nobody_comes():
    """Who waits for a debugger can still be ended."""
    for sig in (signal.SIGTERM, signal.SIGUSR2):    # a shell in the background may have had SIGINT and SIGHUP ignored
        r = Rhea("riscv64", program("riscv64", "-static"), "x")
        r.process.send_signal(sig)
        status, said = r.end()
        report(f"nobody comes, {sig.name}", status == -sig and "outer" not in said, f"{status} {said}")


def test_forks():
    for guest in ("aarch64", "x86_64"):
        session("breakpoints are not the children's", guest, ["fork"], ["break inner", "continue", "continue", "continue"],
                [r"Breakpoint 1, inner \(n=[^)]*21\)", r"Breakpoint 1, inner \(n=[^)]*2\)", r"exited with code 02"], 2, "child 5\nhello\nvfork child 0")
        session("a fork is caught, and the child let go", guest, ["fork"],
                ["catch fork", "break child_work", "continue", "backtrace", "continue", "continue"],
                [r"Catchpoint 1 \(forked process \d+\)", r"in forks ", r"Detaching after fork from child", r"Catchpoint 1 \(forked process \d+\)",
                 r"Detaching after fork from child", r"exited with code 02"],
                2, "child 5\nhello\nvfork child 0")
        session("a vfork is followed into its program", guest, ["fork"],
                ["catch fork", "continue", "continue", "backtrace", "set follow-fork-mode child", "catch exec", "break main", "continue", "continue",
                 "info registers " + GUESTS[guest][1], "continue"],
                [r"forked process", r"forked process", r"in forks ", r"Detaching after fork from parent", r"is executing new program: \S*debuggee",
                 r"Catchpoint 2 \(exec'd", r"Breakpoint 3, main \(argc=2", r"<main", r"exited normally"], 2, "child 5\nhello\nvfork child 0")
        session("a fork is followed into the child", guest, ["fork"],
                ["set follow-fork-mode child", "catch fork", "break child_work", "break inner", "continue", "continue", "continue", "continue",
                 "backtrace 2", "print calls", "watch calls", "delete 1-3", "continue", "continue"],
                [r"Breakpoint 3, inner \(n=[^)]*21\)", r"forked process", r"Detaching after fork from parent", r"Breakpoint 3, inner \(n=[^)]*1\)",
                 r"Breakpoint 2, child_work", r"#0 .*child_work", r"#1 .*forks", r"= 2\n", r"Old value = 2\nNew value = 1002",
                 r"Inferior 2 .* exited with code 05"], 2, "child 5\nhello\nvfork child 0")
        session("a fork is kept: two processes", guest, ["fork"],
                ["set detach-on-fork off", "set follow-fork-mode child", "break child_work", "break inner", "continue", "continue", "continue",
                 "info threads", "print calls", "inferior 1", "print calls", "print by_thread = 77", "inferior 2", "print by_thread", "delete 1",
                 "continue", "info inferiors", "inferior 1", "print by_thread", "set detach-on-fork on", "set follow-fork-mode parent", "continue",
                 "print calls", "continue"],
                [r"Breakpoint 2, inner \(n=[^)]*21\)", r"hit Breakpoint 2\.2, inner \(n=[^)]*1\)", r"hit Breakpoint 1\.2, child_work", r"\n  1\.1 .*\n\* 2\.1 ",
                 r"= 2\n", r"= 1\n", r"= 77\n", r"= 0\n", r"Inferior 2 .* exited with code 05", r"\* 2 +<null>", r"= 77\n", r"hit Breakpoint 2.*inner \(n=[^)]*2\)",
                 r"= 1\n", r"Inferior 1 .*exited with code 02"], 2, "child 5\nhello\nvfork child 0")
        session("a vfork is kept, and its new program", guest, ["fork"],
                ["catch fork", "continue", "continue", "delete 1", "set detach-on-fork off", "set follow-fork-mode child", "catch exec", "break main", "continue",
                 "continue", "info inferiors", "continue", "inferior 1", "delete", "continue"],
                [r"forked process", r"forked process", r"is executing new program: \S*debuggee", r"hit Catchpoint 2", r"hit Breakpoint 3.*main \(argc=2",
                 r"\n  1 +process", r"Inferior 2 .* exited normally", r"Inferior 1 .*exited with code 02"], 2, "child 5\nhello\nvfork child 0")
        session("a fork is kept, and let go", guest, ["fork"],
                ["set detach-on-fork off", "set follow-fork-mode child", "break inner", "continue", "continue", "inferior 1", "detach inferiors 2", "delete",
                 "set detach-on-fork on", "set follow-fork-mode parent", "continue"],
                [r"hit Breakpoint 1\.2, inner \(n=[^)]*1\)", r"Inferior 2 .* detached", r"exited with code 02"], 2, "child 5\nhello\nvfork child 0")
        forked_and_left(guest)
        forked_by_packets(guest)
        kept_and_killed(guest)
        session("a new program is caught, and debugged", guest, ["exec"],
                ["handle SIGUSR1 nostop noprint pass", "catch exec", "break main", "continue", "continue", "continue", "info registers " + GUESTS[guest][1],
                 "continue"],
                [r"Breakpoint 2, main \(argc=2", r"is executing new program: \S*debuggee", r"Catchpoint 1 \(exec'd", r"Breakpoint 2, main \(argc=2",
                 r"<main", r"exited normally"], 0, "outer 43\nhello")


def forked_by_packets(guest):
    """A fork, with what no client says."""
    rhea = Rhea(guest, program(guest, "-static"), "fork")
    c = Client(rhea.socket)
    agreed = c.ask("qSupported:multiprocess+;fork-events+;exec-events+")
    c.send("vCont;c")
    stop = c.receive() or ""
    m = re.search(r"fork:p([0-9a-f]+)\.\1;", stop)
    child = m[1] if m else "1"
    said = [c.ask(p) for p in ("D;1", f"Hgp{child}.{child}", f"Tp{child}.{child}", "z0,1000,4", "Z0,1000,4", f"D;{child}", f"Hgp{child}.{child}")]
    report(f"{guest}: a fork by packets", m and "fork-events+" in agreed and [w[:1] for w in said] == ["E", "O", "O", "O", "E", "O", "E"], (agreed, stop, said))
    c.send("vCont;c")
    stop = c.receive() or ""            # its vfork() is one too
    m = re.search(r"fork:p([0-9a-f]+)\.\1;", stop)
    report(f"{guest}: a vfork by packets", m and c.ask(f"D;{m[1]}") == "OK", stop)
    c.send("vCont;c")
    stop = c.receive()
    report(f"{guest}: and its end", stop and stop.startswith("W02"), stop)
    c.s.close()
    rhea.end()


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def kept_and_killed(guest):
    """Who serves the client is killed, while it runs and while it stands: the other process takes over."""
    for running in (True, False):
        rhea = Rhea(guest, program(guest, "-static"), "fork", "wait")
        c = Client(rhea.socket)
        c.ask("qSupported:multiprocess+;fork-events+;exec-events+")
        c.send("vCont;c")
        stop = c.receive() or ""
        m = re.search(r"thread:p([0-9a-f]+)\.\1;fork:p([0-9a-f]+)\.\2;", stop)
        parent, child = m.groups() if m else ("1", "1")
        said = [c.ask(f"Hgp{child}.{child}"), c.ask("m0,1"), c.ask("qXfer:threads:read::0,1000")]
        both = all(f'"p{p}.{p}"' in said[-1] for p in (parent, child))
        if running and m:
            c.send(f"vCont;c:p{child}.-1")
            until(lambda: "waits" in rhea.said(), DEADLINE)
        os.kill(int(child, 16), signal.SIGKILL) if m else None
        said.append(c.receive() if running else until(lambda: is_gone(int(child, 16)), DEADLINE) and c.ask(f"Tp{child}.{child}"))
        said += [c.ask(f"Hgp{child}.{child}"), c.ask(f"Hgp{parent}.{parent}")]
        want = f"X09;process:{child}" if running else "E02"
        report(f"{guest}: a kept child is killed, running {running}", both and said[0] == "OK" and said[3:] == [want, "E02", "OK"], (stop, said))
        c.send(f"vCont;c:p{parent}.-1")
        stop = c.receive() or ""        # of vfork(): the child is kept, and killed by the client
        m = re.search(r"fork:p([0-9a-f]+)\.\1;", stop)
        said = [c.ask(f"vKill;{m[1]}"), c.ask(f"vCont;c:p{parent}.-1")] if m else []
        report(f"{guest}: and its parent goes on, running {running}", said == ["OK", f"W02;process:{parent}"], (stop, said))
        c.s.close()
        status, out = rhea.end()
        report(f"{guest}: to its end, running {running}", status == 2 and "child 0" in out, (status, out))


def forked_and_left(guest):
    """A client that goes while a child waits: parent and child go on."""
    path = program(guest, "-static")
    rhea = Rhea(guest, path, "fork")
    text = gdb(rhea, path, ["catch fork", "continue", "disconnect"])
    status, out = rhea.end()
    report(f"{guest}: a client leaves after a fork", "forked process" in text and status == 2 and "child 5\nhello\nvfork child 0" in out,
           f"{text}\n{out}\nexit {status}")


PARTS = {"hostile": test_hostile, "interrupt": test_interrupt, "forks": test_forks, "nobody": test_nobody_comes,
         "session": test_session, "signals": test_signals, "threads": test_threads, "watch": test_watch_in_threads, "calls": test_calls}
for part in only or PARTS:
    PARTS[part]()
finish()
