#!/usr/bin/env python3
"""The ssh driver against OpenSSH's server, with a key, a configuration and an agent of its own: with SOAK=1 (and openssh-server
installed, which starts a service: that is for you to do). Else what needs no server."""
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
import cases                            # noqa: E402

BIN = os.path.abspath(os.path.join(os.environ.get('BUILD', 'build'), 'bin'))
IMG, IO = os.path.join(BIN, 'rhea-img'), os.path.join(BIN, 'rhea-io')
MiB = 1 << 20
CONFIG = """
ListenAddress 127.0.0.1
Port %(port)d
HostKey %(dir)s/host
PidFile none
AuthorizedKeysFile %(dir)s/user.pub
StrictModes no
UsePAM no
PermitRootLogin yes
LoginGraceTime 0
Subsystem sftp internal-sftp
%(more)s
"""


def run(*args, ok=(0,), **kw):
    p = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=300, **kw)
    if p.returncode not in ok:
        raise AssertionError('%s: status %d\n%s%s' % (' '.join(map(str, args)), p.returncode, p.stdout, p.stderr))
    return p


class Server:
    def __init__(self, port, fingerprint, process):
        self.port, self.fingerprint, self.process = port, fingerprint, process

    def uri(self, name, check='no'):
        return 'ssh://127.0.0.1:%d%s?host_key_check=%s' % (self.port, os.path.abspath(name), check)

    def options(self, name, **more):
        return ','.join(['driver=raw,file.driver=ssh,file.server.host=127.0.0.1,file.server.port=%d,file.path=%s' % (self.port, os.path.abspath(name)),
                         *('file.%s=%s' % (k.replace('_', '.').replace('~', '-'), v) for k, v in more.items())])


def start(config):
    """sshd on a port that was free a moment ago: on another one if somebody was faster."""
    if os.getuid() == 0:
        os.makedirs('/run/sshd', mode=0o755, exist_ok=True)
    for _ in range(20):
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        with open('config', 'w') as f:
            f.write(config % {'port': port})
        p = subprocess.Popen(['/usr/sbin/sshd', '-D', '-e', '-f', 'config'], stdin=subprocess.DEVNULL, stderr=open('sshd.log', 'ab'))
        while p.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port), 60) as s:
                if s.recv(4) == b'SSH-':
                    return p, port
            time.sleep(0.02)
    raise AssertionError(open('sshd.log').read())


@contextlib.contextmanager
def server(key=True, more=''):
    d = os.getcwd()
    for name in ('host', 'user'):
        run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', name)
    text = run('ssh-keygen', '-l', '-E', 'md5', '-f', 'host.pub').stdout.split()[1]
    p, port = start(CONFIG.replace('%(dir)s', d.replace('%', '%%')).replace('%(more)s', more))
    agent = subprocess.Popen(['ssh-agent', '-D', '-a', d + '/agent'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    os.environ['SSH_AUTH_SOCK'] = d + '/agent'
    try:
        assert cases.until(lambda: os.path.exists('agent'))
        if key:
            run('ssh-add', '-q', 'user')
        yield Server(port, text.removeprefix('MD5:'), p)
    finally:
        for q in (agent, p):
            q.terminate()
            q.wait()


def noise(name, size, seed):
    with open(name, 'wb') as f:
        f.write(random.Random(seed).randbytes(size))
    return name


def same(a, b):
    with open(a, 'rb') as f, open(b, 'rb') as g:
        assert f.read() == g.read(), (a, b)


def refused(words, *args):
    err = run(*args, ok=(1,)).stderr
    assert words in err, err


def test_images_are_made_written_and_read():
    noise('in.raw', 5 * MiB + 512, 1)
    with server() as s:
        run(IMG, 'convert', '-O', 'qcow2', 'in.raw', s.uri('d.qcow2'))
        run('qemu-img', 'check', '-q', 'd.qcow2')
        run('qemu-img', 'compare', 'in.raw', 'd.qcow2')
        run(IMG, 'convert', s.uri('d.qcow2'), 'out.raw')
        same('in.raw', 'out.raw')
        run(IMG, 'create', '-q', '-f', 'raw', s.uri('e.raw'), '3M')
        assert os.path.getsize('e.raw') == 3 * MiB
        run(IO, '-f', 'raw', '-c', 'write -P 7 1M 300k', '-c', 'write -P 8 2M 512', '-c', 'flush', '-c', 'truncate 4M', s.uri('e.raw'))
        text = run(IO, '-r', '-f', 'raw', '-c', 'read -P 7 1M 300k', '-c', 'read -P 8 2M 512', '-c', 'read -P 0 3M 1M', s.uri('e.raw')).stdout
        assert 'failed' not in text, text
        assert os.path.getsize('e.raw') == 4 * MiB
        assert 'virtual size: 4 MiB' in run(IMG, 'info', '-f', 'raw', s.uri('e.raw')).stdout
        # far more than is asked for at once, and a file that ends within a sector
        noise('big.raw', 9 * MiB + 100, 2)
        run(IMG, 'convert', '-f', 'raw', s.uri('big.raw'), 'out.raw')
        with open('big.raw', 'rb') as f, open('out.raw', 'rb') as g:
            want, got = f.read(), g.read()
            assert got[:len(want)] == want and not any(got[len(want):])


def test_the_host_must_prove_itself():
    noise('in.raw', MiB, 1)
    with server() as s:
        refused('cannot be trusted', IMG, 'info', s.uri('in.raw', 'yes'))
        refused('cannot be trusted', IMG, 'info', '--image-opts', s.options('in.raw'))
        refused('does not match', IMG, 'info', s.uri('in.raw', 'md5:' + '00:' * 15 + '00'))
        refused('does not match', IMG, 'info', s.uri('in.raw', 'md5:' + s.fingerprint[:-1]))
        run(IMG, 'info', s.uri('in.raw', 'md5:' + s.fingerprint))
        run(IMG, 'info', s.uri('in.raw', 'md5:' + s.fingerprint.replace(':', '')))
        check = {'host~key~check_mode': 'hash', 'host~key~check_type': 'md5', 'host~key~check_hash': s.fingerprint}
        run(IMG, 'info', '--image-opts', s.options('in.raw', **check))
        refused('host_key_check', IMG, 'info', s.uri('in.raw', 'maybe'))
        refused('needs a type', IMG, 'info', s.uri('in.raw', 'crc:12'))


def test_errors_are_told():
    noise('in.raw', MiB, 1)
    with server(key=False) as s:
        refused('publickey authentication failed', IMG, 'info', s.uri('in.raw'))
        run('ssh-add', '-q', 'user')
        refused('check the spelling', IMG, 'info', s.uri('none.raw'))
    refused('Failed to connect', IMG, 'info', s.uri('in.raw'))


def test_what_is_no_server():
    refused('ssh://[USER@]HOST', IMG, 'info', 'ssh://127.0.0.1')
    refused('needs a path', IMG, 'info', '--image-opts', 'driver=ssh,server.host=127.0.0.1,server.port=1')
    with server_that_says(b'HTTP/1.1 400 Bad Request\r\n\r\n') as port:
        refused('establish ssh session', IMG, 'info', 'ssh://127.0.0.1:%d/x?host_key_check=no' % port)


@contextlib.contextmanager
def server_that_says(text):
    with socket.create_server(('127.0.0.1', 0)) as s:
        pid = os.fork()
        if not pid:
            while True:
                c = s.accept()[0]
                c.sendall(text)
                c.close()
        try:
            yield s.getsockname()[1]
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def children(parent):
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError), open('/proc/%s/stat' % pid) as f:
            if int(f.read().rpartition(')')[2].split()[1]) == parent:
                found.append(int(pid))
    assert found
    return found


def test_a_server_that_dies():
    noise('in.raw', 8 * MiB, 1)
    with server() as s:
        p = subprocess.Popen([IO, '-r', '-f', 'raw', s.uri('in.raw')], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        p.stdin.write('read 0 1M\n')
        p.stdin.flush()
        assert any('read 1048576' in line for line in p.stdout), p.wait()
        # the connection's own process, not only the one that listens
        for pid in children(s.process.pid):
            with contextlib.suppress(ProcessLookupError):       # that of the connection which start() made
                os.kill(pid, signal.SIGKILL)
        out = p.communicate('read 1M 1M\nread 0 512\n', timeout=120)[0]
        assert p.returncode == 1 and out.count('read failed') == 2, (p.returncode, out)


if __name__ == '__main__':
    named = cases.named(globals())
    cases.run(named if os.environ.get('SOAK') else [c for c in named if c[0] == 'what_is_no_server'], 'rhea-ssh-')
