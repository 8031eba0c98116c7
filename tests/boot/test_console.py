#!/usr/bin/python3
"""Typing at a busy serial console: nothing that is typed is lost, whatever the guest prints meanwhile, on each UART.

The guest sums up what it reads while another process of it prints without end and a third changes the terminal's settings
as shells do before each prompt. SEED=N repeats a run."""
import hashlib
import os
import random
import re
import time
from boot import Machine, asset, run, soak

BOARDS = {      # emulator, kernel, console, arguments
    "pl011-gic2": ("rhea-system-aarch64", "arm64-cloud", "ttyAMA0", "virt,gic-version=2", ["-cpu", "cortex-a57"]),
    "pl011-gic3": ("rhea-system-aarch64", "arm64-cloud", "ttyAMA0", "virt,gic-version=3", ["-cpu", "cortex-a57"]),
    "16550-x86": ("rhea-system-x86_64", "cloud", "ttyS0", "q35", []),
    "16550-riscv": ("rhea-system-riscv64", "riscv64-trixie", "ttyS0", "virt", []),
}
seed = int(os.environ.get("SEED", random.randrange(1 << 32)))


def boot(board, smp, script):
    emulator, kernel, console, machine, args = BOARDS[board]
    k = asset("kernel", kernel)
    return Machine(*args, "-kernel", f"{k}/vmlinuz", "-initrd", f"{k}/initrd.gz", "-append",
                   f'console={console} quiet panic=-1 rhea.run="{script}"', machine=machine, smp=smp, emulator=emulator)


def drain(m, seconds):
    """Reads the console so that the guest is never held back."""
    try:
        m.expect(r"(?!)", seconds)
    except AssertionError as e:
        if "ended" in str(e):
            raise


def typed(board, smp, size):
    """Lines in pieces of any length, at any time, while the guest prints."""
    def test():
        r = random.Random(seed)
        print(f"seed {seed}", flush=True)
        text = "".join("".join(r.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=r.randrange(1, 120))) + "\n" for _ in range(size // 60))
        script = ("stty -echo; (while :; do echo lorem ipsum dolor sit amet consectetur; done) & P=$!; "
                  "(while :; do stty -icrnl; stty icrnl; done) & Q=$!; echo go-ahead; md5sum > /sum; kill $P $Q; "
                  "sleep 1; echo sum-is $(cat /sum)")
        with boot(board, smp, script) as m:
            m.expect(r"go-ahead", 240)
            at = 0
            while at < len(text):
                n = r.choice([1, 1, 2, 5, 8, 16, 17, 64, 500])
                m.send(text[at:at + n])
                at += n
                drain(m, r.choice([0, 0, 0.0005, 0.002, 0.01]))
                m.text, m.at = "", 0
            m.send("\x04")
            want = hashlib.md5(text.encode()).hexdigest()
            have = m.expect(r"sum-is ([0-9a-f]{32})", 120)[1]
            assert have == want, "what arrived is not what was typed"
            assert m.wait(60) == 0
    return f"typed-{board}-{smp}", test


def prompt(board, smp, count):
    """Commands to a shell, some before its prompt."""
    def test():
        r = random.Random(seed)
        print(f"seed {seed}", flush=True)
        with boot(board, smp, "exec setsid cttyhack sh") as m:
            m.expect(r"# ", 240)
            for n in range(count):
                m.send(f"seq {r.randrange(200)}; echo answer-$(({n} * 7)).\n")
                if r.random() < 0.5 or n == count - 1:
                    m.expect(rf"answer-{n * 7}\.", 60)
            m.send("poweroff -f\n")
            assert m.wait(60) == 0
    return f"prompt-{board}-{smp}", test


tests = [typed(board, 2, 20000) for board in BOARDS] + [prompt("pl011-gic3", 4, 40)]
if soak:
    tests = [t for n in range(10) for board in BOARDS for smp in (1, 2, 4) for t in (typed(board, smp, 200000), prompt(board, smp, 1000))]
run(tests)
