#!/usr/bin/env python3
"""Block jobs by QMP, without a guest: their states and events, what they leave of the chain, refusals. Content is compared with
qemu-img. What happens under a guest's writes: tests/unit/test-job.c, tests/boot/test_blockjobs.py."""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from jobs import cases, Jobs, MiB, Rhea, chain, check, compare, create, flat, main, program, run, write  # noqa: E402

MANUAL = {'auto-finalize': True, 'auto-dismiss': False}
ENDED = ['created', 'running', 'waiting', 'pending', 'concluded', 'null']


class Setup:
    """A directory, a machine without anything, a session."""

    def __init__(self, *args, **kw):
        self.rhea = Rhea(*args, **kw)

    def __enter__(self):
        self.tmp = tempfile.TemporaryDirectory()
        self.rhea.__enter__()
        self.session = self.rhea.connect()
        return self.tmp.name, Jobs(self.session)

    def __exit__(self, *exc):
        self.session.close()
        self.rhea.__exit__(*exc)
        self.tmp.cleanup()


def test_create():
    with Setup() as (d, j):
        path = os.path.join(d, 'new')
        open(path, 'w').close()
        j.run('blockdev-add', {'driver': 'file', 'filename': path, 'node-name': 'st', 'auto-read-only': True})
        j.run('blockdev-create', {'job-id': 'c', 'options': {'driver': 'qcow2', 'file': 'st', 'size': 64 * MiB, 'cluster-size': 65536,
                                                             'backing-file': '/nowhere', 'backing-fmt': 'raw', 'version': 'v3'}})
        j.refused('already in use', 'blockdev-create', {'job-id': 'c', 'options': {'driver': 'file', 'filename': path + 'x', 'size': 0}})
        j.wait('c', 'concluded')
        assert j.run('query-jobs') == [{'id': 'c', 'type': 'create', 'status': 'concluded', 'current-progress': 0, 'total-progress': 1}]
        assert j.run('query-block-jobs') == []
        j.run('job-dismiss', {'id': 'c'})
        assert j.wait('c', 'null') == ENDED
        j.run('blockdev-add', {'driver': 'qcow2', 'node-name': 'fm', 'file': 'st', 'backing': None})
        assert j.node('fm')['image']['virtual-size'] == 64 * MiB
        info = json.loads(run('qemu-img', 'info', '-U', '--output=json', path))
        assert info['full-backing-filename'] == '/nowhere', info
        j.run('blockdev-create', {'job-id': 'f', 'options': {'driver': 'file', 'filename': os.path.join(d, 'plain'), 'size': 12288}})
        assert j.finish('f') is None
        assert os.path.getsize(os.path.join(d, 'plain')) == 12288
        j.refused('in use', 'blockdev-create', {'job-id': 'x', 'options': {'driver': 'qcow2', 'file': 'st', 'size': MiB}})
        j.refused('does not support', 'blockdev-create', {'job-id': 'x', 'options': {'driver': 'nonsense', 'size': MiB}})
        j.run('blockdev-create', {'job-id': 'g', 'options': {'driver': 'file', 'filename': d + '/no/where', 'size': 0}})
        assert 'where' in j.finish('g')
        assert j.run('query-jobs') == []


def access(what, path, fmt, secret):
    """Whether qemu-io reads or writes the image with that passphrase."""
    p = subprocess.run(['qemu-io', '--object', 'secret,id=s,data=' + secret, '--image-opts', '-c', what + ' -P 9 0 64k',
                        'driver=%s,%s=s,file.filename=%s' % (fmt, 'encrypt.format=luks,encrypt.key-secret' if fmt == 'qcow2' else 'key-secret', path)],
                       capture_output=True, text=True)
    return p.returncode == 0 and 'failed' not in p.stdout


def test_amend():
    """Keys added and erased, of a qcow2 image and of LUKS alone; a guest's disk stays what it is."""
    for fmt, prefix in (('qcow2', 'encrypt.'), ('luks', '')):
        with Setup('-object', 'secret,id=a,data=first', '-object', 'secret,id=b,data=second', '-object', 'secret,id=wrong,data=x') as (d, j):
            path = os.path.join(d, 'disk')
            run(program('rhea-img'), 'create', '-q', '-f', fmt, '--object', 'secret,id=s,data=first', '-o', prefix + 'key-secret=s,' + prefix + 'iter-time=10',
                *(['-o', 'encrypt.format=luks'] if prefix else []), path, '1M')
            access('write', path, fmt, 'first')
            j.add(path, 'd', fmt=fmt, **({'encrypt': {'format': 'luks', 'key-secret': 'a'}} if prefix else {'key-secret': 'a'}))

            def options(**keys):
                keys = {k.replace('_', '-'): v for k, v in keys.items()}
                return {'driver': fmt, **({'encrypt': {'format': 'luks', **keys}} if prefix else keys)}

            def amend(force=None, **keys):
                j.run('x-blockdev-amend', {'job-id': 'a', 'node-name': 'd', 'options': options(**keys), **({} if force is None else {'force': force})})
                return j.finish('a')

            assert 'last key' in amend(state='inactive', old_secret='a')
            assert amend(state='active', new_secret='b', keyslot=3, iter_time=10) is None
            assert 'in use' in amend(state='active', new_secret='b', keyslot=3, iter_time=10)
            assert amend(True, state='active', new_secret='b', keyslot=3, iter_time=10) is None
            assert 'no key slot' in amend(state='inactive', old_secret='wrong')
            assert 'keyslot' in amend(state='inactive', keyslot=8) and 'state' in amend(state='inactive')
            assert amend(state='inactive', old_secret='a') is None
            j.refused("not 'raw'", 'x-blockdev-amend', {'job-id': 'a', 'node-name': 'd', 'options': {'driver': 'raw'}})
            j.refused("'size' is unexpected", 'x-blockdev-amend', {'job-id': 'a', 'node-name': 'd', 'options': {'driver': fmt, 'size': 1}})
            j.refused('nowhere', 'x-blockdev-amend', {'job-id': 'a', 'node-name': 'nowhere', 'options': options(state='inactive')})
            j.refused('does not support', 'x-blockdev-amend', {'job-id': 'a', 'node-name': 'd-storage', 'options': {'driver': 'file'}})
            j.delete('d')
            assert access('read', path, fmt, 'second') and not access('read', path, fmt, 'first')
            # rhea-img does the same
            run(program('rhea-img'), 'amend', '--force', '--object', 'secret,id=s,data=second', '-o', prefix + 'state=inactive,' + prefix + 'old-secret=s',
                '--image-opts', 'driver=%s,%skey-secret=s,file.driver=file,file.filename=%s' % (fmt, prefix, path))
            assert not access('read', path, fmt, 'second')


def test_quorum_children():
    """One more, one fewer, while a client of an export writes."""
    with Setup() as (d, j):
        paths = [create(os.path.join(d, n), '1M', fmt='raw') for n in 'abc']
        for n, p in zip('abc', paths):
            j.run('blockdev-add', {'driver': 'file', 'filename': p, 'node-name': n})
        j.run('blockdev-add', {'driver': 'null-co', 'node-name': 'other', 'size': 2 * MiB})
        j.run('blockdev-add', {'driver': 'quorum', 'node-name': 'q', 'children': ['a', 'b'], 'vote-threshold': 2})
        j.run('nbd-server-start', {'addr': {'type': 'unix', 'data': {'path': d + '/s'}}})
        j.run('block-export-add', {'type': 'nbd', 'id': 'e', 'node-name': 'q', 'name': '', 'writable': True})

        def put(byte, off):
            write('nbd+unix:///?socket=%s/s' % d, (byte, off, 65536), fmt='raw')

        def has(i, byte, off):
            with open(paths[i], 'rb') as f:
                f.seek(off)
                return f.read(65536) == bytes([byte]) * 65536

        put(5, 0)
        j.refused('lower than the vote threshold 2', 'x-blockdev-change', {'parent': 'q', 'child': 'children.1'})
        j.run('x-blockdev-change', {'parent': 'q', 'node': 'c'})
        put(6, 65536)
        j.refused("does not have child 'children.3'", 'x-blockdev-change', {'parent': 'q', 'child': 'children.3'})
        j.run('x-blockdev-change', {'parent': 'q', 'child': 'children.0'})
        put(7, 131072)
        assert [has(0, 5, 0), has(0, 6, 65536), has(0, 7, 131072)] == [True, True, False]
        assert [has(1, 5, 0), has(1, 6, 65536), has(1, 7, 131072)] == [True, True, True]
        assert [has(2, 5, 0), has(2, 6, 65536), has(2, 7, 131072)] == [False, True, True]
        j.run('blockdev-del', {'node-name': 'a'})
        j.refused("Node 'a' not found", 'x-blockdev-change', {'parent': 'q', 'node': 'a'})
        j.refused('in use', 'x-blockdev-change', {'parent': 'q', 'node': 'c'})
        j.refused('differ in size', 'x-blockdev-change', {'parent': 'q', 'node': 'other'})
        j.refused('in conflict', 'x-blockdev-change', {'parent': 'q', 'node': 'c', 'child': 'children.1'})
        j.refused('must be specified', 'x-blockdev-change', {'parent': 'q'})
        j.refused('does not support adding', 'x-blockdev-change', {'parent': 'other', 'node': 'c'})
        j.run('block-export-del', {'id': 'e', 'mode': 'hard'})
        assert cases.until(lambda: not j.run('query-block-exports'))
        j.run('blockdev-add', {'driver': 'quorum', 'node-name': 'above', 'children': ['q'], 'vote-threshold': 1})
        j.refused("'above' is made of 'q'", 'x-blockdev-change', {'parent': 'q', 'node': 'above'})


def test_stream():
    for args, left in (({}, []), ({'base-node': 'n0'}, ['disk0'])):
        with Setup() as (d, j):
            paths = chain(d)
            expected = flat(d, paths[-1])
            j.add_chain(paths)
            if args:
                args = {**args, 'backing-file': paths[0]}
            j.run('block-stream', {'device': 'n2', 'job-id': 's', **args, **MANUAL})
            assert j.finish('s') is None
            e = j.event('BLOCK_JOB_COMPLETED')
            assert (e['device'], e['type'], e['len'], e['offset'], e['speed']) == ('s', 'stream', 16 * MiB, 16 * MiB, 0), e
            j.delete('n1')
            if not left:
                j.delete('n0')
                os.unlink(paths[0])
            else:
                j.refused('in use', 'blockdev-del', {'node-name': 'n0'})
            os.unlink(paths[1])
            j.delete('n2')
            compare(expected, paths[2], 'raw')
            check(paths[2])


def test_control():
    with Setup() as (d, j):
        paths = chain(d)
        j.add_chain(paths)
        j.refused('not found', 'job-cancel', {'id': 'nobody'})
        assert j.refused('not found', 'block-job-cancel', {'device': 'nobody'}).cls == 'DeviceNotActive'
        j.refused('non-negative', 'block-stream', {'device': 'n2', 'job-id': 's', 'speed': -1})
        j.refused('explicit job ID', 'block-stream', {'device': 'n2'})
        j.refused('Invalid job ID', 'block-stream', {'device': 'n2', 'job-id': '0 bad'})
        j.refused('not a backing image', 'block-stream', {'device': 'n1', 'job-id': 's', 'base-node': 'n2'})
        j.run('block-stream', {'device': 'n2', 'job-id': 's', 'speed': 65536, **MANUAL})
        j.wait('s', 'running')
        j.refused('is busy', 'block-stream', {'device': 'n2', 'job-id': 't'})
        j.refused('is busy', 'block_resize', {'node-name': 'n2', 'size': 32 * MiB})
        j.refused('in use', 'blockdev-del', {'node-name': 'n2'})
        info = j.run('query-block-jobs')[0]
        assert (info['device'], info['type'], info['len'], info['speed'], info['ready'], info['status']) == \
            ('s', 'stream', 16 * MiB, 65536, False, 'running'), info
        j.refused('cannot accept', 'job-complete', {'id': 's'})
        j.refused('cannot accept', 'job-dismiss', {'id': 's'})
        j.refused('not paused', 'job-resume', {'id': 's'})
        j.run('job-pause', {'id': 's'})
        j.refused('already paused', 'block-job-pause', {'device': 's'})
        j.wait('s', 'paused')
        assert j.run('query-block-jobs')[0]['paused']
        j.forget()
        j.run('job-resume', {'id': 's'})
        j.wait('s', 'running')
        j.run('block-job-set-speed', {'device': 's', 'speed': 131072})
        assert j.run('query-block-jobs')[0]['speed'] == 131072
        j.run('block-job-cancel', {'device': 's'})
        assert j.wait('s', 'concluded')[-2:] == ['aborting', 'concluded']
        e = j.event('BLOCK_JOB_CANCELLED')
        assert e['device'] == 's' and e['offset'] < e['len'], e
        assert j.finish('s') is None
        assert j.node('n2')['backing_file_depth'] == 2
        j.delete('n2', 'n1', 'n0')
        check(*paths)


def test_manual_finalize():
    with Setup() as (d, j):
        paths = chain(d)
        expected = flat(d, paths[-1])
        j.add_chain(paths)
        j.run('block-stream', {'device': 'n2', 'job-id': 's', 'auto-finalize': False, 'auto-dismiss': True})
        j.wait('s', 'pending')
        assert j.event('BLOCK_JOB_PENDING') == {'type': 'stream', 'id': 's'}
        assert j.node('n2')['backing_file_depth'] == 2
        j.run('job-finalize', {'id': 's'})
        j.wait('s', 'null')
        assert j.node('n2')['backing_file_depth'] == 0
        j.delete('n2')
        compare(expected, paths[2], 'raw')


def test_errors_of_the_host():
    """A target that is full stops the job, which goes on when there is room; else it fails and leaves the chain."""
    with Setup() as (d, j):
        paths = chain(d)
        j.run('blockdev-add', {'driver': 'qcow2', 'node-name': 'top', 'file': {
            'driver': 'blkdebug', 'image': {'driver': 'file', 'filename': paths[2]},
            'inject-error': [{'event': 'none', 'iotype': 'write', 'errno': 28, 'once': True}]}})
        j.run('block-stream', {'device': 'top', 'job-id': 's', 'on-error': 'report', **MANUAL})
        assert 'No space' in j.finish('s')
        assert j.event('BLOCK_JOB_ERROR') == {'device': 's', 'operation': 'write', 'action': 'report'}
        assert j.node('top')['backing_file_depth'] == 2
        j.run('blockdev-del', {'node-name': 'top'})
        compare(flat(d, paths[2]), paths[2], 'raw')


def test_quit_while_running():
    with Setup() as (d, j):
        paths = chain(d)
        expected = flat(d, paths[-1])
        j.add_chain(paths)
        j.run('block-stream', {'device': 'n2', 'job-id': 's', 'speed': 65536})
        j.wait('s', 'running')
        j.run('quit')
        j.s.socket.settimeout(120)
        while j.s.raw():
            pass
        compare(expected, paths[2], 'raw')
        check(*paths)


def test_commit():
    """Of an image in the middle, and of the active one with and without a pivot."""
    for raw in (False, True):
        with Setup() as (d, j):
            paths = chain(d, 4, raw)
            before = flat(d, paths[1], 'n1'), flat(d, paths[3], 'n3')
            fmt = 'raw' if raw else 'qcow2'
            j.add_chain(paths, raw)
            j.refused('not a backing image', 'block-commit', {'device': 'n3', 'job-id': 'c', 'top-node': 'n1', 'base-node': 'n2'})
            j.run('block-commit', {'device': 'n3', 'job-id': 'c', 'top-node': 'n2', 'base-node': 'n1', 'backing-file': paths[1], **MANUAL})
            assert j.finish('c') is None
            assert j.event('BLOCK_JOB_COMPLETED')['type'] == 'commit'
            j.delete('n2')
            assert j.node('n3')['backing_file'] == paths[1] and j.node('n1')['ro']
            j.run('block-commit', {'device': 'n3', 'job-id': 'c', 'base-node': 'n0', 'speed': 65536, **MANUAL})
            j.wait('c', 'running')
            j.run('job-cancel', {'id': 'c'})
            j.finish('c')
            assert j.node('n0')['ro'] and j.node('n3')['backing_file_depth'] == 2
            j.refused('active layer', 'block-commit', {'device': 'n3', 'job-id': 'c', 'backing-file': 'x'})
            j.run('block-commit', {'device': 'n3', 'job-id': 'c', 'base-node': 'n0', **MANUAL})
            j.wait('c', 'ready')
            assert j.event('BLOCK_JOB_READY')['device'] == 'c'
            j.run('job-complete', {'id': 'c'})
            assert j.finish('c') is None
            j.delete('n3', 'n1')
            assert not j.node('n0')['ro']
            j.delete('n0')
            compare(before[1], paths[0], 'raw', fmt)
            check(*paths[0 if not raw else 1:2])


def test_commit_to_a_larger_base():
    """The base becomes as long as the disk that it takes the place of, when it does; what lay beyond was not part of the disk."""
    for raw in (False, True):
        fmt = 'raw' if raw else 'qcow2'
        with Setup() as (d, j):
            base, top = os.path.join(d, 'base'), os.path.join(d, 'top')
            create(base, '24M', fmt=fmt)
            write(base, (1, 0, 4 * MiB), (2, 15 * MiB, 4 * MiB), fmt=fmt)
            run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base, '-F', fmt, top, '16M')
            write(top, (3, 2 * MiB, MiB))
            expected = flat(d, top)
            j.add(base, 'base', fmt=fmt, read_only=True)
            j.add(top, 'top', 'base')
            j.run('block-commit', {'device': 'top', 'job-id': 'c', **MANUAL})
            j.wait('c', 'ready')
            j.run('block-job-cancel', {'device': 'c'})
            assert j.finish('c') is None and j.node('base')['image']['virtual-size'] == 24 * MiB
            j.run('block-commit', {'device': 'top', 'job-id': 'c', **MANUAL})
            j.wait('c', 'ready')
            j.run('job-complete', {'id': 'c'})
            assert j.finish('c') is None and j.node('base')['image']['virtual-size'] == 16 * MiB
            j.delete('top', 'base')
            run('qemu-img', 'compare', '-s', '-f', 'raw', '-F', fmt, expected, base) if raw else compare(expected, base, 'raw', fmt)
            if not raw:
                check(base)


def test_commit_respects_read_only():
    """A file that was opened read-only by its own node stays so; the job is refused and leaves all as it was."""
    with Setup() as (d, j):
        paths = chain(d, 2)
        j.run('blockdev-add', {'driver': 'file', 'filename': paths[0], 'node-name': 'n0-storage', 'read-only': True})
        j.run('blockdev-add', {'driver': 'qcow2', 'node-name': 'n0', 'file': 'n0-storage', 'read-only': True, 'backing': None})
        j.add(paths[1], 'n1', 'n0')
        j.refused('read-only', 'block-commit', {'device': 'n1', 'job-id': 'c', 'base-node': 'n0'})
        assert j.run('query-jobs') == [] and j.node('n0')['ro']
        j.delete('n1', 'n0')


def test_mirror():
    for sync, copy_mode in (('full', 'background'), ('full', 'write-blocking'), ('top', 'background'), ('none', 'background')):
        with Setup() as (d, j):
            paths = chain(d)
            expected = flat(d, paths[-1])
            target = create(os.path.join(d, 'target'), backing=paths[1] if sync == 'top' else None)
            j.add_chain(paths)
            j.add(target, 't', {'top': 'n1', 'full': None, 'none': 'n2'}[sync])
            m = {'device': 'n2', 'target': 't', 'job-id': 'm', 'sync': sync, 'copy-mode': copy_mode}
            j.refused('into itself', 'blockdev-mirror', {**m, 'target': 'n2'})
            j.refused('power of 2', 'blockdev-mirror', {**m, 'granularity': 1000})
            j.refused('not supported', 'blockdev-mirror', {**m, 'sync': 'incremental'})
            j.run('blockdev-mirror', {**m, **MANUAL})
            j.refused('in use', 'blockdev-del', {'node-name': 't'})
            j.wait('m', 'ready')
            info = j.run('query-block-jobs')[0]
            assert info['ready'] and info['len'] == info['offset'] and info['actively-synced'] == (copy_mode != 'background'), info
            j.run('job-complete', {'id': 'm'})
            assert j.finish('m') is None
            j.delete('t')
            j.delete('n2', 'n1', 'n0')
            if sync != 'none':
                compare(expected, target, 'raw')
            check(target)


def test_mirror_becomes_write_blocking():
    with Setup() as (d, j):
        paths = chain(d)
        target = create(os.path.join(d, 'target'))
        j.add_chain(paths)
        j.add(target, 't')
        j.run('blockdev-mirror', {'device': 'n2', 'target': 't', 'job-id': 'm', 'sync': 'full', **MANUAL})
        j.wait('m', 'ready')
        assert j.run('query-block-jobs')[0]['actively-synced'] is False
        change = {'id': 'm', 'type': 'mirror', 'copy-mode': 'write-blocking'}
        j.refused('only', 'block-job-change', {**change, 'copy-mode': 'background'})
        j.refused('only a mirror', 'block-job-change', {**change, 'type': 'backup'})
        j.refused('not found', 'block-job-change', {**change, 'id': 'x'})
        for _ in range(2):
            assert j.run('block-job-change', change) == {}
        assert j.run('query-block-jobs')[0]['actively-synced'] is True
        j.run('job-cancel', {'id': 'm'})
        assert j.finish('m') is None
        j.delete('t')
        j.delete('n2', 'n1', 'n0')


def test_mirror_to_zeroes():
    """target-is-zero is taken at its word: only data is written. The target here is not zero, which shows it."""
    for more in ({}, {'buf-size': 1}, {'copy-mode': 'write-blocking', 'buf-size': 100000}):
        with Setup() as (d, j):
            paths = chain(d)
            expected = open(flat(d, paths[-1]), 'rb').read()
            target = os.path.join(d, 'target')
            with open(target, 'wb') as f:
                f.write(b'w' * len(expected))
            j.add_chain(paths)
            j.add(target, 't', fmt='raw')
            m = {'device': 'n2', 'target': 't', 'job-id': 'm', 'sync': 'full', 'target-is-zero': True, **more}
            j.refused('buf-size', 'blockdev-mirror', {**m, 'buf-size': -1})
            j.run('blockdev-mirror', {**m, **MANUAL})
            j.wait('m', 'ready')
            j.run('job-cancel', {'id': 'm'})
            assert j.finish('m') is None
            j.delete('t')
            got, kept = open(target, 'rb').read(), 0
            for at in range(0, len(expected), 65536):
                want = expected[at:at + 65536]
                if any(want):
                    assert got[at:at + 65536] == want, at
                else:
                    kept += got[at:at + 65536] == b'w' * 65536
            assert kept >= 64, kept


def test_mirror_ends():
    """Cancelled when it is ready, it leaves a whole copy, forced it does not say so; too small a target is refused."""
    with Setup() as (d, j):
        paths = chain(d)
        expected = flat(d, paths[-1])
        j.add_chain(paths)
        small = create(os.path.join(d, 'small'), '8M')
        j.add(small, 's')
        j.refused('different sizes', 'blockdev-mirror', {'device': 'n2', 'target': 's', 'job-id': 'm', 'sync': 'full'})
        j.run('drive-mirror', {'device': 'n2', 'target': d + '/soft', 'job-id': 'm', 'sync': 'full', 'format': 'qcow2', **MANUAL})
        j.wait('m', 'ready')
        j.run('block-job-cancel', {'device': 'm'})
        assert j.finish('m') is None
        j.event('BLOCK_JOB_COMPLETED')
        compare(expected, d + '/soft', 'raw')
        j.run('drive-mirror', {'device': 'n2', 'target': d + '/hard', 'job-id': 'm', 'sync': 'full', 'format': 'raw', **MANUAL})
        j.wait('m', 'ready')
        j.run('block-job-cancel', {'device': 'm', 'force': True})
        j.finish('m')
        j.event('BLOCK_JOB_CANCELLED')
        j.run('drive-mirror', {'device': 'n2', 'target': d + '/top', 'job-id': 'm', 'sync': 'top', 'node-name': 'new', **MANUAL})
        j.wait('m', 'ready')
        j.run('block-job-complete', {'device': 'm'})
        assert j.finish('m') is None
        assert j.node('new') is None
        compare(expected, d + '/top', 'raw')
        j.refused('', 'drive-mirror', {'device': 'n2', 'target': '/nowhere/x', 'job-id': 'm', 'sync': 'full'})
        assert j.run('query-jobs') == []


def test_backup():
    with Setup() as (d, j):
        paths = chain(d)
        expected = flat(d, paths[-1])
        j.add_chain(paths)
        j.run('drive-backup', {'device': 'n2', 'target': d + '/full', 'job-id': 'b', 'sync': 'full', 'format': 'qcow2', **MANUAL})
        assert j.finish('b') is None
        e = j.event('BLOCK_JOB_COMPLETED')
        assert (e['type'], e['len'], e['offset']) == ('backup', 16 * MiB, 16 * MiB), e
        j.run('drive-backup', {'device': 'n2', 'target': d + '/comp', 'job-id': 'b', 'sync': 'full', 'compress': True, **MANUAL})
        assert j.finish('b') is None
        j.run('drive-backup', {'device': 'n2', 'target': d + '/top', 'job-id': 'b', 'sync': 'top', **MANUAL})
        assert j.finish('b') is None
        j.run('drive-backup', {'device': 'n2', 'target': d + '/raw', 'job-id': 'b', 'sync': 'full', 'format': 'raw', **MANUAL})
        assert j.finish('b') is None
        j.refused('not supported', 'drive-backup', {'device': 'n2', 'target': d + '/x', 'job-id': 'b', 'sync': 'full', 'format': 'raw', 'compress': True})
        for t in ('full', 'comp', 'top'):
            compare(expected, os.path.join(d, t), 'raw')
            check(os.path.join(d, t))
        compare(expected, d + '/raw', 'raw', 'raw')
        assert os.path.getsize(d + '/comp') < 3 * MiB


def test_backup_discards_its_source():
    """What was copied is given back, where nobody else writes to it; what failed to be copied stays."""
    with Setup() as (d, j):
        source, target = create(os.path.join(d, 'source')), create(os.path.join(d, 'target'))
        write(source, (1, 0, 4 * MiB), (2, 8 * MiB, MiB))
        expected = flat(d, source)
        j.add(source, 's', discard='unmap')
        j.add(target, 't')
        backup = {'device': 's', 'target': 't', 'job-id': 'b', 'sync': 'full', 'discard-source': True, **MANUAL}
        j.run('nbd-server-start', {'addr': {'type': 'unix', 'data': {'path': os.path.join(d, 'nbd')}}})
        j.run('block-export-add', {'type': 'nbd', 'id': 'e', 'node-name': 's', 'writable': True})
        j.refused('in use', 'blockdev-backup', backup)
        j.run('block-export-del', {'id': 'e'})
        j.event('BLOCK_EXPORT_DELETED')
        j.run('blockdev-backup', backup)
        assert j.finish('b') is None
        j.delete('s', 't')
        compare(expected, target, 'raw')
        check(source, target)
        assert json.loads(run('qemu-img', 'check', '--output=json', source)).get('allocated-clusters', 0) == 0


def test_backup_with_bitmaps():
    """Which parts an incremental backup copies, and what is in the bitmap after success and failure."""
    with Setup() as (d, j):
        path = create(os.path.join(d, 'disk'))
        j.add(path, 'n')
        j.run('block-dirty-bitmap-add', {'node': 'n', 'name': 'b', 'persistent': True})
        count = lambda: next(b for b in j.node('n')['dirty-bitmaps'] if b.get('name') == 'b')['count']   # noqa: E731
        j.run('block_resize', {'node-name': 'n', 'size': 17 * MiB})
        assert count() == MiB
        backup = {'device': 'n', 'job-id': 'j', 'format': 'qcow2', 'bitmap': 'b', **MANUAL}
        j.refused('valid bitmap', 'drive-backup', {'device': 'n', 'job-id': 'j', 'target': d + '/x', 'sync': 'incremental'})
        j.refused('on-success', 'drive-backup', {**backup, 'target': d + '/x', 'sync': 'incremental', 'bitmap-mode': 'never'})
        j.refused('must be given', 'drive-backup', {**backup, 'target': d + '/x', 'sync': 'bitmap'})
        j.refused('without a bitmap', 'drive-backup', {'device': 'n', 'job-id': 'j', 'target': d + '/x', 'sync': 'full', 'bitmap-mode': 'always'})
        j.run('drive-backup', {**backup, 'target': d + '/i1', 'sync': 'bitmap', 'bitmap-mode': 'never'})
        assert j.finish('j') is None
        assert j.event('BLOCK_JOB_COMPLETED')['len'] == MiB and count() == MiB
        j.run('drive-backup', {**backup, 'target': d + '/i2', 'sync': 'incremental', 'speed': 65536})
        j.wait('j', 'running')
        assert count() == 0
        j.refused('in use', 'block-dirty-bitmap-remove', {'node': 'n', 'name': 'b'})
        j.run('job-cancel', {'id': 'j'})
        j.finish('j')
        assert count() == MiB
        j.run('drive-backup', {**backup, 'target': d + '/i3', 'sync': 'incremental'})
        assert j.finish('j') is None
        assert count() == 0
        j.delete('n')
        check(path)


def test_snapshots():
    with Setup() as (d, j):
        base = create(os.path.join(d, 's0'))
        write(base, (1, 0, MiB))
        j.add(base, 's0')
        j.run('blockdev-snapshot-sync', {'node-name': 's0', 'snapshot-file': d + '/s1', 'snapshot-node-name': 's1'})
        # nobody uses s0: the overlay went again
        create(os.path.join(d, 'o'), backing=base)
        j.add(os.path.join(d, 'o'), 'o')
        j.run('blockdev-snapshot', {'node': 's0', 'overlay': 'o'})
        assert j.node('o')['backing_file'] == base and j.node('s0')['ro'] and not j.node('o')['ro']
        j.refused('already', 'blockdev-snapshot', {'node': 's0', 'overlay': 'o'})
        j.refused('Cannot find', 'blockdev-snapshot', {'node': 's0', 'overlay': 'nowhere'})
        j.refused('backing hd', 'blockdev-snapshot-sync', {'node-name': 's0', 'snapshot-file': d + '/s2'})
        j.refused('Duplicate', 'blockdev-snapshot-sync', {'node-name': 'o', 'snapshot-file': d + '/s2', 'snapshot-node-name': 's0'})
        raw = os.path.join(d, 'raw')
        create(raw, fmt='raw')
        j.add(raw, 'r', fmt='raw')
        j.refused('does not support backing', 'blockdev-snapshot', {'node': 'o', 'overlay': 'r'})
        j.delete('o', 's0')
        check(base, d + '/o')


def test_transaction():
    with Setup() as (d, j):
        for n in 'ab':
            j.add(create(os.path.join(d, n)), n)
            create(os.path.join(d, n + '-over'), backing=os.path.join(d, n))
            j.add(os.path.join(d, n + '-over'), n + '-over')
        j.run('block-dirty-bitmap-add', {'node': 'a', 'name': 'old'})
        j.run('block_resize', {'node-name': 'a', 'size': 17 * MiB})

        def actions(*list):
            return {'actions': [{'type': t, 'data': v} for t, v in list]}

        def bitmaps():
            return {b['name']: (b['count'], b['recording']) for b in j.node('a').get('dirty-bitmaps', [])}

        many = [('block-dirty-bitmap-add', {'node': 'a', 'name': 'new'}),
                ('block-dirty-bitmap-merge', {'node': 'a', 'target': 'new', 'bitmaps': ['old']}),
                ('block-dirty-bitmap-clear', {'node': 'a', 'name': 'old'}),
                ('block-dirty-bitmap-disable', {'node': 'a', 'name': 'old'}),
                ('blockdev-snapshot', {'node': 'b', 'overlay': 'b-over'})]
        for last in (('abort', {}), ('blockdev-snapshot', {'node': 'nowhere', 'overlay': 'a-over'}),
                     ('block-dirty-bitmap-add', {'node': 'a', 'name': 'new'})):
            j.refused('', 'transaction', actions(*many, last))
            assert bitmaps() == {'old': (MiB, True)}, bitmaps()
            assert j.node('b-over')['backing_file_depth'] == 0 and not j.node('b')['ro']
        j.refused('does not accept', 'transaction', actions(('nonsense', {})))
        j.refused('missing', 'transaction', actions(('block-dirty-bitmap-add', {'node': 'a'})))
        j.run('transaction', actions(*many))
        assert bitmaps() == {'old': (0, False), 'new': (MiB, True)}, bitmaps()
        assert j.node('b-over')['backing_file_depth'] == 1 and j.node('b')['ro']
        # jobs that succeed or fail together
        backups = [('drive-backup', {'device': 'a', 'job-id': 'ja', 'target': d + '/ta', 'sync': 'full', 'format': 'raw', **MANUAL}),
                   ('drive-backup', {'device': 'b-over', 'job-id': 'jb', 'target': d + '/tb', 'sync': 'full', 'format': 'raw', 'speed': 65536, **MANUAL})]
        j.run('transaction', {**actions(*backups), 'properties': {'completion-mode': 'grouped'}})
        j.wait('ja', 'waiting')
        assert 'pending' not in j.states('ja')
        j.run('job-cancel', {'id': 'jb'})
        j.finish('ja'), j.finish('jb')
        j.refused('', 'transaction', actions(backups[0], ('abort', {})))
        assert j.run('query-jobs') == []
        j.forget()
        j.run('transaction', actions(backups[0]))
        assert j.finish('ja') is None


def test_sharing_devices():
    """Two devices write to one node if both say so."""
    with tempfile.TemporaryDirectory() as d:
        path = create(os.path.join(d, 'x'))
        for first, second in ((True, True), (True, False), (False, True), (False, False)):
            with Rhea('-S', '-device', 'pcie-root-port,id=pa,slot=1', '-device', 'pcie-root-port,id=pb,slot=2',
                      '-blockdev', 'driver=qcow2,node-name=n,file.driver=file,file.filename=' + path, machine='q35') as r:
                j = Jobs(r.connect())
                add = [{'driver': 'virtio-blk-pci', 'drive': 'n', 'id': i, 'bus': 'p' + i, **({'share-rw': True} if share else {})}
                       for i, share in (('a', first), ('b', second))]
                j.run('device_add', add[0])
                if first and second:
                    j.run('device_add', add[1])
                else:
                    assert 'share-rw=on' in j.refused('in use already', 'device_add', add[1]).desc


def test_reopen():
    with Setup() as (d, j):
        paths = chain(d, 2)
        j.add_chain(paths)
        node = {'driver': 'qcow2', 'node-name': 'n0', 'file': 'n0-storage', 'backing': None}
        j.run('blockdev-reopen', {'options': [{**node, 'read-only': False}]})
        assert not j.node('n0')['ro']
        j.run('block-dirty-bitmap-add', {'node': 'n0', 'name': 'b', 'persistent': True})
        j.run('blockdev-reopen', {'options': [{**node, 'read-only': True}]})
        assert j.node('n0')['ro']
        info = json.loads(run('qemu-img', 'info', '-U', '--output=json', paths[0]))
        assert info['format-specific']['data']['bitmaps'][0]['flags'] == ['auto'], info
        j.refused('Cannot change the driver', 'blockdev-reopen', {'options': [{**node, 'driver': 'raw'}]})
        j.refused('Cannot change the option', 'blockdev-reopen', {'options': [{**node, 'lazy-refcounts': True}]})
        top = {'driver': 'qcow2', 'node-name': 'n1', 'file': 'n1-storage'}
        j.run('blockdev-reopen', {'options': [{**top, 'backing': None, 'discard': 'unmap', 'detect-zeroes': 'unmap'}]})
        assert j.node('n1')['detect_zeroes'] == 'unmap' and j.node('n1')['backing_file_depth'] == 0
        j.run('blockdev-reopen', {'options': [{**top, 'backing': 'n0'}]})
        assert j.node('n1')['backing_file_depth'] == 1
        j.refused('cycle', 'blockdev-reopen', {'options': [{**node, 'backing': 'n1'}]})
        # several: all or none
        was = j.node('n0'), j.node('n1')
        j.refused('cycle', 'blockdev-reopen', {'options': [{**top, 'backing': 'n0', 'read-only': True, 'discard': 'unmap', 'detect-zeroes': 'off'},
                                                           {**node, 'read-only': False, 'backing': 'n1'}]})
        assert (j.node('n0'), j.node('n1')) == was
        j.refused('Failed to find', 'blockdev-reopen', {'options': [{**top, 'backing': None}, {**node, 'node-name': 'nobody'}]})
        assert (j.node('n0'), j.node('n1')) == was
        j.run('change-backing-file', {'device': 'n1', 'image-node-name': 'n1', 'backing-file': 'other'})
        assert json.loads(run('qemu-img', 'info', '-U', '--output=json', paths[1]))['backing-filename'] == 'other'


main(globals())
