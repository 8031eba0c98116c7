#!/usr/bin/env python3
"""Filters that change how an image is written: compress, preallocate. What comes out is for qemu-img to judge."""
import json
import os
import random
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from jobs import Jobs, MiB, Rhea, cases, create, program, run  # noqa: E402

KiB = 1 << 10


def io(options, *commands, ok=True, more=()):
    p = subprocess.run([program('rhea-io'), *more, '--image-opts', *(x for c in commands for x in ('-c', c)), options],
                       capture_output=True, text=True)
    assert not ok or (p.returncode == 0 and 'failed' not in p.stdout + p.stderr), (commands, p.stdout, p.stderr)
    return p


def content(image, fmt='qcow2'):
    run('qemu-img', 'convert', '-f', fmt, '-O', 'raw', image, 'out.raw')
    with open('out.raw', 'rb') as f:
        return f.read()


def clusters(image):
    run('qemu-img', 'check', '-q', image)
    info = json.loads(run('qemu-img', 'check', '--output=json', image))
    return info.get('compressed-clusters', 0), info.get('allocated-clusters', 0)


def writes(r, shadow, count, at_once):
    """Commands that write patterns anywhere, some of them many at a time within few clusters."""
    out = []
    for _ in range(count):
        base, taken = r.randrange(len(shadow)), set()
        for _ in range(at_once):
            off = min(base + r.randrange(200 * KiB) if at_once > 1 else base, len(shadow) - 1) & ~511
            length = min(r.choice((512, 4 * KiB, 64 * KiB, 200 * KiB) if at_once == 1 else (512, 4 * KiB)), len(shadow) - off)
            sectors = set(range(off // 512, (off + length) // 512))
            if taken & sectors:
                continue
            taken |= sectors
            byte = r.randrange(1, 256)
            shadow[off:off + length] = bytes([byte]) * length
            out.append('%s -P %d %d %d' % ('aio_write' if at_once > 1 else 'write', byte, off, length))
        out.append('aio_flush')
    return out


def test_compress():
    """Against a shadow: parts of clusters, several times, many of one cluster at once, a disk that ends within a cluster."""
    r = random.Random(1)
    for more in ([], ['-o', 'compression_type=zstd'], ['-o', 'cluster_size=4k'], ['-o', 'extended_l2=on']):
        run('qemu-img', 'create', '-q', '-f', 'qcow2', *more, 'c.qcow2', str(2 * MiB + 5 * 512))
        shadow = bytearray(2 * MiB + 5 * 512)
        io('driver=compress,file.driver=qcow2,file.file.filename=c.qcow2',
           *writes(r, shadow, 30, 1), *writes(r, shadow, 15, 10), 'flush')
        assert content('c.qcow2') == shadow, more
        compressed, allocated = clusters('c.qcow2')
        assert compressed == allocated > 0, (more, compressed, allocated)


def test_compress_what_is_there():
    """Plain clusters, those of a snapshot and of a backing image, zeroes."""
    create('base.qcow2', '2M')
    io('driver=qcow2,file.filename=base.qcow2', 'write -P 1 0 2M')
    create('c.qcow2', backing='base.qcow2')
    io('driver=qcow2,file.filename=c.qcow2', 'write -P 2 0 256k')
    run('qemu-img', 'snapshot', '-c', 's', 'c.qcow2')
    io('driver=compress,file.driver=qcow2,file.discard=unmap,discard=unmap,file.file.filename=c.qcow2', 'write -P 3 1k 130k', 'write -P 4 1M 1k',
       'write -z 128k 64k', 'write -z 140000 512', 'discard 256k 64k', 'write -P 5 300k 1k', 'read -P 3 1k 127k', 'read -P 2 0 1k')
    shadow = bytearray(b'\1' * (2 * MiB))
    shadow[:256 * KiB] = b'\2' * (256 * KiB)
    before = bytes(shadow)
    shadow[KiB:131 * KiB] = b'\3' * (130 * KiB)
    shadow[MiB:MiB + KiB] = b'\4' * KiB
    shadow[128 * KiB:192 * KiB] = bytes(64 * KiB)
    shadow[300 * KiB:301 * KiB] = b'\5' * KiB
    now = content('c.qcow2')
    assert now[:256 * KiB] == shadow[:256 * KiB] and now[300 * KiB:] == shadow[300 * KiB:]
    clusters('c.qcow2')
    run('qemu-img', 'snapshot', '-a', 's', 'c.qcow2')
    assert content('c.qcow2') == before
    clusters('c.qcow2')


def test_compress_cannot():
    create('p.raw', '1M', fmt='raw')
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'data_file=d.raw', 'd.qcow2', '1M')
    for options in 'driver=raw,file.file.filename=p.raw', 'driver=qcow2,file.file.filename=d.qcow2':
        p = io('driver=compress,file.' + options, 'read 0 512', ok=False)
        assert p.returncode == 1 and 'cannot hold compressed data' in p.stderr, p.stderr


def test_backup_of_the_image_below():
    """A job on the image sees what comes through the filter."""
    for name in 'disk', 'copy':
        create(name, '1M')
    io('driver=qcow2,file.filename=disk', 'write -P 1 0 1M')
    with Rhea() as r, r.connect() as s:
        j = Jobs(s)
        j.add(os.path.abspath('disk'), 'disk')
        j.add(os.path.abspath('copy'), 'copy')
        j.run('blockdev-add', {'driver': 'compress', 'node-name': 'c', 'file': 'disk'})
        j.refused('cannot be replaced there', 'blockdev-snapshot', {'node': 'disk', 'overlay': 'copy'})
        j.run('blockdev-backup', {'job-id': 'b', 'device': 'disk', 'target': 'copy', 'sync': 'full', 'speed': 65536, 'auto-dismiss': False})
        assert 'rror' not in j.run('human-monitor-command', {'command-line': 'qemu-io c "write -P 2 300k 600k"'})
        j.run('block-job-set-speed', {'device': 'b', 'speed': 0})
        assert not j.finish('b')
        j.run('blockdev-del', {'node-name': 'c'})
        j.delete('disk', 'copy')
    assert content('copy') == b'\1' * MiB
    assert content('disk') == b'\1' * (300 * KiB) + b'\2' * (600 * KiB) + b'\1' * (124 * KiB)


def test_preallocate():
    """While it is open the file is longer, by what was asked; then as long as one that was written without."""
    r = random.Random(2)
    for fmt, node in ('qcow2', 'driver=qcow2,file.'), ('vdi', 'driver=vdi,file.'):
        for name in 'a', 'b':
            create(name, '16M', fmt=fmt)
        start = os.stat('a').st_size
        commands = writes(r, bytearray(16 * MiB), 10, 1)
        io(node + 'filename=b', *commands)
        io(node + 'driver=preallocate,file.prealloc-size=32M,file.prealloc-align=3M,file.file.filename=a', *commands)
        assert start < os.stat('a').st_size == os.stat('b').st_size, fmt
        run('qemu-img', 'compare', '-f', fmt, '-F', fmt, 'a', 'b')
        run('qemu-img', 'check', '-q', '-f', fmt, 'a')
    with Rhea() as rhea, rhea.connect() as s:
        j = Jobs(s)
        j.run('blockdev-add', {'driver': 'qcow2', 'node-name': 'd', 'file': {
            'driver': 'preallocate', 'prealloc-size': 32 * MiB, 'prealloc-align': 3 * MiB, 'file': {'driver': 'file', 'filename': create(os.path.abspath('q'))}}})
        empty = os.stat('q').st_size
        j.run('human-monitor-command', {'command-line': 'qemu-io d "write 0 1M"'})
        size = os.stat('q').st_size
        assert size % (3 * MiB) == 0 and size >= empty + 33 * MiB - 64 * KiB, size
        j.run('human-monitor-command', {'command-line': 'qemu-io d "write 1M 15M"'})
        assert os.stat('q').st_size == size                 # there was room
        j.run('blockdev-del', {'node-name': 'd'})
        assert 16 * MiB < os.stat('q').st_size < 17 * MiB
    clusters('q')


def test_preallocate_options():
    create('p.raw', '1M', fmt='raw')
    for options, word in (('prealloc-align=0,', 'multiple of 512'), ('prealloc-align=1000,', 'multiple of 512'), ('prealloc-size=2P,', 'at most')):
        p = io('driver=preallocate,%sfile.filename=p.raw' % options, 'read 0 512', ok=False)
        assert p.returncode == 1 and word in p.stderr, p.stderr
    p = io('driver=preallocate,file.driver=null-co', 'read 0 512', ok=False)
    assert p.returncode == 1 and 'driver file' in p.stderr, p.stderr
    io('driver=preallocate,file.filename=p.raw', 'write -P 3 0 1M', 'write -P 4 1M 64k', 'read -P 4 1M 64k')
    assert os.stat('p.raw').st_size == MiB + 64 * KiB


if __name__ == '__main__':
    cases.run(cases.named(globals()), 'rhea-filters-')
