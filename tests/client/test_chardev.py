#!/usr/bin/env python3
"""Character devices and the monitor for people, from the other end: sockets, telnet, pty, pipe, file, multiplexer."""
import os
import pty
import re
import select
import signal
import socket
import subprocess
import tempfile
import termios
import time

from rhea_client import CommandError, Rhea, main, program, until

BANNER = b"monitor - type 'help' for more information"


def read_until(fd, pattern, timeout=120):
    data, end = b'', time.time() + timeout
    while not re.search(pattern, data):
        left = end - time.time()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            raise AssertionError('no %r in %r' % (pattern, data))
        try:
            got = fd.recv(65536) if hasattr(fd, 'recv') else os.read(fd, 65536)
        except OSError as e:            # a pty whose other side closed
            raise AssertionError('%s after %r' % (e, data))
        if not got:
            raise AssertionError('closed after %r' % data)
        data += got
    return data


def connect(path):
    for _ in range(6000):
        s = socket.socket(socket.AF_UNIX if isinstance(path, str) else socket.AF_INET)
        try:
            s.connect(path)
            return s
        except OSError:
            s.close()
            time.sleep(0.02)
    raise AssertionError('no socket %s' % path)


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def test_monitor_on_a_unix_socket():
    with tempfile.TemporaryDirectory() as d, Rhea('-monitor', 'unix:%s/m,server=on,wait=off' % d) as r:
        for _ in range(2):              # a second client after the first
            with connect(d + '/m') as s:
                text = read_until(s, rb'\(qemu\) ')
                assert BANNER + b' (Rhea' in text and b'\r\n(qemu) ' in text
                s.sendall(b'info status\n')
                text = read_until(s, rb'\(qemu\) ')
                assert text == b'info status\r\nVM status: running\r\n(qemu) ', text
                s.sendall(b'info stat\t\t\r\ninfo nam\x7fme\x1b[D\x1b[D\x1b[DX\x08\n')    # completion, editing
                text = read_until(s, rb'(?s)\(qemu\) .*\(qemu\) $')
                assert text.count(b'VM status: running') == 1 and b'unknown' not in text, text
                s.sendall(b'\x1b[A\x1b[A\n')                                                # history
                assert b'VM status: running' in read_until(s, rb'\(qemu\) $')
        with r.connect() as q, connect(d + '/m') as s:
            read_until(s, rb'\(qemu\) ')
            s.sendall(b'quit\n')
            assert q.event('SHUTDOWN')['data']['guest'] is False
        assert r.wait() == 0


def test_telnet():
    port = free_port()
    with Rhea('-monitor', 'telnet:127.0.0.1:%d,server,nowait' % port) as r:
        with connect(('127.0.0.1', port)) as s:
            text = read_until(s, rb'\(qemu\) ')
            assert text.startswith(b'\xff\xfb\x01\xff\xfb\x03\xff\xfb\x00\xff\xfd\x00'), text
            # answers, a sub-negotiation and a doubled 255 in the middle of a command
            s.sendall(b'\xff\xfd\x01\xff\xfd\x03info \xff\xfa\x18\x00vt100\xff\xf0sta\xff\xfb\x1ftus\r\x00')
            assert b'VM status' in read_until(s, rb'running\r\n\(qemu\) ')
            with r.connect() as q:
                name = next(c['filename'] for c in q.run('query-chardev') if c['label'] == 'compat_monitor1')
                assert name.startswith('telnet:127.0.0.1:%d,server=on <-> 127.0.0.1:' % port), name


def test_monitor_as_a_client_and_reconnect():
    with tempfile.TemporaryDirectory() as d, socket.socket(socket.AF_UNIX) as server:
        server.bind(d + '/s')
        server.listen()
        server.settimeout(120)
        with Rhea('-monitor', 'unix:%s/s,reconnect-ms=50' % d) as r:
            for _ in range(3):
                c, _ = server.accept()
                read_until(c, rb'\(qemu\) ')
                c.close()
            assert r.process.poll() is None


def test_server_waits_for_its_client():
    with tempfile.TemporaryDirectory() as d:
        with Rhea('-chardev', 'socket,id=c,path=%s/s,server=on' % d) as r:
            with connect(d + '/s'):
                with r.connect() as q:
                    assert q.run('query-status')
        with Rhea('-chardev', 'socket,id=c,path=%s/w,server=on' % d) as r:
            assert until(lambda: os.path.exists(d + '/w'))
            r.process.send_signal(signal.SIGTERM)       # while it waits
            assert r.wait() == 1, (r.wait(), r.output())


def test_pty():
    with Rhea('-chardev', 'pty,id=charserial0', '-mon', 'chardev=charserial0,mode=readline') as r, r.connect() as q:
        name = next(c['filename'] for c in q.run('query-chardev') if c['label'] == 'charserial0')
        assert name.startswith('pty:/dev/pts/'), name
        for _ in range(2):              # opened, closed, opened
            fd = os.open(name[4:], os.O_RDWR | os.O_NOCTTY)
            try:
                os.write(fd, b'info name\n')
                read_until(fd, rb'(?s)info name.*\(qemu\) ')
            finally:
                os.close(fd)
        assert name[4:] in r.output() and 'charserial0' in r.output()


def test_hot_plug_of_character_devices():
    with tempfile.TemporaryDirectory() as d, Rhea() as r, r.connect() as q:
        reply = q.run('chardev-add', {'id': 'p', 'backend': {'type': 'pty', 'data': {}}})
        assert reply['pty'].startswith('/dev/pts/')
        assert q.run('chardev-add', {'id': 'f', 'backend': {'type': 'file', 'data': {'out': d + '/f'}}}) == {}
        assert q.run('chardev-add', {'id': 's', 'backend': {'type': 'socket', 'data': {
            'addr': {'type': 'unix', 'data': {'path': d + '/s'}}}}}) == {}
        connect(d + '/s').close()
        assert q.run('chardev-add', {'id': 't', 'backend': {'type': 'socket', 'data': {
            'addr': {'type': 'inet', 'data': {'host': '127.0.0.1', 'port': '0'}}, 'wait': False}}}) == {}
        assert q.run('chardev-add', {'id': 'u', 'backend': {'type': 'udp', 'data': {
            'remote': {'type': 'inet', 'data': {'host': '127.0.0.1', 'port': '9'}}}}}) == {}
        labels = [c['label'] for c in q.run('query-chardev')]
        assert {'p', 'f', 's', 't', 'u'} <= set(labels)
        for args in ({'id': 'p', 'backend': {'type': 'null', 'data': {}}}, {'id': 'x', 'backend': {'type': 'nul', 'data': {}}},
                     {'id': 'x', 'backend': {'type': 'file', 'data': {'out': '/nowhere/x'}}}):
            try:
                q.run('chardev-add', args)
                raise AssertionError(args)
            except CommandError as e:
                assert e.cls == 'GenericError'
        for label in ('p', 'f', 's', 't', 'u'):
            q.run('chardev-remove', {'id': label})
        assert not os.path.exists(d + '/s')
        try:
            q.run('chardev-remove', {'id': 'compat_monitor0'})
            raise AssertionError('the monitor pulled its own rug')
        except CommandError as e:
            assert 'busy' in e.desc


def test_file_pipe_logfile():
    with tempfile.TemporaryDirectory() as d:
        os.mkfifo(d + '/p.in')
        os.mkfifo(d + '/p.out')
        with Rhea('-monitor', 'pipe:%s/p' % d) as r:
            out = os.open(d + '/p.out', os.O_RDONLY)
            fd = os.open(d + '/p.in', os.O_WRONLY)
            read_until(out, rb'\(qemu\) ')
            os.write(fd, b'info status\n')
            read_until(out, rb'running\r\n\(qemu\) ')
            os.close(fd)
            os.close(out)
        with Rhea('-chardev', 'file,id=f,path=%s/f,logfile=%s/log' % (d, d), '-mon', 'f') as r, r.connect() as q:
            q.run('query-status')
            assert until(lambda: os.path.getsize(d + '/f'))
            with open(d + '/f', 'rb') as f, open(d + '/log', 'rb') as log:
                text = f.read()
                assert BANNER in text and log.read() == text




def test_multiplexer_and_the_terminal():
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    p = subprocess.Popen([program(), '-M', 'none', '-nodefaults', '-display', 'none', '-chardev',
                          'stdio,id=c,mux=on,signal=off', '-mon', 'c', '-mon', 'chardev=c,mode=control'], stdin=slave,
                         stdout=slave, stderr=slave)
    try:
        read_until(master, rb'\(qemu\) ')
        assert not termios.tcgetattr(slave)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        os.write(master, b'\x01h')
        text = read_until(master, rb'Ctrl-a Ctrl-a')
        for key in (b'Ctrl-a x', b'Ctrl-a c', b'Ctrl-a b', b'Ctrl-a t', b'Ctrl-a s'):
            assert key in text, text
        os.write(master, b'\x01c{"execute":"qmp_capabilities"}')        # the QMP session has the keys now
        read_until(master, rb'\{"return": \{\}\}\r+\n')
        os.write(master, b'\x01cinfo status\r')                         # and the monitor again
        read_until(master, rb'VM status: running\r+\n\(qemu\) ')
        os.write(master, b'\x03')                                       # Ctrl-C is a key, not the end
        os.write(master, b'\x01tinfo name\r')
        read_until(master, rb'\[00:00:\d\d\.\d{3}\] ')
        os.write(master, b'\x01x')
        assert p.wait(120) == 0
        assert termios.tcgetattr(slave) == before
    finally:
        p.kill()
        p.wait()


def test_terminal_is_restored_after_signals():
    for sig in (signal.SIGTERM, signal.SIGABRT):
        master, slave = pty.openpty()
        before = termios.tcgetattr(slave)
        p = subprocess.Popen([program(), '-M', 'none', '-nodefaults', '-display', 'none', '-monitor', 'stdio'],
                             stdin=slave, stdout=slave, stderr=slave)
        read_until(master, rb'\(qemu\) ')
        assert termios.tcgetattr(slave) != before
        p.send_signal(sig)
        p.wait(120)
        assert termios.tcgetattr(slave) == before, sig


def test_ctrl_z_gives_the_terminal_back():
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    p = subprocess.Popen([program(), '-M', 'none', '-nodefaults', '-display', 'none', '-monitor', 'stdio'], stdin=slave,
                         stdout=slave, stderr=slave)
    try:
        read_until(master, rb'\(qemu\) ')
        raw = termios.tcgetattr(slave)
        p.send_signal(signal.SIGTSTP)
        assert os.WIFSTOPPED(os.waitpid(p.pid, os.WUNTRACED)[1])
        assert termios.tcgetattr(slave) == before
        p.send_signal(signal.SIGCONT)
        os.write(master, b'info status\r')
        read_until(master, rb'VM status')
        assert termios.tcgetattr(slave) == raw
    finally:
        p.kill()
        p.wait()


def test_monitor_takes_garbage():
    import random
    rng = random.Random(2)
    with tempfile.TemporaryDirectory() as d, Rhea('-monitor', 'unix:%s/m,server,nowait' % d) as r:
        alphabet = [b'info ', b'help ', b'x/9999x ', b'p (', b'$rip', b'"', b'\\', b'\t', b'\n', b'\x1b[A', b'\x1b[3~', b'0x7fff',
                    b'-f ', b'/', b'device_add ', b'=,', b'object_add ', b'\x01', b'\xff', b'sum 0 99999999999 ', b'log help']
        with connect(d + '/m') as s:
            s.setblocking(False)
            for _ in range(3000):
                data = rng.choice(alphabet)
                while data:
                    select.select([s], [s], [], 20)
                    try:
                        s.recv(1 << 20)
                    except BlockingIOError:
                        pass
                    try:
                        data = data[s.send(data):]
                    except BlockingIOError:
                        pass
        with connect(d + '/m') as s:
            s.sendall(b'\ninfo version\n')
            read_until(s, rb'10\.0\.0 \(Rhea')
        assert r.process.poll() is None


if __name__ == '__main__':
    main(globals())
