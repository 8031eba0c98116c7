#!/usr/bin/python3
"""Real work in a Debian guest: gcc, parts of Python's own tests, openssl speed, stress-ng with verification, at -smp 2.

    tests/boot/workloads.py x86_64|arm64|arm|riscv64 [seconds of stress-ng, 60]

It takes ten minutes and an image of a gigabyte, so the suite does not run it.
"""
import os
import subprocess
import sys
import tempfile

from boot import Machine, asset, free_port, program, until
from test_debian import ssh, ssh_answers

# recipe of tools/guest.sh, emulator, machine, console
GUESTS = {
    "x86_64": ("debian-test", "rhea-system-x86_64", "q35", "ttyS0"),
    "arm64": ("debian-test-arm64", "rhea-system-aarch64", "virt", "ttyAMA0"),
    "arm": ("debian-test-armhf", "rhea-system-arm", "virt", "ttyAMA0"),
    "riscv64": ("debian-test-riscv64", "rhea-system-riscv64", "virt", "ttyS0"),
}
CPU = {"arm64": ["-cpu", "max"], "arm": ["-cpu", "cortex-a15"]}


def large_program():
    """Some thousand lines of C that print a sum of integers and one of doubles."""
    n = 1500
    lines = ["#include <stdint.h>", "#include <stdio.h>"]
    for i in range(n):
        lines += [f"static uint64_t f{i}(uint64_t x, double *d)", "{", f"    for (int i = 0; i < {i % 7 + 1}; i++) {{",
                  f"        x = x * {2 * i + 3}ull + (x >> {i % 31 + 1});",
                  f"        *d = *d * 1.0000{i % 9 + 1} + (double)(x & 255) / {i + 1};", "    }",
                  f"    return x ^ {i * 2654435761 & 0xffffffff}u;", "}"]
    lines += ["int main(void)", "{", "    uint64_t x = 1;", "    double d = 0;", "    for (int n = 0; n < 200; n++) {"]
    lines += [f"        x = f{i}(x, &d);" for i in range(n)]
    lines += ["    }", '    printf("%016llx %.17g\\n", (unsigned long long)x, d);', "    return 0;", "}", ""]
    return "\n".join(lines)


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in GUESTS:
        sys.exit(__doc__)
    name, seconds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 60
    recipe, emulator, machine, console = GUESTS[name]
    guest, port = asset(recipe), free_port()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="rhea-work-") as d:
        disk, source, native = (os.path.join(d, n) for n in ("disk.qcow2", "large.c", "large"))
        with open(source, "w") as f:
            f.write(large_program())
        # no fused multiply-add: the last bit is to be the same everywhere
        subprocess.run(["gcc", "-O2", "-ffp-contract=off", "-o", native, source], check=True)
        want = subprocess.run([native], capture_output=True, text=True, check=True).stdout
        subprocess.run([program("rhea-img"), "create", "-q", "-f", "qcow2", "-b", f"{guest}/root.qcow2", "-F", "qcow2", disk], check=True)
        with Machine(*CPU.get(name, []), "-kernel", f"{guest}/vmlinuz", "-initrd", f"{guest}/initrd.img", "-append",
                     f"root=/dev/vda rw console={console} systemd.default_device_timeout_sec=900", "-drive",
                     f"file={disk},if=virtio,format=qcow2", "-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{port}-:22", "-device",
                     "virtio-net-pci,netdev=n", "-device", "virtio-rng-pci", memory="2G", smp=2, machine=machine, emulator=emulator) as m:
            m.expect(r"login: ", 900)
            assert until(lambda: ssh_answers(guest, port), 300), "no ssh"

            def work(what, command, good, timeout=3600):
                nonlocal failed
                r = ssh(guest, port, command, timeout)
                text = r.stdout + r.stderr
                ok = good in text and r.returncode == 0
                failed += not ok
                print("\n".join(text.splitlines()[-12:]), flush=True)
                print(f"{'ok' if ok else 'FAILED'}: {what}, status {r.returncode}", flush=True)

            with open(source) as f:
                ssh(guest, port, "cat > large.c", text=f.read())
            work("gcc", "gcc -O2 -ffp-contract=off -o large large.c && ./large", want.strip())
            work("python", "python3 -m test test_math test_struct test_hash test_json", "SUCCESS")
            for algorithm in ("-evp aes-128-gcm", "-evp aes-256-cbc", "-evp chacha20-poly1305", "-evp sha256", "-evp sha512", "rsa2048", "ecdsap256",
                              "ecdhx25519"):
                work(f"openssl speed {algorithm}", f"openssl speed -seconds 1 {algorithm}", "version: ")
            work("stress-ng", f"stress-ng --cpu 0 --vm 2 --fork 4 --switch 2 --timer 2 --verify --metrics-brief -t {seconds}",
                 "successful run completed")
            print(ssh(guest, port, "dmesg --level=warn,err,crit,alert,emerg").stdout, flush=True)
            m.clean()
            ssh_end = ssh(guest, port, "poweroff; true").returncode
            status = m.wait(300)
            print(f"power-off: status {status}, ssh {ssh_end}", flush=True)
            failed += status != 0
    print(f"{failed} failed")
    sys.exit(failed != 0)


main()
