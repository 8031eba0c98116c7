"""A Rhea under test: started without a machine (or with one), spoken to over a Unix socket."""
import array
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

top = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
sys.path.insert(0, os.path.join(top, 'tests'))
import cases                            # noqa: E402
from cases import until                 # noqa: E402, F401

build = os.environ.get('BUILD', os.path.join(top, 'build'))


def program(name='rhea-system-x86_64'):
    return os.path.join(build, 'bin', name)


class Session:
    """One connection; reads messages as bytes, so that the wire's own rules can be looked at."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(120)
        self.socket.connect(path)
        self.buffer = b''
        self.events = []

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def raw(self):
        """The next message with its line end; b'' when the other side closed."""
        while b'\n' not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                rest, self.buffer = self.buffer, b''
                return rest
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b'\n')
        return line + b'\n'

    def reply(self):
        while True:
            line = self.raw()
            if not line:
                raise EOFError('the session ended')
            o = json.loads(line)
            if 'event' not in o:
                return o
            self.events.append(o)

    def event(self, name):
        while True:
            for e in self.events:
                if e['event'] == name:
                    self.events.remove(e)
                    return e
            o = json.loads(self.raw())
            assert 'event' in o, o
            self.events.append(o)

    def ask(self, text):
        self.send(text)
        return self.reply()

    def run(self, command, arguments=None):
        """The return value; an error raises."""
        request = {'execute': command}
        if arguments:
            request['arguments'] = arguments
        r = self.ask(json.dumps(request))
        if 'error' in r:
            raise CommandError(r['error'])
        return r['return']

    def send_fds(self, text, *fds):
        self.socket.sendmsg([text.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))])


class CommandError(Exception):
    def __init__(self, error):
        super().__init__('%(class)s: %(desc)s' % error)
        self.cls, self.desc = error['class'], error['desc']


class Rhea:
    def __init__(self, *args, machine='none', name='rhea-system-x86_64', qmp=True, env=None):
        self.env = {**os.environ, **(env or {})}
        self.dir = tempfile.mkdtemp(prefix='rhea-client-')
        self.path = os.path.join(self.dir, 'qmp')
        self.argv = [program(name), '-nodefaults', '-display', 'none', '-machine', machine]
        if qmp:
            self.argv += ['-qmp', 'unix:%s,server=on,wait=off' % self.path]
        self.argv += args

    def __enter__(self):
        self.log = open(os.path.join(self.dir, 'log'), 'w+')
        self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env=self.env)
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def output(self):
        self.log.flush()
        with open(self.log.name) as f:
            return f.read()

    def connect(self, path=None, greet=True):
        path = path or self.path
        deadline = time.monotonic() + 120
        while True:
            try:
                s = Session(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError('no socket; status %s: %s' % (self.process.returncode, self.output()))
                time.sleep(0.01)
        if greet:
            s.greeting = json.loads(s.raw())
            assert s.run('qmp_capabilities') == {}
        return s

    def wait(self, timeout=120):
        return self.process.wait(timeout)


def main(namespace):
    """Runs every test_ function of a file; tells which failed."""
    cases.run(cases.named(namespace))
