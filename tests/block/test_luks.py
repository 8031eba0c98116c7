#!/usr/bin/env python3
"""LUKS, a row for each cipher, mode, IV generator and hash: written by one of rhea-img and Debian's qemu-img, read and changed by
the other. Headers in a file of their own: with cryptsetup, and put together with their data for qemu-img."""
import json
import os
import random
import subprocess
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')]
import cases                            # noqa: E402
from jobs import Jobs, Rhea             # noqa: E402

BIN = os.path.abspath(os.path.join(os.environ.get('BUILD', 'build'), 'bin'))
SECRET = ['--object', 'secret,id=s,data=open sesame']
DISK = 'driver=luks,key-secret=s,file.filename='
RHEA = {'name': 'rhea', 'img': os.path.join(BIN, 'rhea-img'), 'io': os.path.join(BIN, 'rhea-io')}
QEMU = {'name': 'qemu', 'img': 'qemu-img', 'io': 'qemu-io'}

# cipher, mode, IV generator (and its hash), hash: each comes up in some row
BOTH = '''
aes-128     xts  plain64        sha256
aes-192     xts  plain          sha1
aes-256     xts  plain64        sha512
serpent-128 xts  plain64        ripemd160
serpent-192 xts  plain64        sha224
serpent-256 cbc  essiv:sha256   sha384
twofish-128 cbc  essiv:md5      md5
twofish-256 xts  plain64        sha256
cast5-128   cbc  plain64        sha256
aes-128     cbc  essiv:md5      sha256
aes-256     cbc  essiv:sha256   sha1
aes-256     ctr  plain64        sha256
aes-256     ecb  plain64        sha256
'''
OURS = '''
3des        cbc  plain64        sha256
des         cbc  plain          sha1
aes-192     cbc  plain64        sha256
'''                                     # Debian's build of QEMU lacks the first two; half a sector of key material ends it
NEITHER = '''
aes-128     cbc  essiv:sha1     sha256
aes-256     cbc  essiv:sha512   sha256
cast5-128   xts  plain64        sha256
'''                                     # no cipher has such keys, xts wants blocks of 16 bytes


def options(row):
    cipher, mode, iv, digest = row.split()
    iv, _, iv_hash = iv.partition(':')
    return 'cipher-alg=%s,cipher-mode=%s,ivgen-alg=%s,hash-alg=%s,iter-time=10,key-secret=s' % (cipher, mode, iv, digest) + (
        ',ivgen-hash-alg=' + iv_hash if iv_hash else '')


def run(*args, ok=True):
    p = subprocess.run(args, capture_output=True, text=True)
    if ok and p.returncode:
        raise AssertionError('%s: status %d\n%s%s' % (' '.join(args), p.returncode, p.stdout, p.stderr))
    return p


def make(tool, row, image, ok=True):
    while True:                         # qemu-img gives up where it cannot measure how fast it hashes: on busy machines
        p = run(tool['img'], 'convert', *SECRET, '-f', 'raw', '-O', 'luks', '-o', options(row), 'src.raw', image, ok=False)
        if 'accurate CPU usage' not in p.stderr:
            break
    assert not ok or not p.returncode, (row, tool['name'], p.stderr)
    return p


def holds(tool, image, expected):
    run(tool['img'], 'convert', *SECRET, '--image-opts', DISK + image, '-O', 'raw', image + '.raw')
    with open(image + '.raw', 'rb') as f:
        assert f.read() == expected, (tool['name'], image)


def cross(row, first, second):
    image = '%s-%s' % (first['name'], '-'.join(row.replace(':', '-').split()))
    content = bytearray(source())
    make(first, row, image)
    holds(second, image, content)
    run(second['io'], *SECRET, '--image-opts', '-c', 'write -P 5 6k 5000', DISK + image)
    content[6 << 10:(6 << 10) + 5000] = b'\5' * 5000
    holds(first, image, content)


def source():
    content = random.Random(1).randbytes(40 << 10)
    with open('src.raw', 'wb') as f:
        f.write(content)
    return content


def rows(text):
    return text.strip().split('\n')


def test_written_by_qemu():
    for row in rows(BOTH):
        cross(row, QEMU, RHEA)


def test_written_by_rhea():
    for row in rows(BOTH):
        cross(row, RHEA, QEMU)


def test_ours_alone():
    for row in rows(OURS):
        cross(row, RHEA, RHEA)


def test_what_cannot_be():
    source()
    for row in rows(NEITHER):
        for tool in (RHEA, QEMU):
            assert make(tool, row, 'x', ok=False).returncode == 1, (row, tool['name'])


# ---- headers in a file of their own

PARTS = 'driver=luks,key-secret=s,header.filename=%s,file.filename=%s'
FAST = 'key-secret=s,iter-time=10'


def together(header, data, out='both.luks'):
    """As one file, for those that know no other form: the payload's place in the header, and both in a row."""
    with open(header, 'rb') as f, open(data, 'rb') as g, open(out, 'wb') as o:
        h = bytearray(f.read())
        h += bytes(-len(h) % 4096)
        assert h[104:108] == bytes(4), 'a payload in the same file'
        h[104:108] = (len(h) // 512).to_bytes(4, 'big')
        o.write(h + g.read())
    return out


def cryptsetup(*args, key='open sesame', ok=True):
    p = subprocess.run(['/sbin/cryptsetup', '-q', '--key-file', '-', *args], input=key, capture_output=True, text=True)
    assert not ok or not p.returncode, (args, p.stdout, p.stderr)
    return p


def opens(header, key='open sesame'):
    return not cryptsetup('open', '--test-passphrase', '--type', 'luks1', header, key=key, ok=False).returncode


def fill(header, data, size=40 << 10):
    """Both read what one wrote."""
    content = bytearray(size)
    for offset, byte, length in (0, 1, 5000), (8 << 10, 7, 512), (size - 700, 9, 700):
        run(RHEA['io'], *SECRET, '--image-opts', '-c', 'write -P %d %d %d' % (byte, offset, length), PARTS % (header, data))
        content[offset:offset + length] = bytes([byte]) * length
    run(RHEA['img'], 'convert', *SECRET, '--image-opts', PARTS % (header, data), '-O', 'raw', 'out.raw')
    with open('out.raw', 'rb') as f:
        got = f.read()
    assert got[:5000] == content[:5000] and got[-700:] == content[-700:] and len(got) == size
    holds(QEMU, together(header, data), got)


def test_header_alone_by_rhea():
    run(RHEA['img'], 'create', '-q', *SECRET, '-f', 'luks', '-o', 'detached-header=true,' + FAST, 'h.luks')
    assert opens('h.luks') and not opens('h.luks', 'open barley')
    assert 'Payload offset:\t0\n' in cryptsetup('luksDump', 'h.luks').stdout
    with open('data', 'wb') as f:
        f.truncate(40 << 10)
    fill('h.luks', 'data')
    info = json.loads(run(RHEA['img'], 'info', '--output=json',
                          'json:{"driver":"luks","file":{"filename":"data"},"header":{"filename":"h.luks"}}').stdout)
    assert info['virtual-size'] == 40 << 10 and info['format-specific']['data']['detached-header'] is True, info
    assert info['actual-size'] > os.stat('data').st_blocks * 512, info


def test_header_and_data_by_rhea():
    run(RHEA['img'], 'create', '-q', *SECRET, '-f', 'luks', '-o', 'header=h.luks,preallocation=full,' + FAST, 'data', '40k')
    assert os.stat('data').st_size == 40 << 10
    fill('h.luks', 'data')
    content = source()
    run(RHEA['img'], 'convert', *SECRET, '-f', 'raw', '-O', 'luks', '-o', 'header=h2.luks,' + FAST, 'src.raw', 'data2')
    holds(QEMU, together('h2.luks', 'data2'), content)


def test_header_by_cryptsetup():
    """Also one that says where in the data's file the payload begins."""
    for more, start in ((), 0), (('--offset', '8192'), 4 << 20):
        with open('data', 'wb') as f:
            f.truncate((40 << 10) + start)
        if os.path.exists('h.luks'):
            os.unlink('h.luks')
        with open('h.luks', 'wb') as f:
            f.truncate(4 << 20)
        cryptsetup('luksFormat', '--type', 'luks1', '--iter-time', '10', '--header', 'h.luks', *more, 'data')
        if not start:
            fill('h.luks', 'data')
            continue
        run(RHEA['io'], *SECRET, '--image-opts', '-c', 'write -P 3 0 40k', '-c', 'read -P 3 0 40k', PARTS % ('h.luks', 'data'))
        with open('data', 'rb') as f:
            assert not any(f.read(start)) and len(set(f.read())) > 100


def test_keys_of_a_header():
    """Are changed in its file; the data is not touched."""
    run(RHEA['img'], 'create', '-q', *SECRET, '-f', 'luks', '-o', 'header=h.luks,' + FAST, 'data', '40k')
    fill('h.luks', 'data')
    with open('data', 'rb') as f:
        before = f.read()
    amend = [RHEA['img'], 'amend', *SECRET, '--object', 'secret,id=n,data=barley', '--image-opts', PARTS % ('h.luks', 'data'), '-o']
    run(*amend, 'state=active,new-secret=n,iter-time=10')
    assert opens('h.luks') and opens('h.luks', 'barley')
    run(*amend, 'state=inactive,old-secret=s')
    assert not opens('h.luks') and opens('h.luks', 'barley')
    with open('data', 'rb') as f:
        assert f.read() == before


def test_headers_that_cannot_be():
    run(RHEA['img'], 'create', '-q', *SECRET, '-f', 'luks', '-o', 'header=h.luks,' + FAST, 'data', '40k')

    def refused(word, tool, *args):
        p = run(RHEA[tool], *args, ok=False)
        assert p.returncode == 1 and word in p.stderr, p.stderr

    refused('is a LUKS header whose data is in another file', 'io', *SECRET, '--image-opts', '-c', 'read 0 512', DISK + 'h.luks')
    assert json.loads(run(RHEA['img'], 'info', '--output=json', 'h.luks').stdout)['virtual-size'] == 0
    refused('same file', 'img', 'create', *SECRET, '-f', 'luks', '-o', 'header=x,' + FAST, 'x', '1M')
    refused('no data to preallocate', 'img', 'create', *SECRET, '-f', 'luks', '-o', 'detached-header=true,preallocation=full,' + FAST, 'x')
    refused('needs a size', 'img', 'create', *SECRET, '-f', 'luks', '-o', 'header=y,' + FAST, 'x')
    refused('whose data is in another', 'img', 'convert', *SECRET, '-O', 'luks', '-o', 'detached-header=true,' + FAST, 'data', 'x')
    with open('h.luks', 'rb') as f:
        header = f.read()
    for name, made in (('short', header[:500]), ('cut', header[:100000]), ('payload', header[:104] + b'\xff' * 4 + header[108:]),
                       ('slot', header[:248] + b'\xff' * 4 + header[252:])):
        with open(name, 'wb') as f:
            f.write(made)
        p = run(RHEA['io'], *SECRET, '--image-opts', '-c', 'read 0 512', PARTS % (name, 'data'), ok=False)
        assert p.returncode == 1 and 'LUKS' in p.stderr, (name, p.stderr)


def test_header_by_qmp():
    """As QEMU documents it: files, their nodes, the image in both."""
    with Rhea('-object', 'secret,id=s,data=open sesame') as r, r.connect() as s:
        j = Jobs(s)

        def create(**options):
            j.run('blockdev-create', {'job-id': 'c', 'options': options})
            return j.finish('c')

        def luks(**options):
            return create(driver='luks', **{'key-secret': 's', 'iter-time': 10, **options})

        for name in 'header', 'data', 'other':
            assert not create(driver='file', filename=name, size=0)
            j.run('blockdev-add', {'driver': 'file', 'filename': name, 'node-name': name})
        assert not luks(header='header', file='data', size=40 << 10, preallocation='full')
        assert os.stat('data').st_size == 40 << 10
        assert not luks(header='other', size=0)
        assert 'no data to preallocate' in luks(header='other', size=0, preallocation='full')
        j.refused('are the same node', 'blockdev-create', {'job-id': 'c', 'options': {
            'driver': 'luks', 'header': 'other', 'file': 'other', 'size': 512, 'key-secret': 's'}})
        j.refused("Parameter 'file' is missing", 'blockdev-create', {'job-id': 'c', 'options': {'driver': 'luks', 'size': 512, 'key-secret': 's'}})
        disk = {'driver': 'luks', 'node-name': 'disk', 'file': 'data', 'header': 'header', 'key-secret': 's'}
        j.run('blockdev-add', disk)
        j.refused('in use', 'blockdev-del', {'node-name': 'header'})
        j.refused('in use', 'blockdev-create', {'job-id': 'c', 'options': {'driver': 'luks', 'header': 'header', 'size': 0, 'key-secret': 's'}})
        info = j.node('disk')['image']
        assert info['virtual-size'] == 40 << 10 and info['format-specific']['data']['detached-header'], info
        j.run('object-add', {'qom-type': 'secret', 'id': 'n', 'data': 'barley'})
        j.run('x-blockdev-amend', {'job-id': 'a', 'node-name': 'disk', 'options': {'driver': 'luks', 'state': 'active', 'new-secret': 'n', 'iter-time': 10}})
        assert not j.finish('a')
        j.run('blockdev-del', {'node-name': 'disk'})
        # a header that is only read: refused, and the data's file is held by nobody then
        j.run('blockdev-del', {'node-name': 'header'})
        j.run('blockdev-add', {'driver': 'file', 'filename': 'header', 'node-name': 'header', 'read-only': True})
        j.refused('header', 'blockdev-add', {**disk, 'auto-read-only': True})
        j.run('blockdev-add', {'driver': 'raw', 'node-name': 'plain', 'file': 'data'})
    assert opens('header') and opens('header', 'barley') and opens('other')
    fill('header', 'data')


if __name__ == '__main__':
    cases.run(cases.named(globals()), 'rhea-luks-')
