#!/usr/bin/env python3
"""The control protocol on the wire: what contract/CONTRACT.md section 1 says, and that no input disturbs the machine."""
import json
import os
import random
import select
import signal
import socket
import threading

from rhea_client import CommandError, Rhea, main


def error_of(reply):
    return reply['error']['class']


def test_greeting_and_line_ends():
    with Rhea() as r, r.connect(greet=False) as s:
        line = s.raw()
        assert line.endswith(b'\r\n'), line
        greeting = json.loads(line)['QMP']
        assert greeting['version']['qemu']['major'] == 10 and greeting['capabilities'] == []
        s.send('{"execute":"qmp_capabilities"}')
        assert s.raw() == b'{"return": {}}\r\n'


def test_negotiation():
    with Rhea() as r, r.connect(greet=False) as s:
        s.raw()
        assert error_of(s.ask('{"execute":"query-status"}')) == 'CommandNotFound'
        assert error_of(s.ask('{"execute":"no-such"}')) == 'CommandNotFound'
        assert error_of(s.ask('{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}')) == 'GenericError'
        assert s.ask('{"execute":"qmp_capabilities"}')['return'] == {}
        assert error_of(s.ask('{"execute":"qmp_capabilities"}')) == 'CommandNotFound'
        assert s.run('query-status')['status'] in ('running', 'prelaunch')


def test_requests_back_to_back_and_in_pieces():
    with Rhea() as r, r.connect() as s:
        s.send('{"execute":"query-name"}{"execute":"query-kvm"}\n\n {"execute" : "query-uuid"}')
        assert s.reply() == {'return': {}}
        assert s.reply()['return']['enabled'] is False
        assert s.reply()['return']['UUID'] == '00000000-0000-0000-0000-000000000000'
        for byte in '{"execute":"query-target", "id": "a}b"}':
            s.send(byte)
        assert s.reply() == {'return': {'arch': 'x86_64'}, 'id': 'a}b'}


def test_single_quotes():
    with Rhea() as r, r.connect() as s:
        assert s.ask("{'execute':'query-target','id':'it\\'s'}") == {'return': {'arch': 'x86_64'}, 'id': "it's"}


def test_id_is_echoed_verbatim():
    with Rhea() as r, r.connect() as s:
        for i in ('libvirt-12', 7, None, [1, {'a': [True]}], {'x': 'ä€😀'}, 18446744073709551615, -1, 1.5):
            assert s.ask(json.dumps({'execute': 'query-name', 'id': i})) == {'return': {}, 'id': i}
            e = s.ask(json.dumps({'execute': 'nope', 'id': i}))
            assert e['id'] == i and error_of(e) == 'CommandNotFound'


def test_errors_keep_the_session():
    generic = ['[]', '"x"', '42', 'nonsense\n', '{"execute":1}', '{"execute":"stop","arguments":[]}', '{}',
               '{"execute":"stop","surplus":1}', '{"execute":"stop","arguments":{"surplus":1}}', '{"execute":"stop",}',
               '{"execute" "stop"}', "{'execute':'query-status']", '{"execute":"stop","execute":"cont"}',
               '{"exec-oob":"stop"}', '{"execute":"balloon"}', '{"execute":"balloon","arguments":{"value":"1"}}',
               '{"execute":"balloon","arguments":{"value":-1}}', '{"execute":"balloon","arguments":{"value":1.5}}',
               '{"execute":"set-action","arguments":{"reboot":"dance"}}', '{"execute":"qom-list"}', '\xff\n',
               '{"execute":"\\ud800"}', '{"execute":"a\x01"}\n', '{"a": 01}', '{"execute":"stop","id":nul}']
    with Rhea() as r, r.connect() as s:
        for text in generic:
            s.send(text.encode('latin-1'))
            assert error_of(s.reply()) == 'GenericError', text
            assert 'return' in s.ask('\n{"execute":"query-status"}'), text
        for command, args, cls in [
                ('unknown', None, 'CommandNotFound'), ('savevm', None, 'CommandNotFound'),
                ('device_del', {'id': 'gone'}, 'DeviceNotFound'), ('query-balloon', None, 'DeviceNotActive'),
                ('balloon', {'value': 1 << 30}, 'DeviceNotActive'),
                ('device-list-properties', {'typename': 'gone'}, 'DeviceNotFound'),
                ('qom-list', {'path': '/gone'}, 'DeviceNotFound'),
                ('device_add', {'driver': 'virtio-blk-pcu'}, 'GenericError'),
                ('object-add', {'qom-type': 'rng-randon', 'id': 'x'}, 'GenericError')]:
            try:
                s.run(command, args)
                raise AssertionError('%s succeeded' % command)
            except CommandError as e:
                assert e.cls == cls, (command, e)


def test_errors_name_the_right_spelling():
    with Rhea() as r, r.connect() as s:
        for command, args, word in [
                ('savevm', None, 'snapshot-save'), ('loadvm', None, 'snapshot-load'),
                ('block-device-add', None, 'blockdev-add'), ('device_add', {'driver': 'virtio-blk-pcu'}, 'virtio-blk-pci'),
                ('object-add', {'qom-type': 'rng-randon', 'id': 'x'}, 'rng-random'),
                ('set-action', {'rebot': 'reset'}, 'reboot'), ('chardev-add', {'id': 'c', 'backend': {'type': 'sockt'}}, 'socket')]:
            try:
                s.run(command, args)
                raise AssertionError('%s succeeded' % command)
            except CommandError as e:
                assert word in e.desc, e


def test_one_client_at_a_time_and_again():
    with Rhea() as r:
        first = r.connect()
        second = socket.socket(socket.AF_UNIX)
        second.connect(r.path)
        second.settimeout(0.3)
        try:
            second.recv(1)
            raise AssertionError('two clients at once')
        except socket.timeout:
            pass
        first.send('{"execute":"query-st')         # half a command, then away
        first.close()
        second.settimeout(120)
        assert second.recv(5) == b'{"QMP'
        second.close()
        for _ in range(20):
            with r.connect() as s:
                assert s.run('query-version')['qemu']['major'] == 10


def drain(s, stop):
    """Reads replies so that the sender does not wait for a peer that waits for it."""
    while not stop.is_set():
        if select.select([s.socket], [], [], 0.05)[0] and not s.socket.recv(65536):
            return


def flood(r, data):
    with r.connect() as s:
        stop = threading.Event()
        reader = threading.Thread(target=drain, args=(s, stop))
        reader.start()
        try:
            s.socket.settimeout(120)
            for i in range(0, len(data), 8192):
                s.socket.sendall(data[i:i + 8192])
        finally:
            stop.set()
            reader.join()


def test_audit_names_commands_and_hides_secrets():
    with Rhea('-d', 'audit') as r, r.connect() as s:
        s.run('object-add', {'qom-type': 'secret', 'id': 's0', 'data': 'open sesame'})
        s.run('human-monitor-command', {'command-line': 'object_add secret,id=s1,data=xyzzy'})
        s.run('human-monitor-command', {'command-line': 'info\tstatus\n\x1b[2J'})
        assert error_of(s.ask('{"execute":"device_del","arguments":{"id":"nobody"}}')) == 'DeviceNotFound'
        s.ask(json.dumps({'execute': 'no\nsuch', 'arguments': {'x': 'y' * 100000}}))
        lines = [line for line in r.output().splitlines() if line.startswith('audit: 2')]
        tails = [line.split('Z ', 1)[1] for line in lines]
        assert tails[0] == 'qmp: "qmp_capabilities" -> ok', tails
        assert tails[1] == 'qmp: "object-add" {"qom-type":"secret","id":"s0"} -> ok', tails
        assert tails[2:4] == ['hmp: object_add ... -> run', 'qmp: "human-monitor-command" {"command-line":"..."} -> ok'], tails
        assert tails[4] == 'hmp: info\\tstatus\\n\\033[2J -> run', tails
        assert tails[6] == 'qmp: "device_del" {"id":"nobody"} -> DeviceNotFound', tails
        assert tails[7].startswith('qmp: "no\\nsuch"') and tails[7].endswith('... -> CommandNotFound') and len(tails[7]) < 1200
        assert not [w for w in ('sesame', 'xyzzy') if w in r.output()] and len(tails) == 8, tails


def test_garbage_does_no_harm():
    rng = random.Random(1)
    bracket = (b'{' * 200 + b'[' * 3000) * 330
    with Rhea() as r:
        for data in (rng.randbytes(1 << 20), b'{"execute": ' * 90000, bracket, b'"' * (1 << 20), b'\n' * (1 << 20),
                     b'{"a":"' + b'x' * (1 << 20), b'\xff{' * (1 << 19), b'{}' * (1 << 18),
                     bytes(rng.choice(b'{}[]",:\'\\ae1-.\n') for _ in range(1 << 20))):
            flood(r, data)
            with r.connect() as s:
                assert s.run('query-status')['status'], data[:20]
        assert r.process.poll() is None


def test_a_client_that_never_reads_costs_bounded_memory():
    with Rhea() as r:
        with r.connect() as s:
            s.socket.settimeout(0.5)
            try:
                for _ in range(20000):
                    s.send('{"execute":"query-qmp-schema"}' * 20)
                raise AssertionError('it took everything')
            except socket.timeout:
                pass
            with open('/proc/%d/status' % r.process.pid) as f:
                rss = int(next(line for line in f if line.startswith('VmRSS')).split()[1])
            assert rss < 100 * 1024, rss
        with r.connect() as s:
            assert s.run('query-status')


def test_large_but_legal_request():
    with Rhea('-chardev', 'ringbuf,id=ring,size=4M') as r, r.connect() as s:
        text = 'Rhea' * (1 << 18)
        assert s.run('ringbuf-write', {'device': 'ring', 'data': text}) == {}
        assert s.run('ringbuf-read', {'device': 'ring', 'size': 1 << 22}) == text
        reply = s.ask('{"execute":"query-name","id":%s}' % ('[' * 900 + ']' * 900))
        assert json.dumps(reply['id']) == '[' * 900 + ']' * 900
        assert error_of(s.ask('{"execute":"query-name","id":%s}\n' % ('[' * 5000 + ']' * 5000))) == 'GenericError'


def test_file_descriptors_are_passed():
    with Rhea() as r, r.connect() as s:
        ours, theirs = socket.socketpair()
        s.send_fds('{"execute":"getfd","arguments":{"fdname":"peer"}}', theirs.fileno())
        assert s.reply() == {'return': {}}
        theirs.close()
        assert s.run('chardev-add', {'id': 'c', 'backend': {'type': 'socket', 'data': {
            'addr': {'type': 'fd', 'data': {'str': 'peer'}}, 'server': False}}}) == {}
        assert error_of(s.ask('{"execute":"closefd","arguments":{"fdname":"peer"}}')) == 'GenericError'
        s.run('chardev-remove', {'id': 'c'})
        ours.settimeout(5)
        assert ours.recv(1) == b''
        read, write = os.pipe()
        s.send_fds('{"execute":"add-fd","arguments":{"fdset-id":3,"opaque":"log"}}', write)
        assert s.reply()['return']['fdset-id'] == 3
        os.close(write)
        sets = s.run('query-fdsets')
        assert sets[0]['fdset-id'] == 3 and sets[0]['fds'][0]['opaque'] == 'log'
        assert s.run('remove-fd', {'fdset-id': 3}) == {} and s.run('query-fdsets') == []
        assert os.read(read, 1) == b''
        assert error_of(s.ask('{"execute":"getfd","arguments":{"fdname":"x"}}')) == 'GenericError'


def test_stop_and_cont_events():
    with Rhea('-S') as r, r.connect() as s:
        assert s.run('query-status') == {'status': 'prelaunch', 'running': False}
        s.run('cont')
        stamp = s.event('RESUME')['timestamp']
        assert stamp['seconds'] > 1700000000 and 0 <= stamp['microseconds'] < 1000000
        s.run('stop')
        s.event('STOP')
        assert s.run('query-status') == {'status': 'paused', 'running': False}
        s.run('system_reset')
        assert s.event('RESET')['data'] == {'guest': False, 'reason': 'host-qmp-system-reset'}
        s.run('system_powerdown')
        s.event('POWERDOWN')


def test_quit_replies_then_ends():
    with Rhea() as r, r.connect() as s:
        assert s.ask('{"execute":"quit"}') == {'return': {}}
        assert s.event('SHUTDOWN')['data'] == {'guest': False, 'reason': 'host-qmp-quit'}
        assert s.raw() == b'' and r.wait() == 0
        assert not os.path.exists(r.path)


def test_signals_end_cleanly():
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with Rhea() as r, r.connect() as s:
            r.process.send_signal(sig)
            assert s.event('SHUTDOWN')['data'] == {'guest': False, 'reason': 'host-signal'}
            assert s.raw() == b'' and r.wait() == 0


def walk(types, name):
    return next(t for t in types if t['name'] == name)


def test_schema_is_closed_and_tells_what_clients_look_for():
    with Rhea() as r, r.connect() as s:
        schema = s.run('query-qmp-schema')
        names = {t['name'] for t in schema}
        assert len(names) == len(schema)
        for t in schema:
            for key in ('arg-type', 'ret-type', 'element-type'):
                assert t.get(key, 'str') in names, t
            for m in t.get('members', []) + t.get('variants', []):
                assert m.get('type', 'str') in names, t
        commands = {t['name'] for t in schema if t['meta-type'] == 'command'}
        assert commands == {c['name'] for c in s.run('query-commands')}
        assert {t['name'] for t in schema if t['meta-type'] == 'event'} == {e['name'] for e in s.run('query-events')}
        assert 'json-cli-hotplug' in walk(schema, 'device_add')['features']
        add = walk(schema, walk(schema, 'object-add')['arg-type'])
        tag = next(m for m in add['members'] if m['name'] == add['tag'])
        assert 'secret' in walk(schema, tag['type'])['values']
        assert 'secret' in [v['case'] for v in add['variants']]
        file = walk(schema, next(v['type'] for v in walk(schema, walk(schema, 'blockdev-add')['arg-type'])['variants']
                                 if v['case'] == 'file'))
        assert {'locking', 'aio', 'drop-cache'} <= {m['name'] for m in file['members']}


def test_human_monitor_command():
    with Rhea() as r, r.connect() as s:
        def hmp(line):
            return s.run('human-monitor-command', {'command-line': line})
        assert hmp('info status') == 'VM status: running\r\n'
        assert hmp('') == '' and hmp('stop') == ''
        assert hmp('info status') == 'VM status: paused\r\n'
        assert hmp('p (2+3)*4 - 10/3') == '0x11\r\n' and hmp('print/d -1') == '-1\r\n'
        assert 'Error' in hmp('p 1/0') and 'Error' in hmp('p (((((1')
        assert "did you mean 'info block'" in hmp('info blok') and "did you mean 'stop'" in hmp('stpo')
        assert hmp('drive_add file=x,if=none').startswith('Error')
        assert 'info registers' in hmp('help info') and 'stop|s' in hmp('help')
        assert 'no CPU' in hmp('info registers') and hmp('info name') == ''
        assert hmp('object_add iothread,id=io1') == ''
        t = s.run('query-iothreads')[0]
        assert t['thread-id'] > 0 and (t['poll-max-ns'], t['poll-grow']) == (32768, 0)
        s.run('qom-set', {'path': '/objects/io1', 'property': 'poll-max-ns', 'value': 4000})
        assert s.run('query-iothreads')[0]['poll-max-ns'] == 4000
        bad = {'execute': 'qom-set', 'arguments': {'path': '/objects/io1', 'property': 'poll-grow', 'value': -1}}
        assert error_of(s.ask(json.dumps(bad))) == 'GenericError'
        assert hmp('object_del io1') == '' and 'Error' in hmp('object_del io1')


def test_pretty():
    with Rhea('-qmp-pretty', 'stdio', qmp=False) as r:
        pass
    import subprocess
    out = subprocess.run([*r.argv], input='{"execute":"qmp_capabilities"}{"execute":"query-kvm"}{"execute":"quit"}',
                         capture_output=True, text=True, timeout=120).stdout
    assert '{\n    "return": {\n        "enabled": false,\n' in out.replace('\r', ''), out


if __name__ == '__main__':
    main(globals())
