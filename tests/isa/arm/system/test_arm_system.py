#!/usr/bin/python3
"""Runs a bare-metal program under Rhea and under Debian's QEMU, which must print the same.

usage: test_arm_system.py PROGRAM IMAGE ACCEL
Lines that begin with ! are what QEMU 7.2 gets wrong or leaves out; those are compared with the manual's answer."""
import difflib
import os
import subprocess
import sys

TRAPS = ["!impdef: [EL2.8 62303d25]", "!impdef_w: [EL2.8 6230efe0]", "!pmcr: [EL2.8 6230e539]"]
# D24.3.23 MDCR_EL2.HPMN, HPME
HPMN = ["!hpmn after reset 6", "!hpmn: EL1:", "!hpmn: N 3", "!hpmn: PMCNTENSET 80000007", "!hpmn: none of EL2's 0", "!hpmn: N at EL2 6",
        "!hpmn: EL2's is still set 10", "!hpmn: the last counter:", "!hpmn: one behind: [EL1.4 2000000] [EL1.4 2000000]",
        "!hpmn: PMCR.E does not enable EL2's 0", "!hpmn: HPME does 1"]


def known(image, machine):
    """What the manual says where QEMU 7.2 leaves it out, below EL2 and EL3: HSTR's trap before an access is undefined, HCR.TIDCP, the
    level of a stage 2 fault on a walk, traps of Monitor mode's registers; in Armv7 TID1, TID3, TSW, TPC, TPU and TCPAC, and Hyp's
    registers in Secure modes."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "below-known.txt")) as f:
        sections = f.read().split("[" + image + " " + machine + "]\n")
    return sections[1].split("\n[mixed64")[0].split("\n[hyp32")[0].splitlines()


def below(image, machines, cpus):
    return [(m, cpus, known(image, m)) for m in machines]


GICS = [(f"virt,gic-version={gic},{more}", ("cortex-a57",), []) for gic in (2, 3)
        for more in ("secure=on", "virtualization=on", "secure=on,virtualization=on")]
# Machine and processors for each program, and its lines with !.
PROGRAMS = {
    # DDI 0406 B3.7.2: WXN and UWXN, B4.1.153: PD1
    "test32.elf": [("virt", ("cortex-a15", "cortex-a7"),
                    ["!WXN, privileged 0000000f", "!WXN, user 0000000f", "!UWXN, privileged 0000000f", "!UWXN, user 00000000", "!PD1 00000001"])],
    # DDI 0487 D24.2.40: ISS of EC 0x18 has op2 in 19:17 and op1 in 16:14; EC 1, TI 1 for WFE; EC 0x26 has no syndrome.
    "test64.elf": [("virt", ("cortex-a57", "cortex-a53"),
                    ["!daif at el0 00000000620cd3e2", "!wfe at el0 0000000007e00001", "!sp alignment 000000009a000000",
                     "!context 00000000c2000022", "!another context 0000000000000000", "!chained 0000000000000001"])],
    # QEMU 7.2 goes by what the page was when it translated it.
    "bti64.elf": [("virt", ("max",), ["!no page is guarded any more"])],
    "route64.elf": GICS,
    "gic64.elf": GICS,
    "mixed64.elf": below("mixed64.elf", ("virt,virtualization=on,gic-version=3", "virt,secure=on,gic-version=3",
                                         "virt,secure=on,virtualization=on,gic-version=3"), ("cortex-a57", "cortex-a72")),
    "hyp32.elf": below("hyp32.elf", ("virt,virtualization=on", "virt,secure=on", "virt,secure=on,virtualization=on"), ("cortex-a15", "cortex-a7")),
    "hyp64.elf": [
        # D24.2.48 HCR_EL2.TIDCP, D24.3.23 MDCR_EL2.TPMCR
        ("virt,virtualization=on,gic-version=3", ("cortex-a57",), TRAPS + HPMN),
        # the names of EL1's registers are undefined at EL2 unless HCR_EL2.E2H is set
        ("virt,virtualization=on,gic-version=3", ("cortex-a76",), TRAPS + ["!vbar_el12 without E2H: [EL2.4 2000000]"] + HPMN),
        ("virt,virtualization=on,secure=on,gic-version=3", ("cortex-a57", "cortex-a72"), []),
    ],
}


def run(argv):
    p = subprocess.run(argv + ["-smp", "2", "-nographic", "-semihosting"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       timeout=120, errors="replace")
    return p.returncode, p.stdout.splitlines(), p.stderr


def oracle_run(argv):
    """The oracle with two processors stands still once in many runs of a busy host: that says nothing of ours."""
    for _ in range(2):
        try:
            return run(argv)
        except subprocess.TimeoutExpired:
            pass
    return run(argv)


def main():
    program, image, accel = sys.argv[1:]
    bad = 0
    for machine, cpu, expected in [(m, c, e) for m, cpus, e in PROGRAMS[os.path.basename(image)] for c in cpus]:
        common = ["-M", machine, "-cpu", cpu, "-kernel", image]
        oracle = os.path.basename(program).replace("rhea", "qemu")
        _, want, err = oracle_run([oracle] + common)
        if not want or want[-1] != "done":
            sys.exit(f"{oracle} did not end the program: {want[-1:]} {err}")
        status, have, err = run([program, "-accel", accel] + common)
        ours = [x for x in have if x.startswith("!")]
        diff = list(difflib.unified_diff([x for x in want if not x.startswith("!")], [x for x in have if not x.startswith("!")],
                                         "qemu", "rhea", lineterm="", n=1))
        if status or diff or ours != expected:
            bad = 1
            print(f"{machine} {cpu}: status {status} {err.strip()}", *diff, *(["not as the manual says:"] + ours if ours != expected else []),
                  sep="\n")
        else:
            print(f"{machine} {cpu}: {len(have)} lines agree")
    sys.exit(bad)


main()
