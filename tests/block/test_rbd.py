#!/usr/bin/env python3
"""The rbd driver: over libraries of our own in place of librbd and librados (fake-rbd.c: a pool is a folder), for there is no cluster;
and with the real ones, whose cluster does not answer."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_nbd import BIN, BUILD, IMG, MiB, daemon_command, noise, same, storage_daemon           # noqa: E402
import cases                            # noqa: E402

IO, FAKE = os.path.join(BIN, 'rhea-io'), os.path.join(os.path.abspath(BUILD), 'tests/block/fake-rbd')


def run(*args, ok=(0,), fake=True):
    env = {**os.environ, 'FAKE_RBD': os.path.abspath('.'), **({'LD_LIBRARY_PATH': FAKE} if fake else {})}
    p = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=300, env=env)
    assert p.returncode in ok, '%s: status %d\n%s%s' % (' '.join(map(str, args)), p.returncode, p.stdout, p.stderr)
    return p


def refused(words, *args, **kw):
    err = run(*args, ok=(1,), **kw).stderr
    assert words in err, err


def settings():
    with open('conf') as f:
        pairs = dict(line.rstrip('\n').split('=', 1) for line in f)
    os.unlink('conf')
    return pairs


def test_images():
    os.makedirs('pool/ns')
    noise('in.raw', 3 * MiB + 512, 7)
    with open('in.raw', 'ab') as f:
        f.truncate(8 * MiB)
    run(IMG, 'create', '-q', '-f', 'raw', 'rbd:pool/a', '8M')
    assert os.path.getsize('pool/a') == 8 * MiB
    refused('File exists', IMG, 'create', '-q', '-f', 'raw', 'rbd:pool/a', '8M')
    refused('not its snapshot', IMG, 'create', '-q', '-f', 'raw', 'rbd:pool/x@s', '8M')
    run(IMG, 'convert', '-n', '-f', 'raw', '-O', 'raw', 'in.raw', 'rbd:pool/a')
    same('in.raw', 'pool/a')
    run(IMG, 'convert', '-f', 'raw', '-O', 'raw', 'rbd:pool/a', 'rbd:pool/ns/b')
    same('in.raw', 'pool/ns/b')
    assert run(IMG, 'compare', '-f', 'raw', '-F', 'raw', 'rbd:pool/ns/b', 'in.raw').stdout.startswith('Images are identical')
    parts = json.loads(run(IMG, 'map', '-f', 'raw', '--output=json', 'rbd:pool/a').stdout)
    assert [p['zero'] for p in parts] == [False, True] and parts[1]['start'] + parts[1]['length'] == 8 * MiB, parts
    info = json.loads(run(IMG, 'info', '-f', 'raw', '--output=json', 'rbd:pool/a').stdout)
    assert info['virtual-size'] == 8 * MiB and 3 * MiB < info['actual-size'] < 4 * MiB, info
    open('plain', 'w').close()          # an image whose library does not know what is there
    assert json.loads(run(IMG, 'map', '-f', 'raw', '--output=json', 'rbd:pool/a').stdout)[0]['length'] == 8 * MiB
    os.unlink('plain')
    text = run(IO, '-f', 'raw', '-d', 'unmap', '-c', 'write -P 5 1M 1M', '-c', 'writev -P 6 1000 512 65536 4096', '-c', 'discard 2M 64k',
               '-c', 'write -z 3M 64k', '-c', 'write -z -u 4M 64k', '-c', 'flush', '-c', 'read -P 5 1M 1M', '-c', 'readv -P 6 1000 512 65536 4096',
               '-c', 'truncate 9M', '-c', 'length', 'rbd:pool/a').stdout
    assert 'fail' not in text and '9 MiB' in text, text
    run(IMG, 'resize', '-q', '--shrink', '-f', 'raw', 'rbd:pool/a', '5M')
    assert os.path.getsize('pool/a') == 5 * MiB
    # a format whose file grows as it is written
    run(IMG, 'create', '-q', '-f', 'qcow2', 'rbd:pool/q', '8M')
    run(IMG, 'convert', '-n', '-f', 'raw', '-O', 'qcow2', 'in.raw', 'rbd:pool/q')
    run(IMG, 'check', '-q', 'pool/q')
    run(IMG, 'compare', '-q', '-f', 'raw', '-F', 'qcow2', 'in.raw', 'pool/q')


def test_names_and_settings():
    os.makedirs('a:b')
    with open('a:b/i@1', 'wb') as f, open('a:b/i@1@s', 'wb') as g:
        f.truncate(MiB)
        g.truncate(2 * MiB)
    open('my.conf', 'w').close()
    text = run(IMG, 'info', '-f', 'raw', r'rbd:a\:b/i\@1:id=me:conf=my.conf:mon_host=h\:1,k\:2').stdout
    assert '1 MiB' in text
    got = settings()
    assert got['id'] == 'me' and got['mon_host'] == 'h:1,k:2' and got['rbd_cache'] == 'true' and got['client_mount_timeout'] == '60', got
    assert '2 MiB' in run(IMG, 'info', '-f', 'raw', r'rbd:a\:b/i\@1@s').stdout
    refused('cannot be written', IO, '-f', 'raw', '-c', 'write 0 512', r'rbd:a\:b/i\@1@s')
    os.unlink('conf')
    run(IO, '--object', 'secret,id=k,data=AQID,format=base64', '--image-opts', '-t', 'none', '-c', 'read 0 512',
        'driver=raw,file.driver=rbd,file.pool=a:b,file.image=i@1,file.user=u,file.key-secret=k,file.auth-client-required.0=cephx,'
        'file.auth-client-required.1=none,file.server.0.host=::1,file.server.0.port=3300,file.server.1.host=h,file.server.1.port=1')
    got = settings()
    assert got['mon_host'] == '[::1]:3300,h:1' and got['key'] == 'AQID' and got['auth_client_required'] == 'cephx;none' and got['id'] == 'u', got
    assert got['rbd_cache'] == 'false'
    info = ['info', '--image-opts', 'driver=raw,file.driver=rbd,file.pool=a:b']
    refused("'image' is missing", IMG, *info)
    refused('is for names', IMG, 'info', 'json:' + json.dumps({'driver': 'raw', 'file': {'driver': 'rbd', 'pool': 'a:b', 'image': 'i@1',
            '=keyvalue-pairs': [None, 'x']}}))
    refused("'server.0.port' is missing", IMG, *info[:-1], info[-1] + ',file.image=i@1,file.server.0.host=h')
    refused("no object 'nobody'", IMG, *info[:-1], info[-1] + ',file.image=i@1,file.key-secret=nobody')
    refused('no_such_option', IMG, 'info', '-f', 'raw', r'rbd:a\:b/i\@1:no_such_option=1')
    refused('has no value', IMG, 'info', '-f', 'raw', r'rbd:a\:b/i\@1:option')
    refused('error reading conf file nowhere', IMG, 'info', '-f', 'raw', r'rbd:a\:b/i\@1:conf=nowhere')
    refused('Pool name is required', IMG, 'info', '-f', 'raw', 'rbd:pool')
    refused('cannot open the pool: No such file', IMG, 'info', '-f', 'raw', 'rbd:c/i')
    refused('cannot open the image: No such file', IMG, 'info', '-f', 'raw', r'rbd:a\:b/i')
    refused('encrypt', IMG, *info[:-1], info[-1] + ',file.image=i@1,file.encrypt.format=luks')
    open('down', 'w').close()
    refused('is a monitor reachable', IMG, 'info', '-f', 'raw', r'rbd:a\:b/i\@1')


def test_errors_and_a_thread():
    """What fails is that request's error; requests of an export's thread are answered there."""
    os.makedirs('pool')
    for name in ('full', 'disk'):
        with open('pool/' + name, 'wb') as f:
            f.truncate(4 * MiB)
    text = run(IO, '-f', 'raw', '-c', 'write 0 512', '-c', 'read -P 0 0 512', 'rbd:pool/full', ok=(1,)).stdout
    assert 'write failed: Read-only file system' in text and 'read 512/512' in text, text
    os.environ.update(LD_LIBRARY_PATH=FAKE, FAKE_RBD=os.path.abspath('.'))
    try:
        with storage_daemon('--object', 'iothread,id=t', '--nbd-server', 'addr.type=unix,addr.path=%s' % os.path.abspath('s'),
                            '--blockdev', 'driver=rbd,node-name=d,pool=pool,image=disk',
                            '--export', 'type=nbd,id=e,node-name=d,writable=on,iothread=t') as s:
            uri = 'nbd+unix:///d?socket=' + os.path.abspath('s')
            subprocess.run(['fio', '--name=x', '--ioengine=nbd', '--uri=' + uri, '--rw=randrw', '--bs=4k', '--iodepth=16', '--size=4M',
                            '--verify=crc32c', '--verify_fatal=1', '--minimal'], check=True, stdout=subprocess.DEVNULL, timeout=300,
                           env={k: v for k, v in os.environ.items() if k != 'LD_LIBRARY_PATH'})
            daemon_command(s, 'block_resize', **{'node-name': 'd', 'size': 6 * MiB})
            assert daemon_command(s, 'query-named-block-nodes')[0]['image']['virtual-size'] == 6 * MiB
            for name, location in (('a@b', {}), ('c', {'server': [{'host': 'h', 'port': '1'}]})):
                options = {'driver': 'rbd', 'location': {'pool': 'pool', 'image': name, 'user': 'me', **location}, 'size': 2 * MiB}
                said = daemon_command(s, 'blockdev-create', **{'job-id': name[0], 'options': options})
                assert not said if not location else "no 'server'" in said['desc'], said
            assert cases.until(lambda: daemon_command(s, 'query-jobs')[0]['status'] == 'concluded')
            assert 'error' not in daemon_command(s, 'query-jobs')[0] and os.path.getsize('pool/a@b') == 2 * MiB
            assert 'does not say where' in daemon_command(s, 'blockdev-create', **{'job-id': 'x', 'options': {
                'driver': 'rbd', 'location': {'pool': 'pool'}, 'size': 0}})['desc']
    finally:
        del os.environ['LD_LIBRARY_PATH'], os.environ['FAKE_RBD']


def test_no_cluster():
    refused('cannot connect to the cluster', IMG, 'info', '-f', 'raw', r'rbd:pool/image:mon_host=127.0.0.1\:1:client_mount_timeout=1:'
            r'auth_client_required=none', fake=False)


if __name__ == '__main__':
    cases.run(cases.named({k: v for k, v in globals().items() if getattr(v, '__module__', None) == '__main__'}), 'rhea-rbd-')
