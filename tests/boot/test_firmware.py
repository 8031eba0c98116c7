#!/usr/bin/python3
"""SeaBIOS boots a disk: from the first one, from the one that bootindex names, behind a root port."""
import os
import tempfile

from boot import Machine, run


def sector(text):
    """A boot sector that prints text through the BIOS and halts."""
    code = bytes.fromhex("be207cac84c07406b40ecd10ebf5f4ebfd")
    s = bytearray(512 * 2048)
    s[:len(code)] = code
    s[0x20:0x20 + len(text)] = text.encode()
    s[510:512] = b"\x55\xaa"
    return bytes(s)


def boots(name, machine, disks, *args, smp=1):
    def test():
        with tempfile.TemporaryDirectory() as d:
            drives = []
            for n in range(disks):
                path = os.path.join(d, f"disk{n}")
                with open(path, "wb") as f:
                    f.write(sector(f"boot sector {n} runs\r\n"))
                drives += ["-drive", f"file={path},format=raw,if=none,id=d{n}"]
            with Machine(*drives, *args, machine=machine, smp=smp, memory="128M") as m:
                m.expect(f"boot sector {disks - 1} runs", 60)
    return name, test


run([
    boots("q35", "q35", 1, "-device", "virtio-blk-pci,drive=d0", smp=2),
    boots("smm", "q35,smm=on", 1, "-device", "virtio-blk-pci,drive=d0", smp=2),     # SeaBIOS calls its drivers by SMIs
    boots("pc", "pc", 1, "-device", "virtio-blk-pci,drive=d0"),
    boots("bootindex", "q35", 2, "-device", "virtio-blk-pci,drive=d0,bootindex=2", "-device", "virtio-blk-pci,drive=d1,bootindex=1"),
    boots("root-port", "q35", 2, "-device", "pcie-root-port,id=p1,chassis=1", "-device", "virtio-blk-pci,drive=d0,bootindex=2",
          "-device", "virtio-blk-pci,drive=d1,bus=p1,bootindex=1"),
])
