#!/usr/bin/env python3
"""Unmodified libvirt: probes the program, starts a domain, pauses, plugs, stops it. In one process (qemu:///embed), so
that no daemon and none of its state is needed. Packages: libvirt-clients, libvirt-daemon-driver-qemu."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET

from rhea_client import main, program, top

sys.path.insert(0, os.path.join(top, 'tests', 'boot'))
from boot import asset                                              # noqa: E402

EMULATOR = program('compat/qemu-system-x86_64')
# As root, libvirt looks for the user that the daemon's package would have made: a passwd of our own has it.
WITH_USER = '''
getent passwd libvirt-qemu >/dev/null || {
    (cat /etc/passwd; echo 'libvirt-qemu:x:64055:64055::/:/bin/false') >"$1/passwd"; mount --bind "$1/passwd" /etc/passwd; }
getent group libvirt-qemu >/dev/null || {
    (cat /etc/group; echo 'libvirt-qemu:x:64055:') >"$1/group"; mount --bind "$1/group" /etc/group; }
shift; exec "$@"
'''
CONFIG = '''user = "root"
group = "root"
security_driver = "none"
stdio_handler = "file"
namespaces = []
cgroup_controllers = []
remember_owner = 0
'''
DOMAIN = '''<domain type='qemu'>
  <name>deb</name><memory unit='MiB'>256</memory><vcpu>2</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><kernel>%(kernel)s/vmlinuz</kernel><initrd>%(kernel)s/initrd.gz</initrd>
    <cmdline>console=ttyS0 panic=-1</cmdline></os>
  <features><acpi/></features>
  <devices>
    <emulator>%(emulator)s</emulator>
    <controller type='usb' model='none'/>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%(dir)s/disk.img'/>
      <target dev='vda' bus='virtio'/></disk>
    <interface type='user'><mac address='52:54:00:12:34:56'/><model type='virtio'/></interface>
    <serial type='file'><source path='%(dir)s/serial.log'/></serial>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <memballoon model='virtio'/>
  </devices>
</domain>
'''


class Libvirt:
    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix='rhea-libvirt-')
        os.makedirs(self.dir + '/root/etc')
        with open(self.dir + '/root/etc/qemu.conf', 'w') as f:
            f.write(CONFIG)
        return self

    def __exit__(self, *exc):
        shutil.rmtree(self.dir, ignore_errors=True)

    def virsh(self, *command):
        """What it printed; the commands of one call share a process, and so the running domain."""
        argv = ['virsh', '-q', '-c', 'qemu:///embed?root=%s/root' % self.dir, *command]
        if not os.geteuid():
            argv = ['unshare', '-m', 'sh', '-c', WITH_USER, 'sh', self.dir, *argv]
        p = subprocess.run(argv, capture_output=True, text=True, timeout=400)
        errors = [line for line in p.stderr.splitlines() if 'error' in line]
        assert not errors, '%s\n%s\n%s' % (errors, p.stdout, self.log())
        return p.stdout

    def log(self):
        try:
            with open(self.dir + '/root/log/qemu/deb.log') as f:
                return f.read()
        except OSError:
            return ''


def test_capabilities():
    with Libvirt() as v:
        caps = ET.fromstring(v.virsh('domcapabilities', '--virttype', 'qemu', '--emulatorbin', EMULATOR, '--machine', 'q35'))
        assert caps.findtext('path') == EMULATOR and caps.findtext('arch') == 'x86_64'
        assert caps.findtext('machine') == 'pc-q35-10.0' and int(caps.find('vcpu').get('max')) >= 4
        cpu = {m.get('name'): m for m in caps.find('cpu')}
        assert 'qemu64' in [m.text for m in cpu['custom'].findall('model')]
        # the host model is what the translator has, not what this processor has
        features = {f.get('name') for f in cpu['host-model'].findall('feature') if f.get('policy') == 'require'}
        assert not [f for f in features if f.startswith('avx512')], features


def test_domain():
    with Libvirt() as v:
        with open(v.dir + '/disk.img', 'wb') as f:
            f.truncate(64 << 20)
        with open(v.dir + '/deb.xml', 'w') as f:
            f.write(DOMAIN % {'dir': v.dir, 'emulator': EMULATOR, 'kernel': asset('kernel', 'cloud')})
        with open(v.dir + '/rng.xml', 'w') as f:
            f.write("<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>")
        out = v.virsh('define %s/deb.xml; start deb; domstate deb; qemu-monitor-command deb --hmp "info status"; '
                      'suspend deb; domstate deb --reason; resume deb; domstate deb; vcpucount deb --live; domblkstat deb vda; '
                      'domif-setlink deb 52:54:00:12:34:56 down; dommemstat deb; attach-device deb %s/rng.xml; dumpxml deb; reset deb; '
                      'destroy deb; domstate deb' % (v.dir, v.dir))
        assert 'VM status: running' in out and 'paused (user)' in out, out
        assert re.search(r'vda rd_req \d+', out), out
        assert not re.search(r"policy='disable' name='(fpu|lm|sse2)'", out), out
        assert out.count("<rng model='virtio'>") == 2 and out.rstrip().endswith('shut off'), out
        assert os.path.exists(v.dir + '/serial.log')


if __name__ == '__main__':
    main(globals())
