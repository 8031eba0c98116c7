"""What the tests of block jobs share: images with patterns, nodes over them, waiting for jobs."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'client'))
from rhea_client import CommandError, Rhea, cases, main, program  # noqa: E402, F401

MiB = 1 << 20


def run(*args):
    p = subprocess.run(args, capture_output=True, text=True)
    assert p.returncode == 0, '%s: %s%s' % (' '.join(args), p.stdout, p.stderr)
    return p.stdout


def create(path, size='16M', backing=None, fmt='qcow2', backing_format='qcow2'):
    more = ['-b', backing, '-F', backing_format] if backing else []
    run('qemu-img', 'create', '-q', '-f', fmt, *more, path, *([] if backing else [size]))
    return path


def write(path, *patterns, fmt='qcow2'):
    """(byte, offset, length)..."""
    commands = [x for p in patterns for x in ('-c', 'write -P %d %d %d' % p)]
    run('qemu-io', '-f', fmt, *commands, path)


def compare(a, b, fa='qcow2', fb='qcow2'):
    run('qemu-img', 'compare', '-f', fa, '-F', fb, a, b)


def check(*paths):
    for p in paths:
        run('qemu-img', 'check', '-q', p)


def chain(d, depth=3, raw_base=False):
    """base, overlays...: each with its own pattern and parts that only it has."""
    paths = [os.path.join(d, 'disk%d' % i) for i in range(depth)]
    for i, path in enumerate(paths):
        fmt = 'raw' if raw_base and not i else 'qcow2'
        create(path, backing=paths[i - 1] if i else None, fmt=fmt, backing_format='raw' if raw_base and i == 1 else 'qcow2')
        write(path, (i + 1, i * MiB, 4 * MiB), (i + 100, (10 + i) * MiB + 4096 * i, 12345), fmt=fmt)
    return paths


def flat(d, path, name='expected'):
    """The content of a chain as it is now."""
    out = os.path.join(d, name)
    run('qemu-img', 'convert', '-O', 'raw', path, out)
    return out


class Jobs:
    """A session that follows the states of jobs."""

    def __init__(self, session):
        self.s = session
        self.run = session.run

    def states(self, job):
        return [e['data']['status'] for e in self.s.events if e['event'] == 'JOB_STATUS_CHANGE' and e['data']['id'] == job]

    def wait(self, job, *wanted):
        """Until the job is in one of these states; all states so far."""
        while True:
            seen = self.states(job)
            if any(w in seen for w in wanted):
                return seen
            line = self.s.raw()
            assert line, 'the session ended'
            self.s.events.append(json.loads(line))

    def forget(self):
        self.s.events.clear()

    def event(self, name):
        return self.s.event(name)['data']

    def finish(self, job):
        """To its end; the error, or None. For jobs with auto-dismiss=false."""
        self.wait(job, 'concluded')
        info = next(j for j in self.run('query-jobs') if j['id'] == job)
        self.run('job-dismiss', {'id': job})
        self.wait(job, 'null')
        self.s.events[:] = [e for e in self.s.events if e.get('data', {}).get('id') != job]
        return info.get('error')

    def refused(self, word, command, arguments):
        try:
            self.run(command, arguments)
        except CommandError as e:
            assert word in e.desc, e.desc
            return e
        raise AssertionError('%s was not refused' % command)

    def node(self, name):
        return next((n for n in self.run('query-named-block-nodes', {'flat': True}) if n['node-name'] == name), None)

    def add(self, path, name, backing=None, fmt='qcow2', read_only=False, **more):
        """As libvirt does it: the file, then the format over it."""
        self.run('blockdev-add', {'driver': 'file', 'filename': path, 'node-name': name + '-storage', 'auto-read-only': True,
                                  'discard': 'unmap'})
        self.run('blockdev-add', {'driver': fmt, 'node-name': name, 'file': name + '-storage', 'read-only': read_only,
                                  **({'backing': backing} if fmt == 'qcow2' else {}), **more})

    def add_chain(self, paths, raw_base=False):
        """Nodes n0, n1, ... (the last is the active one)."""
        for i, p in enumerate(paths):
            self.add(p, 'n%d' % i, 'n%d' % (i - 1) if i else None, fmt='raw' if raw_base and not i else 'qcow2',
                     read_only=i < len(paths) - 1)

    def delete(self, *names):
        for n in names:
            self.run('blockdev-del', {'node-name': n})
            self.run('blockdev-del', {'node-name': n + '-storage'})
