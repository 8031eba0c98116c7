#!/usr/bin/env python3
"""What the tools say to a user's mistakes: what failed, why, and what to do about it."""
import contextlib
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import cases                            # noqa: E402

BIN = os.path.join(os.path.abspath(os.environ.get('BUILD', 'build')), 'bin/')


def run(tool, *args):
    return subprocess.run([BIN + 'rhea-' + tool, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)


def make(*args):
    p = run('img', 'create', '-q', *args)
    assert p.returncode == 0, p.stderr


def key(name):
    return '--object', 'secret,id=s,file=' + name


def images():
    make('-f', 'qcow2', 'ok.qcow2', '8M')
    make('-f', 'raw', 'ok.raw', '8M')
    make('-f', 'vdi', 'ok.vdi', '2M')
    os.mkfifo('fifo')
    make('-f', 'qcow2', '-b', 'ok.raw', '-F', 'raw', 'base.qcow2')
    make('-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2')
    os.unlink('base.qcow2')
    for name, text in (('right', 'secret'), ('wrong', 'else')):
        with open(name, 'w') as f:
            f.write(text)
    make(*key('right'), '-f', 'luks', '-o', 'key-secret=s,iter-time=10', 'e.luks', '1M')
    make(*key('right'), '-f', 'qcow2', '-o', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10', 'e.qcow2', '1M')
    with open('ok.qcow2', 'rb') as f, open('short.qcow2', 'wb') as g:
        g.write(f.read(1000))
    with open('junk.qcow2', 'wb') as f:
        f.write(b'QFI\xfb' + b'\x77' * 4096)


LUKS = '--image-opts', 'driver=luks,key-secret=s,file.filename=e.luks'
# tool, arguments: words of the message, words of the hint
MISTAKES = [
    ('img', 'info none', "'none'|No such file", 'spelling'),
    ('img', 'info .', '.: is a directory', 'name a file'),
    ('img', 'info -f qcow2 ok.raw', "'ok.raw' is not a qcow2", 'rhea-img info'),
    ('img', 'info -f qcow3 ok.raw', "'qcow3'", "'qcow2'"),
    ('img', 'info -f qcow ok.raw', "'qcow'", 'not read'),
    ('img', 'info --frob ok.raw', '--frob', '--help'),
    ('img', 'inof ok.raw', "'inof'", "'info'"),
    ('img', 'create x', 'size', 'rhea-img create'),
    ('img', 'create x 10X', "'10X' is not a size", '64K'),
    ('img', 'create x -5G', "option '-5'", 'not an option'),
    ('img', 'create -f qcow2 -o cluster_sise=4k x 1M', "'cluster_sise'", "'cluster_size'"),
    ('img', 'create -f qcow2 -b none -F raw x', "backing file|'none'|No such file", 'spelling'),
    ('img', 'create -f qcow2 -b ok.raw x', 'backing format', '-F'),
    ('img', 'create nowhere/x 1M', "'nowhere/x'|No such file", 'mkdir'),
    ('img', 'info --backing-chain top.qcow2', "backing file of 'top.qcow2'|'base.qcow2'", 'spelling'),
    ('img', 'convert -O qcow2 ok.raw ok.raw', 'ok.raw|twice', ''),
    ('img', 'convert -O qcow2 ok.raw nowhere/x', "'nowhere/x'|No such file", 'mkdir'),
    ('img', 'resize ok.raw 1M', 'shrinking', '--shrink'),
    ('img', 'snapshot -a none ok.qcow2', "'ok.qcow2'|'none'", '-l'),
    ('img', 'snapshot -c s ok.raw', "'raw'", 'qcow2'),
    ('img', 'commit ok.qcow2', "'ok.qcow2'|backing file", 'rhea-img info'),
    ('img', 'bitmap --remove ok.qcow2 none', "'none'", 'rhea-img info'),
    ('img', 'dd if=ok.raw of=x bs=0', "bs '0'", '1 to'),
    ('img', 'info short.qcow2', "'short.qcow2'|file of 0x3e8 bytes", 'copied whole'),
    ('img', 'info junk.qcow2', "'junk.qcow2'|version", 'copy'),
    ('img', 'convert -O raw e.qcow2 x', "'e.qcow2' is encrypted|key", 'secret,id='),
    ('img', 'compare e.luks ok.raw', "'e.luks' is encrypted|key", 'secret,id='),
    ('io', '-r -c length e.qcow2', "'e.qcow2' is encrypted|key", 'secret,id='),
    ('io', [*key('wrong'), '-r', '-c', 'length', *LUKS], 'Invalid password', 'newline'),
    ('io', [*key('none'), '-r', '-c', 'length', *LUKS], 'object s|none|No such file', ''),
    ('io', ['-r', '-c', 'length', *LUKS], "'s'", '-object'),
    ('img', 'info nbd://127.0.0.1:1/x', '127.0.0.1:1|refused', 'server'),
    ('img', 'info nbd+unix:///x?socket=none', "'none'|No such file", 'server'),
    ('img', 'info frob:x', "'frob'", './a:b'),
    ('img', 'info json:{', 'JSON', 'brace'),
    ('img', 'convert -O file ok.raw x', "'file' is not a format", 'raw'),
    ('img', 'info -f nbd ok.raw', "'nbd' is not a format", 'raw'),
    ('img', 'create . 1M', "'.'|directory", 'name a file'),
    ('img', 'create fifo 1M', "'fifo'", 'regular file'),
    ('img', ['create', '', '1M'], 'needs a name', 'FILE'),
    ('img', 'create -f vdi -b ok.raw -F raw x', "'vdi' have no backing file", 'qcow2'),
    ('img', 'convert -m 17 ok.raw x', '--parallel takes 16', ''),
    ('img', 'resize ok.vdi 4M', "'ok.vdi' cannot be resized", 'convert'),
    ('nbd', '-k nowhere/s ok.raw', "'nowhere/s'|No such file", 'mkdir'),
    ('nbd', '-p 99999 ok.raw', "'99999'|port", '65535'),
    ('nbd', 'none', "'none'|No such file", 'spelling'),
    ('storage-daemon', '--export nbd,id=e,node-name=x', "'x'", 'lists'),
]


def check(p, message, hint, what):
    lines = p.stderr.splitlines()
    assert p.returncode, (what, 'succeeds')
    assert lines and all(word in lines[0] for word in message.split('|')), (what, message, p.stderr)
    assert hint in '\n'.join(lines[1:]) and (lines[1:] or not hint), (what, hint, p.stderr)


def test_mistakes():
    images()
    for tool, args, message, hint in MISTAKES:
        words = args.split() if isinstance(args, str) else args
        check(run(tool, *words), message, hint, words)


def test_locked():
    images()
    with subprocess.Popen([BIN + 'rhea-io', 'ok.qcow2'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as holder:
        holder.stdin.write('length\n')
        holder.stdout.readline()
        for args, hint in ((('convert', '-O', 'raw', 'ok.qcow2', 'x'), '-U'), (('resize', 'ok.qcow2', '+1M'), 'wait')):
            check(run('img', *args), 'ok.qcow2: locked by process %d' % holder.pid, hint, args)
        holder.stdin.close()


def test_full_and_read_only():
    images()
    os.mkdir('m')
    with open('noise', 'wb') as f:
        f.write(os.urandom(4 << 20))
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'none', 'm'], capture_output=True).returncode:
        return                          # only the administrator mounts
    try:
        for target in ('qcow2', 'raw'):
            check(run('img', 'convert', '-O', target, 'noise', 'm/x'), "'m/x'|No space", 'free some space', target)
            os.unlink('m/x')
        check(run('img', 'dd', 'if=noise', 'of=m/x'), "'m/x'|No space", 'free some space', 'dd')
        check(run('img', 'create', '-o', 'preallocation=full', 'm/y', '8M'), 'm/y|No space', 'free some space', 'full')
        os.unlink('m/x')
        subprocess.run(['cp', 'ok.qcow2', 'm/'], check=True)
        with open('m/fill', 'wb') as f, contextlib.suppress(OSError):
            f.write(bytes(2 << 20))
        for args in (('bitmap', '--add', 'm/ok.qcow2', 'b'), ('snapshot', '-c', 's', 'm/ok.qcow2')):
            check(run('img', *args), "'m/ok.qcow2'|No space", 'free some space', args)
        os.unlink('m/fill')
        subprocess.run(['mount', '-o', 'remount,ro', 'm'], check=True)
        check(run('img', 'create', 'm/z', '1M'), "'m/z'|Read-only", 'another folder', 'create')
        check(run('img', 'resize', 'm/ok.qcow2', '+1M'), "'m/ok.qcow2'|Read-only", 'mounted read-only', 'resize')
    finally:
        subprocess.run(['umount', 'm'], check=True)


if __name__ == '__main__':
    cases.run(cases.named({k: v for k, v in globals().items() if getattr(v, '__module__', None) == '__main__'}), 'rhea-messages-')
