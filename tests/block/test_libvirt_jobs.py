#!/usr/bin/env python3
"""The commands that libvirt sends for external snapshots, blockcommit, blockpull, blockcopy, checkpoints and backups, in its order and
with its arguments, on a machine with a disk; and what it changes of a drive while it is in use."""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from jobs import Jobs, MiB, Rhea, check, compare, create, flat, main, run, write  # noqa: E402

AUTO = {'auto-finalize': True, 'auto-dismiss': False}
SIZE = 64 * MiB


class Domain:
    """A disk of libvirt's: node names by number, the active one last."""

    def __init__(self, d, j):
        self.d, self.j, self.count = d, j, 0
        self.path = {}

    def storage(self, name):
        self.count += 1
        node = 'libvirt-%d' % self.count
        self.path[node + '-format'] = path = os.path.join(self.d, name)
        if not os.path.exists(path):
            open(path, 'w').close()
        self.j.run('blockdev-add', {'driver': 'file', 'filename': path, 'node-name': node + '-storage', 'auto-read-only': True, 'discard': 'unmap'})
        return node

    def format(self, node, backing=None, read_only=False):
        self.j.run('blockdev-add', {'node-name': node + '-format', 'read-only': read_only, 'driver': 'qcow2', 'file': node + '-storage', 'backing': backing})
        return node + '-format'

    def new(self, name, backing=None, attach=False):
        node = self.storage(name)
        options = {'driver': 'qcow2', 'file': node + '-storage', 'size': SIZE, 'cluster-size': 65536}
        if backing:
            options.update({'backing-file': self.path[backing], 'backing-fmt': 'qcow2'})
        job = 'create-%s-format' % node
        self.j.run('blockdev-create', {'job-id': job, 'options': options})
        assert self.j.finish(job) is None
        return self.format(node, backing if attach else None)

    def snapshot(self, active, name):
        over = self.new(name, active)
        self.j.run('transaction', {'actions': [{'type': 'blockdev-snapshot', 'data': {'node': active, 'overlay': over}}]})
        return over

    def drop(self, *nodes):
        for n in nodes:
            self.j.run('blockdev-del', {'node-name': n})
            self.j.run('blockdev-del', {'node-name': n.replace('-format', '-storage')})

    def active(self):
        return next(b['inserted']['node-name'] for b in self.j.run('query-block') if b.get('qdev'))

    def pivot(self, job, node):
        """The bitmap that libvirt makes before it completes a job, to know what is written after."""
        self.j.wait(job, 'ready')
        info = self.j.run('query-block-jobs')[0]
        assert info['ready'] and info['offset'] == info['len']
        self.j.run('transaction', {'actions': [{'type': 'block-dirty-bitmap-add', 'data': {
            'node': node, 'name': 'libvirt-tmp-activewrite', 'persistent': False, 'disabled': False}}]})
        self.j.run('job-complete', {'id': job})
        assert self.j.finish(job) is None
        self.j.run('transaction', {'actions': [{'type': 'block-dirty-bitmap-remove', 'data': {'node': node, 'name': 'libvirt-tmp-activewrite'}}]})


def test_sequences():
    with tempfile.TemporaryDirectory() as d:
        base = create(os.path.join(d, 'base'), str(SIZE))
        write(base, (1, 0, MiB), (2, 30 * MiB, 3 * MiB))
        expected = flat(d, base)
        with Rhea('-blockdev', '{"driver":"file","filename":"%s","node-name":"libvirt-1-storage","auto-read-only":true,"discard":"unmap"}' % base,
                  '-blockdev', '{"node-name":"libvirt-1-format","read-only":false,"driver":"qcow2","file":"libvirt-1-storage","backing":null}',
                  '-device', 'virtio-blk-pci,drive=libvirt-1-format,id=virtio-disk0', '-S', machine='q35') as r, r.connect() as s:
            j = Jobs(s)
            m = Domain(d, j)
            m.count, m.path['libvirt-1-format'] = 1, base
            n1 = 'libvirt-1-format'
            # snapshot-create --disk-only, three times
            n2 = m.snapshot(n1, 'two')
            assert m.active() == n2
            n3 = m.snapshot(n2, 'three')
            n4 = m.snapshot(n3, 'four')
            # blockcommit of the middle
            j.run('block-commit', {'device': n4, 'job-id': 'commit-vda', 'top-node': n3, 'base-node': n2, 'backing-file': m.path[n2], **AUTO})
            assert j.finish('commit-vda') is None
            m.drop(n3)
            # blockcommit --active --pivot
            j.run('block-commit', {'device': n4, 'job-id': 'commit-vda', 'top-node': n4, 'base-node': n2, **AUTO})
            m.pivot('commit-vda', n2)
            m.drop(n4)
            assert m.active() == n2
            # blockpull
            n5 = m.snapshot(n2, 'five')
            j.run('block-stream', {'device': n5, 'job-id': 'pull-vda', **AUTO})
            assert j.finish('pull-vda') is None
            m.drop(n2, n1)
            assert m.active() == n5 and j.node(n5)['backing_file_depth'] == 0
            # blockcopy --pivot
            n6 = m.new('copy')
            j.run('blockdev-mirror', {'job-id': 'copy-vda', 'device': n5, 'target': n6, 'sync': 'full', **AUTO})
            m.pivot('copy-vda', n6)
            m.drop(n5)
            assert m.active() == n6
            # blockcopy, then abort when ready: the copy stays
            n7 = m.new('copy2')
            j.run('blockdev-mirror', {'job-id': 'copy-vda', 'device': n6, 'target': n7, 'sync': 'full', **AUTO})
            j.wait('copy-vda', 'ready')
            j.run('block-job-cancel', {'device': 'copy-vda'})
            assert j.finish('copy-vda') is None
            m.drop(n7)
            compare(expected, os.path.join(d, 'copy2'), 'raw')
            # blockcopy --bandwidth, blockjob --bandwidth, abort
            n8 = m.new('copy3')
            j.run('blockdev-mirror', {'job-id': 'copy-vda', 'device': n6, 'target': n8, 'speed': 65536, 'sync': 'full', **AUTO})
            j.run('block-job-set-speed', {'device': 'copy-vda', 'speed': 131072})
            j.run('block-job-cancel', {'device': 'copy-vda'})
            j.finish('copy-vda')
            m.drop(n8)
            # checkpoint-create, backup-begin (push), checkpoint-delete
            j.run('transaction', {'actions': [{'type': 'block-dirty-bitmap-add', 'data': {'node': n6, 'name': 'chk1', 'persistent': True, 'disabled': False}}]})
            n9 = m.new('backup')
            j.run('transaction', {'actions': [{'type': 'blockdev-backup', 'data': {
                'device': n6, 'job-id': 'backup-vda', 'target': n9, 'sync': 'full', 'auto-finalize': True, 'auto-dismiss': False}}]})
            assert j.finish('backup-vda') is None
            m.drop(n9)
            compare(expected, os.path.join(d, 'backup'), 'raw')
            j.run('transaction', {'actions': [{'type': 'block-dirty-bitmap-remove', 'data': {'node': n6, 'name': 'chk1'}}]})
            # backup-begin (pull): the scratch image over the disk, and its end
            n10 = m.new('scratch', n6, attach=True)
            j.run('transaction', {'actions': [{'type': 'blockdev-backup', 'data': {
                'device': n6, 'job-id': 'backup-vda', 'target': n10, 'sync': 'none', **AUTO}}]})
            j.wait('backup-vda', 'running')
            j.run('block-job-cancel', {'device': 'backup-vda', 'force': True})
            j.finish('backup-vda')
            m.drop(n10)
            # blkdeviotune, domblkthreshold, blockresize
            qdev = next(b['qdev'] for b in j.run('query-block') if b.get('qdev'))
            zero = {k: 0 for k in ('bps', 'bps_rd', 'bps_wr', 'iops', 'iops_rd', 'iops_wr')}
            j.run('block_set_io_throttle', {'id': qdev, **zero, 'iops': 1000, 'iops_max': 2000, 'group': 'drive-virtio-disk0'})
            inserted = j.run('query-block')[0]['inserted']
            assert (inserted['iops'], inserted['iops_max'], inserted['group']) == (1000, 2000, 'drive-virtio-disk0'), inserted
            j.refused('same time', 'block_set_io_throttle', {'id': qdev, **zero, 'bps': 1, 'bps_rd': 1})
            j.run('block_set_io_throttle', {'id': qdev, **zero})
            assert j.run('query-block')[0]['inserted']['iops'] == 0
            j.run('block-set-write-threshold', {'node-name': n6.replace('-format', '-storage'), 'write-threshold': 536870912})
            j.run('block_resize', {'node-name': n6, 'size': SIZE + MiB})
            j.run('quit')
            r.wait()
        check(os.path.join(d, 'copy'))
        run('qemu-img', 'resize', '-q', '--shrink', os.path.join(d, 'copy'), str(SIZE))
        compare(expected, os.path.join(d, 'copy'), 'raw')


def test_drive_options():
    with tempfile.TemporaryDirectory() as d:
        base = create(os.path.join(d, 'base'))
        write(base, (1, 0, MiB))
        top = create(os.path.join(d, 'top'), backing=base)
        expected = flat(d, top)
        with Rhea('-drive', 'if=none,id=a,file=%s,copy-on-read=on,throttling.bps-total=1000000,throttling.iops-size=4096,throttling.iops-total=10' % top,
                  '-drive', 'if=none,id=cd,media=cdrom') as r, r.connect() as s:
            j = Jobs(s)
            a = next(b for b in j.run('query-block') if b['device'] == 'a')['inserted']
            assert (a['drv'], a['bps'], a['iops'], a['iops_size'], a['group']) == ('copy-on-read', 1000000, 10, 4096, 'a'), a
            j.run('blockdev-change-medium', {'device': 'cd', 'filename': base})
            cd = next(b for b in j.run('query-block') if b['device'] == 'cd')
            assert cd['inserted']['ro'] and not cd['tray_open']
            assert j.event('DEVICE_TRAY_MOVED')['tray-open']
            j.run('eject', {'device': 'cd'})
            assert 'inserted' not in next(b for b in j.run('query-block') if b['device'] == 'cd')
            j.refused('not removable', 'eject', {'device': 'a'})
            j.refused('not found', 'eject', {'device': 'nobody'})

            def hmp(line):
                return j.run('human-monitor-command', {'command-line': line})

            assert 'No active jobs' in hmp('info block-jobs')
            assert hmp('drive_backup -f a %s/copy qcow2' % d) == ''
            j.wait('a', 'null')
            compare(expected, d + '/copy', 'raw')
            j.forget()
            assert 'Error' in hmp('block_stream nobody')
            assert hmp('snapshot_blkdev a %s/snap qcow2' % d) == ''
            assert hmp('block_job_cancel a') != ''
            assert hmp('commit a') == ''
            assert hmp('drive_del a') == ''
            assert all(b['device'] != 'a' for b in j.run('query-block'))
        check(base, top, d + '/snap')
        bad = subprocess.run([os.environ.get('BUILD', 'build') + '/bin/rhea-system-x86_64', '-machine', 'none', '-display', 'none',
                              '-drive', 'if=none,file=%s,throttling.bps-total=1,throttling.bps-read=1' % top], capture_output=True, text=True, timeout=120)
        assert bad.returncode == 1 and 'same time' in bad.stderr, bad.stderr


main(globals())
