#!/usr/bin/python3
"""A Debian 12 disk to its login prompt under systemd: network, ssh, a file from the host, power-off by QMP."""
import hashlib
import http.server
import os
import subprocess
import tempfile
import threading

from boot import Machine, asset, build, free_port, run, until


def ssh(guest, port, command, timeout=300, text=""):
    return subprocess.run(["ssh", "-i", f"{guest}/ssh_key", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                           "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20", "-p", str(port), "root@127.0.0.1", command],
                          capture_output=True, text=True, timeout=timeout, input=text)


def ssh_answers(guest, port):
    """A connection made before the guest has its address may wait for long: each try is short."""
    try:
        return ssh(guest, port, "true", 15).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def debian_to_login():
    guest = asset("debian")
    port = free_port()
    with tempfile.TemporaryDirectory() as d:
        disk = os.path.join(d, "disk.qcow2")
        subprocess.run([os.path.join(build, "bin", "rhea-img"), "create", "-q", "-f", "qcow2", "-b", f"{guest}/root.qcow2",
                        "-F", "qcow2", disk], check=True)
        payload = os.urandom(1 << 20)
        open(os.path.join(d, "payload"), "wb").write(payload)

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *a):
                pass
        web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Quiet(*a, directory=d))
        threading.Thread(target=web.serve_forever, daemon=True).start()
        with Machine("-kernel", f"{guest}/vmlinuz", "-initrd", f"{guest}/initrd.img", "-append", "root=/dev/vda rw console=ttyS0",
                     "-drive", f"file={disk},if=virtio,format=qcow2", "-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{port}-:22",
                     "-device", "virtio-net-pci,netdev=n", "-device", "virtio-rng-pci", memory="1G", smp=2) as m:
            m.expect(r"login: ", 400)
            m.send("root\n")
            m.expect(r"# ", 60)
            assert until(lambda: ssh_answers(guest, port))      # the prompt may come before the network is up
            r = ssh(guest, port, f"wget -qO- http://10.0.2.2:{web.server_port}/payload | sha256sum; systemctl is-system-running --wait")
            assert hashlib.sha256(payload).hexdigest() in r.stdout, (r.stdout, r.stderr)
            assert "running" in r.stdout, f"systemd: {r.stdout}"
            m.clean()
            m.qmp("system_powerdown")
            assert m.wait(120) == 0
        web.shutdown()


if __name__ == "__main__":
    run([debian_to_login])
