#!/usr/bin/env python3
"""What a disk keeps beside its contents, by QMP: dirty bitmaps, internal snapshots, an encrypted image as a node."""
import base64
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'client'))
from rhea_client import CommandError, Rhea, cases, main, program, until  # noqa: E402

MiB = 1 << 20


def image(d, *options):
    path = os.path.join(d, 'disk.qcow2')
    subprocess.run([program('rhea-img'), 'create', '-q', '-f', 'qcow2', *options, path, '16M'], check=True)
    return path


def blockdev(path, **more):
    return {'driver': 'qcow2', 'node-name': 'disk', 'file': {'driver': 'file', 'filename': path}, **more}


def refused(session, word, command, arguments):
    try:
        session.run(command, arguments)
    except CommandError as e:
        assert word in e.desc, e.desc
    else:
        raise AssertionError('%s was not refused' % command)


def bitmaps(session):
    node = next(n for n in session.run('query-named-block-nodes') if n['node-name'] == 'disk')
    return {b['name']: b for b in node.get('dirty-bitmaps', [])}


def test_bitmaps():
    with tempfile.TemporaryDirectory() as d:
        path = image(d)
        with Rhea() as r, r.connect() as s:
            s.run('blockdev-add', blockdev(path))
            s.run('block-dirty-bitmap-add', {'node': 'disk', 'name': 'kept', 'persistent': True})
            s.run('block-dirty-bitmap-add', {'node': 'disk', 'name': 'off', 'granularity': 4096, 'disabled': True})
            refused(s, 'already exists', 'block-dirty-bitmap-add', {'node': 'disk', 'name': 'kept'})
            refused(s, 'power of 2', 'block-dirty-bitmap-add', {'node': 'disk', 'name': 'x', 'granularity': 1000})
            refused(s, 'Cannot find', 'block-dirty-bitmap-add', {'node': 'nowhere', 'name': 'x'})
            refused(s, 'not found', 'block-dirty-bitmap-clear', {'node': 'disk', 'name': 'x'})
            b = bitmaps(s)
            assert (b['kept']['recording'], b['kept']['persistent'], b['kept']['granularity']) == (True, True, 65536), b
            assert (b['off']['recording'], b['off']['granularity']) == (False, 4096), b
            s.run('block_resize', {'node-name': 'disk', 'size': 17 * MiB})      # what is new counts as written
            assert bitmaps(s)['kept']['count'] == MiB and bitmaps(s)['off']['count'] == 0
            s.run('block-dirty-bitmap-merge', {'node': 'disk', 'target': 'off', 'bitmaps': [{'node': 'disk', 'name': 'kept'}]})
            assert bitmaps(s)['off']['count'] == MiB
            s.run('block-dirty-bitmap-clear', {'node': 'disk', 'name': 'kept'})
            s.run('block-dirty-bitmap-disable', {'node': 'disk', 'name': 'kept'})
            s.run('block-dirty-bitmap-merge', {'node': 'disk', 'target': 'kept', 'bitmaps': ['off']})
            s.run('block-dirty-bitmap-enable', {'node': 'disk', 'name': 'kept'})
            refused(s, 'not found', 'block-dirty-bitmap-merge', {'node': 'disk', 'target': 'kept', 'bitmaps': ['off', 'x']})
            s.run('block-dirty-bitmap-remove', {'node': 'disk', 'name': 'off'})
            assert list(bitmaps(s)) == ['kept']
            s.run('blockdev-del', {'node-name': 'disk'})
            info = json.loads(subprocess.check_output(['qemu-img', 'info', '--output=json', path]))
            assert info['format-specific']['data']['bitmaps'] == [{'flags': ['auto'], 'name': 'kept', 'granularity': 65536}], info
            s.run('blockdev-add', blockdev(path))
            assert bitmaps(s)['kept']['count'] == MiB
            s.run('block-dirty-bitmap-remove', {'node': 'disk', 'name': 'kept'})
            s.run('blockdev-del', {'node-name': 'disk'})
        subprocess.run(['qemu-img', 'check', '-q', path], check=True)


def test_internal_snapshots():
    with tempfile.TemporaryDirectory() as d:
        path = image(d)
        subprocess.run(['qemu-io', '-c', 'write -P 7 0 1M', path], check=True, stdout=subprocess.DEVNULL)
        with Rhea() as r, r.connect() as s:
            s.run('blockdev-add', blockdev(path))
            s.run('blockdev-snapshot-internal-sync', {'device': 'disk', 'name': 'one'})
            s.run('blockdev-snapshot-internal-sync', {'device': 'disk', 'name': 'two'})
            refused(s, 'already exists', 'blockdev-snapshot-internal-sync', {'device': 'disk', 'name': 'one'})
            gone = s.run('blockdev-snapshot-delete-internal-sync', {'device': 'disk', 'name': 'one'})
            assert (gone['name'], gone['id']) == ('one', '1'), gone
            refused(s, 'does not exist', 'blockdev-snapshot-delete-internal-sync', {'device': 'disk', 'name': 'one'})
            refused(s, 'Name or id', 'blockdev-snapshot-delete-internal-sync', {'device': 'disk'})
            s.run('blockdev-del', {'node-name': 'disk'})
        out = subprocess.check_output(['qemu-img', 'snapshot', '-l', path], text=True)
        assert 'two' in out and 'one' not in out, out
        subprocess.run(['qemu-img', 'check', '-q', path], check=True)


def test_info_snapshots():
    """Of all disks together, as QEMU lists them."""
    with tempfile.TemporaryDirectory() as d:
        paths = [os.path.join(d, n) for n in ('a', 'b', 'c')]
        for p, names in zip(paths, (('one', 'both'), ('both', 'two'), ())):
            subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', p, '1M'], check=True)
            for name in names:
                subprocess.run(['qemu-img', 'snapshot', '-c', name, p], check=True)

        def listed(program, *disks):
            drives = [x for i, p in enumerate(disks) for x in ('-drive', 'file=%s,format=qcow2,if=none,id=d%d' % (p, i))]
            with Rhea(*drives, name=program) as r, r.connect() as s:
                return s.run('human-monitor-command', {'command-line': 'info snapshots'}).replace('\r', '')

        for disks in ((), paths[:1], paths[:2], paths[1::-1], paths[2:], paths[1:], paths):
            ours, theirs = listed('rhea-system-x86_64', *disks), listed('/usr/bin/qemu-system-x86_64', *disks)
            assert ours == theirs, (ours, theirs)


def test_debug_commands():
    """What clients use to look for faults: the hash of a bitmap, the graph; iothreads of nodes, which belong to none here."""
    sums = []
    for name in ('rhea-system-x86_64', '/usr/bin/qemu-system-x86_64'):
        with tempfile.TemporaryDirectory() as d:
            path = image(d)
            with Rhea('-object', 'iothread,id=io', name=name) as r, r.connect() as s:
                s.run('blockdev-add', blockdev(path))
                sums.append([])
                for granularity in (65536, 512, 1 << 24):
                    b = {'node': 'disk', 'name': 'g%d' % granularity}
                    s.run('block-dirty-bitmap-add', {**b, 'granularity': granularity})
                    s.run('human-monitor-command', {'command-line': 'qemu-io disk "write 3M 100k"'})
                    sums[-1].append(s.run('x-debug-block-dirty-bitmap-sha256', b)['sha256'])
                refused(s, 'not found', 'x-debug-block-dirty-bitmap-sha256', {'node': 'disk', 'name': 'x'})
                for thread in ('io', None):
                    s.run('x-blockdev-set-iothread', {'node-name': 'disk', 'iothread': thread})
                refused(s, 'Cannot find iothread', 'x-blockdev-set-iothread', {'node-name': 'disk', 'iothread': 'x'})
                refused(s, 'Failed to find node', 'x-blockdev-set-iothread', {'node-name': 'x', 'iothread': 'io'})
                graph = s.run('x-debug-query-block-graph')
                ids = {n['name']: n['id'] for n in graph['nodes']}
                edges = [e for e in graph['edges'] if e['parent'] == ids['disk']]
                assert [(e['name'], sorted(e['perm']), sorted(e['shared-perm'])) for e in edges] == [
                    ('file', ['consistent-read', 'resize', 'write'], ['consistent-read', 'write-unchanged'])], graph
                if name.startswith('rhea'):
                    assert s.run('query-named-block-nodes')[0]['active'] is True
    assert sums[0] == sums[1], sums


def test_nodes_change_hands():
    """Two processes have a disk by turns: inactive nodes lock nothing, and see what the other has written."""
    def inserted(s, name='disk'):
        return next(n for n in s.run('query-named-block-nodes', {'flat': True}) if n['node-name'] == name)

    def active(s, on, **more):
        s.run('blockdev-set-active', {'active': on, **more})

    def io(s, text, name='disk'):
        return s.run('human-monitor-command', {'command-line': 'qemu-io %s "%s"' % (name, text)})

    with tempfile.TemporaryDirectory() as d:
        path = image(d)
        file = {'driver': 'file', 'filename': path, 'node-name': 'file'}
        disk = {'driver': 'qcow2', 'node-name': 'disk', 'file': 'file'}
        with Rhea() as ra, Rhea() as rb, ra.connect() as a, rb.connect() as b:
            for node in (file, disk):
                a.run('blockdev-add', node)
                b.run('blockdev-add', {**node, 'active': False})
            assert inserted(a)['active'] and not inserted(b)['active'] and not inserted(b, 'file')['active']
            assert 'wrote' in io(a, 'write -P 1 0 64k')
            refused(b, 'lock', 'blockdev-set-active', {'node-name': 'disk', 'active': True})
            assert not inserted(b)['active']
            refused(b, 'lock', 'block-export-add', {'type': 'nbd', 'id': 'e', 'node-name': 'disk'})     # would activate it
            refused(b, 'inactive', 'blockdev-reopen', {'options': [disk]})
            refused(b, 'inactive', 'block_resize', {'node-name': 'disk', 'size': MiB})
            refused(b, 'inactive', 'block-dirty-bitmap-add', {'node': 'disk', 'name': 'x'})
            refused(b, 'Failed to find', 'blockdev-set-active', {'node-name': 'x', 'active': True})
            for pattern, (giver, taker) in enumerate(((a, b), (b, a), (a, b), (b, a)), 1):
                giver.run('block-dirty-bitmap-add', {'node': 'disk', 'name': 'lost'})
                refused(giver, 'would be lost', 'blockdev-set-active', {'node-name': 'disk', 'active': False})
                giver.run('block-dirty-bitmap-remove', {'node': 'disk', 'name': 'lost'})
                refused(giver, 'in use', 'blockdev-set-active', {'node-name': 'file', 'active': False})
                active(giver, False, **({'node-name': 'disk'} if pattern & 1 else {}))
                assert not inserted(giver)['active'] and not inserted(giver, 'file')['active']
                active(taker, True, **({'node-name': 'disk'} if pattern & 1 else {}))
                assert inserted(taker)['active'] and inserted(taker, 'file')['active']
                assert 'read 65536' in io(taker, 'read -P %d 0 64k' % pattern)
                assert 'wrote' in io(taker, 'write -P %d 0 64k' % (pattern + 1))
            a.run('nbd-server-start', {'addr': {'type': 'unix', 'data': {'path': os.path.join(d, 'nbd')}}})
            a.run('block-export-add', {'type': 'nbd', 'id': 'e', 'node-name': 'disk', 'writable': True})
            for which in ({'node-name': 'disk'}, {}):
                refused(a, 'in use', 'blockdev-set-active', {'active': False, **which})
            # a write that does not reach the host keeps the node
            other = os.path.join(d, 'other')
            subprocess.run(['qemu-img', 'create', '-q', other, '1M'], check=True)
            a.run('blockdev-add', {'driver': 'raw', 'node-name': 'other', 'file': {
                'driver': 'blkdebug', 'image': {'driver': 'file', 'filename': other},
                'inject-error': [{'event': 'flush_to_disk', 'errno': 5, 'once': True}]}})
            assert 'wrote' in io(a, 'write 0 64k', 'other')
            refused(a, 'Input/output error', 'blockdev-set-active', {'node-name': 'other', 'active': False})
            assert inserted(a, 'other')['active']
            active(a, False, **{'node-name': 'other'})
            # who refers to each other is found when they are opened
            b.run('blockdev-add', {'driver': 'raw', 'node-name': 'x', 'file': 'y', 'active': False})
            b.run('blockdev-add', {'driver': 'raw', 'node-name': 'y', 'file': 'x', 'active': False})
            b.run('blockdev-add', {'driver': 'raw', 'node-name': 'z', 'file': 'z', 'active': False})
            for name in 'xyz':
                refused(b, 'Cannot find', 'blockdev-set-active', {'node-name': name, 'active': True})
            for name in ('x', 'y', 'z', 'disk', 'file'):
                assert not inserted(b, name)['active']
                b.run('blockdev-del', {'node-name': name})
        subprocess.run(['qemu-img', 'check', '-q', path], check=True)


def test_exports_of_inactive_nodes():
    """allow-inactive: an NBD export stays when its node is given up: it reads then, and writes again when the node is back."""
    def read(pattern, sock):
        return subprocess.run([program('rhea-io'), '-r', '-f', 'raw', '-c', 'read -P %d 0 64k' % pattern, 'nbd+unix:///e?socket=' + sock],
                              capture_output=True, text=True).stdout

    def write(sock):
        out = subprocess.run([program('rhea-io'), '-f', 'raw', '-c', 'write -P 9 1M 64k', 'nbd+unix:///e?socket=' + sock],
                             capture_output=True, text=True)
        return out.stdout + out.stderr

    with tempfile.TemporaryDirectory() as d:
        path, sock = image(d), os.path.join(d, 's')
        export = {'type': 'nbd', 'id': 'e', 'name': 'e', 'node-name': 'disk', 'writable': True, 'allow-inactive': True}
        with Rhea('-object', 'iothread,id=t') as ra, Rhea() as rb, ra.connect() as a, rb.connect() as b:
            for s, active in ((a, True), (b, False)):
                s.run('blockdev-add', {'driver': 'file', 'node-name': 'file', 'filename': path, 'active': active})
                s.run('blockdev-add', {'driver': 'qcow2', 'node-name': 'disk', 'file': 'file', 'active': active})
            for kind in ({'type': 'vhost-user-blk', 'addr': {'type': 'unix', 'path': d + '/v'}}, {'type': 'fuse', 'mountpoint': path}):
                refused(b, 'do not run on inactive', 'block-export-add', {**kind, 'id': 'x', 'node-name': 'disk', 'allow-inactive': True})
            a.run('nbd-server-start', {'addr': {'type': 'unix', 'data': {'path': sock}}})
            a.run('block-export-add', {**export, 'iothread': 't'})
            b.run('nbd-server-start', {'addr': {'type': 'unix', 'data': {'path': sock + 'b'}}})
            b.run('block-export-add', export)                   # of an inactive node: it stays so
            assert not next(n for n in b.run('query-named-block-nodes') if n['node-name'] == 'disk')['active']
            refused(b, 'in use', 'blockdev-del', {'node-name': 'disk'})
            b.run('blockdev-add', {'driver': 'null-co', 'node-name': 'other', 'size': MiB, 'active': False})
            b.run('block-export-add', {'type': 'nbd', 'id': 'o', 'node-name': 'other'})     # makes it active
            assert next(n for n in b.run('query-named-block-nodes') if n['node-name'] == 'other')['active']
            b.run('block-export-del', {'id': 'o'})
            assert cases.until(lambda: len(b.run('query-block-exports')) == 1)
            b.run('blockdev-del', {'node-name': 'other'})
            for turn in range(2):
                a.run('human-monitor-command', {'command-line': 'qemu-io disk "write -P %d 0 64k"' % (turn + 1)})
                assert 'wrote' in write(sock)
                with subprocess.Popen([program('rhea-io'), '-f', 'raw', 'nbd+unix:///e?socket=' + sock], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True, bufsize=1) as client:     # one that stays
                    client.stdin.write('write -q -P %d 0 64k\nlength\n' % (turn + 3))
                    assert client.stdout.readline() == '16 MiB\n'
                    a.run('blockdev-set-active', {'active': False, **({'node-name': 'disk'} if turn else {})})
                    assert [e['node-name'] for e in a.run('query-block-exports')] == ['disk']
                    b.run('blockdev-set-active', {'node-name': 'disk', 'active': True})
                    assert 'wrote' in write(sock + 'b')
                    client.stdin.write('read -P %d 0 64k\nwrite 0 64k\nquit\n' % (turn + 3))
                    rest = client.stdout.read()
                assert 'read 65536/65536' in rest and 'write failed: Operation not permitted' in rest, rest
                assert 'Pattern' not in rest and 'read 65536' in read(turn + 3, sock) and 'wrote' not in write(sock)
                b.run('blockdev-set-active', {'active': False})
                a.run('blockdev-set-active', {'active': True})
            refused(a, 'allow-inactive', 'block-export-add', {**export, 'id': 'f', 'name': 'f', 'allow-inactive': 7})
            a.run('block-export-add', {**export, 'id': 'g', 'name': 'g', 'writable': False, 'allow-inactive': False})
            refused(a, 'in use', 'blockdev-set-active', {'node-name': 'disk', 'active': False})
            a.run('block-export-del', {'id': 'g'})
            b.run('block-export-del', {'id': 'e', 'mode': 'hard'})
        subprocess.run(['qemu-img', 'check', '-q', path], check=True)


def test_encrypted_node():
    with tempfile.TemporaryDirectory() as d:
        secret = ['--object', 'secret,id=s,data=open']
        path = image(d, *secret, '-o', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10')
        with Rhea() as r, r.connect() as s:
            refused(s, 'key-secret', 'blockdev-add', blockdev(path))
            s.run('object-add', {'qom-type': 'secret', 'id': 'k', 'data': 'wrong'})
            s.run('object-add', {'qom-type': 'secret', 'id': 's', 'format': 'base64', 'data': base64.b64encode(b'open').decode()})
            encrypt = {'format': 'luks', 'key-secret': 'k'}
            refused(s, '', 'blockdev-add', blockdev(path, encrypt=encrypt))
            encrypt['key-secret'] = 's'
            s.run('blockdev-add', blockdev(path, encrypt=encrypt))
            node = next(n for n in s.run('query-named-block-nodes') if n['node-name'] == 'disk')
            assert node['encrypted'] and node['image']['encrypted'], node


def test_latency_histograms():
    """The firmware reads the disk: each read is in a bin."""
    with Rhea('-S', '-blockdev', 'null-co,node-name=d,size=1M,read-zeroes=on', '-device', 'virtio-blk-pci,drive=d,id=v,bootindex=0',
              machine='q35') as r, r.connect() as s:
        disk = '/machine/peripheral/v/virtio-backend'

        def stats():
            return s.run('query-blockstats')[0]['stats']

        def reads_counted():
            o = stats()
            return o['rd_operations'] > 0 and sum(o['rd_latency_histogram']['bins']) == o['rd_operations']

        refused(s, 'not found', 'block-latency-histogram-set', {'id': 'w', 'boundaries': [1]})
        refused(s, 'that grow', 'block-latency-histogram-set', {'id': disk, 'boundaries': [2, 2]})
        refused(s, 'cannot have 0', 'block-latency-histogram-set', {'id': disk, 'boundaries': [1], 'boundaries-flush': []})
        assert 'rd_latency_histogram' not in stats()
        s.run('block-latency-histogram-set', {'id': disk, 'boundaries': [1000, 1000000], 'boundaries-write': [5]})
        o = stats()
        assert o['rd_latency_histogram'] == {'boundaries': [1000, 1000000], 'bins': [0, 0, 0]}, o
        assert o['wr_latency_histogram'] == {'boundaries': [5], 'bins': [0, 0]} and o['flush_latency_histogram']['bins'] == [0, 0, 0], o
        s.run('cont')
        assert cases.until(reads_counted), stats()
        s.run('block-latency-histogram-set', {'id': disk, 'boundaries-read': [7]})
        assert stats()['rd_latency_histogram']['boundaries'] == [7] and stats()['wr_latency_histogram']['boundaries'] == [5]
        s.run('block-latency-histogram-set', {'id': disk})
        assert not [k for k in stats() if 'histogram' in k]


def test_monitor_qemu_io():
    with tempfile.TemporaryDirectory() as d:
        path = image(d)
        with Rhea('-drive', 'if=none,id=d0,file=%s' % path, '-device', 'virtio-blk-pci,drive=d0,id=dev',
                  machine='pc') as r, r.connect() as s:
            def io(text):
                return s.run('human-monitor-command', {'command-line': 'qemu-io ' + text})

            assert 'wrote 65536/65536' in io('d0 "write -P 5 64k 64k"')
            assert 'read 65536/65536' in io('-d /machine/peripheral/dev/virtio-backend "read -P 5 64k 64k"')
            assert 'Pattern verification failed' in io('d0 "read -P 6 64k 64k"')
            text = io('d0 "aio_read -v 65536 16"')          # it has ended when the command has
            assert '00010000:  05 05' in text, text
            assert '16 MiB' in io('d0 length') and '64 KiB (0x10000) bytes     allocated at offset 64 KiB' in io('d0 map')
            assert 'block_resize' in io('d0 "truncate 1M"') and '16 MiB' in io('d0 length')
            assert 'beyond' in io('d0 "alloc 1G"') and 'failed' in io('d0 "write 17M 64k"')
            assert 'not found' in io('d0 "open %s"' % path) and 'nowhere' in io('nowhere length') and 'not found' in io('-d nowhere length')
            s.run('blockdev-snapshot-sync', {'device': 'd0', 'snapshot-file': os.path.join(d, 'over')})
            assert 'wrote' in io('d0 "write -P 7 0 512"') and 'read 512/512' in io('d0 "read -P 7 0 512"')
            assert 'not allocated at offset 64 KiB' in io('d0 map')
        subprocess.run([program('rhea-io'), '-r', '-c', 'read -P 5 64k 64k', '-c', 'read -P 0 0 512', path], check=True, stdout=subprocess.DEVNULL)


def test_drive_of_a_running_device():
    """qom-set of drive: another node as the same disk, by the device or what is behind it; what cannot be leaves all as it is."""
    with tempfile.TemporaryDirectory() as d:
        paths = {}
        for name, size in (('a', MiB), ('b', MiB), ('c', MiB), ('small', MiB // 2), ('ro', MiB), ('busy', MiB)):
            paths[name] = os.path.join(d, name)
            with open(paths[name], 'wb') as f:
                f.truncate(size)
        nodes = [x for name, path in paths.items() if name != 'c'
                 for x in ('-blockdev', 'driver=file,node-name=%s,filename=%s,read-only=%s' % (name, path, 'on' if name == 'ro' else 'off'))]
        with Rhea(*nodes, '-drive', 'if=none,id=d1,format=raw,file=' + paths['c'], '-device', 'virtio-blk-pci,drive=a,id=dev',
                  '-device', 'virtio-blk-pci,drive=busy,id=other', '-device', 'virtio-blk-pci,drive=d1,id=named', '-S',
                  machine='q35') as r, r.connect() as s:
            def io(text, dev='dev'):
                return s.run('human-monitor-command', {'command-line': 'qemu-io -d /machine/peripheral/%s/virtio-backend "%s"' % (dev, text)})

            def put(value, path='/machine/peripheral/dev'):
                return {'path': path, 'property': 'drive', 'value': value}

            def shown():
                block = next(b for b in s.run('query-block') if b.get('qdev') == '/machine/peripheral/dev/virtio-backend')
                names = {block['inserted']['node-name']} | {s.run('qom-get', {'path': '/machine/peripheral/dev' + tail, 'property': 'drive'})
                                                            for tail in ('', '/virtio-backend')}
                assert len(names) == 1, names
                return names.pop()

            assert 'wrote' in io('write -P 1 0 64k') and shown() == 'a'
            for value, word in (('nowhere', 'Cannot find'), ('', 'Cannot find'), ('small', 'bytes'), ('ro', 'read-only'), ('busy', 'in use'), (5, 'string')):
                refused(s, word, 'qom-set', put(value))
                assert shown() == 'a' and 'read 512/512' in io('read -P 1 0 512')
            s.run('qom-set', put('a'))
            s.run('qom-set', put('b'))
            assert shown() == 'b' and 'wrote' in io('write -P 2 0 64k')
            s.run('blockdev-del', {'node-name': 'a'})           # nothing has it any more
            refused(s, 'in use', 'blockdev-del', {'node-name': 'b'})
            s.run('blockdev-add', {'driver': 'file', 'node-name': 'a', 'filename': paths['a']})
            s.run('qom-set', put('a', '/machine/peripheral/dev/virtio-backend'))
            assert shown() == 'a' and 'verification failed' not in io('read -P 1 0 64k')
            s.run('blockdev-mirror', {'job-id': 'm', 'device': 'a', 'target': 'b', 'sync': 'full'})
            refused(s, 'in use', 'qom-set', put('ro'))
            s.run('job-cancel', {'id': 'm'})
            assert until(lambda: not s.run('query-jobs'))
            # a drive by its id: the node is another, the name of the drive stays
            s.run('qom-set', put('b', '/machine/peripheral/named'))
            block = next(b for b in s.run('query-block') if b['device'] == 'd1')
            assert block['inserted']['node-name'] == 'b', block
            assert 'wrote' in io('write -P 3 0 4k', 'named')
            refused(s, 'after it was realized', 'qom-set', {'path': '/machine/peripheral/dev', 'property': 'serial', 'value': 'x'})


def test_drive_of_a_running_flash():
    with tempfile.TemporaryDirectory() as d:
        nodes = []
        for name in 'ab':
            with open(os.path.join(d, name), 'wb') as f:
                f.truncate(65536)
            nodes += ['-blockdev', 'driver=file,node-name=%s,filename=%s' % (name, f.name)]
        with Rhea(*nodes, '-S', name='rhea-system-aarch64', machine='virt,pflash0=a') as r, r.connect() as s:
            devices = ['/machine/unattached/' + e['name'] for e in s.run('qom-list', {'path': '/machine/unattached'}) if e['name'] != 'type']
            flash = next(p for p in devices if s.run('qom-get', {'path': p, 'property': 'type'}) == 'cfi.pflash01')
            s.run('qom-set', {'path': flash, 'property': 'drive', 'value': 'b'})
            assert s.run('qom-get', {'path': flash, 'property': 'drive'}) == 'b'
            s.run('blockdev-del', {'node-name': 'a'})
            refused(s, 'in use', 'blockdev-del', {'node-name': 'b'})


def test_events_of_bad_images():
    """A quorum with an image that differs, and one that fails; a qcow2 image whose tables make no sense."""
    with tempfile.TemporaryDirectory() as d:
        names = [os.path.join(d, n) for n in ('a', 'b', 'c')]
        for i, name in enumerate(names):
            with open(name, 'wb') as f:
                f.write(bytes([1 if i < 2 else 2]) * MiB)
        path = image(d)
        subprocess.run([program('rhea-io'), '-c', 'write -q 0 64k', path], check=True)
        with open(path, 'r+b') as f:
            f.seek(40)
            at = struct.unpack('>Q', f.read(8))[0]
            f.seek(at)
            table = struct.unpack('>Q', f.read(8))[0] & 0x00fffffffffffe00
            f.seek(table)
            f.write(struct.pack('>Q', 1 << 63 | 0x10200))       # not a place where a cluster can be
        children = [{'driver': 'file', 'node-name': 'n%d' % i, 'filename': name} for i, name in enumerate(names)]
        children[1] = {'driver': 'blkdebug', 'node-name': 'n1', 'image': children[1], 'inject-error': [{'event': 'none', 'iotype': 'write'}]}
        children[1]['image']['node-name'] = 'under'
        with Rhea() as r, r.connect() as s:
            def io(node, text):
                return s.run('human-monitor-command', {'command-line': 'qemu-io %s "%s"' % (node, text)})

            s.run('blockdev-add', {'driver': 'quorum', 'node-name': 'q', 'vote-threshold': 2, 'children': children})
            s.run('blockdev-add', blockdev(path))
            assert 'read 512/512' in io('q', 'read -P 1 1024 512')
            assert s.event('QUORUM_REPORT_BAD')['data'] == {'type': 'read', 'node-name': 'n2', 'sector-num': 2, 'sectors-count': 1}
            assert 'wrote 512/512' in io('q', 'write -P 3 0 512')
            e = s.event('QUORUM_REPORT_BAD')['data']
            assert (e['type'], e['node-name'], e['error'], e['sectors-count']) == ('write', 'n1', 'Input/output error', 1), e
            with open(names[1], 'r+b') as f:
                f.write(bytes([9]) * 1024)
            with open(names[2], 'r+b') as f:
                f.write(bytes([8]) * 1024)
            assert 'read failed' in io('q', 'read 0 512')
            assert s.event('QUORUM_FAILURE')['data'] == {'reference': 'q', 'sector-num': 0, 'sectors-count': 1}
            assert 'failed' in io('disk', 'read 0 512')
            e = s.event('BLOCK_IMAGE_CORRUPTED')['data']
            assert (e['node-name'], e['fatal']) == ('disk', True) and 'L2 entry' in e['msg'], e


def test_schema_names_the_drivers():
    with Rhea() as r, r.connect() as s:
        types = {e['name']: e for e in s.run('query-qmp-schema')}
        options = types[types['blockdev-add']['arg-type']]
        tag = next(m for m in options['members'] if m['name'] == 'driver')
        drivers = types[tag['type']]['values']
        assert set(drivers) == {v['case'] for v in options['variants']} and {'rbd', 'vhdx', 'luks', 'throttle'} <= set(drivers), drivers


def test_options_that_clients_may_give():
    """What is only a hint is taken, what makes no sense is not; a listener goes on to the next port; blkdebug's rules by event."""
    with tempfile.TemporaryDirectory() as d, Rhea() as r, r.connect() as s:
        path, taken = image(d), socket.create_server(('127.0.0.1', 0))
        for check in ('cached', {'template': 'none', 'main-header': True}):
            s.run('blockdev-add', blockdev(path, **{'overlap-check': check}))
            s.run('blockdev-del', {'node-name': 'disk'})
        for check in ('some', {'template': 'some'}, {'main-headers': True}):
            refused(s, 'overlap-check' if check == 'some' or 'template' in check else 'main-headers', 'blockdev-add',
                    blockdev(path, **{'overlap-check': check}))
        refused(s, 'reservations', 'blockdev-add', {'driver': 'file', 'node-name': 'f', 'filename': path, 'pr-manager': 'p'})
        s.run('blockdev-create', {'job-id': 'c', 'options': {'driver': 'file', 'filename': d + '/new', 'size': MiB, 'nocow': True,
                                                             'extent-size-hint': MiB}})
        assert cases.until(lambda: s.run('query-jobs')[0]['status'] == 'concluded') and 'error' not in s.run('query-jobs')[0]
        port = taken.getsockname()[1]
        address = {'host': '127.0.0.1', 'port': str(port), 'numeric': True, 'keep-alive': True}
        refused(s, str(port), 'nbd-server-start', {'addr': {'type': 'inet', 'data': address}})
        refused(s, 'multipath', 'nbd-server-start', {'addr': {'type': 'inet', 'data': {**address, 'mptcp': True}}})
        refused(s, "'to'", 'nbd-server-start', {'addr': {'type': 'inet', 'data': {**address, 'to': port - 1}}})
        s.run('nbd-server-start', {'addr': {'type': 'inet', 'data': {**address, 'to': min(port + 50, 65535)}}})
        s.run('nbd-server-stop')
        s.run('blockdev-add', {'driver': 'blkdebug', 'node-name': 'b', 'image': {'driver': 'file', 'filename': d + '/new'}, 'inject-error': [
            {'event': 'pwritev', 'errno': 28}, {'event': 'read_aio', 'errno': 0, 'delay-ns': 1000000}]})
        assert 'No space' in s.run('human-monitor-command', {'command-line': 'qemu-io b "write 0 512"'})
        assert 'wrote' in s.run('human-monitor-command', {'command-line': 'qemu-io b "write -z 0 512"'})
        assert 'read 512/512' in s.run('human-monitor-command', {'command-line': 'qemu-io b "read 0 512"'})


def test_monitor_nbd_server():
    with tempfile.TemporaryDirectory() as d:
        path, sock = image(d), os.path.join(d, 's')
        other = os.path.join(d, 'other')
        subprocess.run([program('rhea-img'), 'create', '-q', '-f', 'raw', other, '3M'], check=True)
        with Rhea('-drive', 'if=none,id=d0,file=%s' % path, '-drive', 'if=none,id=d1,format=raw,readonly=on,file=%s' % other) as r, r.connect() as s:
            def hmp(line):
                return s.run('human-monitor-command', {'command-line': line})

            def listed():
                out = subprocess.run([program('rhea-nbd'), '--list', '-k', sock], check=True, capture_output=True, text=True).stdout
                return {line.split("'")[1] for line in out.splitlines() if line.lstrip().startswith('export:')}, out

            assert '-a' in hmp('nbd_server_start -w unix:%s' % sock)
            assert hmp('nbd_server_start -a -w unix:%s' % sock) == ''
            names, out = listed()
            assert names == {'d0', 'd1'} and out.count('readonly') == 1, out
            assert 'already' in hmp('nbd_server_start unix:%s' % sock)
            assert hmp('nbd_server_remove -f d1') == '' and hmp('nbd_server_add d1 again') == ''
            assert listed()[0] == {'d0', 'again'}
            assert 'not found' in hmp('nbd_server_remove nothing')
            assert hmp('nbd_server_stop') == '' and not os.path.exists(sock)
            assert hmp('nbd_server_start 127.0.0.1:0') == '' and hmp('nbd_server_stop') == ''
            assert 'set_password' in hmp('change vnc password')
            assert 'not found' in hmp('change nowhere %s' % other)


main(globals())
