#!/usr/bin/env python3
"""A disk that is written without a pause while snapshots are made of it and merged again, and mirrors and backups come and go: what
it holds is right at the end, and nothing has leaked: memory, files, clusters. SOAK=1: an hour, a snapshot every second, or as
many seconds as SOAK says when that is more than 1."""
import os
import random
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from jobs import Jobs, MiB              # noqa: E402
from rhea_client import Rhea            # noqa: E402
from test_vhost_user import IN, OUT, T_FLUSH, T_ZEROES, FrontEnd     # noqa: E402
import cases                            # noqa: E402

SOAK = int(os.environ.get('SOAK') or 0)
SECONDS = 3600 if SOAK == 1 else SOAK
ROUNDS = 4
SIZE = 64 * MiB
MANUAL = {'auto-dismiss': False}


class Writer(threading.Thread):
    """Writes blocks of 4 KiB that hold their own number and turn, and reads some back."""

    def __init__(self, sock):
        super().__init__(daemon=True)
        self.f, self.random, self.turns, self.turn = FrontEnd(sock), random.Random(6), [0] * (SIZE // 4096), 0
        self.stop, self.error = False, None

    def block(self, i):
        return bytes(4096) if not self.turns[i] else (b'%d %d ' % (i, self.turns[i])).ljust(4096, b'.')

    def read(self, i):
        status, data = self.f.request(IN, i * 8, room=4096)
        assert status == 0 and data == self.block(i), (i, status, data[:32], self.turns[i])

    def write(self, i):
        self.turn += 1
        self.turns[i] = 0 if self.random.random() < 0.1 else self.turn
        if self.turns[i]:
            status = self.f.request(OUT, i * 8, self.block(i))[0]
        else:
            status = self.f.request(T_ZEROES, 0, struct.pack('<QII', i * 8, 8, 1))[0]
        assert status == 0, i
        if self.turn % 200 == 0:
            assert self.f.request(T_FLUSH)[0] == 0

    def run(self):
        try:
            while not self.stop:
                i = self.random.randrange(len(self.turns))
                if self.random.random() < 0.3:
                    self.read(i)
                else:
                    self.write(i)
                time.sleep(0.0005)
        except Exception as e:
            self.error = e

    def check(self):
        for i in range(len(self.turns)):
            self.read(i)


class Disk:
    def __init__(self, jobs):
        self.j, self.n, self.random = jobs, 0, random.Random(7)

    def path(self, n):
        return os.path.abspath('s%d' % n)

    def snapshot(self):
        self.n += 1
        self.j.run('blockdev-snapshot-sync', {'node-name': 's%d' % (self.n - 1), 'snapshot-file': self.path(self.n), 'format': 'qcow2',
                                              'snapshot-node-name': 's%d' % self.n})

    def end(self, job):
        assert self.j.finish(job) is None

    def merge(self):
        """Of the images between the first and the last, nothing is left; by one job or another, some of which are given up first."""
        if self.n < 2:
            return
        job, args = self.random.choice((('block-commit', {'top-node': 's%d' % (self.n - 1), 'base-node': 's0'}),
                                        ('block-stream', {'base-node': 's0'})))
        if self.random.random() < 0.5:
            self.j.run(job, {'job-id': 'm', 'device': 's%d' % self.n, 'speed': MiB, **args, **MANUAL})
            self.j.run('job-cancel', {'id': 'm'})
            self.j.finish('m')
        self.j.run(job, {'job-id': 'm', 'device': 's%d' % self.n, **args, **MANUAL})
        self.end('m')
        for i in range(1, self.n):
            if self.j.node('s%d' % i):
                self.j.run('blockdev-del', {'node-name': 's%d' % i})
            if os.path.exists(self.path(i)):
                os.unlink(self.path(i))

    def copies(self):
        """A backup, and a mirror that is given up."""
        for job in ('backup', 'mirror'):
            self.j.run('blockdev-create', {'job-id': 'c', 'options': {'driver': 'file', 'filename': os.path.abspath(job), 'size': 0}})
            self.end('c')
            self.j.run('blockdev-add', {'driver': 'file', 'node-name': 'f', 'filename': os.path.abspath(job)})
            self.j.run('blockdev-create', {'job-id': 'c', 'options': {'driver': 'qcow2', 'file': 'f', 'size': SIZE}})
            self.end('c')
            self.j.run('blockdev-add', {'driver': 'qcow2', 'node-name': 't', 'file': 'f'})
            self.j.run('blockdev-' + job, {'job-id': 'k', 'device': 's%d' % self.n, 'target': 't', 'sync': 'full', **MANUAL})
            if job == 'mirror':
                self.j.run('job-cancel', {'id': 'k'})
            self.j.finish('k')
            self.j.run('blockdev-del', {'node-name': 't'})
            self.j.run('blockdev-del', {'node-name': 'f'})
            subprocess.run(['qemu-img', 'check', '-q', job], check=True)
            os.unlink(job)


def files(pid):
    return len(os.listdir('/proc/%d/fd' % pid))


def resident(pid):
    """KiB of its own: what it maps of programs and libraries comes and goes."""
    with open('/proc/%d/status' % pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith('RssAnon'))


def snapshots_under_load(seconds, *rhea, **export):
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', 's0', str(SIZE)], check=True)
    with Rhea(*rhea) as r:
        j = Jobs(r.connect())
        j.run('blockdev-add', {'driver': 'qcow2', 'node-name': 's0', 'discard': 'unmap', 'file': {'driver': 'file', 'filename': os.path.abspath('s0')}})
        j.run('block-export-add', {'type': 'vhost-user-blk', 'id': 'e', 'node-name': 's0', 'writable': True,
                                   'addr': {'type': 'unix', 'path': os.path.abspath('v')}, **export})
        w, d, pid = Writer('v'), Disk(j), r.process.pid
        w.start()
        start, rounds, seen = time.monotonic(), 0, []
        while rounds < ROUNDS or w.turn < 100 or time.monotonic() - start < seconds:
            for _ in range(5):
                d.snapshot()
                time.sleep(1 if seconds else 0.1)
                assert not w.error, w.error
            d.merge()
            d.copies()
            j.forget()
            rounds += 1
            seen.append((files(pid), resident(pid)))
            if seconds and rounds % 10 == 0:
                print('%d s, %d rounds, %d writes: %d files, %d KiB' % (time.monotonic() - start, rounds, w.turn, *seen[-1]), flush=True)
        w.stop = True
        w.join(120)
        assert not w.error, w.error
        w.check()
        # one image more or less is open at the end of a round, by the job that merged; each round makes five
        assert max(s[0] for s in seen) - min(s[0] for s in seen) <= 8, seen
        if rounds >= 40:                # after the caches are full
            early, late = max(s[1] for s in seen[10:20]), min(s[1] for s in seen[-10:])
            assert late < early + 8192, (early, late)
        w.f.close()
        j.run('quit')
        assert r.wait(120) == 0
    for path in ('s0', d.path(d.n)):
        subprocess.run(['qemu-img', 'check', '-q', path], check=True)       # leaks are errors


def test_snapshots_under_load():
    snapshots_under_load(SECONDS / 2)


def test_snapshots_under_load_in_an_iothread():
    snapshots_under_load(SECONDS / 2, '-object', 'iothread,id=t', iothread='t')


if __name__ == '__main__':
    cases.run(cases.named({k: v for k, v in globals().items() if getattr(v, '__module__', None) == '__main__'}), 'rhea-soak-')
