#!/usr/bin/env python3
"""The names by which clients know QEMU's block layer: of QMP's block chapter (commands, events, their members and values), of the
tools' options, of the monitor's commands. `qemu_names.py FOLDER...` asks the programs in the folders, a version each, and prints
the list that qemu.names holds; test_names.py compares ours with it."""
import json
import os
import re
import socket
import subprocess
import sys
import tempfile

CHAPTER = re.compile(r'(x-)?(query-)?(blockdev|block|drive|nbd|job|bitmap|transaction|change-backing)|(BLOCK|JOB|QUORUM)_|DEVICE_TRAY_MOVED|'
                     r'eject|x-debug-|query-(named-block-nodes|iothreads|pr-managers)|x-blockdev')
HMP = re.compile(r'block|drive|nbd_|commit|snapshot_|^eject|^change$|qemu-io|throttle|iothreads|snapshots')
IMG = 'amend bench bitmap check commit compare convert create dd info map measure rebase resize snapshot'.split()


class Qmp:
    """A program's control socket, until the end of a with block."""

    def __init__(self, *command, option='-qmp'):
        self.folder = tempfile.TemporaryDirectory()
        path = os.path.join(self.folder.name, 'q')
        listen = [option, 'unix:%s,server=on,wait=off' % path] if option == '-qmp' else \
            ['--chardev', 'socket,id=c,path=%s,server=on,wait=off' % path, '--monitor', 'c']
        self.process = subprocess.Popen([*command, *listen], stdout=subprocess.DEVNULL)
        self.sock = socket.socket(socket.AF_UNIX)
        while self.sock.connect_ex(path):
            assert self.process.poll() is None, command
        self.lines = self.sock.makefile('rw')
        self.lines.readline()
        self.run('qmp_capabilities')

    def run(self, command, **args):
        self.lines.write(json.dumps({'execute': command, 'arguments': args}) + '\n')
        self.lines.flush()
        while True:
            answer = json.loads(self.lines.readline())
            if 'event' not in answer:
                return answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.run('quit')
        self.process.wait()
        self.sock.close()
        self.folder.cleanup()


def schema_names(schema):
    """{path: names}: "blockdev-add{qcow2}": its members, "blockdev-add.driver": its values. Types have no names of their own there."""
    types = {e['name']: e for e in schema}
    node = types['blockdev-add']['arg-type']
    found = {}

    def members(path, name, above):
        e = types[name]
        for m in e['members']:
            found.setdefault(path, set()).add(m['name'])
            value(path + '.' + m['name'], m['type'], above)
        for v in e.get('variants', ()):
            members('%s{%s}' % (path, v['case']), v['type'], above | {v['type']})

    def value(path, name, above):
        e = types[name]
        kind = e['meta-type']
        if kind == 'array':
            value(path + '[]', e['element-type'], above)
        elif kind == 'enum':
            found.setdefault(path, set()).update(e['values'])
        elif kind == 'alternate':
            for m in e['members']:
                value(path, m['type'], above)
        elif kind == 'object' and name != node and name not in above:     # a node, or an image in an image, is told once
            members(path, name, above | {name})

    for e in schema:
        if e['meta-type'] in ('command', 'event') and CHAPTER.match(e['name']):
            found[e['name']] = set()
            members(e['name'], e['arg-type'], frozenset())
            if e['meta-type'] == 'command':
                value(e['name'] + ' returns', e['ret-type'], frozenset())
    return found


def options(text):
    return set(re.findall(r'(?<![\w-])(--[a-z][a-z-]+|-[A-Za-z])(?![\w-])', text))


def said(*command):
    p = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return p.stdout + p.stderr


def tool_names(folder, prefix):
    """Options that each tool's help names. Before QEMU 10 one page had those of all qemu-img's commands."""
    page = said(folder + prefix + 'img', '--help')
    found = {}
    for command in IMG:
        line = re.search(r'^  %s (\[.*|\(.*)$' % command, page, re.M)
        found['img ' + command] = options(line[1] if line else said(folder + prefix + 'img', command, '--help'))
    for tool in ('io', 'nbd', 'storage-daemon'):
        found[tool] = options(said(folder + prefix + tool, '--help'))
    found['io commands'] = set(re.findall(r'^(\w+)(?: .*)? -- ', said(folder + prefix + 'io', '-c', 'help'), re.M))
    return found


def monitor_names(qmp):
    """Commands of the monitor, and what "info" knows."""
    def words(line):
        text = qmp.run('human-monitor-command', **{'command-line': line})['return']
        return [name for line in text.splitlines() if line[:1].isalpha() for name in
                (line.split()[1] if line.startswith('info ') else line.split()[0]).split('|')]
    return {'monitor': {w for w in words('help') if HMP.search(w)}, 'monitor info': {w for w in words('help info') if HMP.search(w)}}


def names(folder):
    with Qmp(folder + 'qemu-system-x86_64', '-nodefaults', '-display', 'none', '-machine', 'none') as q:
        found = {'qmp ' + path: v for path, v in schema_names(q.run('query-qmp-schema')['return']).items()}
        found.update(monitor_names(q))
    found.update(tool_names(folder, 'qemu-'))
    return found


if __name__ == '__main__':
    known, versions = {}, []
    for each in sys.argv[1:]:
        versions.append(re.search(r'version (\d+\.\d+)', said(each + '/qemu-img', '--version'))[1])
        for place, words in names(each + '/').items():
            known.setdefault(place, set()).update(words)
    print('# What QEMU %s call things; made by qemu_names.py.' % ' and '.join(versions))
    for place, words in sorted(known.items()):
        print(' '.join([place + ':', *sorted(words)]))
