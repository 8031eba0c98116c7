#!/usr/bin/env python3
"""libFuzzer over the parsers of image formats (fuzz-image.c): each for --seconds, one after the other. Clang builds it in build-fuzz;
the first inputs are small images of every kind, what was found to be new is kept in the corpus."""
import argparse
import glob
import os
import re
import struct
import subprocess
import sys

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
    'bochs': [], 'cloop': [], 'dmg': [],
}
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


def seed(kind, tools, corpus):
    os.makedirs(corpus, exist_ok=True)
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
        p = subprocess.run([os.path.join(BUILD, 'tests/fuzz/fuzz-image'), '-timeout=10', '-rss_limit_mb=1024', '-max_len=131072', '-print_final_stats=1',
                            '-max_total_time=%d' % seconds, '-artifact_prefix=%s/%s-' % (findings, kind), corpus], stdout=f, stderr=f,
                           env={**os.environ, 'RHEA_FUZZ_FORMAT': kind, 'ASAN_OPTIONS': 'allocator_may_return_null=1'})
    with open(log, errors='replace') as f:
        text = f.read()
    runs, cov = re.findall(r'number_of_executed_units: (\d+)', text), re.findall(r'cov: (\d+)', text)
    print('%-10s %10s runs, %5s edges, %s' % (kind, runs[-1] if runs else '?', cov[-1] if cov else '?',
                                             'nothing found' if not p.returncode else 'A FINDING: ' + log), flush=True)
    return p.returncode


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('format', nargs='*', help='default: all of ' + ' '.join(IMAGES))
    p.add_argument('--seconds', type=int, default=3600)
    p.add_argument('--tools', default=os.path.join(top, 'build', 'bin'))
    p.add_argument('--corpus', default=os.path.join(BUILD, 'corpus'))
    p.add_argument('--findings', default=os.path.join(BUILD, 'findings'))
    args = p.parse_args()
    if not os.path.exists(BUILD):
        run('meson', 'setup', BUILD, '-Dc_args=-fsanitize=fuzzer-no-link,address', '-Dc_link_args=-fsanitize=address', '-Db_lundef=false', cwd=top,
            env={**os.environ, 'CC': 'clang'}, stdout=subprocess.DEVNULL)
    run('ninja', '-C', BUILD, 'tests/fuzz/fuzz-image', stdout=subprocess.DEVNULL)
    failed = 0
    for kind in args.format or IMAGES:
        corpus = os.path.join(args.corpus, kind)
        seed(kind, args.tools, corpus)
        failed |= fuzz(kind, args.seconds, corpus, args.findings)
    sys.exit(1 if failed else 0)


main()
