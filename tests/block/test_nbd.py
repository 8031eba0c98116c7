#!/usr/bin/env python3
"""rhea-nbd and the nbd driver against libnbd, nbdkit, fio and Debian's QEMU tools, and against peers that mean harm."""
import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import time
import weakref

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
import cases                            # noqa: E402

BUILD = os.environ.get('BUILD', 'build')
BIN = os.path.abspath(os.path.join(BUILD, 'bin'))
NBD, IMG = os.path.join(BIN, 'rhea-nbd'), os.path.join(BIN, 'rhea-img')
MiB = 1 << 20
FILE = os.path.abspath(__file__)
SOAK = bool(os.environ.get('SOAK'))


def run(*args, ok=(0,), **kw):
    kw.setdefault('text', True)
    p = subprocess.run([str(a) for a in args], capture_output=True, timeout=300, **kw)
    if p.returncode not in ok:
        raise AssertionError('%s: status %d\n%s%s' % (' '.join(map(str, args)), p.returncode, p.stdout, p.stderr))
    return p


def uri(name='', sock='s'):
    return 'nbd+unix:///%s?socket=%s' % (name, os.path.abspath(sock))


def listens(sock):
    """Whether somebody listens on it: its file is there a moment before that."""
    path = os.path.abspath(sock)
    with open('/proc/net/unix') as f:
        return any(w[3] == '00010000' and w[-1] == path for w in map(str.split, f))


@contextlib.contextmanager
def server(*args, sock='s', program=NBD, ends=False):
    """A server on a Unix socket; ends: it is to go by itself."""
    listen = [] if program.startswith('nbdkit') else ['-k', os.path.abspath(sock)]
    p = subprocess.Popen([program, *listen, *map(str, args)], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not listens(sock) and p.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert listens(sock), p.communicate()[1]
        yield p
        if ends:
            assert p.wait(60) == 0
        assert ends or p.returncode == 0 or p.poll() is None, 'the server ended: status %s\n%s' % (p.returncode, p.stderr.read())
    finally:
        if p.poll() is None:
            p.terminate()
        assert p.wait(60) == 0, p.stderr.read()
        p.stderr.close()
        if os.path.exists(sock):
            os.unlink(sock)


def noise(name, size, seed):
    r = random.Random(seed)
    with open(name, 'wb') as f:
        f.write(r.randbytes(size))
    return name


def same(a, b):
    with open(a, 'rb') as f, open(b, 'rb') as g:
        assert f.read() == g.read(), (a, b)


# ---- the server

def test_copies_through_libnbd():
    noise('in.raw', 9 * MiB + 512, 1)
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'd.qcow2', str(9 * MiB + 512))
    with server('-t', '-e', 0, '-f', 'qcow2', 'd.qcow2'):
        run('nbdcopy', 'in.raw', uri())
        run('nbdcopy', uri(), 'out.raw')
        run('nbdcopy', '--no-extents', uri(), 'out2.raw')
    same('in.raw', 'out.raw')
    same('in.raw', 'out2.raw')
    run('qemu-img', 'check', '-q', 'd.qcow2')


def test_tells_what_nbdinfo_asks():
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'base.qcow2', '8M')
    run('qemu-io', '-c', 'write -P 1 0 1M', 'base.qcow2')
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2')
    run('qemu-img', 'bitmap', '--add', '-g', '64k', 'top.qcow2', 'b0')
    run('qemu-io', '-c', 'write -P 2 2M 1M', '-c', 'write -z 4M 64k', 'top.qcow2')
    with server('-t', '-e', 2, '-r', '-A', '-B', 'b0', '-x', 'disk', '-D', 'a disk', '-f', 'qcow2', 'top.qcow2'):
        info = json.loads(run('nbdinfo', '--json', '--list', uri()).stdout)
        e = info['exports'][0]
        assert (e['export-name'], e['description'], e['export-size']) == ('disk', 'a disk', 8 * MiB), e
        assert e['is_read_only'] and e['can_multi_conn'] and e['can_df'] and e['can_cache'], e
        assert e['contexts'] == ['base:allocation', 'qemu:allocation-depth', 'qemu:dirty-bitmap:b0'], e
        maps = {}
        for context in e['contexts']:
            m = json.loads(run('nbdinfo', '--json', '--map=' + context, uri('disk')).stdout)
            maps[context] = [(x['offset'] // 65536, x['length'] // 65536, x['type']) for x in m]
    assert maps['base:allocation'] == [(0, 16, 0), (16, 16, 3), (32, 16, 0), (48, 80, 3)], maps
    assert maps['qemu:allocation-depth'] == [(0, 16, 2), (16, 16, 0), (32, 16, 1), (48, 16, 0), (64, 1, 1), (65, 63, 0)], maps
    assert maps['qemu:dirty-bitmap:b0'] == [(0, 32, 0), (32, 16, 1), (48, 16, 0), (64, 1, 1), (65, 63, 0)], maps


def test_ends_with_its_client():
    run('qemu-img', 'create', '-q', '-f', 'raw', 'd.raw', '1M')
    with server('-f', 'raw', 'd.raw', ends=True):
        run('nbdinfo', '--size', uri())


def test_an_image_is_made_on_an_export():
    noise('in.raw', MiB, 3)
    noise('d.raw', 4 * MiB, 4)
    with server('-t', '-f', 'raw', 'd.raw'):
        run(IMG, 'convert', '-O', 'qcow2', 'in.raw', uri())
        assert '4194304 bytes only' in run(IMG, 'create', '-f', 'raw', uri(), '5M', ok=(1,)).stderr
    run('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', 'in.raw', 'd.raw')


def test_who_comes_before_the_image_is_open_waits():
    with server('-f', '-U', os.path.abspath('slow'), '--filter=delay', 'memory', '1M', 'delay-open=1', sock='slow', program='nbdkit'):
        size = run('nbdinfo', '--size', '--', '[', NBD, '-r', '-f', 'raw', uri(sock='slow'), ']').stdout
    assert int(size) == MiB, size


# ---- TLS

def psk_keys(d, user='alice'):
    os.makedirs(d, exist_ok=True)
    with open(os.path.join(d, 'keys.psk'), 'w') as f:
        f.write('bob:00112233445566778899aabbccddeeff\n%s:ffeeddccbbaa99887766554433221100\n' % user)


def certificates():
    """A CA, a server's and a client's certificate, and a client's of another CA."""
    for d in ('pki', 'other'):
        os.makedirs(d)
        for who in ('ca', 'server', 'client'):
            with open('%s/%s.tmpl' % (d, who), 'w') as f:
                f.write('cn = %s\norganization = Test\nexpiration_days = 30\n' % ('localhost' if who == 'server' else who))
                f.write('ca\ncert_signing_key\n' if who == 'ca' else 'tls_www_%s\nencryption_key\nsigning_key\n' % who)
                if who == 'server':
                    f.write('dns_name = localhost\n')
            key = '%s/%s-key.pem' % (d, who)
            run('certtool', '--generate-privkey', '--key-type', 'ecdsa', '--outfile', key)
            how = ['--generate-self-signed'] if who == 'ca' else [
                '--generate-certificate', '--load-ca-certificate', d + '/ca-cert.pem', '--load-ca-privkey', d + '/ca-key.pem']
            run('certtool', *how, '--load-privkey', key, '--template', '%s/%s.tmpl' % (d, who), '--outfile', '%s/%s-cert.pem' % (d, who))


def tls_image(creds, sock='s', host='localhost', export=''):
    return ('driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=%s,file.tls-creds=tls0%s%s' %
            (os.path.abspath(sock), ',file.tls-hostname=' + host if host else '', ',file.export=' + export if export else ''))


def test_tls_with_shared_keys():
    noise('in.raw', MiB, 2)
    psk_keys('keys')
    mine = 'tls-creds-psk,id=tls0,endpoint=%s,dir=keys,username=alice'
    with server('-t', '-r', '-f', 'raw', '--object', mine % 'server', '--tls-creds', 'tls0', 'in.raw'):
        run(IMG, 'convert', '--object', mine % 'client', '--image-opts', tls_image('', host=None), '-O', 'raw', 'a.raw')
        run('qemu-img', 'convert', '--object', mine % 'client', '--image-opts', tls_image('', host=None), '-O', 'raw', 'b.raw')
        run('nbdcopy', 'nbds+unix://alice@/?socket=%s&tls-psk-file=keys/keys.psk' % os.path.abspath('s'), 'c.raw')
        assert 'TLS' in run(IMG, 'info', uri(), ok=(1,)).stderr
        assert run('nbdinfo', uri(), ok=(1,)).stderr
        psk_keys('wrong', 'carol')
        err = run(IMG, 'info', '--object', (mine % 'client').replace('keys', 'wrong').replace('alice', 'carol'), '--image-opts',
                  tls_image('', host=None), ok=(1,)).stderr
        assert 'TLS' in err, err
    for name in 'abc':
        same('in.raw', name + '.raw')
    with server('-f', '-U', os.path.abspath('s'), '--tls=require', '--tls-psk=keys/keys.psk', 'file', 'in.raw', program='nbdkit'):
        run(IMG, 'convert', '--object', mine % 'client', '--image-opts', tls_image('', host=None), '-O', 'raw', 'd.raw')
    same('in.raw', 'd.raw')


def test_tls_with_certificates():
    noise('in.raw', MiB, 3)
    certificates()
    x509 = 'tls-creds-x509,id=tls0,endpoint=%s,dir=%s'
    with server('-t', '-r', '-f', 'raw', '--object', x509 % ('server', 'pki'), '--tls-creds', 'tls0',
                '--object', 'authz-simple,id=who,identity=O=Test,,CN=client', '--tls-authz', 'who', 'in.raw'):
        run(IMG, 'convert', '--object', x509 % ('client', 'pki'), '--image-opts', tls_image(''), '-O', 'raw', 'a.raw')
        run('qemu-img', 'convert', '--object', x509 % ('client', 'pki'), '--image-opts', tls_image(''), '-O', 'raw', 'b.raw')
        err = run(IMG, 'info', '--object', x509 % ('client', 'pki'), '--image-opts', tls_image('', host='example.org'), ok=(1,)).stderr
        assert "another host's" in err, err
        err = run(IMG, 'info', '--object', x509 % ('client', 'other'), '--image-opts', tls_image(''), ok=(1,)).stderr
        assert 'issuer' in err, err
    same('in.raw', 'a.raw')
    same('in.raw', 'b.raw')
    with server('-t', '-r', '-f', 'raw', '--object', x509 % ('server', 'pki'), '--tls-creds', 'tls0',
                '--object', 'authz-list,id=who,policy=allow,rules.0.match=*CN=cl*,rules.0.policy=deny,rules.0.format=glob',
                '--tls-authz', 'who', 'in.raw'):
        assert run(IMG, 'info', '--object', x509 % ('client', 'pki'), '--image-opts', tls_image(''), ok=(1,)).stderr
    err = run(NBD, '-k', 's', '--object', x509 % ('client', 'pki'), '--tls-creds', 'tls0', 'in.raw', ok=(1,)).stderr
    assert 'server endpoint' in err, err


# ---- the client

def test_client_against_other_servers():
    noise('in.raw', 3 * MiB + 512, 4)
    kit = ['-f', '-U', os.path.abspath('s')]
    for program, args in (('qemu-nbd', ['-t', '-f', 'raw', 'd.raw']), ('nbdkit', kit + ['file', 'd.raw']),
                          ('nbdkit', kit + ['--no-sr', 'file', 'd.raw']), ('nbdkit', kit + ['--oldstyle', 'file', 'd.raw']),
                          ('nbdkit', kit + ['--mask-handshake=0', 'file', 'd.raw']),
                          ('nbdkit', kit + ['--filter=blocksize-policy', 'file', 'd.raw', 'blocksize-minimum=512',
                                            'blocksize-preferred=4096', 'blocksize-maximum=65536', 'blocksize-error-policy=error']),
                          ('nbdkit', kit + ['--filter=delay', 'file', 'd.raw', 'delay-read=20ms', 'delay-write=20ms']),
                          (NBD, ['-t', '-f', 'raw', 'd.raw'])):
        with open('d.raw', 'wb') as f:
            f.truncate(3 * MiB + 512)
        with server(*args, program=program):
            run(IMG, 'convert', '-n', '-f', 'raw', '-O', 'raw', 'in.raw', uri())
            run(IMG, 'convert', '-f', 'raw', '-O', 'raw', 'nbd:unix:' + os.path.abspath('s'), 'out.raw')
        same('in.raw', 'out.raw')
        same('in.raw', 'd.raw')


def test_client_over_a_copy_on_write_server():
    """Images of both kinds on nbdkit's cow filter: what is written is read again, what it lies over stays."""
    noise('in.raw', 2 * MiB, 21)
    with open('base.raw', 'wb') as f:
        f.truncate(8 * MiB)
    for fmt, create in (('raw', []), ('qcow2', [['qemu-img', 'create', '-q', '-f', 'qcow2', uri(), '2M']])):
        with server('-f', '-U', os.path.abspath('s'), '--filter=cow', '--filter=delay', 'file', 'base.raw', 'delay-write=5ms', program='nbdkit'):
            for command in create:
                run(*command)
            run(IMG, 'convert', '-n', '-f', 'raw', '-O', fmt, 'in.raw', uri())
            run(IMG, 'compare', '-f', 'raw', '-F', fmt, 'in.raw', uri())
            run('qemu-img', 'compare', '-f', 'raw', '-F', fmt, 'in.raw', uri())
        with open('base.raw', 'rb') as f:
            assert not any(f.read())


def test_a_guessed_format_takes_one_connection():
    """Servers that end with their first client are common."""
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'd.qcow2', '8M')
    with server('-f', 'raw', 'd.qcow2', program='qemu-nbd', ends=True):
        assert '8 MiB' in run(IMG, 'info', uri()).stdout


def test_errors_of_the_server_are_told():
    with server('-f', '-U', os.path.abspath('s'), '--filter=error', 'pattern', '1M', 'error=ENOSPC', 'error-rate=1', program='nbdkit'):
        err = run(IMG, 'convert', '-f', 'raw', '-O', 'raw', uri(), 'out.raw', ok=(1,)).stderr
        assert 'No space left' in err, err
    noise('in.raw', MiB, 5)
    with server('-f', '-U', os.path.abspath('s'), '--filter=error', 'memory', '1M', 'error-pwrite=EIO', 'error-pwrite-rate=1', program='nbdkit'):
        err = run(IMG, 'convert', '-n', '-f', 'raw', '-O', 'raw', 'in.raw', uri(), ok=(1,)).stderr
        assert 'Input/output error' in err, err
        run(IMG, 'convert', '-f', 'raw', '-O', 'raw', uri(), 'out.raw')
        assert open('out.raw', 'rb').read() == bytes(MiB)
    with server('-t', '-r', '-x', 'there', '-f', 'raw', 'in.raw'):
        err = run(IMG, 'info', uri('elsewhere'), ok=(1,)).stderr
        assert 'no such export' in err, err
        err = run(IMG, 'convert', '-n', '-f', 'raw', '-O', 'raw', 'in.raw', uri('there'), ok=(1,)).stderr
        assert 'no writing' in err, err
    err = run(IMG, 'info', 'nbd+unix:///?socket=' + os.path.abspath('nobody'), ok=(1,)).stderr
    assert 'nobody' in err and 'server running' in err, err
    for bad in ('nbd:localhost', 'nbd://', 'nbd+unix:///x', 'nbd://h/?socket=x', 'nbds://h/', 'nbdx://h/', 'nbd://h:99999/'):
        assert run(IMG, 'info', bad, ok=(1,)).stderr, bad


def test_reconnects():
    """The server goes while it has requests, and comes again."""
    noise('in.raw', 4 * MiB, 6)
    slow = ['-f', '-U', os.path.abspath('s'), '--filter=log', '--filter=delay', 'file', 'in.raw', 'delay-read=600', 'logfile=log']
    image = 'driver=raw,file.driver=nbd,file.path=%s,file.reconnect-delay=60' % os.path.abspath('s')
    with server(*slow, program='nbdkit') as first:
        p = subprocess.Popen([IMG, 'convert', '--image-opts', image, '-O', 'raw', 'out.raw'], stderr=subprocess.PIPE, text=True)
        assert cases.until(lambda: os.path.exists('log') and ' Read ' in open('log').read()), p.poll()
        first.kill()
        first.wait()
        first.returncode = 0
        os.unlink('s')
        with server('-t', '-r', '-f', 'raw', 'in.raw'):
            assert p.wait(120) == 0, p.stderr.read()
    same('in.raw', 'out.raw')
    p.stderr.close()


def test_waits_for_a_server():
    noise('in.raw', MiB, 7)
    image = 'driver=raw,file.driver=nbd,file.path=%s,file.open-timeout=60' % os.path.abspath('s')
    p = subprocess.Popen([IMG, 'convert', '--image-opts', image, '-O', 'raw', 'out.raw'])
    time.sleep(0.2)
    with server('-t', '-r', '-f', 'raw', 'in.raw'):
        assert p.wait(120) == 0
    same('in.raw', 'out.raw')



def test_list_tells_what_qemu_nbd_does():
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'd.qcow2', '8M')
    for program in (NBD, 'qemu-nbd'):
        with server('-t', '-e', 0, '-A', '-x', 'disk', '-D', 'a disk', '-f', 'qcow2', 'd.qcow2', program=program):
            ours, theirs = (run(p, '-L', '-k', os.path.abspath('s')).stdout for p in (NBD, 'qemu-nbd'))
            assert ours == theirs, (ours, theirs)


def test_fio_writes_and_reads_back():
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'd.qcow2', '16M')
    with server('-t', '-e', 0, '-f', 'qcow2', 'd.qcow2'):
        run('fio', '--name=x', '--ioengine=nbd', '--uri=' + uri(), '--rw=randrw', '--bs=4k', '--iodepth=32', '--size=8M',
            '--verify=crc32c', '--verify_fatal=1', '--minimal')
        # four connections, a quarter of the disk each
        run('fio', '--name=x', '--ioengine=nbd', '--uri=' + uri(), '--rw=randrw', '--bsrange=512-64k', '--iodepth=8', '--size=4M', '--numjobs=4',
            '--offset_increment=4M', '--verify=crc32c', '--verify_fatal=1', '--fsync=50', '--minimal')
    run('qemu-img', 'check', '-q', 'd.qcow2')


def test_snapshot_offset_and_internal_snapshot():
    noise('in.raw', 2 * MiB, 8)
    with server('-t', '-s', '-f', 'raw', 'in.raw'):
        run('nbdcopy', '--connections=1', '--', 'null:', uri(), ok=(0, 1))
        run('qemu-io', '-f', 'raw', '-c', 'write -P 9 0 64k', '-c', 'read -P 9 0 64k', uri())
    assert open('in.raw', 'rb').read(65536) != b'\x09' * 65536
    with server('-t', '-r', '-o', '1M', '-f', 'raw', 'in.raw'):
        run(IMG, 'convert', '-f', 'raw', '-O', 'raw', uri(), 'out.raw')
    assert open('in.raw', 'rb').read()[MiB:] == open('out.raw', 'rb').read()
    run('qemu-img', 'convert', '-O', 'qcow2', 'in.raw', 'd.qcow2')
    run('qemu-img', 'snapshot', '-c', 'first', 'd.qcow2')
    run('qemu-io', '-c', 'write -P 9 0 2M', 'd.qcow2')
    with server('-t', '-l', 'first', '-f', 'qcow2', 'd.qcow2'):
        run(IMG, 'convert', '-f', 'raw', '-O', 'raw', uri(), 'out.raw')
    same('in.raw', 'out.raw')


def test_fork_and_pid_file():
    noise('in.raw', MiB, 9)
    run(NBD, '--fork', '-t', '-r', '-f', 'raw', '-k', os.path.abspath('s'), '--pid-file', 'pid', 'in.raw')
    pid = int(open('pid').read())
    try:
        run(IMG, 'convert', '-f', 'raw', '-O', 'raw', uri(), 'out.raw')
    finally:
        os.kill(pid, 15)
    same('in.raw', 'out.raw')
    assert cases.until(lambda: not os.path.exists('pid'))
    assert not os.path.exists('s')                                          # the pid file goes last
    assert run(NBD, '--fork', '-f', 'raw', '-k', os.path.abspath('s'), 'missing.raw', ok=(1,)).stderr


def test_a_dirty_bitmap_is_read_as_a_map():
    """What incremental backup does with x-dirty-bitmap."""
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'd.qcow2', '1M')
    run('qemu-img', 'bitmap', '--add', '-g', '64k', 'd.qcow2', 'b0')
    run('qemu-io', '-c', 'write -P 2 128k 64k', 'd.qcow2')
    with server('-t', '-r', '-B', 'b0', '-f', 'qcow2', 'd.qcow2'):
        image = 'driver=nbd,server.type=unix,server.path=%s,x-dirty-bitmap=qemu:dirty-bitmap:b0' % os.path.abspath('s')
        ours, theirs = (json.loads(run(p, 'map', '--output=json', '--image-opts', image).stdout) for p in (IMG, 'qemu-img'))
        for m in ours, theirs:
            assert [(x['start'], x['data']) for x in m] == [(0, True), (131072, False), (196608, True)], m


# ---- QMP

def test_qmp_server_and_exports():
    sys.path.insert(0, os.path.dirname(os.path.abspath(FILE)))
    from jobs import Rhea                                                   # noqa: E402
    noise('in.raw', MiB, 10)
    here = os.getcwd()
    addr = {'type': 'unix', 'data': {'path': os.path.abspath('s')}}
    with Rhea() as r, r.connect() as s:
        def refused(text, *args):
            try:
                s.run(*args)
            except Exception as e:
                assert text in str(e), e
            else:
                raise AssertionError('%s is not refused' % args[0])

        s.run('blockdev-add', {'driver': 'file', 'filename': here + '/in.raw', 'node-name': 'd', 'read-only': True})
        refused('not running', 'nbd-server-stop')
        refused('not running', 'block-export-add', {'type': 'nbd', 'id': 'e', 'node-name': 'd'})
        s.run('nbd-server-start', {'addr': addr, 'max-connections': 3})
        refused('already running', 'nbd-server-start', {'addr': addr})
        s.run('block-export-add', {'type': 'nbd', 'id': 'e', 'node-name': 'd', 'name': 'disk'})
        refused('already in use', 'block-export-add', {'type': 'nbd', 'id': 'e', 'node-name': 'd', 'name': 'x'})
        refused('read-only', 'block-export-add', {'type': 'nbd', 'id': 'f', 'node-name': 'd', 'writable': True})
        s.run('nbd-server-add', {'device': 'd'})
        refused('in use', 'blockdev-del', {'node-name': 'd'})
        run(IMG, 'convert', '-f', 'raw', '-O', 'raw', uri('disk'), 'out.raw')
        run('nbdcopy', uri('d'), 'out2.raw')
        assert s.run('query-block-exports') == [{'node-name': 'd', 'shutting-down': False, 'type': 'nbd', 'id': 'e'},
                                                {'node-name': 'd', 'shutting-down': False, 'type': 'nbd', 'id': 'd'}]
        with socket.socket(socket.AF_UNIX) as c:
            c.connect('s')
            go(c, b'disk')
            refused('still in use', 'block-export-del', {'id': 'e'})
            s.run('block-export-del', {'id': 'e', 'mode': 'hard'})
            assert s.event('BLOCK_EXPORT_DELETED')['data'] == {'id': 'e'}
        s.run('nbd-server-remove', {'name': 'd'})
        assert s.event('BLOCK_EXPORT_DELETED')['data'] == {'id': 'd'}
        s.run('blockdev-del', {'node-name': 'd'})
        s.run('nbd-server-stop')
        assert s.run('query-block-exports') == [] and not os.path.exists('s')
    same('in.raw', 'out.raw')
    same('in.raw', 'out2.raw')


def test_a_guests_disk_is_not_written_behind_its_back():
    sys.path.insert(0, os.path.dirname(os.path.abspath(FILE)))
    from jobs import Rhea                                                   # noqa: E402
    noise('in.raw', MiB, 18)
    drive = 'if=none,id=v,file=%s/in.raw,format=raw,node-name=d,share-rw=%s'
    for share, allowed in (('off', False), ('on', True)):
        with Rhea('-S', '-drive', drive % (os.getcwd(), share), '-device', 'virtio-blk-pci,drive=v', machine='q35') as r, r.connect() as s:
            s.run('nbd-server-start', {'addr': {'type': 'unix', 'data': {'path': os.path.abspath('s')}}})
            s.run('block-export-add', {'type': 'nbd', 'id': 'r', 'node-name': 'd', 'name': 'r'})
            try:
                s.run('block-export-add', {'type': 'nbd', 'id': 'w', 'node-name': 'd', 'name': 'w', 'writable': True})
                assert allowed
            except Exception as e:
                assert not allowed and 'written by a device' in str(e), (share, e)


# ---- rhea-storage-daemon, FUSE

rest = weakref.WeakKeyDictionary()      # what came behind an answer: events, or a part of one


def daemon_command(s, command, /, **args):
    s.sendall(json.dumps({'execute': command, 'arguments': args}).encode())
    while True:
        line, end, rest[s] = rest.get(s, b'').partition(b'\r\n')
        if not end:
            more = s.recv(65536)
            assert more, 'the daemon ended'
            rest[s] = line + more
            continue
        o = json.loads(line)
        if 'return' in o or 'error' in o:
            return o.get('return', o.get('error'))


@contextlib.contextmanager
def storage_daemon(*args):
    p = subprocess.Popen([os.path.join(BIN, 'rhea-storage-daemon'), '--chardev', 'socket,id=qmp,path=%s,server=on,wait=off' % os.path.abspath('qmp'),
                          '--monitor', 'chardev=qmp', '--pidfile', 'pid', *args], stderr=subprocess.PIPE, text=True)
    s = socket.socket(socket.AF_UNIX)
    try:
        deadline = time.monotonic() + 60
        while not listens('qmp') and p.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        s.settimeout(60)
        s.connect('qmp')
        while not s.recv(65536).endswith(b'\n'):
            pass
        daemon_command(s, 'qmp_capabilities')
        yield s
        daemon_command(s, 'quit')
    finally:
        s.close()
        try:
            p.wait(60)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
        err = p.stderr.read()
        p.stderr.close()
        assert p.returncode == 0, err


def test_storage_daemon():
    noise('in.raw', MiB, 16)
    with storage_daemon('--blockdev', 'driver=file,node-name=f,filename=in.raw', '--blockdev', '{"driver":"raw","node-name":"d","file":"f"}',
                        '--nbd-server', 'addr.type=unix,addr.path=%s,max-connections=3' % os.path.abspath('s'),
                        '--export', 'type=nbd,id=e,node-name=d,name=disk,writable=on') as s:
        run('nbdcopy', uri('disk'), 'out.raw')
        assert daemon_command(s, 'query-block-exports')[0]['id'] == 'e'
        daemon_command(s, 'nbd-server-stop')
        assert daemon_command(s, 'query-block-exports') == []
    same('in.raw', 'out.raw')
    err = run(os.path.join(BIN, 'rhea-storage-daemon'), '--export', 'nbd,id=e,node-name=d', ok=(1,)).stderr
    assert err, err


def test_exports_in_an_iothread():
    """Clients of two exports of one disk, in two threads, while snapshots are made of it; then the exports go beneath them."""
    noise('in.raw', 8 * MiB, 22)
    run('qemu-img', 'convert', '-O', 'qcow2', 'in.raw', 'd.qcow2')
    for i in range(8):
        run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'd.qcow2', '-F', 'qcow2', 'over%d' % i)
    disk = {'type': 'nbd', 'node-name': 'd', 'name': 'disk', 'writable': True}
    with storage_daemon('--object', 'iothread,id=t0', '--object', 'iothread,id=t1', '--nbd-server', 'addr.type=unix,addr.path=%s' % os.path.abspath('s'),
                        '--blockdev', 'driver=qcow2,node-name=d,file.driver=file,file.filename=d.qcow2',
                        '--export', 'type=nbd,id=e,node-name=d,name=disk,writable=on,iothread=t0') as s:
        run('nbdcopy', uri('disk'), 'out.raw')
        same('in.raw', 'out.raw')
        assert 't9' in daemon_command(s, 'block-export-add', **{**disk, 'id': 'x', 'name': 'x', 'iothread': 't9'})['desc']
        daemon_command(s, 'block-export-add', **{**disk, 'id': 'f', 'name': 'again', 'iothread': 't1'})
        assert 'in use' in daemon_command(s, 'object-del', id='t1')['desc']
        fio = [subprocess.Popen(['fio', '--name=x', '--ioengine=nbd', '--uri=' + uri(name), '--rw=randrw', '--bs=4k', '--iodepth=16', '--size=2M',
                                 '--offset=%dM' % at, '--io_size=24M', '--numjobs=2', '--offset_increment=2M', '--verify=crc32c', '--verify_fatal=1',
                                 '--minimal'], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for name, at in (('disk', 0), ('again', 4))]

        def snapshot(i):
            daemon_command(s, 'blockdev-add', **{'driver': 'qcow2', 'node-name': 'o%d' % i, 'backing': None,
                                                 'file': {'driver': 'file', 'filename': 'over%d' % i}})
            assert daemon_command(s, 'blockdev-snapshot', node='o%d' % (i - 1) if i else 'd', overlay='o%d' % i) == {}

        for i in range(7):
            snapshot(i)
        for p in fio:
            err = p.communicate(timeout=300)[1]
            assert p.returncode == 0, err
        run('nbdcopy', uri('disk'), 'out.raw')
        busy = subprocess.Popen(['fio', '--name=x', '--ioengine=nbd', '--uri=' + uri('again'), '--rw=randwrite', '--bs=4k', '--iodepth=16',
                                 '--size=8M', '--time_based', '--runtime=300', '--minimal'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            snapshot(7)
            assert cases.until(lambda: os.path.getsize('over7') > 2 * MiB)
            daemon_command(s, 'block-export-del', id='f', mode='hard')
            assert busy.wait(300) != 0
        finally:
            busy.kill()
            busy.wait()
        assert cases.until(lambda: len(daemon_command(s, 'query-block-exports')) == 1)
        assert daemon_command(s, 'object-del', id='t1') == {}
        run('nbdinfo', '--map', uri('disk'))
    run(IMG, 'check', '-q', 'over7')


def fuse_export(*threads):
    """A qcow2 image as a raw file: read, written, grown, with holes, and gone when it is unmounted."""
    noise('in.raw', 4 * MiB, 17)
    run('qemu-img', 'convert', '-O', 'qcow2', 'in.raw', 'd.qcow2')
    open('m', 'w').close()
    with storage_daemon('--object', 'iothread,id=t',
                        '--blockdev', 'driver=qcow2,node-name=d,discard=unmap,file.driver=file,file.filename=d.qcow2,file.discard=unmap',
                        '--export', ','.join(('fuse,id=e,node-name=d,mountpoint=m,writable=on,growable=on', *threads))) as s:
        # another process: the file is this test's to wait for
        run('cmp', 'm', 'in.raw')
        run('dd', 'if=in.raw', 'of=m', 'bs=64k', 'seek=96', 'conv=notrunc,fsync', 'status=none')
        assert int(run('stat', '-c', '%s', 'm').stdout) == 10 * MiB
        run('fallocate', '-p', '-o', '0', '-l', '1M', 'm')
        m = json.loads(run('qemu-img', 'map', '-U', '--output=json', '-f', 'raw', 'm').stdout)
        assert [(x['start'], x['length'], x['data']) for x in m][:3] == [(0, MiB, False), (MiB, 3 * MiB, True), (4 * MiB, 2 * MiB, False)], m
        run('truncate', '-s', '12M', 'm')
        daemon_command(s, 'block-export-del', id='e')
        assert os.path.getsize('m') == 0
    run('qemu-img', 'check', '-q', 'd.qcow2')
    run('qemu-img', 'convert', '-O', 'raw', 'd.qcow2', 'out.raw')
    data, was = open('out.raw', 'rb').read(), open('in.raw', 'rb').read()
    assert data == bytes(MiB) + was[MiB:] + bytes(2 * MiB) + was + bytes(2 * MiB)


def test_blockdev_create_on_a_client():
    with open('empty', 'wb') as f:
        f.truncate(8 * MiB)
    with server('-t', '-e', '4', '-f', 'raw', 'empty'):
        with storage_daemon('--blockdev', 'driver=nbd,node-name=n,server.type=unix,server.path=%s' % os.path.abspath('s')) as s:
            assert daemon_command(s, 'blockdev-create', **{'job-id': 'j', 'options': {'driver': 'qcow2', 'file': 'n', 'size': 4 * MiB}}) == {}
            assert cases.until(lambda: daemon_command(s, 'query-jobs')[0]['status'] == 'concluded')
            assert 'error' not in daemon_command(s, 'query-jobs')[0]
            assert daemon_command(s, 'blockdev-add', **{'driver': 'qcow2', 'node-name': 'q', 'file': 'n'}) == {}
    run('qemu-img', 'check', '-q', '-f', 'qcow2', 'empty')
    assert json.loads(run('qemu-img', 'info', '-f', 'qcow2', '--output=json', 'empty').stdout)['virtual-size'] == 4 * MiB


def test_fuse_export():
    fuse_export()


def test_fuse_export_in_an_iothread():
    fuse_export('iothread=t')


def test_fuse_export_while_the_graph_changes():
    """The file is written and read back by many, in a thread of the export's own, while snapshots are made of the disk; then it is
    unmounted beneath the export, and that goes."""
    for i in range(8):
        run('qemu-img', 'create', '-q', '-f', 'qcow2', *(['-b', 'over%d' % (i - 1), '-F', 'qcow2'] if i else []), 'over%d' % i, '8M')
    open('m', 'w').close()
    with storage_daemon('--object', 'iothread,id=t', '--blockdev', 'driver=qcow2,node-name=o0,file.driver=file,file.filename=over0',
                        '--export', 'fuse,id=e,node-name=o0,mountpoint=m,writable=on,iothread=t') as s:
        fio = subprocess.Popen(['fio', '--name=x', '--ioengine=psync', '--filename=m', '--rw=randrw', '--bs=4k', '--size=2M', '--io_size=12M',
                                '--numjobs=4', '--offset_increment=2M', '--verify=crc32c', '--verify_fatal=1', '--allow_file_create=0', '--minimal'],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for i in range(1, 8):
            daemon_command(s, 'blockdev-add', **{'driver': 'qcow2', 'node-name': 'o%d' % i, 'backing': None,
                                                 'file': {'driver': 'file', 'filename': 'over%d' % i}})
            assert daemon_command(s, 'blockdev-snapshot', node='o%d' % (i - 1), overlay='o%d' % i) == {}
        err = fio.communicate(timeout=300)[1]
        assert fio.returncode == 0, err
        run('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', 'm', 'out.raw')
        run('fusermount3', '-uz', 'm')
        assert cases.until(lambda: daemon_command(s, 'query-block-exports') == [])
        assert daemon_command(s, 'object-del', id='t') == {}
    run('qemu-img', 'compare', 'out.raw', 'over7')
    run(IMG, 'check', '-q', 'over7')


def test_fuse_export_holds_a_file_system():
    """Made and filled in the export, found whole there and in the image."""
    for i in range(120):
        os.makedirs('tree/%d' % (i % 7), exist_ok=True)
        noise('tree/%d/file %d' % (i % 7, i), i * 977, i)
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'd.qcow2', '32M')
    open('m', 'w').close()
    with storage_daemon('--blockdev', 'driver=qcow2,node-name=d,discard=unmap,file.driver=file,file.filename=d.qcow2,file.discard=unmap',
                        '--export', 'fuse,id=e,node-name=d,mountpoint=m,writable=on'):
        run('mkfs.ext4', '-q', '-F', '-d', 'tree', 'm')
        run('e2fsck', '-fn', 'm')
        os.makedirs('got')
        run('debugfs', '-R', 'rdump / got', 'm')
        run('diff', '-r', '-x', 'lost+found', 'tree', 'got')
    run('qemu-img', 'check', '-q', 'd.qcow2')
    run('qemu-img', 'convert', '-O', 'raw', 'd.qcow2', 'out.raw')
    run('e2fsck', '-fn', 'out.raw')


# ---- rhea-io

def plain(text):
    """Without the times."""
    return [line.split(' ops; ')[0] for line in text.splitlines()]


def test_io_says_what_qemu_io_does():
    commands = ['write -P 5 64k 128k', 'read -P 5 64k 128k', 'read -P 6 64k 4k', 'write -z 64k 64k', 'read -P 0 64k 64k', 'writev -P 7 1M 512 1024',
                'readv -P 7 1M 512 1024', 'aio_write -P 8 2M 64k', 'aio_flush', 'aio_read -P 8 2M 64k', 'aio_flush', 'discard 2M 64k', 'flush', 'length',
                'map', 'alloc 0 1M', 'read -v 64k 40', 'write -c -P 9 3M 64k', 'read -P 9 3M 64k', 'truncate 9M', 'length', 'write 20M 1',
                'read -q 0 1k', 'read -P 9 -s 512 -l 512 3M 1k',
                'write -b -P 6 0 64k', 'read -b -P 6 1k 1k', 'read -P 9 3M 1k', 'truncate -m falloc 10M', 'alloc 9M 1M', 'aio_write -i 0 1k', 'aio_flush']
    said = []
    for program in (os.path.join(BIN, 'rhea-io'), 'qemu-io'):
        run('qemu-img', 'create', '-q', '-f', 'qcow2', 'd.qcow2', '8M')
        p = run(program, '-f', 'qcow2', *(a for c in commands for a in ('-c', c)), 'd.qcow2', ok=(1,))
        said.append(plain(p.stdout))
        run('qemu-img', 'check', '-q', 'd.qcow2')
    for ours, theirs in zip(*said):
        assert ours == theirs, (ours, theirs)
    assert len(said[0]) == len(said[1])


def test_io_options():
    """-C copies what is read up from the backing image; -m has buffers that O_DIRECT does not take; -T has nothing to trace."""
    rhea_io = os.path.join(BIN, 'rhea-io')
    run('qemu-img', 'create', '-q', '-f', 'raw', 'base.raw', '4M')
    run('qemu-io', '-f', 'raw', '-c', 'write -P 3 0 4M', 'base.raw')
    for more in (('-C',), ('-C', '-m'), ('-m', '-n')):
        run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'top.qcow2')
        run(rhea_io, *more, '-c', 'read -P 3 1M 64k', '-c', 'write -P 4 2M 1000', '-c', 'read -P 4 2M 1000', 'top.qcow2')
        data = [e['start'] for e in json.loads(run('qemu-img', 'map', '--output=json', 'top.qcow2').stdout) if not e['depth']]
        assert data == ([MiB, 2 * MiB] if '-C' in more else [2 * MiB]), data
        run('qemu-img', 'check', '-q', 'top.qcow2')
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'top.qcow2')
    run(rhea_io, '-c', 'open -C top.qcow2', '-c', 'read -P 3 1M 64k')
    assert len(json.loads(run('qemu-img', 'map', '--output=json', 'top.qcow2').stdout)) == 3
    assert 'trace' in run(rhea_io, '-T', 'x', '-c', 'length', 'top.qcow2', ok=(1,)).stderr
    assert 'read-only' in run(rhea_io, '-r', '-C', '-c', 'length', 'top.qcow2', ok=(1,)).stderr


# ---- peers that mean harm

def take(c, n):
    data = b''
    while len(data) < n:
        part = c.recv(n - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def greet(c, flags=3):
    c.settimeout(60)
    assert take(c, 18)[:8] == b'NBDMAGIC'
    c.sendall(struct.pack('>I', flags))


def option(code, data=b''):
    return b'IHAVEOPT' + struct.pack('>II', code, len(data)) + data


def answer(c):
    magic, code, kind, n = struct.unpack('>QIII', take(c, 20))
    assert magic == 0x3e889045565a9
    return kind, take(c, n)


def go(c, name=b'', structured=False):
    greet(c)
    if structured:
        c.sendall(option(8))
        assert answer(c)[0] == 1
    c.sendall(option(7, struct.pack('>I', len(name)) + name + b'\0\0'))
    while answer(c)[0] != 1:
        pass


def request(kind, off, length, flags=0, cookie=1, data=b''):
    return struct.pack('>IHHQQI', 0x25609513, flags, kind, cookie, off, length) + data


def hang_up(c):
    """It must be the server that ends it."""
    try:
        while c.recv(65536):
            pass
    except ConnectionResetError:
        pass


def resident(pid):
    with open('/proc/%d/statm' % pid) as f:
        return int(f.read().split()[1]) * 4096


def attacks(r):
    yield 'noise', lambda c: c.sendall(r.randbytes(4096))
    yield 'noise after the greeting', lambda c: (greet(c), c.sendall(r.randbytes(4096)))
    yield 'flags that are not', lambda c: greet(c, 0xffffffff)
    yield 'a huge option', lambda c: (greet(c), c.sendall(b'IHAVEOPT' + struct.pack('>II', 7, 0xffffffff) + b'x' * 4096))
    yield 'a long name', lambda c: (greet(c), c.sendall(option(1, b'x' * 60000)))
    yield 'half an option', lambda c: (greet(c), c.sendall(option(7, b'\0\0\0\4abcd\0\0')[:-3]), c.shutdown(socket.SHUT_WR))
    yield 'a flood of options', lambda c: (greet(c), c.sendall(option(3) * 3000 + option(99) * 3000), c.shutdown(socket.SHUT_WR))
    yield 'contexts without end', lambda c: (greet(c), c.sendall(option(8) + option(10, b'\0\0\0\0\xff\xff\xff\xff' + b'\0\0\0\1x' * 5000)),
                                             c.shutdown(socket.SHUT_WR))
    yield 'a wrong magic', lambda c: (go(c), c.sendall(b'x' * 28))
    yield 'a write of 4 GiB', lambda c: (go(c), c.sendall(request(1, 0, 0xffffffff) + b'x' * 65536))
    yield 'half a write', lambda c: (go(c), c.sendall(request(1, 0, 65536) + b'x' * 100), c.shutdown(socket.SHUT_WR))
    yield 'questions without listening', lambda c: (go(c), c.settimeout(1), flood(c), c.close())


def flood(c):
    try:
        for _ in range(2000):
            c.sendall(request(0, 0, MiB) * 20)
    except (TimeoutError, BlockingIOError):
        pass


def test_hostile_clients():
    r = random.Random(11)
    noise('in.raw', 4 * MiB, 12)
    with server('-t', '-e', 0, '-f', 'raw', 'in.raw') as p:
        run('nbdcopy', uri(), 'out.raw')
        before = resident(p.pid)
        for name, attack in attacks(r):
            with socket.socket(socket.AF_UNIX) as c:
                c.connect('s')
                try:
                    attack(c)
                    if c.fileno() >= 0:
                        c.settimeout(60)
                        hang_up(c)
                except (BrokenPipeError, ConnectionResetError, EOFError):
                    pass
                except TimeoutError:
                    raise AssertionError('after %s the connection stays open' % name)
            assert p.poll() is None, name
        run('nbdcopy', uri(), 'out2.raw')
        grown = resident(p.pid) - before
        assert grown < 100 * MiB, '%d MiB more' % (grown // MiB)
    same('in.raw', 'out2.raw')


def test_requests_that_cannot_be():
    """Each is answered with its error, and the connection goes on."""
    noise('in.raw', 4 * MiB, 13)
    asks = [((0, 4 * MiB, 1), 22), ((0, 2 ** 63, 4096), 22), ((0, 2 ** 64 - 1, 4096), 22), ((0, 0, 0xffffffff), 22),
            ((1, 4 * MiB, 512, 0, 1, b'x' * 512), 28), ((4, 4 * MiB - 1, 2), 28), ((6, 2 ** 64 - 4096, 4096), 28), ((99, 0, 0), 22),
            ((0, 0, 512, 0x8000), 22), ((7, 0, 512), 22), ((8, 0, 512), 22), ((0, 0, 0), 0), ((3, 0, 0), 0), ((5, 0, 4 * MiB), 0)]
    with server('-t', '-e', 0, '-f', 'raw', 'in.raw'):
        for structured in (False, True):
            with socket.socket(socket.AF_UNIX) as c:
                c.connect('s')
                go(c, structured=structured)
                for n, (ask, want) in enumerate(asks):
                    args = list(ask) + [0, 1, b''][len(ask) - 3:]
                    c.sendall(request(args[0], args[1], args[2], args[3], n, args[5]))
                    magic = struct.unpack('>I', take(c, 4))[0]
                    if magic == 0x67446698:
                        error, cookie = struct.unpack('>IQ', take(c, 12))
                    else:
                        flags, kind, cookie, length = struct.unpack('>HHQI', take(c, 16))
                        body = take(c, length)
                        assert flags == 1, (ask, flags)
                        error = struct.unpack('>I', body[:4])[0] if kind & 0x8000 else 0
                    assert (cookie, error) == (n, want), (ask, error)
    with server('-t', '-e', 0, '-r', '-f', 'raw', 'in.raw'), socket.socket(socket.AF_UNIX) as c:
        c.connect('s')
        go(c)
        for kind in (1, 4, 6):
            c.sendall(request(kind, 0, 512, data=b'x' * 512 if kind == 1 else b''))
            assert struct.unpack('>IIQ', take(c, 16))[1] == 1


def test_silent_clients_are_dropped():
    noise('in.raw', MiB, 14)
    with server('-t', '-e', 1, '--handshake-limit', 1, '-f', 'raw', 'in.raw'), socket.socket(socket.AF_UNIX) as c:
        c.connect('s')
        c.settimeout(60)
        hang_up(c)
        run(IMG, 'info', '-f', 'raw', uri())


def hostile_server(listener, r, n):
    """One connection, answered with what the protocol allows at first, then not."""
    c, _ = listener.accept()
    listener.close()
    with c:
        c.settimeout(120)
        try:
            c.sendall(b'NBDMAGICIHAVEOPT\0\3')
            take(c, 4)
            while True:
                _, code, length = struct.unpack('>QII', take(c, 16))
                take(c, length)

                def say(kind, data=b''):
                    c.sendall(struct.pack('>QIII', 0x3e889045565a9, code, kind, len(data)) + data)
                if n % 8 == 0:
                    c.sendall(r.randbytes(64))
                    return
                if n % 8 == 1:
                    c.sendall(struct.pack('>QIII', 0x3e889045565a9, code, 3, 0xffffffff))
                    return
                if code == 8:
                    say(1)
                elif code == 10:
                    say(4, struct.pack('>I', 7) + b'base:allocation')
                    say(1)
                elif code == 7:
                    say(3, struct.pack('>HQH', 0, 2 ** 64 - 1 if n % 8 == 2 else MiB, 1))
                    say(1)
                    break
                else:
                    say(0x80000001)
            for k in range(4):
                head = take(c, 28)
                cookie, kind = head[8:16], struct.unpack('>H', head[6:8])[0]
                off, length = struct.unpack('>QI', head[16:])

                def chunk(t, data, flags=1, claim=None):
                    c.sendall(struct.pack('>IHH', 0x668e33ef, flags, t) + cookie + struct.pack('>I', claim or len(data)) + data)
                which = (n + k) % 8
                if which == 2:
                    c.sendall(struct.pack('>II', 0x67446698, 0) + r.randbytes(8))
                elif which == 3:
                    chunk(1, struct.pack('>Q', off + length) + b'x' * 512)
                elif which == 4:
                    chunk(1, struct.pack('>Q', off) + b'x' * 100, claim=0xfffffff0)
                elif which == 5:
                    chunk(2, struct.pack('>QI', off, 0xffffffff))
                elif which == 6:
                    chunk(5, struct.pack('>III', 7, 0, 0))
                elif which == 7:
                    chunk(0x8001, struct.pack('>IH', 5, 65535))
                else:
                    chunk(0, b'')
        except (EOFError, OSError):
            pass


def test_hostile_servers():
    r = random.Random(15)
    for n in range(64 if not SOAK else 1024):
        with socket.socket(socket.AF_UNIX) as listener:     # one connection: what comes to mend it is refused
            listener.bind('s')
            listener.listen(1)
            listener.settimeout(60)
            p = subprocess.Popen([IMG, 'convert', '-f', 'raw', '-O', 'raw', uri(), 'out.raw'], stderr=subprocess.PIPE, text=True)
            hostile_server(listener, r, n)
        os.unlink('s')
        assert p.wait(60) == 1, (n, p.returncode)
        assert p.stderr.read(), n
        p.stderr.close()


if __name__ == '__main__':
    cases.run(cases.named(globals()), 'rhea-nbd-')
