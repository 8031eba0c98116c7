#!/usr/bin/env python3
"""Every name by which clients know QEMU's block layer (qemu.names) is known here too, or stands in the list of what is not, which
docs/block.md explains; and what is on that list is refused with a reason."""
import fnmatch
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]
from qemu_names import HMP, IMG, Qmp, monitor_names, options, said, schema_names       # noqa: E402
import cases                            # noqa: E402

BIN = os.path.join(os.path.abspath(os.environ.get('BUILD', 'build')), 'bin/')
DRIVERS = ('blklogwrites blkreplay gluster host_cdrom io_uring nvme nvme-io_uring qcow replication '
           'virtio-blk-vfio-pci virtio-blk-vhost-user virtio-blk-vhost-vdpa').split()
# path: names ('*': the path itself is not here)
REFUSED = {
    **{'qmp *{%s}*' % driver: '*' for driver in DRIVERS}, 'qmp *.driver': DRIVERS, 'qmp *.backing-fmt': DRIVERS,
    'qmp *{vduse-blk}*': '*', 'qmp *.type': ['vduse-blk'],
    'qmp block-export-add{vhost-user-blk}.addr*': ['vsock', 'keep-alive', 'mptcp', 'numeric', 'to', 'cid', 'port'],
    'qmp *{ssh}*.server': ['keep-alive', 'mptcp', 'numeric', 'to'],
    # events inside formats, permissions: there are none
    'qmp blockdev-add{blkdebug}.*.event': '*',
    'qmp blockdev-add{blkdebug}*': ['take-child-perms', 'unshare-child-perms', 'max-discard', 'max-write-zero', 'opt-discard', 'opt-write-zero',
                                    'consistent-read', 'write', 'write-unchanged', 'resize'],
    'qmp blockdev-add{copy-on-read}': ['bottom'],
    'qmp blockdev-add{*}': ['pr-manager'],
    # the old encryption of qcow2
    'qmp *.encrypt.format': ['aes', 'qcow'], 'qmp *.encrypt{aes}': '*', 'qmp *.encrypt{qcow}': '*',
    'qmp *{rbd}*': ['encrypt', 'cluster-size'], 'qmp *{rbd}*.encrypt*': '*',
    'qmp blockdev-create.options{vmdk}': ['extents'],
    'qmp *.format-specific*': ['file', 'rbd', 'extent-size-hint', 'encryption-format', 'data', 'luks', 'luks2', 'luks-any'],
    'qmp query-blockstats returns*.driver-specific*': '*', 'qmp query-blockstats returns*': ['driver-specific'],
    # misprints of its help
    'img amend': ['--progres'], 'img check': ['-u'],
    'io commands': 'break remove_break resume wait_break zone_append zone_close zone_finish zone_open zone_report zone_reset'.split(),
    'monitor info': ['ramblock'],
}


def table():
    with open(os.path.join(HERE, 'qemu.names')) as f:
        for line in f:
            if not line.startswith('#'):
                path, _, names = line.partition(':')
                yield path, set(names.split())


def is_refused(path, name):
    return any(fnmatch.fnmatchcase(path, glob.replace('[', '[[]')) and (names == '*' or name in names) for glob, names in REFUSED.items())


def lacking(ours, prefix):
    """Names of the table that begin so and are not ours."""
    return ['%s: %s' % (path, name) for path, names in table() if path.startswith(prefix)
            for name in sorted(names - ours.get(path, set())) or ([] if path in ours else [''])
            if not is_refused(path, name)]


def test_control():
    """query-qmp-schema of the machine and of the storage daemon."""
    for program, option in (('rhea-system-x86_64', '-qmp'), ('rhea-storage-daemon', '--monitor')):
        machine = ('-nodefaults', '-display', 'none', '-machine', 'none') if option == '-qmp' else ()
        with Qmp(BIN + program, *machine, option=option) as q:
            ours = {'qmp ' + path: names for path, names in schema_names(q.run('query-qmp-schema')['return']).items()}
        assert not lacking(ours, 'qmp '), '\n'.join(lacking(ours, 'qmp '))


def test_drivers_that_are_not_here():
    with Qmp(BIN + 'rhea-system-x86_64', '-nodefaults', '-display', 'none', '-machine', 'none') as q:
        for driver in DRIVERS:
            text = q.run('blockdev-add', **{'driver': driver, 'node-name': 'n'})['error']['desc']
            assert text.startswith("there is no block driver '%s' here (" % driver), text
        text = q.run('block-export-add', **{'type': 'vduse-blk', 'id': 'e', 'node-name': 'n', 'name': 'e'})['error']['desc']
        assert 'VDUSE' in text, text


def test_monitor():
    with Qmp(BIN + 'rhea-system-x86_64', '-nodefaults', '-display', 'none', '-machine', 'none') as q:
        ours = monitor_names(q)
    assert not lacking(ours, 'monitor'), lacking(ours, 'monitor')
    assert any(HMP.search(name) for name in ours['monitor'])


def test_tools_tell_the_version_that_clients_look_for():
    """cinder and virt-v2v read it from what a program that is called qemu-img says."""
    for tool in ('img', 'nbd', 'io', 'storage-daemon'):
        for name in ('rhea-' + tool, 'compat/qemu-' + tool):
            p = subprocess.run([BIN + name, '--version'], capture_output=True, text=True, check=True)
            assert re.match(os.path.basename(name) + r' version 10\.\d+\.\d+ ', p.stdout), p.stdout


def test_tools():
    ours = {'img ' + command: options(said(BIN + 'rhea-img', command, '--help')) | {'-h', '--help'} for command in IMG}
    ours.update({tool: options(said(BIN + 'rhea-' + tool, '--help')) for tool in ('io', 'nbd', 'storage-daemon')})
    ours['io commands'] = {line.split()[0] for line in said(BIN + 'rhea-io', '-c', 'help').splitlines()}
    for prefix in ('img ', 'io', 'nbd', 'storage-daemon'):
        assert not lacking(ours, prefix), lacking(ours, prefix)


def test_commands_that_are_not_here_say_why():
    for name in REFUSED['io commands']:
        text = said(BIN + 'rhea-io', '-c', name)
        assert text.startswith(name + ': ') and 'not found' not in text, text


if __name__ == '__main__':
    cases.run(cases.named({k: v for k, v in globals().items() if getattr(v, '__module__', None) == '__main__'}))
