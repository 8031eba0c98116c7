#!/usr/bin/python3
"""Debian's kernels, started directly, to a busybox userspace and a clean power-off; the installer to its first screen."""
import itertools

from boot import Machine, asset, run, soak


def to_userspace(kernel, machine, smp, accel="jit"):
    def test():
        k = asset("kernel", kernel)
        with Machine("-kernel", f"{k}/vmlinuz", "-initrd", f"{k}/initrd.gz", "-append", 'console=ttyS0 panic=-1 rhea.run="true"',
                     machine=machine, smp=smp, accel=accel) as m:
            m.expect(rf"userspace is up on x86_64, {smp} CPUs", 240)
            status = m.wait(120)
            assert status == 0, f"power-off gave status {status}"
            m.clean()
    return f"{kernel}-{machine}-{smp}-{accel}", test


def installer(machine, smp, accel="jit"):
    def test():
        k = asset("kernel", "installer")
        with Machine("-kernel", f"{k}/vmlinuz", "-initrd", f"{k}/initrd.gz", "-append", "console=ttyS0 TERM=vt102 priority=low",
                     machine=machine, smp=smp, memory="1G", accel=accel) as m:
            m.expect(r"Select a language|Choose language|installer main menu", 400)
            m.clean()
    return f"installer-{machine}-{smp}-{accel}", test


if soak:
    tests = []
    for n in range(20):                 # rounds over everything, every second one with forced timing
        accel = f"jit,chaos={n}" if n % 2 else "jit"
        for machine, smp in itertools.product(("q35", "microvm"), (1, 2, 4)):
            tests += [to_userspace(k, machine, smp, accel) for k in ("cloud", "stock", "trixie-cloud", "trixie-stock")]
            tests.append(installer(machine, smp, accel))
else:
    tests = [to_userspace("cloud", "q35", 1), to_userspace("cloud", "q35", 2), to_userspace("cloud", "microvm", 1),
             to_userspace("cloud", "q35", 4), to_userspace("cloud", "q35", 4, "jit,thread=single"), to_userspace("stock", "q35", 1), to_userspace("trixie-cloud", "q35", 2),
             to_userspace("trixie-stock", "microvm", 1), installer("q35", 1)]
run(tests)
