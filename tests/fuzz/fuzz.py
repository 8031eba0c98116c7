#!/usr/bin/env python3
"""libFuzzer over the parsers of image formats (fuzz-image.c): each for --seconds, one after the other. Clang builds it in build-fuzz;
the first inputs are small images of every kind and what is in tests/fuzz/corpus; what was found to be new is kept in the corpus.
--minimize puts into tests/fuzz/corpus what is left of it when nothing that reaches the same code is kept twice (test_corpus.py)."""
import argparse
import glob
import io
import os
import re
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(top, 'tests', 'block')]
from rare_images import bochs, cloop, dmg   # noqa: E402

BUILD = os.path.join(top, 'build-fuzz')
SMALL = ['write -q -P 3 0 2k', 'write -q -P 4 100k 1k']
# format: options of create, the commands that fill the image
IMAGES = {
    'qcow2': [('cluster_size=512', SMALL), ('cluster_size=1k,compat=0.10', ['write -q -c 0 1k']), ('cluster_size=16k,extended_l2=on', SMALL[:1]),
              ('cluster_size=512,compression_type=zstd,lazy_refcounts=on,refcount_bits=1', ['write -q -c 0 512', 'write -q -z 1k 512']),
              ('cluster_size=512,refcount_bits=64', SMALL)],
    'qed': [('cluster_size=4k,table_size=1', SMALL), ('cluster_size=4k,table_size=2', [])],
    'vmdk': [('', SMALL), ('subformat=monolithicFlat', []), ('subformat=streamOptimized', []), ('zeroed_grain=on', ['write -q -z 0 64k']),
             ('compat6=on', [])],
    'vdi': [('', SMALL), ('static=on', [])],
    'vhdx': [('log_size=1M,block_size=1M', SMALL), ('subformat=fixed,log_size=1M,block_size=1M', SMALL[:1])],
    'vpc': [('', SMALL), ('subformat=fixed', SMALL[:1])],
    'parallels': [('cluster_size=64k', SMALL), ('', [])],
    'luks': [('key-secret=s,iter-time=10,cipher-alg=aes-256', [])],
    'bochs': [], 'cloop': [], 'dmg': [], 'nbd': [], 'vvfat': [],
}
KEPT = os.path.join(top, 'tests', 'fuzz', 'corpus')
IN_PIECES = {'vdi', 'vhdx', 'vpc', 'parallels'}


def run(*args, **kw):
    return subprocess.run(args, check=True, **kw)


def in_pieces(data):
    """As fuzz-image.c puts them together: the sectors that are not empty."""
    out, at = b'', 0
    while at < len(data):
        end = at
        while end < len(data) and any(data[end:end + 512]):
            end += 512
        if end > at:
            out += struct.pack('<II', at // 512, min(end, len(data)) - at) + data[at:end]
        at = max(end, at + 512)
    return out


def images(kind, tools, folder):
    """Small images of one format; what is in them."""
    name = os.path.join(folder, 'image')
    secret = ['--object', 'secret,id=s,data=x']
    for options, commands in IMAGES[kind]:
        run(os.path.join(tools, 'rhea-img'), 'create', '-q', '-f', kind, *(secret if kind == 'luks' else []), *(['-o', options] if options else []),
            name, '256k')
        for c in commands:
            run(os.path.join(tools, 'rhea-io'), '-f', kind, '-c', c, name)
        if kind == 'qcow2' and options == 'cluster_size=512':
            run(os.path.join(tools, 'rhea-img'), 'snapshot', '-c', 's', name)
            run(os.path.join(tools, 'rhea-io'), '-f', kind, '-c', 'write -q 512 1k', name)
            run(os.path.join(tools, 'rhea-img'), 'bitmap', '--add', name, 'b')
        with open(name, 'rb') as f:
            yield f.read()
        for part in glob.glob(name + '*'):
            os.unlink(part)
    if kind in ('bochs', 'cloop', 'dmg'):
        data = bytes(8192) + os.urandom(4096) + bytes(4096)
        for args in {'bochs': ((2, 4096), (1, 4096)), 'cloop': ((4096,),), 'dmg': ((4096,), (4096, True))}[kind]:
            globals()[kind](name, data, *args)
            with open(name, 'rb') as f:
                yield f.read()


def record(path, out):
    """Passes bytes between a client and the server on the socket `path`; what the server said goes to out."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path + '-client')
    listener.listen()

    def copy(source, sink, keep):
        for data in iter(lambda: source.recv(65536), b''):
            keep.append(data)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

    def serve():
        client, up = listener.accept()[0], socket.socket(socket.AF_UNIX)
        up.connect(path)
        t = threading.Thread(target=copy, args=(client, up, []))
        t.start()
        copy(up, client, out)
        t.join()
    t = threading.Thread(target=serve, daemon=True)
    t.start()
    return t


def servers(tools, folder):
    """What servers say to the client of fuzz-image.c."""
    image, path = os.path.join(folder, 'image'), os.path.join(folder, 's')
    for server in (['rhea-nbd', '-t', '-x', 'e', '-f', 'raw', '-k', path, image], ['nbdkit', '-f', '-U', path, 'memory', '8k'],
                   ['nbdkit', '-f', '-U', path, '--no-sr', 'memory', '8k'], ['nbdkit', '-f', '-o', '-U', path, 'memory', '8k']):
        with open(image, 'wb') as f:
            f.truncate(8 << 10)
        with subprocess.Popen([os.path.join(tools, server[0]) if server[0] == 'rhea-nbd' else server[0], *server[1:]]) as p:
            while not os.path.exists(path):
                time.sleep(0.1)
            for odd in (b'', b'x'):
                out, given = [], os.path.join(folder, 'given')
                t = record(path, out)
                with open(given, 'wb') as f:
                    f.write(odd)
                subprocess.run([os.path.join(BUILD, 'tests/fuzz/fuzz-image'), given], check=True, stderr=subprocess.DEVNULL,
                               env={**os.environ, 'RHEA_FUZZ_FORMAT': 'nbd', 'RHEA_FUZZ_SERVER': path + '-client'})
                t.join(10)
                os.unlink(path + '-client')
                yield b''.join(out)
            p.terminate()
        if os.path.exists(path):
            os.unlink(path)


def floppies(tools, folder):
    """What a guest writes to the folder of fuzz-image.c, a floppy disk."""
    name, tree = os.path.join(folder, 'f'), os.path.join(folder, 'tree')
    os.makedirs(os.path.join(tree, 'D'))
    for path, size in (('A.TXT', 600), ('D/B.TXT', 1500)):
        with open(os.path.join(tree, path), 'wb') as f:
            f.truncate(size)
    for tool in (['mcopy', '-i', name, '/etc/passwd', '::NEW.TXT'], ['mmd', '-i', name, '::E'], ['mdel', '-i', name, '::A.TXT'],
                 ['mren', '-i', name, '::A.TXT', 'a longer name.txt'], ['mcopy', '-o', '-i', name, '/etc/passwd', '::D/B.TXT'],
                 ['mdeltree', '-i', name, '::D'], ['mmove', '-i', name, '::A.TXT', '::D']):
        run(os.path.join(tools, 'rhea-img'), 'convert', '-O', 'raw', 'fat:floppy:' + tree, name)
        with open(name, 'rb') as f:
            before = f.read()
        run(*tool)
        with open(name, 'rb') as f:
            after = f.read()
        out = b''
        for at in range(0, len(before), 512):
            if before[at:at + 512] != after[at:at + 512]:
                out += struct.pack('<II', at // 512, 512) + after[at:at + 512]
        yield out


def kept(kind):
    """Name and contents of each input in tests/fuzz/corpus."""
    path = os.path.join(KEPT, kind + '.tar.xz')
    if os.path.exists(path):
        with tarfile.open(path) as t:
            for member in t:
                yield member.name, t.extractfile(member).read()


def seed(kind, tools, corpus):
    os.makedirs(corpus, exist_ok=True)
    for name, data in kept(kind):
        with open(os.path.join(corpus, os.path.basename(name)), 'wb') as f:
            f.write(data)
    if kind in ('nbd', 'vvfat'):
        with tempfile.TemporaryDirectory() as folder:
            for i, data in enumerate({'nbd': servers, 'vvfat': floppies}[kind](tools, folder)):
                with open(os.path.join(corpus, 'seed-%d' % i), 'wb') as f:
                    f.write(data)
        return
    for i, data in enumerate(images(kind, tools, corpus)):
        data = in_pieces(data) if kind in IN_PIECES else data
        for odd in (b'', b'x'):         # an odd size: read-only
            with open(os.path.join(corpus, 'seed-%d%s' % (i, '-odd' if odd else '')), 'wb') as f:
                f.write(data + (odd if len(data) % 2 == 0 or not odd else b'xy'))
    for left in glob.glob(os.path.join(corpus, 'image*')):
        os.unlink(left)


def fuzz(kind, seconds, corpus, findings):
    os.makedirs(findings, exist_ok=True)
    log = os.path.join(findings, kind + '.log')
    with open(log, 'w') as f:
        p = subprocess.run([os.path.join(BUILD, 'tests/fuzz/fuzz-image'), '-timeout=120', '-rss_limit_mb=2560', '-malloc_limit_mb=1024', '-max_len=131072', '-print_final_stats=1',
                            '-max_total_time=%d' % seconds, '-artifact_prefix=%s/%s-' % (findings, kind), corpus], stdout=f, stderr=f,
                           env={'TMPDIR': '/dev/shm', **os.environ, 'RHEA_FUZZ_FORMAT': kind, 'ASAN_OPTIONS': 'allocator_may_return_null=1'})
    with open(log, errors='replace') as f:
        text = f.read()
    runs, cov = re.findall(r'number_of_executed_units: (\d+)', text), re.findall(r'cov: (\d+)', text)
    print('%-10s %10s runs, %5s edges, %s' % (kind, runs[-1] if runs else '?', cov[-1] if cov else '?',
                                             'nothing found' if not p.returncode else 'A FINDING: ' + log), flush=True)
    return p.returncode


def minimize(kind, corpus):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([os.path.join(BUILD, 'tests/fuzz/fuzz-image'), '-merge=1', '-timeout=120', '-max_len=131072', folder, corpus], check=True,
                       stderr=subprocess.DEVNULL, env={**os.environ, 'RHEA_FUZZ_FORMAT': kind, 'ASAN_OPTIONS': 'allocator_may_return_null=1'})
        os.makedirs(KEPT, exist_ok=True)
        path = os.path.join(KEPT, kind + '.tar.xz')
        with tarfile.open(path, 'w:xz', preset=9) as t:
            for i, name in enumerate(sorted(os.listdir(folder))):
                with open(os.path.join(folder, name), 'rb') as f:
                    data = f.read()
                info = tarfile.TarInfo('%s-%d' % (kind, i))
                info.size = len(data)
                t.addfile(info, io.BytesIO(data))
        print('%-10s %5d inputs, %d bytes' % (kind, len(os.listdir(folder)), os.path.getsize(path)), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('format', nargs='*', help='default: all of ' + ' '.join(IMAGES))
    p.add_argument('--seconds', type=int, default=3600)
    p.add_argument('--tools', default=os.path.join(top, 'build', 'bin'))
    p.add_argument('--corpus', default=os.path.join(BUILD, 'corpus'))
    p.add_argument('--minimize', action='store_true', help='no new inputs')
    p.add_argument('--findings', default=os.path.join(BUILD, 'findings'))
    args = p.parse_args()
    if not os.path.exists(BUILD):
        run('meson', 'setup', BUILD, '-Dc_args=-fsanitize=fuzzer-no-link,address', '-Dc_link_args=-fsanitize=address', '-Db_lundef=false', cwd=top,
            env={**os.environ, 'CC': 'clang'}, stdout=subprocess.DEVNULL)
    run('ninja', '-C', BUILD, 'tests/fuzz/fuzz-image', stdout=subprocess.DEVNULL)
    failed = 0
    for kind in args.format or IMAGES:
        corpus = os.path.join(args.corpus, kind)
        if args.minimize:
            minimize(kind, corpus)
            continue
        seed(kind, args.tools, corpus)
        failed |= fuzz(kind, args.seconds, corpus, args.findings)
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
