#!/usr/bin/python3
"""Block jobs beneath a running Debian: it writes files to a disk of which five external snapshots are made, which is committed,
streamed, mirrored and backed up meanwhile; at the end it reads all back, and the images are sound."""
import os
import subprocess
import tempfile
import time

from boot import Machine, asset, build, run

IMG = os.path.join(build, "bin", "rhea-img")
WRITER = ("i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); dd if=/dev/urandom of=/mnt/f$((i%40)) bs=64k count=$((i%30+1)) status=none; "
          "[ $((i%7)) = 0 ] && sync; done; sync; cd /mnt; sha256sum f* > sums; sync; echo writer ended after $i > /dev/ttyS0")


def job_end(m, job, complete=False):
    """Waits for a job to end; completes it when it is ready."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        info = [j for j in m.qmp("query-jobs") if j["id"] == job]
        assert info, f"{job} has gone"
        if info[0]["status"] == "concluded":
            m.qmp("job-dismiss", id=job)
            assert "error" not in info[0], info
            return
        if info[0]["status"] == "ready" and complete:
            m.qmp("job-complete", id=job)
            complete = False
        time.sleep(0.1)
    raise AssertionError(f"{job} does not end: {info}")


def fleece(m, path):
    """The disk's moment, read twice while the guest writes on: both are the same, and a file system that can be repaired."""
    def disk(node):
        m.qmp("qom-set", path=block["qdev"], property="drive", value=node)

    block = next(b for b in m.qmp("query-block") if b["device"] == "data")
    subprocess.run([IMG, "create", "-q", "-f", "qcow2", path("fleece"), "256M"], check=True)
    m.qmp("blockdev-add", **{"driver": "qcow2", "node-name": "fleece", "file": {"driver": "file", "filename": path("fleece")}})
    m.qmp("blockdev-add", **{"driver": "copy-before-write", "node-name": "cbw", "file": block["inserted"]["node-name"], "target": "fleece",
                             "discard": "unmap", "cbw-timeout": 45})
    disk("cbw")
    m.qmp("blockdev-add", **{"driver": "snapshot-access", "node-name": "access", "file": "cbw"})
    m.qmp("nbd-server-start", addr={"type": "unix", "data": {"path": path("nbd")}})
    m.qmp("block-export-add", **{"type": "nbd", "id": "x", "node-name": "access", "name": ""})
    for name in ("one", "two"):
        subprocess.run(["nbdcopy", "nbd+unix:///?socket=" + path("nbd"), path(name)], check=True)
        time.sleep(1)
    subprocess.run(["cmp", path("one"), path("two")], check=True)
    assert subprocess.run(["e2fsck", "-fy", path("one")], stdout=subprocess.DEVNULL).returncode in (0, 1)     # 1: the journal was replayed
    subprocess.run(["e2fsck", "-fn", path("one")], stdout=subprocess.DEVNULL, check=True)
    m.qmp("nbd-server-stop")
    for node in ("access", "cbw", "fleece"):
        if node == "cbw":
            disk(block["inserted"]["node-name"])
        m.qmp("blockdev-del", **{"node-name": node})


def under_debian():
    guest = asset("debian")
    with tempfile.TemporaryDirectory() as d:
        path = lambda name: os.path.join(d, name)       # noqa: E731
        subprocess.run([IMG, "create", "-q", "-f", "qcow2", "-b", f"{guest}/root.qcow2", "-F", "qcow2", path("root")], check=True)
        subprocess.run([IMG, "create", "-q", "-f", "qcow2", path("s0"), "256M"], check=True)
        with Machine("-kernel", f"{guest}/vmlinuz", "-initrd", f"{guest}/initrd.img", "-append", "root=/dev/vda rw console=ttyS0",
                     "-drive", f"file={path('root')},if=virtio,format=qcow2", "-object", "iothread,id=io",
                     "-drive", f"file={path('s0')},if=none,id=data,format=qcow2,node-name=s0,discard=unmap",
                     "-device", "virtio-blk-pci,drive=data,iothread=io,serial=data", memory="1G", smp=2) as m:
            manual = {"auto-dismiss": False}
            m.expect(r"login: ", 400)
            m.send("root\n")
            m.expect(r"# ", 60)
            m.send("mkfs.ext4 -q /dev/vdb && mount -o discard /dev/vdb /mnt && echo mounted is it\n")
            m.expect(r"\nmounted is it", 120)
            m.send(f"({WRITER}) &\n")
            for i in range(1, 6):
                time.sleep(0.5)
                m.qmp("blockdev-snapshot-sync", **{"device": "data", "snapshot-file": path(f"s{i}"), "snapshot-node-name": f"s{i}"})
            m.qmp("drive-backup", **{"device": "data", "job-id": "backup", "target": path("backup"), "sync": "full", "format": "qcow2", **manual})
            job_end(m, "backup")
            m.qmp("block-commit", **{"device": "data", "job-id": "commit", "top-node": "s2", "base-node": "s0", **manual})
            job_end(m, "commit")
            m.qmp("block-stream", **{"device": "data", "job-id": "stream", "base-node": "s0", **manual})
            job_end(m, "stream")
            m.qmp("block-commit", **{"device": "data", "job-id": "commit", **manual})
            job_end(m, "commit", complete=True)
            for mode in ("background", "write-blocking"):
                m.qmp("drive-mirror", **{"device": "data", "job-id": "mirror", "target": path(mode), "sync": "full", "format": "qcow2",
                                         "copy-mode": mode, **manual})
                job_end(m, "mirror", complete=True)
            fleece(m, path)
            m.send("touch /tmp/stop\n")
            m.expect(r"writer ended after \d+", 120)
            m.send("cd /; umount /mnt && mount /dev/vdb /mnt && cd /mnt && sha256sum --quiet -c sums && echo all files are right\n")
            m.expect(r"\nall files are right", 120)
            m.send("cd /; umount /mnt; fsck.ext4 -fn /dev/vdb && echo file system is clean\n")
            m.expect(r"\nfile system is clean", 120)
            m.clean()
            m.qmp("system_powerdown")
            assert m.wait(120) == 0
        for name in ("backup", "s0", "background", "write-blocking"):
            subprocess.run(["qemu-img", "check", "-q", path(name)], check=True)


run([under_debian])
