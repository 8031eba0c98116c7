#!/usr/bin/env python3
"""Image formats other than qcow2, by rhea-img and Debian's qemu-img: each converts, reads, maps and describes what the other
made; formats that neither makes are put together here."""
import http.server
import json
import os
import random
import struct
import sys
import threading

from rare_images import bochs, cloop, dmg
from test_img import IMG, MiB, cases, qemu, rhea, run

SECRET = ('--object', 'secret,id=sec0,data=123456')
# format, options of create, whether contents are compared with --image-opts and a secret
SHAPES = [
    ('vdi', ''), ('vdi', 'static=on'), ('vpc', 'force_size=on'), ('vpc', 'subformat=fixed,force_size=on'),
    ('vmdk', ''), ('vmdk', 'subformat=monolithicFlat'), ('vmdk', 'subformat=twoGbMaxExtentSparse'),
    ('vmdk', 'subformat=twoGbMaxExtentFlat'), ('vmdk', 'subformat=streamOptimized'),
    ('vmdk', 'adapter_type=lsilogic,zeroed_grain=on'), ('vmdk', 'compat6=on'), ('vhdx', ''), ('vhdx', 'subformat=fixed'),
    ('vhdx', 'block_size=1M,block_state_zero=off,log_size=2M'), ('qed', ''), ('qed', 'cluster_size=4096,table_size=2'),
    ('parallels', ''), ('parallels', 'cluster_size=128k'),
]


def random_raw(name, size, seed):
    r = random.Random(seed)
    with open(name, 'wb') as f:
        f.truncate(size)
        at = 0
        while at < size:
            n = min(r.choice((1, 3, 8, 100, 128, 700, 5000)) * 512, size - at)
            kind = r.randrange(4)
            f.seek(at)
            if kind == 0:
                f.write(r.randbytes(n))
            elif kind == 1:
                f.write(bytes([r.randrange(1, 256)]) * n)
            at += n


def describe(tool, image):
    """What info says, without what may differ: identities, our own spelling of sizes on disk."""
    o = json.loads(tool('info', '--output=json', image).stdout)
    for key in ('actual-size', 'dirty-flag', 'children', 'filename'):
        o.pop(key, None)
    if o['format'] == 'parallels':              # 7.2 does not tell
        o.pop('cluster-size', None)
    return o


def extents(tool, image, fmt):
    out = json.loads(tool('map', '--output=json', '-f', fmt, image).stdout)
    for e in out:
        e.pop('compressed', None)
    return out


def joined(list_):
    """Neighbours that say the same as one."""
    out = []
    for e in list_:
        p = out[-1] if out else None
        if p and all(p.get(k) == e.get(k) for k in ('depth', 'present', 'zero', 'data')) and \
                p.get('offset', -1) + (p['length'] if 'offset' in p else 0) == e.get('offset', -1):
            p['length'] += e['length']
        else:
            out.append(dict(e))
    return out


def test_both_ways():
    for i, (fmt, opts) in enumerate(SHAPES):
        size = 11 * MiB + 512 * 7
        random_raw('a.raw', size, i)
        for maker in (rhea, qemu):
            more = ('-o', opts) if opts else ()
            maker('convert', '-f', 'raw', '-O', fmt, *more, 'a.raw', 'a.img')
            for tool in (rhea, qemu):
                tool('compare', '-q', '-f', 'raw', '-F', fmt, 'a.raw', 'a.img')
                tool('check', '-q', '-f', fmt, 'a.img', ok=(0, 63))
            assert describe(rhea, 'a.img') == describe(qemu, 'a.img'), (fmt, opts, describe(rhea, 'a.img'))
            # 7.2 maps VHDX and flat VMDK without places or holes
            if fmt != 'vhdx' and 'Flat' not in opts and 'fixed' not in opts and 'static' not in opts:
                assert joined(extents(rhea, 'a.img', fmt)) == joined(extents(qemu, 'a.img', fmt)), (fmt, opts)


def test_sizes():
    """The disk is as large as it was asked to be, for both."""
    for fmt in ('vdi', 'vmdk', 'vhdx', 'qed', 'parallels', 'vpc'):
        for size in (512, MiB, 3 * MiB + 512, 2 << 30, (2 << 30) + 512, 129 << 30, 2040 << 30, 8 << 40):
            if fmt == 'vpc' and size > 2040 << 30:
                rhea('create', '-q', '-f', fmt, 'b.img', size, ok=(1,))
                continue
            rhea('create', '-q', '-f', fmt, 'b.img', size)
            qemu('create', '-q', '-f', fmt, 'c.img', size)
            got = [json.loads(t('info', '--output=json', i).stdout)['virtual-size'] for t in (rhea, qemu) for i in ('b.img', 'c.img')]
            assert len(set(got)) == 1 and got[0] >= size, (fmt, size, got)


def test_vmdk_chain():
    random_raw('base.raw', 5 * MiB, 5)
    qemu('convert', '-O', 'vmdk', 'base.raw', 'base.vmdk')
    for maker in (rhea, qemu):
        maker('create', '-q', '-f', 'vmdk', '-b', 'base.vmdk', '-F', 'vmdk', 'top.vmdk')
        for tool in (rhea, qemu):
            tool('compare', '-q', '-F', 'raw', 'top.vmdk', 'base.raw')
        run('qemu-io', '-f', 'vmdk', '-c', 'write -P 7 1M 64k', 'top.vmdk')
        assert rhea('compare', 'top.vmdk', 'base.raw', '-F', 'raw', ok=(1,)).stdout.startswith('Content mismatch at offset 1048576')
    # the base changes: what was built on it is refused, not misread
    run('qemu-io', '-f', 'vmdk', '-c', 'write -P 9 0 64k', 'base.vmdk')
    assert 'has changed since' in rhea('compare', 'top.vmdk', 'base.raw', '-F', 'raw', ok=(2,)).stderr


def test_vmdk_stream_grains_are_written_once():
    r = random.Random(1)
    with open('alt.raw', 'wb') as f:            # holes smaller than a grain
        for _ in range(256):
            f.write(r.randbytes(4096) + bytes(4096))
    for tool in (rhea, qemu):
        tool('convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=streamOptimized', 'alt.raw', tool.__name__ + '.vmdk')
        rhea('compare', '-q', '-F', 'raw', tool.__name__ + '.vmdk', 'alt.raw')
    assert os.path.getsize('rhea.vmdk') < 1.1 * os.path.getsize('qemu.vmdk')
    rhea('convert', '-c', '-f', 'raw', '-O', 'vmdk', 'alt.raw', 'no.vmdk', ok=(1,))


def test_vmdk_is_its_own_base():
    qemu('create', '-q', '-f', 'vmdk', 'x.vmdk', '1M')
    qemu('create', '-q', '-f', 'vmdk', '-b', 'x.vmdk', '-F', 'vmdk', 'y.vmdk')
    with open('y.vmdk', 'r+b') as f:            # y's base is y
        data = f.read()
        f.seek(0)
        f.write(data.replace(b'"x.vmdk"', b'"y.vmdk"', 1))
    p = rhea('compare', 'y.vmdk', 'x.vmdk', ok=(2,))
    assert 'comes back' in p.stderr or 'has changed' in p.stderr, p.stderr


def test_luks():
    r = random.Random(3)
    with open('l.raw', 'wb') as f:
        f.write(r.randbytes(3 * MiB + 512) + bytes(MiB))
    for maker in (rhea, qemu):
        for _ in range(100):                    # 7.2 may fail to time its key derivation on a busy machine
            p = maker('convert', *SECRET, '-f', 'raw', '-O', 'luks', '-o', 'key-secret=sec0,iter-time=10', 'l.raw', 'l.luks',
                      ok=(0, 1))
            if maker is rhea or 'accurate CPU usage' not in p.stderr:
                break
        assert not p.returncode, p.stderr
        for tool in (rhea, qemu):
            tool('compare', '-q', *SECRET, '--image-opts', 'driver=raw,file.filename=l.raw',
                 'driver=luks,key-secret=sec0,file.filename=l.luks')
        a, b = describe(rhea, 'l.luks'), describe(qemu, 'l.luks')
        b['format-specific']['data'].setdefault('detached-header', False)
        assert a == b, (a, b)
    p = rhea('compare', '--object', 'secret,id=sec0,data=wrong', '--image-opts', 'driver=raw,file.filename=l.raw',
             'driver=luks,key-secret=sec0,file.filename=l.luks', ok=(2,))
    assert 'Invalid password' in p.stderr, p.stderr
    p = rhea('resize', '--image-opts', 'driver=luks,file.filename=l.luks', '+1M', ok=(1,))
    assert 'key-secret' in p.stderr, p.stderr


# ---- formats that are only read, made here

def test_read_only_formats():
    random_raw('r.raw', 3 * MiB, 11)
    with open('r.raw', 'rb') as f:
        data = f.read()
    cases = [('bochs', lambda: bochs('r.img', data)), ('bochs', lambda: bochs('r.img', data, 1, 4096)),
             ('cloop', lambda: cloop('r.img', data)), ('cloop', lambda: cloop('r.img', data, 4096)),
             ('dmg', lambda: dmg('r.img', data)), ('dmg', lambda: dmg('r.img', data, 512 * 9, fork=True))]
    for fmt, make in cases:
        make()
        rhea('compare', '-q', '-f', fmt, '-F', 'raw', 'r.img', 'r.raw')
        if fmt != 'dmg':                        # Debian's reads no bzip2 chunks
            qemu('compare', '-q', '-f', fmt, '-F', 'raw', 'r.img', 'r.raw')
        p = rhea('resize', '-f', fmt, 'r.img', '+1M', ok=(1,))
        assert 'only read' in p.stderr, p.stderr


def patched(name, at, data):
    with open(name, 'r+b') as f:
        f.seek(at, 0 if at >= 0 else 2)
        f.write(data)


def test_hostile_readers():
    """Fields of formats that are only read: refused when opened (0), or where they are met (1)."""
    data = random.Random(12).randbytes(MiB)
    bad = struct.pack
    cases = [
        (bochs, 72, bad('<I', 0xffffffff), 'info'), (bochs, 72, bad('<I', 1), 'info'), (bochs, 80, bad('<I', 0), 'info'),
        (bochs, 80, bad('<I', 0x80000000), 'info'), (bochs, 76, bad('<I', 0), 'info'), (bochs, 68, bad('<I', 0xfffffff0), 'info'),
        (bochs, 88, bad('<Q', 1 << 63), 'info'),
        (cloop, 128, bad('>I', 0), 'info'), (cloop, 128, bad('>I', 0x80000000), 'info'), (cloop, 128, bad('>I', 513), 'info'),
        (cloop, 132, bad('>I', 0xffffffff), 'info'), (cloop, 136, bad('>Q', 1 << 62), 'read'),
        (cloop, 144, bad('>Q', 0), 'read'), (cloop, 136, bad('>Q', 136), 'read'), (cloop, 128, bad('>I', 512), 'read'),
        (dmg, -512, b'nope', 'info'), (dmg, -512 + 216, bad('>Q', 1 << 60), 'info'), (dmg, -512 + 224, bad('>Q', 1 << 40), 'info'),
        (dmg, -512 + 24, bad('>Q', 1 << 63), 'info'),
    ]
    for make, at, value, when in cases:
        make('h.bad', data)
        patched('h.bad', at, value)
        fmt = make.__name__
        rhea(*(('info', '-f', fmt, 'h.bad') if when == 'info' else ('convert', '-f', fmt, '-O', 'raw', 'h.bad', 'o.raw')), ok=(1,),
             timeout=60)
    # block lists: the checksum of nothing guards them
    for field, value in ((16, 1 << 55), (8, 1 << 60), (24, 1 << 62), (32, 1 << 62), (16, 1 << 20), (8, 5)):
        dmg('h.bad', data, chunk=9 * 512, fork=True)
        with open('h.bad', 'rb') as f:
            at = f.read().index(b'mish') + 204 + 40 + field     # the second chunk
        patched('h.bad', at, bad('>Q', value))
        rhea('convert', '-f', 'dmg', '-O', 'raw', 'h.bad', 'o.raw', ok=(1,), timeout=60)


# ---- a server that can be told to lie

class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    mode = ''

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.send_file(False)

    def do_GET(self):
        self.send_file(True)

    def send_file(self, body):
        if self.path == '/redirect':
            self.send_response(302)
            self.send_header('Location', 'file:///etc/passwd' if self.mode == 'file' else '/h.img')
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        try:
            data = open(self.path[1:], 'rb').read()
        except OSError:
            self.send_error(404)
            return
        size, first = len(data), 0
        if 'Range' in self.headers and self.mode != 'whole':
            first, last = (int(n) for n in self.headers['Range'].split('=')[1].split('-'))
            data = data[first:last + 1]
        self.send_response(206 if 'Range' in self.headers else 200)
        if self.mode != 'no-ranges':
            self.send_header('Accept-Ranges', 'bytes')
        if self.mode == 'short' and body:
            data = data[:len(data) // 2]
        self.send_header('Content-Length', str(len(data)))
        self.send_header('Content-Range', 'bytes %d-%d/%d' % (first, first + len(data) - 1, size))
        self.end_headers()
        if body:
            try:
                self.wfile.write(data)
            except OSError:
                pass


def test_http():
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Server)
    server.handle_error = lambda *args: None    # a client that hangs up on a liar
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = 'http://127.0.0.1:%d/' % server.server_port
    random_raw('h.raw', 5 * MiB + 512, 21)
    rhea('convert', '-O', 'vmdk', '-o', 'subformat=streamOptimized', 'h.raw', 'h.img')
    rhea('compare', '-q', '-f', 'raw', '-F', 'raw', url + 'h.raw', 'h.raw')
    rhea('compare', '-q', '-F', 'raw', url + 'h.img', 'h.raw')
    rhea('compare', '-q', '-f', 'vmdk', '-F', 'raw', url + 'redirect', 'h.raw')
    rhea('convert', '-f', 'raw', '-O', 'qcow2', url + 'h.raw', 'h.qcow2')
    qemu('compare', '-q', '-F', 'raw', 'h.qcow2', 'h.raw')
    assert '404' in rhea('info', url + 'nothing', ok=(1,)).stderr
    assert 'only read' in rhea('resize', '-f', 'raw', url + 'h.raw', '+1M', ok=(1,)).stderr
    for mode, path, text in (('no-ranges', 'h.raw', 'ranges'), ('whole', 'h.raw', ''), ('short', 'h.raw', ''),
                             ('file', 'redirect', '')):
        Server.mode = mode
        p = rhea('compare', '-f', 'raw', '-F', 'raw', url + path, 'h.raw', ok=(2,))
        assert text in p.stderr, p.stderr
    server.shutdown()


def test_probing():
    """The format is told by the first bytes."""
    random_raw('p.raw', MiB, 2)
    for fmt in ('vdi', 'vpc', 'vmdk', 'vhdx', 'qed', 'parallels'):
        rhea('convert', '-O', fmt, 'p.raw', 'p.img')
        assert json.loads(rhea('info', '--output=json', 'p.img').stdout)['format'] == fmt


if __name__ == '__main__':
    cases.run(cases.named(globals()), 'rhea-formats-')
