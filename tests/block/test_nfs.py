#!/usr/bin/env python3
"""The nfs driver: with SOAK=1 against NFS-Ganesha (nfs-ganesha, nfs-ganesha-vfs and rpcbind installed, run as root, in a network of
their own, for the port mapper has one port only), by versions 3 and 4. Else what needs no server."""
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
import cases                            # noqa: E402

BIN = os.path.abspath(os.path.join(os.environ.get('BUILD', 'build'), 'bin'))
IMG, IO = os.path.join(BIN, 'rhea-img'), os.path.join(BIN, 'rhea-io')
MiB = 1 << 20
CONFIG = """
NFS_CORE_PARAM { Protocols = 3,4; Enable_NLM = false; Enable_RQUOTA = false; }
NFSV4 { Graceless = true; Only_Numeric_Owners = true; RecoveryRoot = %(dir)s/recovery; RecoveryBackend = fs; }
EXPORT { Export_Id = 1; Path = %(dir)s/export; Pseudo = %(dir)s/export; Access_Type = RW; Squash = No_Root_Squash; Protocols = 3,4;
         Transports = TCP; SecType = sys; FSAL { Name = VFS; } }
"""


def run(*args, ok=(0,)):
    p = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=300)
    if p.returncode not in ok:
        raise AssertionError('%s: status %d\n%s%s' % (' '.join(map(str, args)), p.returncode, p.stdout, p.stderr))
    return p


def refused(words, *args):
    err = run(*args, ok=(1,)).stderr
    assert words in err, err


def test_names():
    for bad in ('nfs://', 'nfs://host', 'nfs://host/'):
        refused('not the name of a file by NFS', IMG, 'info', '-f', 'raw', bad)
    refused('Unknown NFS parameter name: nonsense', IMG, 'info', '-f', 'raw', 'nfs://127.0.0.1/x/y?nonsense=1')
    refused('needs a server', IMG, 'info', '--image-opts', 'driver=raw,file.driver=nfs,file.path=/x/y')
    refused('needs a path', IMG, 'info', '--image-opts', 'driver=raw,file.driver=nfs,file.server.type=inet,file.server.host=127.0.0.1,file.path=x')
    refused('version must be from 3 to 4', IMG, 'info', '-f', 'raw', 'nfs://127.0.0.1/x/y?version=2')
    refused('cannot find the host', IMG, 'info', '-f', 'raw', 'nfs://no-such-host.invalid/x/y')
    # a port where nobody listens, by either version
    for version in (3, 4):
        refused('cannot mount', IMG, 'info', '-f', 'raw', 'nfs://127.0.0.1/x/y?nfsport=1&mountport=1&version=%d' % version)


@contextlib.contextmanager
def server(d):
    os.makedirs(d + '/export')
    with open(d + '/config', 'w') as f:
        f.write(CONFIG % {'dir': d})
    run('ip', 'link', 'set', 'lo', 'up')
    run('mount', '-t', 'tmpfs', 'run', '/run')
    os.mkdir('/run/rpcbind')
    processes = [subprocess.Popen(['/sbin/rpcbind', '-f'])]
    try:
        assert cases.until(lambda: subprocess.run(['rpcinfo', '127.0.0.1'], capture_output=True).returncode == 0)
        processes.append(subprocess.Popen(['ganesha.nfsd', '-F', '-L', d + '/log', '-f', d + '/config', '-p', d + '/pid']))
        assert cases.until(lambda: all(v in run('rpcinfo', '-s', '127.0.0.1', ok=range(256)).stdout for v in ('nfs', 'mountd'))), open(d + '/log').read()
        yield processes[1]
    finally:
        for p in processes:
            p.kill()
            p.wait()


def inside():
    """Within the new network."""
    with tempfile.TemporaryDirectory(prefix='rhea-nfs-') as d, server(d) as ganesha:
        data = random.Random(1).randbytes(5 * MiB + 512)
        with open(d + '/in.raw', 'wb') as f:
            f.write(data)
        for version in (3, 4):
            def uri(name):
                return 'nfs://127.0.0.1%s/export/%s?version=%d' % (d, name, version)

            path = '%s/export/raw%d' % (d, version)
            run(IMG, 'convert', '-f', 'raw', '-O', 'raw', d + '/in.raw', uri('raw%d' % version))
            assert open(path, 'rb').read() == data
            run(IMG, 'convert', '-f', 'raw', '-O', 'raw', d + '/in.raw', uri('raw%d' % version))        # over what is there
            assert open(path, 'rb').read() == data
            run(IMG, 'compare', '-f', 'raw', '-F', 'raw', d + '/in.raw', uri('raw%d' % version))
            text = run(IO, '-f', 'raw', '-c', 'write -P 5 1M 3M', '-c', 'writev -P 6 1000 512 65536 4096', '-c', 'flush', '-c', 'read -P 5 1M 3M',
                       '-c', 'readv -P 6 1000 512 65536 4096', '-c', 'truncate 6M', '-c', 'read -P 0 5767168 512k', uri('raw%d' % version)).stdout
            assert 'failed' not in text, text
            got = open(path, 'rb').read()
            assert len(got) == 6 * MiB and got[MiB:4 * MiB] == b'\5' * (3 * MiB) and got[1000:71144] == b'\6' * 70144
            run(IMG, 'create', '-f', 'qcow2', '-b', 'raw%d' % version, '-F', 'raw', '%s/export/top%d' % (d, version))
            run(IO, '-c', 'write -P 9 2M 1M', uri('top%d' % version))
            run('qemu-img', 'check', '-q', '%s/export/top%d' % (d, version))
            run('qemu-io', '-r', '-f', 'qcow2', '-c', 'read -P 9 2M 1M', '-c', 'read -P 5 3M 1M', '%s/export/top%d' % (d, version))
            info = run(IMG, 'info', uri('top%d' % version)).stdout
            assert 'file format: qcow2' in info and 'unavailable' not in info, info
            refused('No such file', IMG, 'info', uri('missing'))
            refused('cannot mount', IMG, 'info', 'nfs://127.0.0.1/nowhere/x?version=%d' % version)
        io = subprocess.Popen([IO, '-f', 'raw', uri('raw4')], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        io.stdin.write('read 0 4k\n')
        io.stdin.flush()
        assert 'read 4096' in io.stdout.readline()
        ganesha.kill()
        start = time.monotonic()
        out = io.communicate('read 0 1M\n')[0]
        assert 'failed' in out and time.monotonic() - start < 200, out


def test_soak_server():
    if os.environ.get('SOAK'):
        text = run('unshare', '--net', '--mount', sys.executable, os.path.abspath(__file__), 'within').stdout
        assert 'all of it' in text, text


if sys.argv[1:] == ['within']:
    inside()
    print('all of it')
else:
    cases.run(cases.named(globals()))
