#!/usr/bin/env python3
"""rhea-nbd and the nbd driver against libnbd, nbdkit, fio and Debian's QEMU tools, and against peers that mean harm."""
import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get('BUILD', 'build')
BIN = os.path.abspath(os.path.join(BUILD, 'bin'))
NBD, IMG = os.path.join(BIN, 'rhea-nbd'), os.path.join(BIN, 'rhea-img')
MiB = 1 << 20
SOAK = bool(os.environ.get('SOAK'))


def run(*args, ok=(0,), **kw):
    kw.setdefault('text', True)
    p = subprocess.run([str(a) for a in args], capture_output=True, timeout=300, **kw)
    if p.returncode not in ok:
        raise AssertionError('%s: status %d\n%s%s' % (' '.join(map(str, args)), p.returncode, p.stdout, p.stderr))
    return p


def uri(name='', sock='s'):
    return 'nbd+unix:///%s?socket=%s' % (name, os.path.abspath(sock))


@contextlib.contextmanager
def server(*args, sock='s', program=NBD, ends=False):
    """A server on a Unix socket; ends: it is to go by itself."""
    p = subprocess.Popen([program, '-k', os.path.abspath(sock), *map(str, args)], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not os.path.exists(sock) and p.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert os.path.exists(sock), p.communicate()[1]
        yield p
        if ends:
            assert p.wait(60) == 0
        assert ends or p.poll() is None, 'the server ended: status %s\n%s' % (p.returncode, p.stderr.read())
    finally:
        if p.poll() is None:
            p.terminate()
        assert p.wait(60) == 0, p.stderr.read()
        p.stderr.close()
        if os.path.exists(sock):
            os.unlink(sock)


def noise(name, size, seed):
    r = random.Random(seed)
    with open(name, 'wb') as f:
        f.write(r.randbytes(size))
    return name


def same(a, b):
    with open(a, 'rb') as f, open(b, 'rb') as g:
        assert f.read() == g.read(), (a, b)


# ---- the server

def test_copies_through_libnbd():
    noise('in.raw', 9 * MiB + 512, 1)
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'd.qcow2', str(9 * MiB + 512))
    with server('-t', '-e', 0, '-f', 'qcow2', 'd.qcow2'):
        run('nbdcopy', 'in.raw', uri())
        run('nbdcopy', uri(), 'out.raw')
        run('nbdcopy', '--no-extents', uri(), 'out2.raw')
    same('in.raw', 'out.raw')
    same('in.raw', 'out2.raw')
    run('qemu-img', 'check', '-q', 'd.qcow2')


def test_tells_what_nbdinfo_asks():
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'base.qcow2', '8M')
    run('qemu-io', '-c', 'write -P 1 0 1M', 'base.qcow2')
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2')
    run('qemu-img', 'bitmap', '--add', '-g', '64k', 'top.qcow2', 'b0')
    run('qemu-io', '-c', 'write -P 2 2M 1M', '-c', 'write -z 4M 64k', 'top.qcow2')
    with server('-t', '-r', '-A', '-B', 'b0', '-x', 'disk', '-D', 'a disk', '-f', 'qcow2', 'top.qcow2'):
        info = json.loads(run('nbdinfo', '--json', '--list', uri()).stdout)
        e = info['exports'][0]
        assert (e['export-name'], e['description'], e['export-size']) == ('disk', 'a disk', 8 * MiB), e
        assert e['is_read_only'] and e['can_multi_conn'] and e['can_df'] and e['can_cache'], e
        assert e['contexts'] == ['base:allocation', 'qemu:allocation-depth', 'qemu:dirty-bitmap:b0'], e
        maps = {}
        for context in e['contexts']:
            m = json.loads(run('nbdinfo', '--json', '--map=' + context, uri('disk')).stdout)
            maps[context] = [(x['offset'] // 65536, x['length'] // 65536, x['type']) for x in m]
    assert maps['base:allocation'] == [(0, 16, 0), (16, 16, 3), (32, 16, 0), (48, 80, 3)], maps
    assert maps['qemu:allocation-depth'] == [(0, 16, 2), (16, 16, 0), (32, 16, 1), (48, 16, 0), (64, 1, 1), (65, 63, 0)], maps
    assert maps['qemu:dirty-bitmap:b0'] == [(0, 32, 0), (32, 16, 1), (48, 16, 0), (64, 1, 1), (65, 63, 0)], maps


def test_ends_with_its_client():
    run('qemu-img', 'create', '-q', '-f', 'raw', 'd.raw', '1M')
    with server('-f', 'raw', 'd.raw', ends=True):
        run('nbdinfo', '--size', uri())


def tests():
    return [(n[5:], f) for n, f in sorted(globals().items()) if n.startswith('test_')]


def main():
    only, failed = sys.argv[1:], 0
    for name, fn in tests():
        if only and not any(o in name for o in only):
            continue
        with tempfile.TemporaryDirectory(prefix='rhea-nbd') as d:
            os.chdir(d)
            try:
                fn()
                print('ok     %s' % name, flush=True)
            except Exception as e:
                failed += 1
                print('FAILED %s: %s: %s' % (name, type(e).__name__, e), flush=True)
            os.chdir('/')
    print('%d failed' % failed)
    return failed != 0


if __name__ == '__main__':
    sys.exit(main())
