#!/usr/bin/env python3
"""LUKS, a row for each cipher, mode, IV generator and hash: written by one of rhea-img and Debian's qemu-img, read and changed by
the other."""
import os
import random
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
import cases                            # noqa: E402

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


if __name__ == '__main__':
    cases.run(cases.named(globals()), 'rhea-luks-')
