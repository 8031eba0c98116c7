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
import tempfile
import time

BUILD = os.environ.get('BUILD', 'build')
BIN = os.path.abspath(os.path.join(BUILD, 'bin'))
NBD, IMG = os.path.join(BIN, 'rhea-nbd'), os.path.join(BIN, 'rhea-img')
MiB = 1 << 20
SOAK = bool(os.environ.get('SOAK'))


def run(*args, ok=(0,), **kw):
    kw.setdefault('text', True)
    p = subprocess.run([str(a) for a in args], capture_output=True, timeout=300, **kw)
    if p.returncode not in ok:
        raise AssertionError('%s: status %d\n%s%s' % (' '.join(map(str, args)), p.returncode, p.stdout, p.stderr))
    return p


def uri(name='', sock='s'):
    return 'nbd+unix:///%s?socket=%s' % (name, os.path.abspath(sock))


@contextlib.contextmanager
def server(*args, sock='s', program=NBD, ends=False):
    """A server on a Unix socket; ends: it is to go by itself."""
    listen = [] if program.startswith('nbdkit') else ['-k', os.path.abspath(sock)]
    p = subprocess.Popen([program, *listen, *map(str, args)], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not os.path.exists(sock) and p.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert os.path.exists(sock), p.communicate()[1]
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


def test_a_guessed_format_takes_one_connection():
    """Servers that end with their first client are common."""
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'd.qcow2', '8M')
    with server('-f', 'raw', 'd.qcow2', program='qemu-nbd', ends=True):
        assert '8 MiB' in run(IMG, 'info', uri()).stdout


def test_errors_of_the_server_are_told():
    with server('-f', '-U', os.path.abspath('s'), '--filter=error', 'pattern', '1M', 'error=ENOSPC', 'error-rate=1', program='nbdkit'):
        err = run(IMG, 'convert', '-f', 'raw', '-O', 'raw', uri(), 'out.raw', ok=(1,)).stderr
        assert 'No space left' in err, err
    with server('-t', '-r', '-x', 'there', '-f', 'raw', noise('in.raw', MiB, 5)):
        err = run(IMG, 'info', uri('elsewhere'), ok=(1,)).stderr
        assert 'no such export' in err, err
        err = run(IMG, 'convert', '-n', '-f', 'raw', '-O', 'raw', 'in.raw', uri('there'), ok=(1,)).stderr
        assert 'no writing' in err, err
    err = run(IMG, 'info', 'nbd+unix:///?socket=' + os.path.abspath('nobody'), ok=(1,)).stderr
    assert 'nobody' in err and 'server running' in err, err
    for bad in ('nbd:localhost', 'nbd://', 'nbd+unix:///x', 'nbd://h/?socket=x', 'nbds://h/', 'nbdx://h/', 'nbd://h:99999/'):
        assert run(IMG, 'info', bad, ok=(1,)).stderr, bad


def test_reconnects():
    """The server goes in the middle of a copy, and comes again."""
    noise('in.raw', 4 * MiB, 6)
    slow = ['-f', '-U', os.path.abspath('s'), '--filter=delay', 'file', 'in.raw', 'delay-read=50ms']
    image = 'driver=raw,file.driver=nbd,file.path=%s,file.reconnect-delay=60' % os.path.abspath('s')
    with server(*slow, program='nbdkit') as first:
        p = subprocess.Popen([IMG, 'convert', '-m', '1', '--image-opts', image, '-O', 'raw', 'out.raw'], stderr=subprocess.PIPE, text=True)
        time.sleep(0.3)
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


def tests():
    return [(n[5:], f) for n, f in sorted(globals().items()) if n.startswith('test_')]


def main():
    only, failed = sys.argv[1:], 0
    for name, fn in tests():
        if only and not any(o in name for o in only):
            continue
        with tempfile.TemporaryDirectory(prefix='rhea-nbd') as d:
            os.chdir(d)
            try:
                fn()
                print('ok     %s' % name, flush=True)
            except Exception as e:
                failed += 1
                print('FAILED %s: %s: %s' % (name, type(e).__name__, e), flush=True)
            os.chdir('/')
    print('%d failed' % failed)
    return failed != 0


if __name__ == '__main__':
    sys.exit(main())
