#!/usr/bin/env python3
"""Fleecing: copy-before-write over a disk that is written, snapshot-access that shows its moment, by export and as a backup's source.
What a moment holds is compared byte by byte. Under two threads' random writes: tests/unit/test-job.c; under a Debian:
tests/boot/test_blockjobs.py."""
import contextlib
import os
import random
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from jobs import Jobs, MiB, Rhea, cases, check, create, program, run   # noqa: E402
from qemu_names import Qmp              # noqa: E402

KiB = 1 << 10
SIZE = 8 * MiB
MANUAL = {'auto-dismiss': False}
DEVICE = '/machine/peripheral/dev/virtio-backend'


def uri(name):
    return 'nbd+unix:///%s?socket=%s' % (name, os.path.abspath('s'))


def noise(seed=1):
    return random.Random(seed).randbytes(SIZE - 2 * MiB) + bytes(2 * MiB)


def image(name, data=None, fmt='qcow2', backing=None):
    create(name, str(SIZE), fmt=fmt, backing=backing)
    if data:
        with open('in.raw', 'wb') as f:
            f.write(data)
        run('qemu-img', 'convert', '-n', '-f', 'raw', '-O', fmt, 'in.raw', name)
    return os.path.abspath(name)


def taken(*command):
    """What a command writes to the file that is its last argument."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink('out.raw')
    run(*command, 'out.raw')
    with open('out.raw', 'rb') as f:
        return f.read()


def content(name, fmt):
    return taken('qemu-img', 'convert', '-f', fmt, '-O', 'raw', name)


def exported(name):
    return taken('nbdcopy', uri(name))


def nbd_io(name, *commands, read_only=False):
    """What qemu-io says, a line a command."""
    p = subprocess.run(['qemu-io', *(['-r'] if read_only else []), '-f', 'raw', *(x for c in commands for x in ('-c', c)), uri(name)],
                       capture_output=True, text=True)
    return p.stdout + p.stderr


def fine(text, count=1):
    return text.count(' bytes at offset ') == count and 'failed' not in text


class Daemon(Jobs):
    """Node `disk`, and a server for exports; `guest` is the export through which it is written."""

    def __init__(self, session, data, fmt='qcow2'):
        super().__init__(session)
        self.shadow = bytearray(data)
        image('disk', data, fmt)
        self.format('disk', fmt)
        self.run('nbd-server-start', {'addr': {'type': 'unix', 'data': {'path': os.path.abspath('s')}}})

    def format(self, name, fmt='qcow2', **more):
        self.run('blockdev-add', {'driver': fmt, 'node-name': name, 'discard': 'unmap', **more,
                                  'file': {'driver': 'file', 'filename': os.path.abspath(name), 'discard': 'unmap'}})

    def images(self, *names):
        """Empty ones, as nodes."""
        for name in names:
            image(name)
            self.format(name)

    def export(self, node, name=None, writable=False):
        self.run('block-export-add', {'type': 'nbd', 'id': name or node, 'node-name': node, 'name': name or node, 'writable': writable})

    def unexport(self, *names):
        for name in names:
            self.run('block-export-del', {'id': name, 'mode': 'hard'})
            while self.event('BLOCK_EXPORT_DELETED')['id'] != name:
                pass

    def filter(self, target='target', **more):
        self.run('blockdev-add', {'driver': 'copy-before-write', 'node-name': 'cbw', 'file': 'disk', 'target': target, 'discard': 'unmap', **more})

    def access(self, **more):
        self.run('blockdev-add', {'driver': 'snapshot-access', 'node-name': 'access', 'file': 'cbw', **more})

    def remove(self, *names):
        for name in names:
            self.run('blockdev-del', {'node-name': name})

    def guest_writes(self, seed, count=60):
        """Random writes and zeroes through the filter."""
        r, commands = random.Random(seed), []
        for _ in range(count):
            off, length = r.randrange(SIZE // 512) * 512, r.choice((512, 4 * KiB, 64 * KiB, 200 * KiB))
            length = min(length, SIZE - off)
            byte = max(r.randrange(-60, 256), 0)
            commands.append('write %s %d %d' % ('-P %d' % byte if byte else '-z', off, length))
            self.shadow[off:off + length] = bytes([byte]) * length
        text = nbd_io('guest', *commands)
        assert fine(text, count), text

    def nodes(self):
        return sorted(n['node-name'] for n in self.run('query-named-block-nodes'))

    def end(self, job):
        assert self.finish(job) is None


@contextlib.contextmanager
def daemon(data, *args, fmt='qcow2', **kw):
    with Rhea(*args, **kw) as r, r.connect() as s:
        yield Daemon(s, data, fmt)
        s.run('quit')
        assert r.wait() == 0, r.output()
        assert 'leak' not in r.output(), r.output()


def test_sequence():
    """As backup programs do it, with each kind of target; a guest writes all the while."""
    for disk, target, over in (('qcow2', 'qcow2', False), ('raw', 'raw', False), ('qcow2', 'qcow2', True), ('raw', 'qcow2', True)):
        data = noise()
        with daemon(data, fmt=disk) as d:
            image('target', fmt=target)
            image('copy')
            d.format('target', target, **({'backing': 'disk'} if over else {}))
            d.format('copy')
            nodes = d.nodes()
            d.filter()
            d.export('cbw', 'guest', writable=True)
            d.access()
            d.export('access')
            if over:
                d.export('target')
            writer = threading.Thread(target=lambda: [d.guest_writes(i) for i in range(4)])
            writer.start()
            assert exported('access') == data
            if over:
                assert exported('target') == data
            d.run('blockdev-backup', {'job-id': 'b', 'device': 'access', 'target': 'copy', 'sync': 'full', **MANUAL})
            d.end('b')
            writer.join()
            assert exported('access') == data and d.shadow != data
            assert 'export-size: %d' % SIZE in run('nbdinfo', uri('access'))
            d.unexport('access', *(['target'] if over else []), 'guest')
            d.remove('access', 'cbw')
            assert d.nodes() == nodes
            d.remove('copy', 'target', 'disk')
        assert content('copy', 'qcow2') == data
        assert content('disk', disk) == d.shadow
        check('copy', *(['disk'] if disk == 'qcow2' else []), *(['target'] if target == 'qcow2' else []))


def test_storage_daemon():
    """The same by rhea-storage-daemon, with a name for each part on its command line."""
    data = noise(2)
    image('disk', data)
    image('target')
    nodes = [x for n in ('disk', 'target') for x in ('--blockdev', 'driver=qcow2,node-name=%s,file.driver=file,file.filename=%s' % (n, os.path.abspath(n)))]
    with Qmp(program('rhea-storage-daemon'), *nodes, '--nbd-server', 'addr.type=unix,addr.path=' + os.path.abspath('s'),
             '--blockdev', 'driver=copy-before-write,node-name=cbw,file=disk,target=target,on-cbw-error=break-snapshot,cbw-timeout=45',
             '--blockdev', 'driver=snapshot-access,node-name=access,file=cbw', '--export', 'nbd,id=a,node-name=access,name=access',
             '--export', 'nbd,id=g,node-name=cbw,name=guest,writable=on', option='--monitor') as q:
        assert fine(nbd_io('guest', 'write -P 9 1M 3M', 'write -P 8 6M 1M'), 2)
        assert exported('access') == data
        assert [line.split()[-1] for line in run('nbdinfo', '--map', uri('access')).splitlines()] == ['data', 'hole,zero']
        assert q.run('blockdev-del', **{'node-name': 'cbw'})['error']['desc'].startswith('Node cbw is in use')


def test_drive_of_a_device():
    """The filter comes over a disk in use, and goes again, by qom-set; then what is left of the moment cannot be read."""
    data = noise(3)
    image('disk', data)
    image('target')
    with Rhea('-blockdev', 'driver=qcow2,node-name=disk,file.driver=file,file.filename=' + os.path.abspath('disk'), '-object', 'iothread,id=io',
              '-device', 'virtio-blk-pci,drive=disk,id=dev,iothread=io', '-device', 'pcie-root-port,id=port', machine='q35') as r, r.connect() as s:
        d = Jobs(s)

        def io(text):
            return s.run('human-monitor-command', {'command-line': 'qemu-io -d %s "%s"' % (DEVICE, text)})

        def drive(node):
            return {'path': DEVICE, 'property': 'drive', 'value': node}

        def second(node):
            return {'driver': 'virtio-blk-pci', 'bus': 'port', 'drive': node, 'id': 'second'}

        d.run('nbd-server-start', {'addr': {'type': 'unix', 'data': {'path': os.path.abspath('s')}}})
        d.run('blockdev-add', {'driver': 'qcow2', 'node-name': 'target', 'file': {'driver': 'file', 'filename': os.path.abspath('target')}})
        for _ in range(2):
            d.run('blockdev-add', {'driver': 'copy-before-write', 'node-name': 'cbw', 'file': 'disk', 'target': 'target'})
            d.refused('in use', 'device_add', second('cbw'))     # the disk has its device
            assert fine(io('write -P 7 0 64k'))         # past the filter: before the moment
            data = b'\7' * (64 * KiB) + data[64 * KiB:]
            d.run('qom-set', drive('cbw'))
            d.refused('in use', 'device_add', second('disk'))
            d.run('blockdev-add', {'driver': 'snapshot-access', 'node-name': 'access', 'file': 'cbw'})
            d.run('block-export-add', {'type': 'nbd', 'id': 'access', 'node-name': 'access', 'name': 'access'})
            assert fine(io('write -P 5 32k 1M')) and fine(io('write -z 7M 64k')) and fine(io('read -P 5 32k 1M'))
            assert exported('access') == data
            d.refused('in use', 'blockdev-del', {'node-name': 'cbw'})
            d.run('qom-set', drive('disk'))
            assert 'failed' in nbd_io('access', 'read 0 512', read_only=True)
            assert fine(io('read -P 5 32k 1M'))
            d.run('block-export-del', {'id': 'access', 'mode': 'hard'})
            d.event('BLOCK_EXPORT_DELETED')
            d.run('blockdev-del', {'node-name': 'access'})
            d.run('blockdev-del', {'node-name': 'cbw'})
            data = data[:32 * KiB] + b'\5' * MiB + data[32 * KiB + MiB:]
        # a machine that ends with all in place
        d.run('blockdev-add', {'driver': 'copy-before-write', 'node-name': 'cbw', 'file': 'disk', 'target': 'target'})
        d.run('qom-set', drive('cbw'))
        d.run('blockdev-add', {'driver': 'snapshot-access', 'node-name': 'access', 'file': 'cbw'})
        d.run('block-export-add', {'type': 'nbd', 'id': 'access', 'node-name': 'access', 'name': 'access'})
        assert fine(io('write -P 6 5M 64k'))
        data = data[:5 * MiB] + b'\6' * (64 * KiB) + data[5 * MiB + 64 * KiB:]
        d.run('quit')
        assert r.wait() == 0, r.output()
    assert content('disk', 'qcow2') == data
    check('disk', 'target')


def test_bitmap():
    """Only what a bitmap has is kept, and can be read; the bitmap itself goes on."""
    data = noise(4)
    with daemon(data) as d:
        d.images('target', 'copy')
        d.run('block-dirty-bitmap-add', {'node': 'disk', 'name': 'b'})
        d.export('disk', 'first', writable=True)
        assert fine(nbd_io('first', 'write -P 1 1M 100k', 'write -P 2 4M 4k'), 2)
        moment = data[:MiB] + b'\1' * (100 * KiB) + data[MiB + 100 * KiB:4 * MiB] + b'\2' * (4 * KiB) + data[4 * MiB + 4 * KiB:]
        d.unexport('first')
        d.refused("'c' not found", 'blockdev-add', {'driver': 'copy-before-write', 'node-name': 'cbw', 'file': 'disk', 'target': 'target',
                                                    'bitmap': {'node': 'disk', 'name': 'c'}})
        d.filter(bitmap={'node': 'disk', 'name': 'b'})
        d.access()
        d.run('block-dirty-bitmap-add', {'node': 'access', 'name': 'c', 'disabled': True})
        d.run('block-dirty-bitmap-merge', {'node': 'access', 'target': 'c', 'bitmaps': [{'node': 'disk', 'name': 'b'}]})
        d.export('access')
        d.export('cbw', 'guest', writable=True)
        assert fine(nbd_io('guest', 'write -P 9 0 8M'))
        for off, length in ((MiB, 128 * KiB), (4 * MiB, 64 * KiB), (MiB + 512, 1024)):
            run('qemu-img', 'dd', '-f', 'raw', 'if=' + uri('access'), 'of=part', 'bs=512', 'skip=%d' % (off // 512), 'count=%d' % ((off + length) // 512))
            with open('part', 'rb') as f:
                assert f.read() == moment[off:off + length]
        for off, length in ((0, 512), (MiB - 512, 1024), (MiB + 128 * KiB, 512), (0, SIZE)):
            assert 'failed' in nbd_io('access', 'read %d %d' % (off, length), read_only=True)
        assert subprocess.run(['nbdinfo', '--map', uri('access')], capture_output=True).returncode
        assert next(n for n in d.run('query-named-block-nodes') if n['node-name'] == 'disk')['dirty-bitmaps'][0]['count'] == SIZE
        d.run('blockdev-backup', {'job-id': 'f', 'device': 'access', 'target': 'copy', 'sync': 'full', **MANUAL})
        assert 'denied' in d.finish('f')
        d.run('blockdev-backup', {'job-id': 'i', 'device': 'access', 'target': 'copy', 'sync': 'incremental', 'bitmap': 'c', **MANUAL})
        d.end('i')
        d.unexport('access', 'guest')
        d.remove('access', 'cbw', 'target', 'copy')
    # the target has what was to be kept and the backup what was new, nothing else
    for name in ('target', 'copy'):
        runs = [line.split()[:2] for line in run('qemu-img', 'map', name).splitlines()[1:]]
        assert runs == [['0x100000', '0x20000'], ['0x400000', '0x10000']], (name, runs)
        assert content(name, 'qcow2') == bytes(MiB) + moment[MiB:MiB + 128 * KiB] + bytes(3 * MiB - 128 * KiB) + \
            moment[4 * MiB:4 * MiB + 64 * KiB] + bytes(4 * MiB - 64 * KiB)


def test_errors():
    """A target that fails: its guest's write fails, or its moment is lost."""
    for policy in ('break-guest-write', 'break-snapshot'):
        data = noise(5)
        with daemon(data) as d:
            image('target')
            d.run('blockdev-add', {'driver': 'blkdebug', 'node-name': 'target', 'image': {'driver': 'qcow2', 'file': {'driver': 'file',
                                   'filename': os.path.abspath('target')}}, 'inject-error': [{'event': 'pwritev', 'errno': 28, 'once': True}]})
            d.filter(**{'on-cbw-error': policy})
            d.access()
            d.export('access')
            d.export('cbw', 'guest', writable=True)
            text = nbd_io('guest', 'write -P 1 64k 64k')
            if policy == 'break-guest-write':
                assert 'No space' in text, text
                assert exported('access') == data and fine(nbd_io('guest', 'write -P 1 64k 64k'))
                assert exported('access') == data
            else:
                assert fine(text), text
                assert 'failed' in nbd_io('access', 'read 1M 512', read_only=True) and fine(nbd_io('guest', 'write -P 1 0 64k'))
                assert subprocess.run(['nbdinfo', '--map', uri('access')], capture_output=True).returncode
            assert fine(nbd_io('guest', 'read -P 1 64k 64k'))
            d.unexport('access', 'guest')
            d.remove('access', 'cbw', 'target', 'disk')


def test_timeout():
    """A target that is slow: after a second its guest goes on, with an error or without its moment. The copy ends by itself, at the
    latest when the filter goes."""
    for policy in ('break-guest-write', 'break-snapshot'):
        data = noise(6)
        with daemon(data, '-object', 'throttle-group,id=slow,x-bps-write=1024') as d:
            image('target')
            d.run('blockdev-add', {'driver': 'throttle', 'throttle-group': 'slow', 'node-name': 'target', 'file': {'driver': 'qcow2', 'file': {
                                   'driver': 'file', 'filename': os.path.abspath('target')}}})
            d.filter(**{'on-cbw-error': policy, 'cbw-timeout': 1})
            d.access()
            d.export('access')
            d.export('cbw', 'guest', writable=True)
            assert fine(nbd_io('guest', 'write -P 1 0 64k'))            # the bucket is full now
            text = nbd_io('guest', 'write -P 1 64k 64k')
            if policy == 'break-guest-write':
                assert 'failed' in text and fine(nbd_io('access', 'read 1M 7M', read_only=True))       # what is being copied has to wait
                text = nbd_io('guest', *('aio_write -P 1 %d 64k' % (i * 64 * KiB) for i in range(2, 82)), 'aio_flush')
                assert text.count('failed') == 80, text         # at last without waiting: too many are late
                d.run('qom-set', {'path': '/objects/slow', 'property': 'limits', 'value': {'bps-write': 0}})
                assert exported('access') == data               # all copies have ended
                assert fine(nbd_io('guest', 'write -P 1 64k 4M')) and exported('access') == data
            else:
                assert fine(text) and 'failed' in nbd_io('access', 'read 1M 512', read_only=True)
            assert fine(nbd_io('guest', 'read -P 1 0 128k'))
            if policy == 'break-guest-write':           # the other ends while its copy is late
                d.unexport('access', 'guest')
                d.remove('access', 'cbw', 'target', 'disk')


def test_discard():
    """What a backup has taken need not be kept any more: it goes from the target, and is not copied again."""
    data = noise(7)
    with daemon(data) as d:
        d.images('target', 'copy')
        d.filter()
        d.access(discard='unmap')
        d.export('cbw', 'guest', writable=True)
        assert fine(nbd_io('guest', 'write -P 1 0 2M'))
        d.run('blockdev-backup', {'job-id': 'b', 'device': 'access', 'target': 'copy', 'sync': 'full', 'discard-source': True, **MANUAL})
        d.end('b')
        assert fine(nbd_io('guest', 'write -P 2 0 8M'))
        d.export('access')
        for off in (0, SIZE - 512):
            assert 'failed' in nbd_io('access', 'read %d 512' % off, read_only=True)
        d.unexport('access', 'guest')
        d.remove('access', 'cbw', 'target', 'copy', 'disk')
    assert content('copy', 'qcow2') == data
    assert len(run('qemu-img', 'map', 'target').splitlines()) == 1, run('qemu-img', 'map', 'target')


def test_backup_of_larger_clusters():
    with daemon(noise(9)) as d:
        d.images('target')
        backup = {'job-id': 'b', 'device': 'disk', 'target': 'target', 'sync': 'none', **MANUAL}
        d.refused('power of 2', 'blockdev-backup', {**backup, 'x-perf': {'min-cluster-size': 100000}})
        d.run('blockdev-backup', {**backup, 'x-perf': {'min-cluster-size': 2 * MiB}})
        d.export('disk', 'guest', writable=True)
        assert fine(nbd_io('guest', 'write -P 1 3M 512'))
        d.run('job-cancel', {'id': 'b'})
        d.finish('b')
    assert [line.split()[:2] for line in run('qemu-img', 'map', 'target').splitlines()[1:]] == [['0x200000', '0x200000']]


def test_refusals():
    """Each with a reason, and nothing has changed."""
    data = noise(8)
    with daemon(data) as d:
        d.images('target')
        create('small', '1M')
        d.format('small')
        d.run('block-dirty-bitmap-add', {'node': 'small', 'name': 'b'})

        def no(word, **more):
            nodes = d.run('query-named-block-nodes')
            options = {'driver': 'copy-before-write', 'node-name': 'cbw', 'file': 'disk', 'target': 'target', **more}
            d.refused(word, 'blockdev-add', {k: v for k, v in options.items() if v is not None})
            assert d.run('query-named-block-nodes') == nodes

        no('"target"', target=None)
        no('"file"', file=None)
        no('1048576 bytes', target='small')
        no('in use', target='disk')
        no('Cannot find', target='nowhere')
        no('another size', bitmap={'node': 'small', 'name': 'b'})
        no('Cannot find', bitmap={'node': 'nowhere', 'name': 'b'})
        no("'x'", bitmap={'node': 'small', 'name': 'b', 'x': 1})
        no('power of 2', **{'min-cluster-size': 100000})
        no('power of 2', **{'min-cluster-size': 1 << 40})
        no('on-cbw-error', **{'on-cbw-error': 'nonsense'})
        no('cbw-timeout', **{'cbw-timeout': -1})
        no('keeps no moment', driver='snapshot-access', target=None)
        d.filter(**{'min-cluster-size': MiB})
        no('in use', **{'node-name': 'other'})              # the target has its filter
        d.access()
        d.export('cbw', 'guest', writable=True)
        d.export('access', 'access', writable=True)
        assert 'failed' in nbd_io('access', 'write 0 512') and 'failed' in nbd_io('access', 'write -z 0 64k')
        for node in ('cbw', 'target', 'disk'):
            d.refused('in use', 'blockdev-del', {'node-name': node})
        d.refused('cannot be resized', 'block_resize', {'node-name': 'cbw', 'size': 2 * SIZE})
        for node in ('disk', 'target'):
            d.refused('keeps a moment', 'block_resize', {'node-name': node, 'size': 2 * SIZE})
        file = {'driver': 'file', 'filename': os.path.abspath('target'), 'discard': 'unmap'}
        d.refused('keeps a moment', 'blockdev-reopen', {'options': [{'driver': 'qcow2', 'node-name': 'target', 'discard': 'unmap', 'file': file,
                                                                     'backing': 'disk'}]})
        d.refused('cannot be replaced', 'blockdev-snapshot-sync', {'node-name': 'disk', 'snapshot-file': os.path.abspath('over'),
                                                                   'snapshot-node-name': 'over'})
        assert fine(nbd_io('guest', 'write -P 3 1M 512')) and exported('access') == data
        d.unexport('guest', 'access')
        d.remove('access', 'cbw', 'small', 'target', 'disk')
    runs = [line.split()[:2] for line in run('qemu-img', 'map', 'target').splitlines()[1:]]
    assert runs == [['0x100000', '0x100000']], runs         # a cluster as large as was asked


cases.run(cases.named(globals()), folder='rhea-fleecing-')
