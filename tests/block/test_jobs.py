#!/usr/bin/env python3
"""Block jobs by QMP, without a guest: their states and events, what they leave of the chain, refusals. Content is compared with
qemu-img. What happens under a guest's writes: tests/unit/test-job.c, tests/boot/test_blockjobs.py."""
import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from jobs import Jobs, MiB, Rhea, chain, check, compare, create, flat, main, run, write  # noqa: E402

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
        j.s.socket.settimeout(20)
        while j.s.raw():
            pass
        compare(expected, paths[2], 'raw')
        check(*paths)


main(globals())
