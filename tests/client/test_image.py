#!/usr/bin/env python3
"""Disk images against Debian's qemu-img and qemu-io, in both directions: what either writes the other reads."""
import json
import os
import random
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
import cases                            # noqa: E402

BUILD = os.environ.get('BUILD', 'build')
IMG = os.path.abspath(os.path.join(BUILD, 'bin', 'rhea-img'))
MiB = 1 << 20


def run(*args, ok=(0,), **kw):
    p = subprocess.run([str(a) for a in args], capture_output=True, text=True, **kw)
    if p.returncode not in ok:
        raise AssertionError('%s: status %d\n%s%s' % (' '.join(map(str, args)), p.returncode, p.stdout, p.stderr))
    return p


def rhea(*args, **kw):
    return run(IMG, *args, **kw)


def qemu(*args, **kw):
    return run('qemu-img', *args, **kw)


def qemu_io(image, *commands):
    args = []
    for c in commands:
        args += ['-c', c]
    run('qemu-io', '-f', 'qcow2', *args, image)


def contents(tool, image):
    tool('convert', '-O', 'raw', image, 'out.raw')
    with open('out.raw', 'rb') as f:
        data = f.read()
    os.unlink('out.raw')
    return data


def same(image):
    qemu('check', '-q', image)
    rhea('check', '-q', image)
    assert contents(rhea, image) == contents(qemu, image), image


def random_raw(name, size, seed):
    """Runs of noise, zeroes and repeated bytes, not aligned to anything but sectors."""
    r = random.Random(seed)
    with open(name, 'wb') as f:
        f.truncate(size)
        at = 0
        while at < size:
            n = min(r.choice((1, 3, 8, 100, 128, 700)) * 512, size - at)
            kind = r.randrange(3)
            f.seek(at)
            if kind == 0:
                f.write(r.randbytes(n))
            elif kind == 1:
                f.write(bytes([r.randrange(256)]) * n)
            at += n


def scribble(image, size, seed, count=60):
    r = random.Random(seed)
    commands = []
    for _ in range(count):
        off = r.randrange(size // 512) * 512
        n = min(r.choice((512, 4096, 65536, 300 * 512)), size - off)
        commands.append(r.choice((f'write -P {r.randrange(1, 256)} {off} {n}',
                                  f'write -z {off} {n}', f'write -zu {off} {n}', f'discard {off} {n}')))
    qemu_io(image, *commands)


# ---- the tests

SHAPES = ['', 'cluster_size=512', 'cluster_size=4096', 'cluster_size=2M', 'refcount_bits=1', 'refcount_bits=64',
          'compat=0.10', 'compression_type=zstd', 'lazy_refcounts=on', 'preallocation=metadata', 'cluster_size=8192,refcount_bits=8',
          'extended_l2=on', 'extended_l2=on,cluster_size=16k', 'data_file=shape.data', 'data_file=shape.data,data_file_raw=on',
          'extended_l2=on,data_file=shape.data']


def test_qemu_writes_we_read():
    for i, shape in enumerate(SHAPES):
        run('rm', '-f', 'q.qcow2')
        qemu('create', '-q', '-f', 'qcow2', *(['-o', shape] if shape else []), 'q.qcow2', 6 * MiB + 512)
        scribble('q.qcow2', 6 * MiB, i)
        same('q.qcow2')


def test_we_write_qemu_reads():
    for i, shape in enumerate(SHAPES):
        random_raw('src.raw', 5 * MiB + 1536, i)
        rhea('convert', '-O', 'qcow2', *(['-o', shape] if shape else []), 'src.raw', 'r.qcow2')
        same('r.qcow2')
        qemu('compare', '-q', 'src.raw', 'r.qcow2')
        rhea('compare', '-q', 'src.raw', 'r.qcow2')
        scribble('r.qcow2', 5 * MiB, i)             # and qemu goes on writing to it
        same('r.qcow2')


def test_compressed():
    for tool, other in ((rhea, qemu), (qemu, rhea)):
        for kind in ('zlib', 'zstd'):
            random_raw('src.raw', 4 * MiB, 3)
            tool('convert', '-c', '-O', 'qcow2', '-o', 'compression_type=' + kind, 'src.raw', 'c.qcow2')
            other('compare', '-q', 'src.raw', 'c.qcow2')
            same('c.qcow2')
            scribble('c.qcow2', 4 * MiB, 5)
            same('c.qcow2')


def test_overwrite_keeps_snapshot():
    """Writing to an image with an internal snapshot copies what the snapshot shares."""
    random_raw('one.raw', 4 * MiB, 1)
    random_raw('two.raw', 4 * MiB, 2)
    for shape in ('cluster_size=65536', 'cluster_size=512', 'compat=0.10'):
        qemu('convert', '-O', 'qcow2', '-o', shape, 'one.raw', 's.qcow2')
        qemu('snapshot', '-c', 'before', 's.qcow2')
        rhea('convert', '-n', '-O', 'qcow2', 'two.raw', 's.qcow2')
        same('s.qcow2')
        qemu('compare', '-q', 'two.raw', 's.qcow2')
        listed = json.loads(rhea('info', '--output=json', 's.qcow2').stdout)['snapshots']
        assert [s['name'] for s in listed] == ['before']
        qemu('snapshot', '-a', 'before', 's.qcow2')
        qemu('compare', '-q', 'one.raw', 's.qcow2')
        same('s.qcow2')


def test_backing_chain():
    random_raw('base.raw', 3 * MiB, 9)
    qemu('create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'mid.qcow2', 5 * MiB)
    scribble('mid.qcow2', 5 * MiB, 10, 20)
    rhea('create', '-q', '-f', 'qcow2', '-b', 'mid.qcow2', '-F', 'qcow2', 'top.qcow2')
    assert json.loads(qemu('info', '--output=json', 'top.qcow2').stdout)['virtual-size'] == 5 * MiB
    scribble('top.qcow2', 5 * MiB, 11, 20)
    same('top.qcow2')
    chain = json.loads(rhea('info', '--output=json', '--backing-chain', 'top.qcow2').stdout)
    assert [c['filename'] for c in chain] == ['top.qcow2', 'mid.qcow2', 'base.raw'], chain
    os.rename('base.raw', 'gone.raw')               # an image can be looked at without its backing file
    rhea('info', 'mid.qcow2')
    rhea('check', '-q', 'mid.qcow2')
    assert "backing file of 'mid.qcow2'" in rhea('map', 'mid.qcow2', ok=(1,)).stderr
    os.rename('gone.raw', 'base.raw')
    os.makedirs('sub', exist_ok=True)               # relative names start at the image
    qemu('create', '-q', '-f', 'qcow2', '-b', '../mid.qcow2', '-F', 'qcow2', 'sub/leaf.qcow2')
    same('sub/leaf.qcow2')


def test_info_map_check_agree():
    random_raw('src.raw', 4 * MiB, 21)
    qemu('create', '-q', '-f', 'qcow2', '-b', 'src.raw', '-F', 'raw', 'i.qcow2', 8 * MiB)
    scribble('i.qcow2', 8 * MiB, 22)
    for command, keys in (('info', None), ('check', None)):
        ours = json.loads(rhea(command, '--output=json', 'i.qcow2').stdout)
        theirs = json.loads(qemu(command, '--output=json', 'i.qcow2').stdout)
        theirs.pop('fragmented-clusters', None)     # counted in another order
        ours.pop('fragmented-clusters', None)
        assert ours == theirs, (command, ours, theirs)
    assert rhea('info', 'i.qcow2').stdout == qemu('info', 'i.qcow2').stdout

    def sectors(tool):
        seen = {}                                   # extents may be cut otherwise
        for e in json.loads(tool('map', '--output=json', 'i.qcow2').stdout):
            for s in range(e['start'], e['start'] + e['length'], 4096):
                at = e['offset'] + s - e['start'] if 'offset' in e else None
                seen[s] = (e['depth'], e['present'], e['zero'], e['data'], at)
        return seen
    ours, theirs = sectors(rhea), sectors(qemu)
    assert ours == theirs, [(s, ours.get(s), theirs[s]) for s in theirs if ours.get(s) != theirs[s]][:5]


def test_preallocation():
    for mode in ('metadata', 'falloc', 'full'):
        for cluster in (512, 65536):
            rhea('create', '-q', '-f', 'qcow2', '-o', f'preallocation={mode},cluster_size={cluster}', 'p.qcow2', 3 * MiB + 512)
            info = json.loads(qemu('check', '--output=json', 'p.qcow2').stdout)
            assert info['allocated-clusters'] == info['total-clusters'], info
            assert contents(rhea, 'p.qcow2') == bytes(3 * MiB + 512)
            used = os.stat('p.qcow2').st_blocks * 512
            assert (used >= 3 * MiB) == (mode != 'metadata'), (mode, used)
            scribble('p.qcow2', 3 * MiB, cluster)
            same('p.qcow2')


def test_resize():
    for shape in ('cluster_size=65536', 'cluster_size=512,refcount_bits=64'):
        qemu('create', '-q', '-f', 'qcow2', '-o', shape, 'z.qcow2', 1 * MiB)
        qemu_io('z.qcow2', 'write -P 7 0 1M')
        rhea('resize', '-q', 'z.qcow2', '+2M')
        qemu_io('z.qcow2', 'read -P 7 0 1M', 'read -P 0 1M 2M', 'write -P 9 2M 1M')
        same('z.qcow2')
        # a longer backing image does not show through in the new part
        random_raw('base.raw', 4 * MiB, 8)
        qemu('create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', '-o', shape, 'y.qcow2', MiB)
        rhea('resize', '-q', 'y.qcow2', '5M')
        with open('base.raw', 'rb') as f:
            assert contents(qemu, 'y.qcow2') == f.read(MiB) + bytes(4 * MiB)
        same('y.qcow2')
        assert 'shrink' in rhea('resize', 'z.qcow2', '1M', ok=(1,)).stderr


def test_dirty_image_is_repaired():
    """An image that qemu left with lazy refcounts and its dirty bit is mended when it is opened for writing."""
    qemu('create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on', 'd.qcow2', 4 * MiB)
    run('qemu-io', '-c', 'write -P 5 0 1M', '-c', 'flush', '-c', 'abort', 'd.qcow2', ok=(-6, 134))
    random_raw('src.raw', 4 * MiB, 31)
    assert subprocess.run(['qemu-img', 'check', '-q', 'd.qcow2']).returncode != 0
    rhea('convert', '-n', '-O', 'qcow2', 'src.raw', 'd.qcow2')
    same('d.qcow2')
    qemu('compare', '-q', 'src.raw', 'd.qcow2')


def test_locks():
    """Each side's locks keep the other out, and our error says whose lock it is."""
    qemu('create', '-q', '-f', 'qcow2', 'l.qcow2', MiB)
    holder = subprocess.Popen(['qemu-io', 'l.qcow2'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdin.write(b'read 0 512\n')
    holder.stdin.flush()
    holder.stdout.readline()
    err = rhea('info', 'l.qcow2', ok=(1,)).stderr
    assert 'locked by process %d (qemu-io l.qcow2)' % holder.pid in err, err
    rhea('info', '-U', 'l.qcow2')
    holder.communicate()
    rhea('info', 'l.qcow2')


def test_refusals():
    for args, word in ((('create', '-f', 'qcow2', '-o', 'encryption=on', 'x', '1M'), 'not supported'),
                       (('create', '-f', 'qcow2', '-o', 'extended_l2=on,cluster_size=4k', 'x', '1M'), '16k'),
                       (('create', '-f', 'qcow2', '-o', 'data_file_raw=on', 'x', '1M'), 'requires data_file'),
                       (('create', '-f', 'qcwo2', 'x', '1M'), "did you mean 'qcow2'"),
                       (('create', '-f', 'qcow2', '-o', 'cluster_sise=512', 'x', '1M'), "did you mean 'cluster_size'"),
                       (('create', '-f', 'qcow2', '-b', 'nowhere', '-F', 'raw', 'x'), 'nowhere'),
                       (('info', 'absent.img'), 'No such file'), (('conver', 'a', 'b'), "did you mean 'convert'"),
                       (('info', 'gopher://h/x'), "Unknown protocol 'gopher'")):
        p = rhea(*args, ok=(1,))
        assert word in p.stderr, (args, p.stderr)


if __name__ == '__main__':
    cases.run(cases.named(globals()), 'rhea-image-')
