#!/usr/bin/python3
"""Includes run downwards only (docs/architecture.md). A device never knows a board or a monitor; a guest's decode and
translation know the IR alone; a front end never knows a host back end."""
import os
import re
import sys

top = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))

# What each layer may include, besides itself. A layer is a folder below src/ and include/rhea/.
BELOW = {
    "base": "",
    "ir": "base",
    "interp": "base ir",
    "jit": "base ir guest",
    "guest": "base ir",                         # decode, translate, state; SYSTEM files below also take vm
    "vm": "base ir guest",
    "accel": "base ir guest jit interp vm",
    "block": "base vm",
    "net": "base vm chardev",
    "chardev": "base vm",
    "device": "base ir guest vm block net chardev",
    "board": "base ir guest vm device block net chardev",
    "debug": "base ir guest",
    "user": "base ir guest jit interp debug",
    "control": "base ir guest vm accel jit device board block net chardev debug",
    "main": "base ir guest vm accel jit device board block net chardev control user",
}
# Files of a guest that are its system side and so rest on vm (DESIGN.md, "User mode").
SYSTEM = re.compile(r"src/guest/[^/]+/(mmu|exceptions?|interrupts?|system|syscall|kvmclock|msr|control|cpuid|cpu|state|helpers?|registers|debug|task|deliver|csr|pmp|timer|models|semihosting|monitor|smm)[_\w]*\.c$"
                    r"|src/guest/guest\.c$|src/guest/riscv/system\.h$")
# The local APIC hands a CPU its interrupts and so knows one guest's state; likewise an x86 board sets CPU state.
KNOWS_GUEST = re.compile(r"src/device/irq/|src/board/")


def layer(path):
    if path in ("include/rhea/guest/guest.h", "include/rhea/user/guest_user.h"):
        return "ir"                             # the interfaces that guests fill, and the translator and user mode call
    m = re.match(r"(?:src|include/rhea)/([^/]+)/", path)
    return m[1] if m else None


def included(path, name):
    """The repository path of an #include, or None for the outside world."""
    for base in ("include", "src", os.path.dirname(path)):
        p = os.path.normpath(os.path.join(base, name))
        if os.path.exists(os.path.join(top, p)):
            return p
    return None


passed = failed = 0
for folder in ("src", "include"):
    for root, _, files in os.walk(os.path.join(top, folder)):
        for f in files:
            if not f.endswith((".c", ".h")):
                continue
            path = os.path.relpath(os.path.join(root, f), top)
            own = layer(path)
            if own not in BELOW:
                print(f"{path}: the folder '{own}' has no place in the order of layers")
                failed += 1
                continue
            allowed = set(BELOW[own].split()) | {own}
            if (own == "guest" and SYSTEM.search(path)) or path == "src/user/nomachine.c":
                allowed.add("vm")
            bad = []
            for n, line in enumerate(open(os.path.join(top, path), errors="replace"), 1):
                m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
                target = included(path, m[1]) if m else None
                if not target:
                    continue
                to = layer(target)
                if to == "guest" and target.startswith("src/guest/") and own not in ("guest",) and not KNOWS_GUEST.search(path):
                    bad.append(f"{path}:{n}: a guest's own header ({m[1]}) outside src/guest")
                elif to and to not in allowed:
                    bad.append(f"{path}:{n}: {own} includes {to} ({m[1]}), which is not below it")
            print("\n".join(bad), end="\n" if bad else "")
            failed += bool(bad)
            passed += not bad
print(f"{passed} passed, {failed} failed")
sys.exit(failed != 0)
