#!/usr/bin/env python3
"""rhea-img's commands against Debian's qemu-img: what either does to an image the other takes for granted."""
import hashlib
import json
import os
import random
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
import cases                            # noqa: E402

BUILD = os.environ.get('BUILD', 'build')
IMG = os.path.abspath(os.path.join(BUILD, 'bin', 'rhea-img'))
MiB = 1 << 20
SOAK = bool(os.environ.get('SOAK'))


def run(*args, ok=(0,), **kw):
    p = subprocess.run([str(a) for a in args], capture_output=True, text=True, **kw)
    if p.returncode not in ok:
        raise AssertionError('%s: status %d\n%s%s' % (' '.join(map(str, args)), p.returncode, p.stdout, p.stderr))
    return p


def rhea(*args, **kw):
    return run(IMG, *args, **kw)


def qemu(*args, **kw):
    return run('qemu-img', *args, **kw)


TOOLS = (rhea, qemu)


def qemu_io(image, *commands, fmt='qcow2'):
    run('qemu-io', '-t', 'unsafe', '-d', 'unmap', '-f', fmt, *(a for c in commands for a in ('-c', c)), image)


def digest(image, tool=qemu):
    tool('convert', '-O', 'raw', image, 'digest.raw')
    with open('digest.raw', 'rb') as f:
        return hashlib.sha256(f.read()).hexdigest()


def sound(image):
    """Both find no fault with it, and read the same."""
    qemu('check', '-q', image)
    rhea('check', '-q', image)
    assert digest(image, rhea) == digest(image), image


def random_raw(name, size, seed):
    r = random.Random(seed)
    with open(name, 'wb') as f:
        f.truncate(size)
        at = 0
        while at < size:
            n = min(r.choice((1, 3, 8, 100, 128, 700)) * 512, size - at)
            f.seek(at)
            kind = r.randrange(3)
            if kind:
                f.write(r.randbytes(n) if kind == 1 else bytes([r.randrange(256)]) * n)
            at += n


def scribble(image, size, r, count=12):
    commands = []
    for _ in range(count):
        off = r.randrange(size // 512) * 512
        n = min(r.choice((512, 4096, 65536, 300 * 512)), size - off)
        commands.append(r.choice((f'write -P {r.randrange(1, 256)} {off} {n}', f'write -z {off} {n}', f'write -zu {off} {n}',
                                  f'discard {off} {n}')))
    qemu_io(image, *commands)


SHAPES = ('cluster_size=64k', 'cluster_size=512', 'compat=0.10,cluster_size=4k', 'extended_l2=on,cluster_size=16k',
          'cluster_size=4k,refcount_bits=8')


# ---- internal snapshots

def test_snapshots_of_one_are_the_others():
    """Made, gone back to and deleted by either at random; contents by digest."""
    for seed, shape in enumerate(SHAPES):
        r = random.Random(seed)
        r.choice(TOOLS)('create', '-q', '-f', 'qcow2', '-o', shape, 's.qcow2', 2 * MiB)
        kept = {}
        for step in range(40 if SOAK else 10):
            scribble('s.qcow2', 2 * MiB, r)
            name = 'snap%d' % r.randrange(4)
            tool = r.choice(TOOLS)
            if name not in kept:
                kept[name] = digest('s.qcow2')
                tool('snapshot', '-c', name, 's.qcow2')
            elif r.randrange(2):
                tool('snapshot', '-a', name, 's.qcow2')
                assert digest('s.qcow2') == kept[name], (shape, step)
            else:
                tool('snapshot', '-d', name, 's.qcow2')
                del kept[name]
            sound('s.qcow2')
        for name, content in kept.items():
            for tool in TOOLS:
                tool('convert', '-l', name, '-O', 'raw', 's.qcow2', 'snap.raw')
                assert digest('snap.raw') == content, (shape, name)


def test_snapshot_listing():
    qemu('create', '-q', '-f', 'qcow2', 'l.qcow2', MiB)
    rhea('snapshot', '-c', 'one', 'l.qcow2')
    qemu('snapshot', '-c', 'two words', 'l.qcow2')
    assert rhea('snapshot', '-l', 'l.qcow2').stdout == qemu('snapshot', '-l', 'l.qcow2').stdout
    a, b = (json.loads(t('info', '--output=json', 'l.qcow2').stdout)['snapshots'] for t in TOOLS)
    assert a == b, (a, b)
    assert "no snapshot 'three'" in rhea('snapshot', '-a', 'three', 'l.qcow2', ok=(1,)).stderr
    rhea('snapshot', '-d', '1', 'l.qcow2')              # by id
    assert [s['name'] for s in json.loads(qemu('info', '--output=json', 'l.qcow2').stdout)['snapshots']] == ['two words']
    rhea('create', '-q', '-f', 'raw', 'l.raw', MiB)
    assert 'no internal snapshots' in rhea('snapshot', '-f', 'raw', '-c', 'x', 'l.raw', ok=(1,)).stderr


def test_snapshot_keeps_its_size():
    """A disk that grew since goes back to the size it had."""
    for tool in TOOLS:
        rhea('create', '-q', '-f', 'qcow2', 'z.qcow2', MiB)
        qemu_io('z.qcow2', 'write -P 3 0 1M')
        rhea('snapshot', '-c', 'small', 'z.qcow2')
        rhea('resize', '-q', 'z.qcow2', '3M')
        qemu_io('z.qcow2', 'write -P 4 2M 1M')
        tool('snapshot', '-a', 'small', 'z.qcow2')
        assert json.loads(qemu('info', '--output=json', 'z.qcow2').stdout)['virtual-size'] == MiB
        qemu_io('z.qcow2', 'read -P 3 0 1M')
        sound('z.qcow2')


# ---- chains

def chain(r, base_format='raw'):
    """base <- mid <- top, with random contents and sizes."""
    if base_format == 'raw':
        random_raw('base.img', 2 * MiB, r.random())
    else:
        qemu('create', '-q', '-f', 'qcow2', 'base.img', 2 * MiB)
        scribble('base.img', 2 * MiB, r)
    qemu('create', '-q', '-f', 'qcow2', '-b', 'base.img', '-F', base_format, '-o', 'cluster_size=4k', 'mid.qcow2', 3 * MiB)
    scribble('mid.qcow2', 3 * MiB, r)
    rhea('create', '-q', '-f', 'qcow2', '-b', 'mid.qcow2', '-F', 'qcow2', '-o', r.choice(('cluster_size=16k', 'extended_l2=on')), 'top.qcow2',
         r.choice((2, 3, 4)) * MiB)
    size = json.loads(qemu('info', '--output=json', 'top.qcow2').stdout)['virtual-size']
    scribble('top.qcow2', size, r)
    return size


def test_commit():
    for seed in range(8 if SOAK else 3):
        r = random.Random(seed)
        chain(r, ('raw', 'qcow2')[seed % 2])
        want = digest('top.qcow2')
        assert 'Image committed' in rhea('commit', 'top.qcow2').stdout
        size = json.loads(rhea('info', '--output=json', 'top.qcow2').stdout)['virtual-size']
        assert digest('top.qcow2') == want              # emptied, it shows the same through
        rhea('convert', '-O', 'raw', 'mid.qcow2', 'mid.raw')
        with open('mid.raw', 'rb') as f:
            assert hashlib.sha256(f.read(size)).hexdigest() == want
        assert not any(e['depth'] == 0 and e['data'] for e in json.loads(qemu('map', '--output=json', 'top.qcow2').stdout))
        sound('mid.qcow2')
        sound('top.qcow2')
        scribble('top.qcow2', size, r)
        want = digest('top.qcow2')
        rhea('commit', '-q', '-b', 'base.img', 'top.qcow2')
        rhea('convert', '-O', 'raw', 'base.img', 'out.raw')
        with open('out.raw', 'rb') as f:
            assert hashlib.sha256(f.read(size)).hexdigest() == want
    assert "Did not find 'nowhere'" in rhea('commit', '-b', 'nowhere', 'top.qcow2', ok=(1,)).stderr
    assert 'does not have a backing file' in rhea('commit', '-f', 'raw', 'out.raw', ok=(1,)).stderr


def test_rebase():
    for seed in range(6 if SOAK else 2):
        r = random.Random(100 + seed)
        chain(r)
        want = digest('top.qcow2')
        rhea('rebase', '-b', 'base.img', '-F', 'raw', 'top.qcow2')      # skip the middle
        assert json.loads(qemu('info', '--output=json', 'top.qcow2').stdout)['backing-filename'] == 'base.img'
        assert digest('top.qcow2') == want
        sound('top.qcow2')
        random_raw('other.raw', 5 * MiB, seed)
        rhea('rebase', '-b', 'other.raw', '-F', 'raw', 'top.qcow2')     # another base, longer
        assert digest('top.qcow2') == want
        rhea('rebase', '-p', '-b', '', 'top.qcow2')                     # alone
        assert 'backing-filename' not in json.loads(qemu('info', '--output=json', 'top.qcow2').stdout)
        assert digest('top.qcow2') == want
        sound('top.qcow2')
        rhea('rebase', '-u', '-b', 'gone.raw', '-F', 'raw', 'top.qcow2')
        info = json.loads(qemu('info', '--output=json', 'top.qcow2').stdout)
        assert (info['backing-filename'], info['backing-filename-format']) == ('gone.raw', 'raw')


# ---- convert, dd, measure

def test_convert_options():
    random_raw('one.raw', MiB + 512, 1)
    random_raw('two.raw', MiB, 2)
    rhea('convert', 'one.raw', 'two.raw', '-O', 'qcow2', 'both.qcow2')
    qemu('convert', 'one.raw', 'two.raw', '-O', 'raw', 'both.raw')
    qemu('compare', '-q', 'both.qcow2', 'both.raw')
    rhea('convert', '-c', 'one.raw', 'two.raw', '-O', 'qcow2', '-o', 'cluster_size=16k,extended_l2=on', 'both.qcow2')
    qemu('compare', '-q', 'both.qcow2', 'both.raw')
    sound('both.qcow2')
    rhea('create', '-q', '-f', 'raw', 'zero.raw', 4 * MiB)
    rhea('convert', '-S', '0', '-O', 'qcow2', 'zero.raw', 'full.qcow2')
    assert json.loads(qemu('check', '--output=json', 'full.qcow2').stdout)['allocated-clusters'] == 64
    rhea('convert', '-O', 'qcow2', '-m', '1', '-W', '-C', '-r', '100M', 'zero.raw', 'none.qcow2')
    assert json.loads(qemu('check', '--output=json', 'none.qcow2').stdout).get('allocated-clusters', 0) == 0
    rhea('create', '-q', '-f', 'qcow2', 'there.qcow2', 4 * MiB)
    rhea('convert', '-n', '--target-is-zero', '-O', 'qcow2', 'two.raw', 'there.qcow2')
    rhea('convert', '-n', '--target-image-opts', 'two.raw', 'driver=qcow2,file.driver=file,file.filename=there.qcow2')
    qemu_io('there.qcow2', 'read -P 0 1M 3M')
    assert 'target-is-zero requires' in rhea('convert', '--target-is-zero', 'two.raw', 'x', ok=(1,)).stderr
    assert 'smaller' in rhea('convert', '-n', '-O', 'qcow2', 'zero.raw', 'both.qcow2', ok=(1,)).stderr


def test_convert_in_order():
    """Without -W what lies behind in the disk lies behind in the file."""
    random_raw('in.raw', 48 * MiB, 3)
    for more in ((), ('-m', '16'), ('-m', '1')):
        rhea('convert', '-O', 'qcow2', *more, 'in.raw', 'out.qcow2')
        places = [e['offset'] for e in json.loads(qemu('map', '--output=json', 'out.qcow2').stdout) if e['data']]
        assert places and places == sorted(places), places
    for more in (('-W',), ('-W', '-m', '16')):
        rhea('convert', '-O', 'qcow2', *more, 'in.raw', 'out.qcow2')
        qemu('compare', '-q', 'in.raw', 'out.qcow2')


def test_convert_in_threads():
    """Two threads copy, and the image is the same each time: also with runs of zeroes, over two sources, in other formats."""
    random_raw('a.raw', 24 * MiB + 512, 11)
    random_raw('b.raw', 9 * MiB, 12)
    for options in (('-O', 'qcow2'), ('-O', 'qcow2', '-o', 'cluster_size=4k'), ('-O', 'qcow2', '-S', '64k'), ('-O', 'vmdk'), ('-O', 'raw')):
        seen = set()
        for _ in range(3):
            rhea('convert', *options, 'a.raw', 'b.raw', 'out')
            if 'vmdk' not in options:               # whose CID is another each time
                with open('out', 'rb') as f:
                    seen.add(hashlib.sha256(f.read()).hexdigest())
            rhea('convert', '-O', 'raw', 'out', 'back.raw')
            run('cmp', '-n', 24 * MiB + 512, 'a.raw', 'back.raw')
            run('cmp', 'b.raw', 'back.raw', 0, 24 * MiB + 512)
        assert len(seen) <= 1, options


def test_convert_ends_where_the_host_does():
    """A write that fails ends all workers: the file may not grow beyond a limit."""
    random_raw('in.raw', 24 * MiB, 13)
    for options in (('-O', 'raw'), ('-O', 'qcow2'), ('-W', '-O', 'qcow2'), ('-m', '1', '-O', 'qcow2'), ('-S', '0', '-O', 'qcow2')):
        p = subprocess.run(['bash', '-c', 'trap "" XFSZ; ulimit -f 8192; exec "$@"', 'bash', IMG, 'convert', *options, 'in.raw', 'x'],
                           capture_output=True, text=True)
        assert p.returncode == 1 and 'rhea-img: ' in p.stderr, (options, p.stderr)
        os.unlink('x')


def test_convert_by_the_host():
    random_raw('in.raw', 5 * MiB + 1024, 4)
    with open('in.raw', 'r+b') as f:
        f.truncate(9 * MiB)
    rhea('convert', '-C', 'in.raw', 'out.raw')
    qemu('compare', '-q', '-s', 'in.raw', 'out.raw')
    rhea('convert', '-O', 'qcow2', '-C', 'in.raw', 'out.qcow2')         # which the host cannot
    qemu('compare', '-q', 'in.raw', 'out.qcow2')
    rhea('convert', '-C', '-n', 'out.qcow2', 'out.raw')                 # from allocated clusters
    rhea('convert', '-C', '-O', 'raw', 'in.raw', 'out.qcow2', 'both.raw')
    qemu('convert', '-O', 'raw', 'in.raw', 'out.qcow2', 'both2.raw')
    qemu('compare', '-q', 'both.raw', 'both2.raw')
    for other in (('-c', '-O', 'qcow2'), ('-S', '8k'), ('--salvage',)):
        assert 'copy offloading' in rhea('convert', '-C', *other, 'in.raw', 'x', ok=(1,)).stderr


def test_convert_to_overlay():
    """-B: only what the source holds itself is copied."""
    r = random.Random(5)
    random_raw('base.raw', 3 * MiB, 5)
    qemu('create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'src.qcow2')
    scribble('src.qcow2', 3 * MiB, r)
    rhea('convert', '-O', 'qcow2', '-B', 'base.raw', '-F', 'raw', 'src.qcow2', 'dst.qcow2')
    assert digest('dst.qcow2') == digest('src.qcow2')
    a, b = (json.loads(qemu('check', '--output=json', i).stdout).get('allocated-clusters', 0) for i in ('src.qcow2', 'dst.qcow2'))
    assert b <= a, (a, b)
    sound('dst.qcow2')


def test_dd():
    random_raw('src.raw', MiB + 100 * 512, 7)
    for args in (('bs=1k', 'count=100'), ('bs=4k', 'skip=20'), (), ('bs=64k', 'count=1000')):
        for tool, out in ((rhea, 'a.qcow2'), (qemu, 'b.qcow2')):
            tool('dd', '-O', 'qcow2', 'if=src.raw', 'of=' + out, *args)
        qemu('compare', '-s', '-q', 'a.qcow2', 'b.qcow2', ok=(0, 1))
        assert digest('a.qcow2') == digest('b.qcow2'), args
    rhea('dd', 'if=src.raw', 'of=a.raw', 'bs=1k', 'count=300', 'skip=100')  # as dd has it: count is what is copied
    run('dd', 'if=src.raw', 'of=b.raw', 'bs=1k', 'count=300', 'skip=100')
    run('cmp', 'a.raw', 'b.raw')
    assert 'unrecognized operand' in rhea('dd', 'if=src.raw', 'of=x', 'conv=sync', ok=(1,)).stderr


def test_measure():
    r = random.Random(9)
    qemu('create', '-q', '-f', 'qcow2', 'm.qcow2', 20 * MiB)
    scribble('m.qcow2', 20 * MiB, r, 20)
    for options in ('', 'cluster_size=512', 'cluster_size=2M', 'refcount_bits=64', 'extended_l2=on', 'preallocation=full'):
        o = ('-o', options) if options else ()
        for what in (('--size', '10G'), ('--size', '123456789'), ('m.qcow2',)):
            if 'cluster_size=512' in options and what[-1] == '10G':
                continue
            a, b = (json.loads(t('measure', '--output=json', '-O', 'qcow2', *o, *what).stdout) for t in TOOLS)
            if what == ('m.qcow2',):            # we see zeroes in allocated clusters too
                assert 0 < a['required'] <= b.pop('required') and a.pop('required'), (options, a, b)
            assert a == b, (options, what, a, b)
    assert rhea('measure', '--size', '1G').stdout == qemu('measure', '--size', '1G').stdout


# ---- resize, amend, check

def test_shrink():
    for seed, shape in enumerate(SHAPES):
        r = random.Random(seed)
        rhea('create', '-q', '-f', 'qcow2', '-o', shape, 'h.qcow2', 4 * MiB)
        scribble('h.qcow2', 4 * MiB, r, 30)
        qemu('convert', '-O', 'raw', 'h.qcow2', 'h.raw')
        size = r.randrange(1, 4 * MiB // 512) * 512
        rhea('resize', '-q', '--shrink', 'h.qcow2', size)
        os.truncate('h.raw', size)
        qemu('compare', '-q', '-s', '-f', 'raw', '-F', 'qcow2', 'h.raw', 'h.qcow2', ok=(0, 1))
        assert digest('h.qcow2') == digest('h.raw')
        sound('h.qcow2')
        rhea('resize', '-q', '--preallocation=falloc', 'h.qcow2', '+2M')
        os.truncate('h.raw', size + 2 * MiB)
        assert digest('h.qcow2') == digest('h.raw')
        sound('h.qcow2')


def test_resize_by_what_looks_like_an_option():
    for tool in TOOLS:
        tool('create', '-q', '-f', 'qcow2', 'd.qcow2', '8M')
        tool('resize', '--shrink', 'd.qcow2', '-3M')
        tool('resize', '-q', '-f', 'qcow2', 'd.qcow2', '--', '+1M')
        assert json.loads(qemu('info', '--output=json', 'd.qcow2').stdout)['virtual-size'] == 6 * MiB
        for args in (('--shrink', 'd.qcow2', '0'), ('--shrink', '--preallocation=full', 'd.qcow2', '-1M'), ('d.qcow2', '-1M')):
            tool('resize', *args, ok=(1,))
    sound('d.qcow2')


def test_create_does_not_overwrite_what_it_is_based_on():
    random_raw('base.raw', MiB, 5)
    rhea('create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'mid.qcow2')
    os.link('base.raw', 'hard')
    os.symlink('mid.qcow2', 'soft')
    before = [digest(i) for i in ('base.raw', 'mid.qcow2')]
    for base, target in (('base.raw', 'base.raw'), ('base.raw', 'hard'), ('mid.qcow2', 'soft'), ('mid.qcow2', 'base.raw'),
                         ('mid.qcow2', 'hard'), ('mid.qcow2', 'file:mid.qcow2')):
        fmt = base.split('.')[1]
        p = rhea('create', '-f', 'qcow2', '-b', base, '-F', fmt, target, ok=(1,))
        assert 'another name' in p.stderr, p.stderr
    rhea('create', '-f', 'qcow2', '-o', 'data_file=new', 'new', '1M', ok=(1,))
    assert [digest(i) for i in ('base.raw', 'mid.qcow2')] == before


def test_sizes_that_cannot_be():
    for fmt in ('raw', 'qcow2', 'vdi', 'vmdk', 'vhdx', 'vpc', 'qed', 'parallels'):
        for size in ('18446744073709551615', '16E', '9223372036854775807'):
            rhea('create', '-f', fmt, 'huge.' + fmt, size, ok=(1,))
    rhea('create', '-q', '-f', 'qcow2', '-o', 'size=1M', 'twice', '2M', ok=(1,))


def test_snapshot_names_that_look_like_ids():
    """-d takes names before ids, as qemu-img does: the snapshot of another name stays."""
    for tool in TOOLS:
        tool('create', '-q', '-f', 'qcow2', 'd.qcow2', '1M')
        for byte, name in ((1, 'first'), (2, '1')):
            qemu_io('d.qcow2', f'write -P {byte} 0 64k')
            tool('snapshot', '-c', name, 'd.qcow2')
        seen = []
        for choice in ('snapshot.name=1', 'snapshot.id=1', '1', 'snapshot.name=first', 'first'):
            tool('convert', '-l', choice, '-O', 'raw', 'd.qcow2', 'out')
            with open('out', 'rb') as f:
                seen.append(f.read(1)[0])
        assert seen == [2, 1, 1, 1, 1], (tool, seen)
        tool('convert', '-l', 'snapshot.name=2', '-O', 'raw', 'd.qcow2', 'out', ok=(1,))
        tool('snapshot', '-d', '1', 'd.qcow2')
        left = json.loads(qemu('info', '--output=json', 'd.qcow2').stdout)['snapshots']
        assert [s['name'] for s in left] == ['first'], (tool, left)


def test_check_of_a_file_that_was_cut_off():
    """What is gone stays counted: a repair must not give its place to something else."""
    random_raw('src.raw', 2 * MiB, 9)
    qemu('convert', '-S', '0', '-O', 'qcow2', 'src.raw', 'd.qcow2')
    size = os.path.getsize('d.qcow2')
    qemu('resize', '-q', 'd.qcow2', '4M')
    os.truncate('d.qcow2', size - 5 * 65536)
    theirs, ours = (json.loads(tool('check', '-r', 'all', '--output=json', 'd.qcow2', ok=(2,)).stdout) for tool in (qemu, rhea))
    assert ours['corruptions'] == theirs['corruptions'] and 'leaks-fixed' not in ours and 'leaks' not in ours, (ours, theirs)
    rhea_io = os.path.join(os.path.dirname(IMG), 'rhea-io')
    run(rhea_io, '-c', 'write -P 7 2M 1M', 'd.qcow2')
    os.truncate('d.qcow2', max(size, os.path.getsize('d.qcow2')))
    sound('d.qcow2')


def test_json_names():
    """Dotted names, and no format: as virt-v2v and libguestfs write them."""
    random_raw('src.raw', MiB, 4)
    qemu('convert', '-O', 'qcow2', 'src.raw', 'd.qcow2')
    names = ('{"driver":"qcow2","file.driver":"file","file.filename":"d.qcow2"}', ' { "file.driver": "file", "file.filename": "d.qcow2" }',
             '{"file":{"driver":"file","filename":"d.qcow2"}}', '{"file":{"filename":"d.qcow2"},"lazy-refcounts":"on"}',
             '{"driver":"qcow2","file":{"driver":"raw","file.filename":"d.qcow2"}}')
    for name in names:
        assert digest('json:' + name, rhea) == digest('src.raw'), name
        rhea('create', '-q', '-f', 'qcow2', '-b', 'json:' + name, '-F', 'qcow2', 'top.qcow2')
        sound('top.qcow2')
    for name, word in (('[]', 'not an object'), ('', 'not an object'), ('{"file..x":1}', 'empty component'),
                       ('{"file":{"filename":"d.qcow2"},"frob":1}', 'frob'), ('{"file":{"filename":"none"}}', 'none')):
        p = rhea('info', 'json:' + name, ok=(1,))
        assert word in p.stderr, (name, p.stderr)


def test_what_would_have_no_effect_is_refused():
    random_raw('src.raw', MiB, 6)
    for tool in TOOLS:
        qemu('convert', '-O', 'qcow2', 'src.raw', 'd.qcow2')
        for args in (('-n', '-o', 'cluster_size=4k', '-O', 'qcow2', 'src.raw', 'd.qcow2'), ('--bitmaps', '-O', 'qcow2', 'src.raw', 'x'),
                     ('--skip-broken-bitmaps', '-O', 'qcow2', 'd.qcow2', 'x'), ('-S', '1000', 'src.raw', 'x')):
            tool('convert', *args, ok=(1,))
        qemu('create', '-q', '-f', 'qcow2', '-b', 'd.qcow2', '-F', 'qcow2', 'top.qcow2')
        for args in (('-b', 'src.raw'), ('-u', '-b', 'src.raw', '-F', 'frob')):
            tool('rebase', *args, 'top.qcow2', ok=(1,))
        tool('bitmap', '-b', 'd.qcow2', '--add', 'top.qcow2', 'b', ok=(1,))
        assert '100/100' not in tool('convert', '-p', '-q', 'src.raw', 'x').stdout
    sound('top.qcow2')
    p = rhea('convert', '-c', '-O', 'vmdk', 'src.raw', 'x', ok=(1,))
    assert 'streamOptimized' in p.stderr, p.stderr


def test_option_help():
    """Each option has a text; no file is needed."""
    rhea('create', '-q', '-f', 'qcow2', 'd.qcow2', '1M')
    for command, letter in (('create', '-f'), ('convert', '-O'), ('measure', '-O'), ('amend', '-f')):
        for fmt in ('qcow2', 'luks') if command == 'amend' else ('qcow2', 'raw', 'vdi', 'vmdk', 'vhdx', 'vpc', 'qed', 'parallels', 'luks'):
            for word in ('help', '?'):
                lines = rhea(command, letter, fmt, '-o', word).stdout.splitlines()
                assert fmt in lines[0] and len(lines) > 1 and all(len(line.split()) > 1 for line in lines[1:]), (command, fmt, lines)
    assert 'refcount_bits' in rhea('amend', '-o', 'help', 'd.qcow2').stdout
    rhea('create', '-f', 'bochs', '-o', 'help', ok=(1,))
    rhea('create', '-f', 'frob', '-o', 'help', ok=(1,))


def test_raw_images_have_whole_sectors():
    for tool in TOOLS:
        tool('create', '-q', '-f', 'raw', 'd.raw', '1000')
        assert os.path.getsize('d.raw') == 1024


def test_compressed_clusters_share_as_counts_allow():
    random_raw('src.raw', 2 * MiB, 8)
    for bits in (1, 2, 4, 16):
        for order in ((), ('-W', '-m', '4')):
            rhea('convert', '-c', '-O', 'qcow2', '-o', f'refcount_bits={bits}', *order, 'src.raw', 'd.qcow2')
            sound('d.qcow2')
            assert digest('d.qcow2') == digest('src.raw')


def test_amend():
    r = random.Random(11)
    qemu('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', 'a.qcow2', 4 * MiB)
    scribble('a.qcow2', 4 * MiB, r)
    want = digest('a.qcow2')
    rhea('amend', '-o', 'compat=1.1,lazy_refcounts=on', 'a.qcow2')
    data = json.loads(qemu('info', '--output=json', 'a.qcow2').stdout)['format-specific']['data']
    assert (data['compat'], data['lazy-refcounts']) == ('1.1', True)
    for bits in (1, 2, 4, 8, 32, 64, 16):
        rhea('amend', '-o', f'refcount_bits={bits}', 'a.qcow2')
        assert json.loads(qemu('info', '--output=json', 'a.qcow2').stdout)['format-specific']['data']['refcount-bits'] == bits
        sound('a.qcow2')
    assert digest('a.qcow2') == want
    qemu_io('a.qcow2', 'write -z 0 1M', 'write -zu 2M 512k')
    want = digest('a.qcow2')
    rhea('amend', '-p', '-o', 'compat=0.10', 'a.qcow2')
    assert json.loads(qemu('info', '--output=json', 'a.qcow2').stdout)['format-specific']['data']['compat'] == '0.10'
    assert digest('a.qcow2') == want
    sound('a.qcow2')
    rhea('amend', '-o', 'size=8M,compat=1.1', 'a.qcow2')
    rhea('snapshot', '-c', 's', 'a.qcow2')
    assert 'does not fit' in rhea('amend', '-o', 'refcount_bits=1', 'a.qcow2', ok=(1,)).stderr
    assert 'cluster_size' in rhea('amend', '-o', 'cluster_size=4k', 'a.qcow2', ok=(1,)).stderr
    sound('a.qcow2')


def test_check_rebuilds_refcounts():
    """The refcount table points nowhere, or into the data: refcounts are counted anew and nothing is lost."""
    random_raw('src.raw', 2 * MiB, 13)
    for value in (0x1234, 5 << 16, 0x7fffffffffff0000, 0):
        for shape in ('cluster_size=64k', 'cluster_size=64k,extended_l2=on', 'compat=0.10'):
            rhea('convert', '-O', 'qcow2', '-o', shape, 'src.raw', 'c.qcow2')
            rhea('snapshot', '-c', 'keep', 'c.qcow2')
            with open('c.qcow2', 'r+b') as f:
                f.seek(65536)
                f.write(value.to_bytes(8, 'big'))
            rhea('check', '-q', 'c.qcow2', ok=(1, 2, 3))
            rhea('check', '-q', '-r', 'all', 'c.qcow2')
            sound('c.qcow2')
            qemu('compare', '-q', 'src.raw', 'c.qcow2')
            rhea('convert', '-l', 'keep', '-O', 'raw', 'c.qcow2', 'k.raw')
            qemu('compare', '-q', 'src.raw', 'k.raw')


def test_check_mends_what_qemu_mends():
    """Refcounts and flags changed at random."""
    for seed in range(20 if SOAK else 6):
        r = random.Random(seed)
        rhea('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', 'm.qcow2', 2 * MiB)
        scribble('m.qcow2', 2 * MiB, r)
        want = digest('m.qcow2')
        with open('m.qcow2', 'r+b') as f:
            f.seek(2 * 4096 + r.randrange(0, 200) * 2)          # in the first refcount block
            f.write(bytes([0, r.randrange(4)]) * r.randrange(1, 4))
        rhea('check', '-q', '-r', 'all', 'm.qcow2')
        sound('m.qcow2')
        assert digest('m.qcow2') == want


# ---- bitmaps

def dirty(image, name):
    """Dirty ranges as qemu-nbd tells them."""
    sock = os.path.abspath('nbd.sock')
    p = subprocess.Popen(['qemu-nbd', '-r', '-t', '-k', sock, '-f', 'qcow2', '-B', name, image], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while not os.path.exists(sock):
            assert p.poll() is None, p.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        out = qemu('map', '--output=json', '--image-opts',
                   f'driver=nbd,server.type=unix,server.path={sock},x-dirty-bitmap=qemu:dirty-bitmap:{name}').stdout
    finally:
        p.terminate()
        p.wait()
        if os.path.exists(sock):
            os.unlink(sock)
    return {s for e in json.loads(out) if not e['data'] for s in range(e['start'], e['start'] + e['length'], 65536)}


def bitmaps(image, tool=qemu):
    return {b['name']: (b['granularity'], tuple(b['flags'])) for b in
            json.loads(tool('info', '--output=json', image).stdout)['format-specific']['data'].get('bitmaps', [])}


def test_names_in_json():
    """A name that describes the node, of a format with backing images and of ones without."""
    for fmt in ('raw', 'qcow2', 'vdi'):
        run('qemu-img', 'create', '-q', '-f', fmt, 'd.' + fmt, '2M')
        name = 'json:' + json.dumps({'driver': fmt, 'file': {'driver': 'file', 'filename': 'd.' + fmt}})
        for tool in (IMG, 'qemu-img'):
            info = json.loads(run(tool, 'info', '--output=json', name).stdout)
            assert (info['format'], info['virtual-size']) == (fmt, 2 * MiB), info
        assert run(IMG, 'compare', '-F', fmt, name, 'd.' + fmt).stdout.startswith('Images are identical')


def test_check_is_bounded():
    """An L1 table of a million entries that name one L2 table; a file of more clusters than can be counted."""
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'loop', '512T')
    run('qemu-io', '-c', 'write -q 0 64k', 'loop')
    with open('loop', 'r+b') as f:
        header = f.read(104)
        entries, at = struct.unpack_from('>I', header, 36)[0], struct.unpack_from('>Q', header, 40)[0]
        assert entries == 1 << 20
        f.seek(at)
        entry = f.read(8)
        f.seek(at)
        f.write(entry * entries)
    for more in ([], ['-r', 'all']):
        p = run(IMG, 'check', *more, 'loop', ok=(1,))
        assert 'again and again' in p.stderr, p.stderr
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512', 'wide', '1M')
    with open('wide', 'r+b') as f:
        f.truncate(600 << 30)
    p = run(IMG, 'check', 'wide', ok=(1,))
    assert 'more clusters than can be counted' in p.stderr, p.stderr


def test_bitmaps():
    rhea('create', '-q', '-f', 'qcow2', 'b.qcow2', 16 * MiB)
    rhea('bitmap', '--add', 'b.qcow2', 'ours')
    qemu('bitmap', '--add', '-g', '32k', 'b.qcow2', 'theirs')
    rhea('bitmap', '--add', '--disable', 'b.qcow2', 'off')
    want = {'ours': (65536, ('auto',)), 'theirs': (32768, ('auto',)), 'off': (65536, ())}
    assert bitmaps('b.qcow2') == want and bitmaps('b.qcow2', rhea) == want, (bitmaps('b.qcow2'), bitmaps('b.qcow2', rhea))
    qemu_io('b.qcow2', 'write -P 1 1M 64k', 'write -P 2 15M 128k')          # qemu notes in ours
    assert dirty('b.qcow2', 'ours') == {MiB, 15 * MiB, 15 * MiB + 65536}
    random_raw('part.raw', 65536, 3)
    rhea('bench', '-q', '-w', '-c', '3', '-d', '1', '-o', 4 * MiB, '-s', '65536', '-f', 'qcow2', 'b.qcow2')   # and we in theirs
    more = {MiB, 15 * MiB, 15 * MiB + 65536, 4 * MiB, 4 * MiB + 65536, 4 * MiB + 131072}
    assert dirty('b.qcow2', 'ours') == more and dirty('b.qcow2', 'theirs') == more
    assert dirty('b.qcow2', 'off') == set()
    sound('b.qcow2')
    rhea('bitmap', '--merge', 'ours', 'b.qcow2', 'off')
    assert dirty('b.qcow2', 'off') == more
    rhea('bitmap', '--clear', '--disable', 'b.qcow2', 'ours')
    assert dirty('b.qcow2', 'ours') == set()
    rhea('bitmap', '--remove', 'b.qcow2', 'theirs')
    assert bitmaps('b.qcow2') == {'ours': (65536, ()), 'off': (65536, ())}
    sound('b.qcow2')
    rhea('convert', '--bitmaps', '-O', 'qcow2', 'b.qcow2', 'copy.qcow2')
    assert bitmaps('copy.qcow2') == bitmaps('b.qcow2') and dirty('copy.qcow2', 'off') == more
    rhea('bitmap', '--merge', 'off', '-b', 'b.qcow2', '-F', 'qcow2', 'copy.qcow2', 'ours')
    assert dirty('copy.qcow2', 'ours') == more
    rhea('resize', '-q', 'copy.qcow2', '32M')
    sound('copy.qcow2')
    rhea('bitmap', '--enable', 'copy.qcow2', 'ours')
    rhea('snapshot', '-c', 'x', 'copy.qcow2')
    rhea('bitmap', '--remove', 'copy.qcow2', 'off')
    rhea('bitmap', '--remove', 'copy.qcow2', 'ours')
    assert bitmaps('copy.qcow2') == {}
    sound('copy.qcow2')
    assert 'not found' in rhea('bitmap', '--clear', 'copy.qcow2', 'ours', ok=(1,)).stderr


def test_bitmap_of_a_crash_is_inconsistent():
    rhea('create', '-q', '-f', 'qcow2', 'i.qcow2', MiB)
    rhea('bitmap', '--add', 'i.qcow2', 'b')
    run('qemu-io', '-f', 'qcow2', '-c', 'write 0 64k', '-c', 'abort', 'i.qcow2', ok=(-6, 134))
    assert 'in-use' in bitmaps('i.qcow2', rhea)['b'][1]
    assert 'inconsistent' in rhea('bitmap', '--clear', 'i.qcow2', 'b', ok=(1,)).stderr
    rhea('bitmap', '--remove', 'i.qcow2', 'b')
    assert bitmaps('i.qcow2') == {}
    rhea('check', '-q', '-r', 'leaks', 'i.qcow2')
    sound('i.qcow2')


# ---- encryption

def test_luks():
    """Encrypted by one, read by the other; a wrong key, and none."""
    random_raw('src.raw', 2 * MiB + 512, 17)
    for name, text in (('right', 'open sesame'), ('wrong', 'open barley'), ('new', 'another')):
        with open(name, 'w') as f:
            f.write(text)
    secrets = ['--object', 'secret,id=s,file=right']
    image = ['--image-opts', 'driver=qcow2,encrypt.key-secret=s,file.filename=e.qcow2']
    for shape in ('', ',cluster_size=4k', ',extended_l2=on'):
        for tool in TOOLS:
            for _ in range(100):            # qemu-img gives up where it cannot measure how fast it hashes: on busy machines
                p = tool('convert', *secrets, '-O', 'qcow2', '-o', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=100' + shape,
                         'src.raw', 'e.qcow2', ok=(0, 1))
                if 'accurate CPU usage' not in p.stderr:
                    break
            assert p.returncode == 0, p.stderr
            with open('e.qcow2', 'rb') as e, open('src.raw', 'rb') as f:
                f.seek(next(o for o in range(0, 2 * MiB, 512) if any(os.pread(f.fileno(), 512, o))))
                assert f.read(512) not in e.read()
            for reader in TOOLS:
                reader('convert', *secrets, *image, '-O', 'raw', 'out.raw')
                run('cmp', 'src.raw', 'out.raw')
                reader('check', '-q', *secrets, *image)
            run('qemu-io', '-t', 'unsafe', *secrets, *image[:1], '-c', 'write -P 5 1000k 200k', '-c', 'discard 0 128k', image[1])
            rhea('snapshot', *secrets, '-c', 'kept', *image)
            rhea('bench', '-q', *secrets, '-w', '-c', '40', '-s', '3072', '-S', '10752', *image)
            for reader in TOOLS:
                reader('convert', *secrets, *image, '-O', 'raw', reader.__name__ + '.raw')
            run('cmp', 'rhea.raw', 'qemu.raw')
    info = json.loads(rhea('info', '--output=json', 'e.qcow2').stdout)
    theirs = json.loads(qemu('info', '--output=json', 'e.qcow2').stdout)
    assert info['encrypted'] and info['format-specific']['data']['encrypt']['format'] == 'luks', info
    for key in ('cipher-alg', 'cipher-mode', 'ivgen-alg', 'hash-alg', 'uuid'):
        assert info['format-specific']['data']['encrypt'][key] == theirs['format-specific']['data']['encrypt'][key], key
    assert 'key-secret' in rhea('resize', 'e.qcow2', '+1M', ok=(1,)).stderr
    rhea('convert', '-O', 'raw', 'e.qcow2', 'x.raw', ok=(1,))
    rhea('convert', '--object', 'secret,id=s,file=wrong', *image, '-O', 'raw', 'x.raw', ok=(1,))
    rhea('amend', *secrets, '--object', 'secret,id=n,file=new', '-o', 'encrypt.state=active,encrypt.new-secret=n,encrypt.iter-time=200', *image)
    for tool in TOOLS:
        tool('convert', '--object', 'secret,id=s,file=new', *image, '-O', 'raw', 'out.raw')
        run('cmp', 'out.raw', 'rhea.raw')


# ---- what is told, size, help

def test_info_and_map_agree():
    for shape in SHAPES + ('data_file=i.data', 'data_file=i.data,data_file_raw=on', 'extended_l2=on,data_file=i.data'):
        r = random.Random(shape)
        rhea('create', '-q', '-f', 'qcow2', '-o', shape, 'i.qcow2', 3 * MiB)
        scribble('i.qcow2', 3 * MiB, r)
        a, b = (json.loads(t('info', '--output=json', 'i.qcow2').stdout) for t in TOOLS)
        for o in (a, b):
            o.pop('actual-size')                # a data file's own counts in ours
        assert a == b, (shape, a, b)
        a, b = ([(e['start'], e['length'], e['zero'], e['data']) for e in merged(t)] for t in TOOLS)
        assert a == b, (shape, a, b)


def merged(tool):
    out = []
    for e in json.loads(tool('map', '--output=json', 'i.qcow2').stdout):
        last = out[-1] if out else None
        if last and (last['zero'], last['data']) == (e['zero'], e['data']):
            last['length'] += e['length']
        else:
            out.append(e)
    return out


def test_huge_image():
    """8 TiB: made, written at both ends, snapshots, checked, grown, mapped, in a moment and little space."""
    start = time.monotonic()
    rhea('create', '-q', '-f', 'qcow2', 'huge.qcow2', '8T')
    qemu_io('huge.qcow2', 'write -P 1 0 1M', 'write -P 2 8191G 1M', 'write -P 3 4T 4k')
    rhea('snapshot', '-c', 'x', 'huge.qcow2')
    qemu_io('huge.qcow2', 'write -P 9 8191G 1M')
    rhea('snapshot', '-a', 'x', 'huge.qcow2')
    rhea('snapshot', '-d', 'x', 'huge.qcow2')
    rhea('resize', '-q', 'huge.qcow2', '9T')
    rhea('resize', '-q', '--shrink', 'huge.qcow2', '8191G')
    qemu_io('huge.qcow2', 'read -P 1 0 1M', 'read -P 3 4T 4k', 'read -P 0 5T 1M')
    rhea('map', 'huge.qcow2')
    rhea('convert', '-O', 'qcow2', 'huge.qcow2', 'copy.qcow2')
    rhea('compare', '-q', 'huge.qcow2', 'copy.qcow2')
    rhea('check', '-q', 'huge.qcow2')
    qemu('check', '-q', 'huge.qcow2')
    assert os.stat('huge.qcow2').st_blocks * 512 < 64 * MiB
    assert time.monotonic() - start < 120, time.monotonic() - start


def test_largest_image():
    """1 EiB of nothing is told of as a whole, not table by table."""
    start = time.monotonic()
    rhea('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=2M', 'largest.qcow2', '1E')
    assert json.loads(rhea('map', '--output=json', 'largest.qcow2').stdout)[0]['length'] == 1 << 60
    rhea('convert', '-O', 'qcow2', '-o', 'cluster_size=2M', 'largest.qcow2', 'copy.qcow2')
    rhea('compare', '-q', 'largest.qcow2', 'copy.qcow2')
    assert time.monotonic() - start < 60


def test_compare():
    random_raw('a.raw', MiB, 1)
    rhea('convert', '-O', 'qcow2', 'a.raw', 'a.qcow2')
    with open('a.raw', 'r+b') as f:
        f.seek(700 * 1024)
        f.write(b'x' * 512)
    for tool in TOOLS:
        p = tool('compare', 'a.raw', 'a.qcow2', ok=(1,))
        assert 'Content mismatch at offset 716800!' in p.stdout, p.stdout
    rhea('resize', '-q', 'a.qcow2', '+1M')
    rhea('convert', '-O', 'raw', 'a.qcow2', 'b.raw')
    for tool in TOOLS:
        assert 'Images are identical.' in tool('compare', '-p', 'b.raw', 'a.qcow2').stdout
        os.truncate('b.raw', MiB)
        assert 'size mismatch' in tool('compare', '-s', 'b.raw', 'a.qcow2', ok=(1,)).stdout
        assert 'Warning: Image size mismatch!' in tool('compare', 'b.raw', 'a.qcow2').stdout
        os.truncate('b.raw', 2 * MiB)
    assert rhea('compare', 'a.raw', 'absent', ok=(2,)).returncode == 2


def test_help():
    names = [line.split()[0] for line in rhea('--help').stdout.split('\n') if line.startswith('  ') and line[2] != ' ' and 'rhea-img' not in line]
    assert len(names) == 15, names
    for name in names:
        out = rhea(name, '--help').stdout
        assert out.startswith('usage: rhea-img ' + name) and len(out.splitlines()) > 4, out
        assert 'rhea-img %s --help' % name in rhea(name, '--nonsense', ok=(1, 2)).stderr
    assert 'cluster_size' in rhea('create', '-f', 'qcow2', '-o', 'help', 'x').stdout
    assert not os.path.exists('x')


def test_failure_loses_nothing():
    """A backing file that cannot be read in the middle of a rebase or commit: the image is as it was."""
    r = random.Random(3)
    chain(r)
    want = digest('top.qcow2')
    err = rhea('rebase', '-b', 'missing.raw', '-F', 'raw', 'top.qcow2', ok=(1,)).stderr
    assert 'missing.raw' in err, err
    assert digest('top.qcow2') == want
    os.chmod('mid.qcow2', 0o444)
    if os.geteuid():                                    # root writes anyway
        rhea('commit', 'top.qcow2', ok=(1,))
        assert digest('top.qcow2') == want
    os.chmod('mid.qcow2', 0o644)


def test_a_data_file_is_only_a_file():
    """Its name comes out of the image: one that describes a node is a name all the same, and opens nothing else."""
    evil = 'json:{"driver":"null-co"}'
    qemu('create', '-q', '-f', 'qcow2', '-o', 'data_file=' + 'd' * len(evil), 'x.qcow2', '1M')
    with open('x.qcow2', 'rb') as f:
        data = f.read()
    assert data.count(b'd' * len(evil)) == 1
    with open('x.qcow2', 'wb') as f:
        f.write(data.replace(b'd' * len(evil), evil.encode()))
    for command in ('info', 'check', 'map'):
        assert 'null-co' in rhea(command, 'x.qcow2', ok=(1,)).stderr


if __name__ == '__main__':
    cases.run(cases.named(globals()), 'rhea-img-')
