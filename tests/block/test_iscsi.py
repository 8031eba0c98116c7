#!/usr/bin/env python3
"""The iscsi driver against tgt, Debian's iSCSI target, which needs no module of the kernel. SOAK=1: a target that goes away."""
import contextlib
import os
import random
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
import cases                            # noqa: E402

BIN = os.path.abspath(os.path.join(os.environ.get('BUILD', 'build'), 'bin'))
IMG, IO = os.path.join(BIN, 'rhea-img'), os.path.join(BIN, 'rhea-io')
MiB = 1 << 20
NAME = 'iqn.2026-11.test:disk'


def run(*args, ok=(0,)):
    p = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=300)
    if p.returncode not in ok:
        raise AssertionError('%s: status %d\n%s%s' % (' '.join(map(str, args)), p.returncode, p.stdout, p.stderr))
    return p


def refused(words, *args):
    err = run(*args, ok=(1,)).stderr
    assert words in err, err


def adm(*args, ok=(0,)):
    return run('tgtadm', '-C', '0', '--lld', 'iscsi', *args, ok=ok)


class Target:
    def __init__(self, process, port):
        self.process, self.port = process, port

    def uri(self, lun=1, user='', name=NAME):
        return 'iscsi://%s127.0.0.1:%d/%s/%s' % (user, self.port, name, lun)

    def options(self, **more):
        o = {'portal': '127.0.0.1:%d' % self.port, 'target': NAME, 'lun': 1, **more}
        return 'driver=raw,file.driver=iscsi,' + ','.join('file.%s=%s' % (k.replace('_', '-'), v) for k, v in o.items())


def launch(port):
    """tgtd listens there, or it is None."""
    p = subprocess.Popen(['tgtd', '-f', '-C', '0', '--iscsi', 'portal=127.0.0.1:%d' % port], stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=open('tgtd.log', 'ab'))
    # the control socket answers only when the portals were tried
    assert cases.until(lambda: p.poll() is not None or adm('--op', 'show', '--mode', 'sys', ok=range(256)).returncode == 0), open('tgtd.log').read()
    if p.poll() is None and '127.0.0.1:%d' % port in adm('--op', 'show', '--mode', 'portal').stdout:
        return p
    p.kill()
    p.wait()
    return None


def luns(size, read_only):
    if not os.path.exists('lun.raw'):
        with open('lun.raw', 'wb') as f:
            f.truncate(size)
    adm('--op', 'new', '--mode', 'target', '--tid', '1', '-T', NAME)
    adm('--op', 'new', '--mode', 'logicalunit', '--tid', '1', '--lun', '1', '-b', os.path.abspath('lun.raw'))
    adm('--op', 'update', '--mode', 'logicalunit', '--tid', '1', '--lun', '1',
        '--params', 'thin_provisioning=1' + (',readonly=1' if read_only else ''))
    adm('--op', 'bind', '--mode', 'target', '--tid', '1', '-I', 'ALL')


@contextlib.contextmanager
def target(size=64 * MiB, read_only=False):
    os.environ['TGT_IPC_SOCKET'] = os.getcwd() + '/ctl'
    for _ in range(20):
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        p = launch(port)
        if p:
            break
    assert p, open('tgtd.log').read()
    t = Target(p, port)
    try:
        luns(size, read_only)
        yield t
    finally:
        t.process.kill()
        t.process.wait()


def content(name, off, size):
    with open(name, 'rb') as f:
        f.seek(off)
        return f.read(size)


def test_a_unit_is_read_and_written():
    data = random.Random(1).randbytes(5 * MiB + 512)
    with open('in.raw', 'wb') as f:
        f.write(data)
    with target() as t:
        info = run(IMG, 'info', '-f', 'raw', t.uri()).stdout
        assert '64 MiB (67108864 bytes)' in info, info
        run(IMG, 'convert', '-n', '-f', 'raw', '-O', 'raw', 'in.raw', t.uri())
        assert content('lun.raw', 0, len(data)) == data
        run(IMG, 'compare', '-f', 'raw', '-F', 'raw', 'in.raw', t.uri())
        run(IMG, 'convert', '-f', 'raw', '-O', 'qcow2', t.uri(), 'out.qcow2')
        run('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', 'lun.raw', 'out.qcow2')
        # unaligned, beyond one transfer, vectors, zeroes, discard
        text = run(IO, '-f', 'raw', '-d', 'unmap', '-c', 'write -P 5 7M 33M', '-c', 'write -P 6 8388609 1000', '-c', 'writev -P 7 9M 512 65536 4096',
                   '-c', 'write -z 10M 1M', '-c', 'write -z -u 12M 1M', '-c', 'discard 14M 1M', '-c', 'flush', '-c', 'read -P 5 15M 25M',
                   '-c', 'read -P 6 8388609 1000', '-c', 'readv -P 7 9M 512 65536 4096', '-c', 'read -P 0 10M 1M', '-c', 'read -P 0 14M 1M',
                   t.uri()).stdout
        assert 'failed' not in text, text
        assert content('lun.raw', 7 * MiB, MiB) == b'\5' * MiB and content('lun.raw', 8388609, 1000) == b'\6' * 1000
        for at in (10, 12, 14):
            assert content('lun.raw', at * MiB, MiB) == bytes(MiB)
        assert os.stat('lun.raw').st_blocks * 512 < 41 * MiB    # what was discarded is given back


def test_an_image_on_a_unit():
    with open('in.raw', 'wb') as f:
        f.write(random.Random(2).randbytes(3 * MiB))
    with target() as t:
        run(IMG, 'create', '-f', 'qcow2', t.uri(), '32M')
        run(IMG, 'convert', '-f', 'raw', '-O', 'qcow2', 'in.raw', t.uri())
        run(IMG, 'check', t.uri())
        assert 'file format: qcow2' in run(IMG, 'info', t.uri()).stdout
    run('qemu-img', 'check', '-q', '-f', 'qcow2', 'lun.raw')
    run('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', 'in.raw', 'lun.raw')


def test_users():
    with target() as t:
        adm('--op', 'new', '--mode', 'account', '--user', 'joe', '--password', 'twelve-letters')
        adm('--op', 'bind', '--mode', 'account', '--tid', '1', '--user', 'joe')
        with open('secret', 'w') as f:
            f.write('twelve-letters')
        secret = ('--object', 'secret,id=s,file=secret')
        run(IMG, 'info', '-f', 'raw', t.uri(user='joe%twelve-letters@'))
        run(IMG, 'info', *secret, '--image-opts', t.options(user='joe', password_secret='s'))
        text = run(IMG, 'info', '-f', 'raw', t.uri(user='joe%twelve-letters@')).stdout
        assert 'twelve' not in text, text       # what is shown has no password
        refused('cannot connect', IMG, 'info', '-f', 'raw', t.uri())
        refused('cannot connect', IMG, 'info', '-f', 'raw', t.uri(user='joe%wrong-letters-@'))
        refused('no password', IMG, 'info', '--image-opts', t.options(user='joe'))
        refused("no object 'x'", IMG, 'info', '--image-opts', t.options(user='joe', password_secret='x'))


def test_what_is_refused():
    with target(read_only=True) as t:
        refused('cannot connect', IMG, 'info', '-f', 'raw', t.uri(lun=7))
        refused('cannot connect', IMG, 'info', '-f', 'raw', t.uri(name='iqn.2026-11.test:other'))
        refused('no disk', IMG, 'info', '-f', 'raw', t.uri(lun=0))      # the controller
        refused('takes no writes', IO, '-f', 'raw', '-c', 'write 0 512', t.uri())
        run(IO, '-r', '-f', 'raw', '-c', 'read -P 0 0 512', t.uri())
        refused('header-digest', IMG, 'info', '--image-opts', t.options(header_digest='md5'))
        refused('tcp', IMG, 'info', '--image-opts', t.options(transport='iser'))
        refused('lun', IMG, 'info', '--image-opts', t.options(lun=99999))
        for digest in ('crc32c', 'none'):
            run(IMG, 'info', '--image-opts', t.options(header_digest=digest, initiator_name='iqn.2026-11.test:me', timeout=60) + ',read-only=on')
    refused('cannot connect', IMG, 'info', '-f', 'raw', t.uri())        # nobody there any more
    refused('cannot find the host', IMG, 'info', '-f', 'raw', 'iscsi://no-such-host.invalid/x/1')
    for bad in ('iscsi://127.0.0.1', 'iscsi://127.0.0.1/x', 'iscsi:///x/1', 'iscsi://127.0.0.1/x/'):
        refused('logical unit', IMG, 'info', '-f', 'raw', bad)


def test_soak_a_target_that_goes_away():
    if not os.environ.get('SOAK'):
        return
    with target() as t:
        io = subprocess.Popen([IO, '-f', 'raw', t.uri()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

        def command(text):
            io.stdin.write(text + '\n')
            io.stdin.flush()
            line = io.stdout.readline()
            return line if 'failed' in line else line + io.stdout.readline()

        assert 'wrote' in command('write -P 3 0 1M')
        t.process.kill()
        t.process.wait()
        t.process = launch(t.port)              # on the same port: nobody else is expected to be as fast
        luns(64 * MiB, False)
        text = command('read -P 3 0 1M')
        assert 'read 1048576' in text, text
        t.process.kill()
        t.process.wait()
        start = time.monotonic()
        assert 'failed' in command('read 0 1M').lower()
        assert time.monotonic() - start < 200
        io.stdin.close()
        io.wait(60)
    with socket.socket() as s:                  # one that takes connections and says nothing
        s.bind(('127.0.0.1', 0))
        s.listen()
        start = time.monotonic()
        refused('cannot connect', IMG, 'info', '-f', 'raw', 'iscsi://127.0.0.1:%d/x/1' % s.getsockname()[1])
        assert time.monotonic() - start < 200


cases.run(cases.named(globals()), 'rhea-iscsi-')
