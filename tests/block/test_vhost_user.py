#!/usr/bin/env python3
"""Exports of type vhost-user-blk: against a front end of this file's own, good and bad, and against Debian's QEMU with a Debian in it."""
import contextlib
import mmap
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_nbd import BIN, MiB, SOAK, daemon_command, noise, run, storage_daemon      # noqa: E402
import cases                            # noqa: E402

FEATURES, SET_FEATURES, OWNER, MEM_TABLE, NUM, ADDR, BASE, GET_BASE, KICK, CALL, ERR = 1, 2, 3, 5, 8, 9, 10, 11, 12, 13, 14
PROTOCOL, SET_PROTOCOL, QUEUES, ENABLE, BACKEND_FD, CONFIG, SET_CONFIG, SLOTS, ADD_REG, REM_REG = 15, 16, 17, 18, 21, 24, 25, 36, 37, 38
INDIRECT, EVENT_IDX, PROTOCOL_FEATURES, VERSION_1 = (1 << n for n in (28, 29, 30, 32))
FLUSH, WCE, DISCARD, ZEROES, RO = (1 << n for n in (9, 11, 13, 14, 5))
REPLY_ACK = 1 << 3
NEXT, WRITE, TABLE = 1, 2, 4
IN, OUT, T_FLUSH, ID, T_DISCARD, T_ZEROES = 0, 1, 4, 8, 11, 13
MEMORY, GUEST, USER = 4 * MiB, 0x100000000, 0x7f0000000000      # the guest's address of it, the front end's
RING, DATA, SIZE = 0, 1 * MiB, 64                               # offsets in it; entries of a ring


class Gone(Exception):
    """The back end ended the connection."""


class FrontEnd:
    def __init__(self, sock='v', queues=1, want=VERSION_1 | PROTOCOL_FEATURES | INDIRECT | FLUSH | WCE | DISCARD | ZEROES, start=True):
        deadline = time.monotonic() + 120
        while True:
            self.s = socket.socket(socket.AF_UNIX)
            try:
                self.s.connect(sock)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                self.s.close()
                assert time.monotonic() < deadline
                time.sleep(0.01)
        self.s.settimeout(120)
        self.fd = os.memfd_create('guest')
        os.ftruncate(self.fd, MEMORY)
        self.mem = mmap.mmap(self.fd, MEMORY)
        self.kick, self.call, self.err = ([os.eventfd(0, os.EFD_NONBLOCK) for _ in range(queues)] for _ in range(3))
        self.avail, self.used, self.queues, self.features = [0] * queues, [0] * queues, queues, 0
        if start:
            self.start(want)

    def close(self):
        self.s.close()
        for fd in (self.fd, *self.kick, *self.call, *self.err):
            os.close(fd)
        try:
            self.mem.close()
        except BufferError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # messages
    def send(self, request, payload=b'', fds=(), flags=1):
        try:
            socket.send_fds(self.s, [struct.pack('<III', request, flags, len(payload)) + payload], fds)
        except OSError:
            raise Gone

    def receive(self):
        data = b''
        while len(data) < 12 or len(data) < 12 + struct.unpack_from('<I', data, 8)[0]:
            try:
                more = self.s.recv(4096)
            except ConnectionResetError:
                more = b''
            if not more:
                raise Gone
            data += more
        return data[12:]

    def ask(self, request, payload=b''):
        self.send(request, payload)
        return self.receive()

    def u64(self, request):
        return struct.unpack('<Q', self.ask(request))[0]

    def tell(self, request, payload=b'', fds=()):
        """With an acknowledgement: whether it was taken."""
        self.send(request, payload, fds, 1 | 8)
        return struct.unpack('<Q', self.receive())[0] == 0

    # set-up, in the order of QEMU
    def hello(self, want):
        self.features = self.u64(FEATURES) & want
        assert self.features & VERSION_1 and self.u64(PROTOCOL) & REPLY_ACK
        self.send(SET_PROTOCOL, struct.pack('<Q', self.u64(PROTOCOL)))
        assert self.tell(OWNER) and self.tell(SET_FEATURES, struct.pack('<Q', self.features))

    def region(self, guest=GUEST, size=MEMORY, user=USER, offset=0):
        return struct.pack('<QQQQ', guest, size, user, offset)

    def rings(self, q):
        base = USER + RING + q * 8192
        return struct.pack('<IIQQQQ', q, 0, base, base + 4096, base + 2048, 0)          # used, available

    def start(self, want):
        self.hello(want)
        # two regions of the same file: a buffer may lie across them
        assert self.tell(MEM_TABLE, struct.pack('<II', 2, 0) + self.region(size=2 * MiB) +
                         self.region(GUEST + 2 * MiB, 2 * MiB, USER + 2 * MiB, 2 * MiB), [self.fd, self.fd])
        for q in range(self.queues):
            self.start_ring(q)

    def start_ring(self, q, base=0):
        assert self.tell(NUM, struct.pack('<II', q, SIZE)) and self.tell(BASE, struct.pack('<II', q, base)) and self.tell(ADDR, self.rings(q))
        assert self.tell(CALL, struct.pack('<Q', q), [self.call[q]]) and self.tell(ERR, struct.pack('<Q', q), [self.err[q]])
        assert self.tell(KICK, struct.pack('<Q', q), [self.kick[q]]) and self.tell(ENABLE, struct.pack('<II', q, 1))

    # rings
    def put(self, at, data):
        self.mem[at:at + len(data)] = data

    def descriptor(self, i, addr, length, flags=0, link=0, q=0, table=None):
        self.put((RING + q * 8192 if table is None else table) + 16 * i, struct.pack('<QIHH', addr, length, flags, link))

    def offer(self, head, q=0, index=None):
        at = RING + q * 8192 + 2048
        self.put(at + 4 + 2 * (self.avail[q] % SIZE), struct.pack('<H', head))
        self.put(at + 4 + 2 * SIZE, struct.pack('<H', self.used[q]))            # used_event
        self.avail[q] = self.avail[q] + 1 & 0xffff if index is None else index
        self.put(at + 2, struct.pack('<H', self.avail[q]))
        os.eventfd_write(self.kick[q], 1)

    def answer(self, q=0):
        """Of the next used entry: head, bytes."""
        at = RING + q * 8192 + 4096
        deadline = time.monotonic() + 120
        while struct.unpack_from('<H', self.mem, at + 2)[0] == self.used[q]:
            assert time.monotonic() < deadline, 'no answer'
            select.select([self.call[q]], [], [], 1)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.call[q])
        e = struct.unpack_from('<II', self.mem, at + 4 + 8 * (self.used[q] % SIZE))
        self.used[q] = self.used[q] + 1 & 0xffff
        return e

    def request(self, kind, sector=0, data=b'', room=0, q=0, at=DATA, indirect=False):
        """One request; its status, and what was read. The status byte is at DATA - 1, the header at DATA - 32."""
        n = len(data) or room
        self.put(DATA - 32, struct.pack('<IIQ', kind, 0, sector))
        self.put(DATA - 1, b'\xff')
        self.put(at, data)
        table = DATA - 1024 if indirect else None
        self.descriptor(0, GUEST + DATA - 32, 16, NEXT, 1, q, table)
        if n:
            self.descriptor(1, GUEST + at, n, NEXT | (0 if data else WRITE), 2, q, table)
        else:
            self.descriptor(0, GUEST + DATA - 32, 16, NEXT, 2, q, table)
        self.descriptor(2, GUEST + DATA - 1, 1, WRITE, 0, q, table)
        if indirect:
            self.descriptor(7, GUEST + table, 48, TABLE, 0, q)
        self.offer(7 if indirect else 0, q)
        assert self.answer(q)[0] == (7 if indirect else 0)
        return self.mem[DATA - 1], bytes(self.mem[at:at + room])

    def broken(self, q=0):
        """Waits for the sign that a ring makes no sense."""
        assert select.select([self.err[q]], [], [], 120)[0], 'the ring was not refused'


thread = []                     # of the exports: options


@contextlib.contextmanager
def export(*more, size=4 * MiB, writable=True):
    if not os.path.exists('disk.raw'):
        noise('disk.raw', size, 5)
    with storage_daemon('--object', 'iothread,id=t', '--blockdev', 'driver=file,node-name=f,filename=disk.raw,discard=unmap', '--blockdev', 'driver=raw,node-name=d,file=f',
                        '--export', 'type=vhost-user-blk,id=e,node-name=d,addr.type=unix,addr.path=v%s%s' %
                        (',writable=on' if writable else '', ''.join(',' + m for m in (*more, *thread)))) as s:
        yield s
    assert not os.path.exists('v')


def test_requests():
    with export('num-queues=2') as s, FrontEnd(queues=2) as f:
        was = open('disk.raw', 'rb').read()
        config = f.ask(CONFIG, struct.pack('<III', 0, 60, 0) + bytes(60))[12:]
        assert struct.unpack_from('<Q', config)[0] == 4 * MiB // 512 and struct.unpack_from('<I', config, 20)[0] == 512
        assert struct.unpack_from('<H', config, 34)[0] == f.u64(QUEUES) == 2
        assert f.request(IN, 8, room=8192) == (0, was[4096:4096 + 8192])
        assert f.request(IN, 0, room=8192, indirect=True, q=1) == (0, was[:8192])
        assert f.request(OUT, 16, b'x' * 65536, at=2 * MiB - 4096) == (0, b'')          # across two regions
        assert f.request(T_FLUSH)[0] == 0
        assert open('disk.raw', 'rb').read() == was[:8192] + b'x' * 65536 + was[8192 + 65536:]
        assert f.request(T_ZEROES, 0, struct.pack('<QII', 16, 8, 1))[0] == 0
        assert f.request(IN, 16, room=8192) == (0, bytes(4096) + b'x' * 4096)
        assert f.request(T_DISCARD, 0, struct.pack('<QII', 24, 8, 0))[0] == 0
        assert f.request(ID, room=20) == (0, b'e' + bytes(19))
        # what is not there, or not so
        end = 4 * MiB // 512
        assert f.request(IN, end, room=512)[0] == 1 and f.request(IN, end - 1, room=1024)[0] == 1 and f.request(OUT, 1 << 62, b'y' * 512)[0] == 1
        assert f.request(IN, 0, room=100)[0] == 1 and f.request(99)[0] == 2
        assert f.request(T_ZEROES, 0, struct.pack('<QII', end, 8, 0))[0] == 1 and f.request(T_ZEROES, 0, struct.pack('<QII', 0, 8, 6))[0] == 2
        assert f.request(T_DISCARD, 0, b'z' * 32)[0] == 2
        # a ring stops and goes on where it was
        state = f.ask(GET_BASE, struct.pack('<II', 0, 0))
        assert struct.unpack('<II', state) == (0, f.avail[0])
        f.start_ring(0, f.avail[0])
        assert f.request(IN, 0, room=512) == (0, was[:512])
        # the disk grows: the front end is told
        ours, theirs = socket.socketpair()
        assert f.tell(BACKEND_FD, fds=[theirs.fileno()])
        theirs.close()
        daemon_command(s, 'block_resize', **{'node-name': 'd', 'size': 5 * MiB})
        ours.settimeout(120)
        assert struct.unpack('<III', ours.recv(12)) == (2, 1, 0)
        ours.close()
        assert struct.unpack_from('<Q', f.ask(CONFIG, struct.pack('<III', 0, 8, 0) + bytes(8)), 12)[0] == 5 * MiB // 512


def test_slots_and_event_index():
    with export(), FrontEnd(start=False) as f:
        f.hello(VERSION_1 | PROTOCOL_FEATURES | EVENT_IDX | FLUSH)
        assert f.u64(SLOTS) == 32
        assert f.tell(ADD_REG, bytes(8) + f.region(), [f.fd]) and f.tell(ADD_REG, bytes(8) + f.region(1 << 40, MiB, 1 << 40), [f.fd])
        f.start_ring(0)
        for i in range(300):                    # laps
            assert f.request(IN, i, room=512)[0] == 0
        assert f.tell(REM_REG, bytes(8) + f.region(1 << 40, MiB, 1 << 40)) and f.request(IN, 0, room=512)[0] == 0
        assert not f.tell(REM_REG, bytes(8) + f.region(1 << 40, MiB, 1 << 40))
        assert f.tell(REM_REG, bytes(8) + f.region())           # beneath a running ring
        f.broken()


def test_read_only_and_life():
    with export(writable=False) as s:
        with FrontEnd() as f:
            assert f.u64(FEATURES) & RO and not f.u64(FEATURES) & DISCARD
            assert f.request(OUT, 0, b'n' * 512)[0] == 1 and f.request(IN, 0, room=512)[0] == 0
            second = socket.socket(socket.AF_UNIX)
            second.connect('v')                 # waits for its turn
            assert 'in use' in daemon_command(s, 'block-export-del', id='e')['desc']
            second.close()
        with FrontEnd() as f:
            f.request(IN, 0, room=512)
            daemon_command(s, 'block-export-del', id='e', mode='hard')
            try:
                while True:
                    f.receive()
            except Gone:
                pass
        assert cases.until(lambda: daemon_command(s, 'query-block-exports') == [])
        assert not os.path.exists('v')
    for bad in ('addr.type=inet,addr.host=h,addr.port=1', 'addr.type=unix,addr.path=v,num-queues=0', 'addr.type=unix,addr.path=v,logical-block-size=700',
                'addr.type=unix,addr.path=v,num-queues=99'):
        assert run(os.path.join(BIN, 'rhea-storage-daemon'), '--blockdev', 'driver=null-co,node-name=d', '--export',
                   'vhost-user-blk,id=e,node-name=d,' + bad, ok=(1,)).stderr


def bad_rings():
    """Each offers what makes no sense."""
    header, status = GUEST + DATA - 32, GUEST + DATA - 1

    def loop(f):
        f.descriptor(0, header, 16, NEXT, 1)
        f.descriptor(1, header, 16, NEXT, 0)
        f.offer(0)

    def outside(f):
        f.descriptor(0, header, 16, NEXT, SIZE)
        f.offer(0)

    def head(f):
        f.offer(SIZE + 5)

    def jump(f):
        f.offer(0, index=1000)

    def nowhere(f):
        f.descriptor(0, 0x1234, 16, NEXT, 1)
        f.offer(0)

    def past_the_end(f):
        f.descriptor(0, GUEST + MEMORY - 8, 16)
        f.offer(0)

    def wraps(f):
        f.descriptor(0, (1 << 64) - 8, 16)
        f.offer(0)

    def no_status(f):
        f.descriptor(0, header, 16)
        f.offer(0)

    def short_header(f):
        f.descriptor(0, header, 8, NEXT, 1)
        f.descriptor(1, status, 1, WRITE)
        f.offer(0)

    def order(f):
        f.descriptor(0, status, 1, WRITE | NEXT, 1)
        f.descriptor(1, header, 16)
        f.offer(0)

    def odd_table(f):
        f.descriptor(0, GUEST + DATA, 17, TABLE)
        f.offer(0)

    def huge_table(f):
        f.descriptor(0, GUEST + DATA, 0xfffffff0, TABLE)
        f.offer(0)

    def table_in_table(f):
        f.descriptor(0, GUEST + DATA, 16, TABLE, table=DATA)
        f.descriptor(0, GUEST + DATA, 16, TABLE)
        f.offer(0)

    def many(f):
        for i in range(SIZE):
            f.descriptor(i, GUEST + i % 2 * 0x80000000000, 0xffffffff, NEXT, i + 1)
        f.offer(0)
    return [v for v in locals().values() if callable(v)]


def test_hostile_rings():
    with export():
        for bad in bad_rings():
            with FrontEnd() as f:
                bad(f)
                f.broken()
                assert f.ask(GET_BASE, struct.pack('<II', 0, 0))        # the connection is as it was
        with FrontEnd() as f:
            assert f.request(IN, 0, room=512)[0] == 0


def test_hostile_messages():
    """Noise in messages, sizes and files, before and after a start in good order."""
    r = random.Random(11)
    evil = (0, 1, 7, 64, 0xff, 0x100, 0xffff, 0x7fffffff, 0xffffffff, GUEST, USER, 1 << 63, (1 << 64) - 1)
    files = [os.memfd_create('short'), os.open('/dev/zero', os.O_RDWR), os.open('/', os.O_RDONLY), os.eventfd(0), *os.pipe()]
    with export() as s:
        for i in range(2000 if SOAK else 150):
            with FrontEnd(start=i & 1) as f, contextlib.suppress(Gone):
                for _ in range(r.randint(1, 8)):
                    payload = b''.join(struct.pack('<Q', r.choice(evil)) for _ in range(r.randint(0, 12)))
                    fds = [r.choice(files) for _ in range(r.choice((0, 0, 1, 1, 2, 8)))]
                    f.send(r.choice((*range(0, 42), 1 << 31)), payload, fds, r.choice((1, 1, 1, 9, 0, 5)))
                    if f.features:
                        f.offer(r.randrange(SIZE))
                f.s.settimeout(0.01)
                with contextlib.suppress(TimeoutError):
                    f.receive()
        for junk in (b'\0' * 5, struct.pack('<III', 1, 1, 0xffffffff), struct.pack('<III', 24, 1, 300) + bytes(10)):
            with FrontEnd(start=False) as f:
                f.s.sendall(junk)
        with FrontEnd() as f:
            assert f.request(IN, 0, room=512)[0] == 0
        assert [e['id'] for e in daemon_command(s, 'query-block-exports')] == ['e']
    for fd in files:
        os.close(fd)


def test_memory_is_cut_off():
    """The file that holds rings and buffers shrinks while they are used: no harm to the back end."""
    with export() as s:
        with FrontEnd() as f:
            assert f.request(IN, 0, room=512)[0] == 0
            f.mem.close()
            os.ftruncate(f.fd, 0)
            os.eventfd_write(f.kick[0], 1)
            assert f.ask(GET_BASE, struct.pack('<II', 0, 0))
        with FrontEnd() as f:
            assert f.request(IN, 0, room=512)[0] == 0
        assert daemon_command(s, 'query-block-exports')


def test_front_end_dies():
    """With requests on their way; and the export's image is then as sound as before."""
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'd.qcow2', '64M')
    with storage_daemon('--blockdev', 'driver=qcow2,node-name=d,file.driver=file,file.filename=d.qcow2', '--export',
                        'vhost-user-blk,id=e,node-name=d,addr.type=unix,addr.path=v,writable=on') as s:
        for i in range(100 if SOAK else 10):
            with FrontEnd() as f:
                for k in range(20):
                    f.put(DATA - 32, struct.pack('<IIQ', OUT, 0, (i * 20 + k) * 64))
                    f.descriptor(3 * k, GUEST + DATA - 32, 16, NEXT, 3 * k + 1)
                    f.descriptor(3 * k + 1, GUEST + DATA, 32768, NEXT, 3 * k + 2)
                    f.descriptor(3 * k + 2, GUEST + DATA - 1, 1, WRITE)
                    f.offer(3 * k)
        with FrontEnd() as f:
            assert f.request(T_FLUSH)[0] == 0
        assert daemon_command(s, 'query-block-exports')
    run('qemu-img', 'check', '-q', 'd.qcow2')


def test_qemu_boots_debian():
    """QEMU's vhost-user-blk-pci, and in it Debian's kernel with its root and another disk on our exports, one of them in a thread."""
    tool = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'tools', 'guest.sh')
    guest = run(tool, 'debian').stdout.strip().splitlines()[-1]
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', guest + '/root.qcow2', '-F', 'qcow2', 'root.qcow2')
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'data.qcow2', '256M')
    script = ('mkfs.ext4 -q /dev/vdb && mount -o discard /dev/vdb /mnt && dd if=/dev/urandom of=/mnt/f bs=1M count=20 status=none && cp -a /etc /mnt/ && '
              'sha256sum /mnt/f > /mnt/sum && umount /mnt && mount /dev/vdb /mnt && sha256sum -c /mnt/sum && diff -r --no-dereference /etc /mnt/etc && rm /mnt/f && '
              'fstrim /mnt && umount /mnt && fsck.ext4 -fn /dev/vdb && echo all is "w"ell; sync; poweroff -f\n')
    with storage_daemon('--object', 'iothread,id=t', '--blockdev', 'driver=qcow2,node-name=r,file.driver=file,file.filename=root.qcow2',
                        '--blockdev', 'driver=qcow2,node-name=d,discard=unmap,file.driver=file,file.filename=data.qcow2',
                        '--export', 'vhost-user-blk,id=e0,node-name=r,addr.type=unix,addr.path=v0,writable=on',
                        '--export', 'vhost-user-blk,id=e1,node-name=d,addr.type=unix,addr.path=v1,writable=on,num-queues=2,iothread=t') as s:
        assert cases.until(lambda: os.path.exists('v0') and os.path.exists('v1'))
        q = subprocess.Popen(['qemu-system-x86_64', '-M', 'q35', '-accel', 'tcg,thread=multi', '-smp', '2', '-m', '512', '-nographic', '-nodefaults',
                              '-serial', 'stdio', '-object', 'memory-backend-memfd,id=m,size=512M,share=on', '-numa', 'node,memdev=m', '-kernel',
                              guest + '/vmlinuz', '-initrd', guest + '/initrd.img', '-append', 'root=/dev/vda rw init=/bin/sh console=ttyS0',
                              '-chardev', 'socket,id=c0,path=v0', '-device', 'vhost-user-blk-pci,chardev=c0,num-queues=1',
                              '-chardev', 'socket,id=c1,path=v1', '-device', 'vhost-user-blk-pci,chardev=c1,num-queues=2'],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, deadline = b'', time.monotonic() + 600
        try:
            while b'\n# ' not in said and time.monotonic() < deadline:
                if select.select([q.stdout], [], [], 1)[0]:
                    more = os.read(q.stdout.fileno(), 65536)
                    assert more, said[-2000:]
                    said += more
            q.stdin.write(script.encode())
            q.stdin.flush()
            while time.monotonic() < deadline:
                if select.select([q.stdout], [], [], 1)[0]:
                    more = os.read(q.stdout.fileno(), 65536)
                    if not more:
                        break
                    said += more
            assert b'all is well' in said, said[-3000:].decode(errors='replace')
        finally:
            q.kill()
            q.wait()
            q.stdin.close()
            q.stdout.close()
        assert len(daemon_command(s, 'query-block-exports')) == 2
    for image in ('root.qcow2', 'data.qcow2'):
        run('qemu-img', 'check', '-q', image)


def in_an_iothread(fn):
    thread.append('iothread=t')
    try:
        fn()
    finally:
        thread.clear()


if __name__ == '__main__':
    named = cases.named({k: v for k, v in globals().items() if getattr(v, '__module__', None) == '__main__'})
    cases.run(named + [(name + '_in_an_iothread', lambda fn=fn: in_an_iothread(fn)) for name, fn in named if fn != test_qemu_boots_debian],
              'rhea-vhost-')
