#!/usr/bin/env python3
"""What libFuzzer found worth keeping (tests/fuzz/corpus, made by `fuzz.py --minimize`) goes through the parsers again: no crash, and
within bounds of memory and time. Each parser in a process of its own; the files of one are a few seconds' work."""
import os
import resource
import subprocess
import sys
import tempfile

top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(top, 'tests', 'fuzz'), os.path.join(top, 'tests')]
import fuzz                             # noqa: E402
import cases                            # noqa: E402

BINARY = os.path.join(os.path.abspath(os.environ.get('BUILD', os.path.join(top, 'build'))), 'tests/fuzz/fuzz-image')
MEMORY = 4 << 30                        # of address space, libraries included


def replay(kind):
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, data in fuzz.kept(kind):
            files.append(os.path.join(folder, os.path.basename(name)))
            with open(files[-1], 'wb') as f:
                f.write(data)
        assert files, 'the corpus of %s is empty' % kind
        p = subprocess.run([BINARY, *files], env={**os.environ, 'RHEA_FUZZ_FORMAT': kind}, timeout=600,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)))
        said = p.stdout.split()
        assert p.returncode == 0 and len(said) == len(files), (kind, p.returncode, said[-1:], p.stderr[-300:])


if __name__ == '__main__':
    cases.run([(kind, lambda kind=kind: replay(kind)) for kind in fuzz.IMAGES], 'rhea-corpus-')
