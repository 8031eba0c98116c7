#!/usr/bin/env python3
"""Makes src/user/syscall_numbers.def, which is committed: the system calls of Linux and their numbers for each guest.

usage: gen/syscalls.py > src/user/syscall_numbers.def

The numbers come from the kernel's headers as Debian packages them (linux-libc-dev, linux-libc-dev-*-cross); what is newer
than those is in NEWER, from the kernel's system call tables of 6.12."""
import re
import subprocess

GENERIC32 = ["-U__SIZEOF_POINTER__", "-D__SIZEOF_POINTER__=4", "-D__ARCH_WANT_SYS_CLONE3", "-D__ARCH_WANT_MEMFD_SECRET"]
SOURCES = {     # column: compiler, flags, header
    "x86_64": ("gcc", [], "asm/unistd.h"),
    "i386": ("gcc", [], "asm/unistd_32.h"),
    "arm": ("arm-linux-gnueabihf-gcc", [], "asm/unistd.h"),
    "aarch64": ("aarch64-linux-gnu-gcc", [], "asm/unistd.h"),
    "riscv64": ("riscv64-linux-gnu-gcc", [], "asm/unistd.h"),
    "riscv32": ("riscv64-linux-gnu-gcc", GENERIC32, "asm-generic/unistd.h"),
}
ALL = list(SOURCES)
NEWER = {       # name: (number, columns)
    "cachestat": (451, ALL), "fchmodat2": (452, ALL), "map_shadow_stack": (453, ALL), "futex_wake": (454, ALL),
    "futex_wait": (455, ALL), "futex_requeue": (456, ALL), "statmount": (457, ALL), "listmount": (458, ALL),
    "lsm_get_self_attr": (459, ALL), "lsm_set_self_attr": (460, ALL), "lsm_list_modules": (461, ALL), "mseal": (462, ALL),
    "uretprobe": (335, ["x86_64"]),
    "riscv_hwprobe": (258, ["riscv64", "riscv32"]), "riscv_flush_icache": (259, ["riscv64", "riscv32"]),
    "memfd_secret": (447, ["x86_64", "i386", "aarch64", "riscv64", "riscv32"]),
}
ARM_PRIVATE = {"arm_breakpoint": 0xf0001, "arm_cacheflush": 0xf0002, "arm_usr26": 0xf0003, "arm_usr32": 0xf0004,
               "arm_set_tls": 0xf0005, "arm_get_tls": 0xf0006}
NOT_CALLS = {"syscalls", "SYSCALL_BASE", "OABI_SYSCALL_BASE", "arch_specific_syscall", "sync_file_range2_arm"}


def numbers(compiler, flags, header):
    text = subprocess.run([compiler, "-w", "-E", "-dM", *flags, "-include", header, "-x", "c", "/dev/null"], check=True,
                          capture_output=True, text=True).stdout
    macros = dict(re.findall(r"^#define (\w+) (.*)$", text, re.M))

    def value(s):
        s = s.strip()
        if s in macros:
            return value(macros[s])
        m = re.fullmatch(r"\((\w+) ?\+ ?(\w+)\)", s)
        return value(m[1]) + value(m[2]) if m else int(s, 0)
    return {name[5:]: value(v) for name, v in macros.items()
            if name.startswith("__NR_") and name[5:] not in NOT_CALLS and not name.startswith("__NR3264")}


def main():
    table = {}
    for column, source in SOURCES.items():
        for name, n in numbers(*source).items():
            if n < 0x1000:
                table.setdefault(name, {})[column] = n
    for name, (n, columns) in NEWER.items():
        for column in columns:
            table.setdefault(name, {}).setdefault(column, n)
    for name, n in ARM_PRIVATE.items():
        table[name] = {"arm": n}
    print("/* Made by gen/syscalls.py: the system calls of Linux 6.12 and their numbers, -1 where a guest has none.\n"
          f" * NR(name, {', '.join(ALL)}) */")
    for name in sorted(table):
        print(f"NR({name}, " + ", ".join(f"{n:#x}" if n > 0x1000 else str(n)
                                         for n in (table[name].get(c, -1) for c in ALL)) + ")")


main()
