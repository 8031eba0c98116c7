#!/usr/bin/env python3
"""The command line: what clients parse, what is refused and how it is told, what the process does."""
import os
import re
import signal
import socket
import subprocess
import tempfile
import time

from rhea_client import Rhea, build, main, program, until


def run(*args, name='rhea-system-x86_64', **more):
    return subprocess.run([program(name), *args], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
                          **more)


def refused(words, *args):
    """Ends with status 1, and one message that holds all the words."""
    p = run(*args)
    assert p.returncode == 1, (args, p)
    assert p.stderr.startswith('rhea-system-x86_64: '), p.stderr
    for word in [words] if isinstance(words, str) else words:
        assert word in p.stderr, (args, p.stderr)


def test_version_and_help():
    for flag in ('-version', '--version'):
        p = run(flag)
        assert p.returncode == 0 and re.search(r'version (\d+)\.(\d+)', p.stdout).groups() == ('10', '0'), p
        assert 'Rhea' in p.stdout
    for flag in ('-help', '--help', '-h'):
        p = run('-display', 'none', flag)
        assert p.returncode == 0
        for word in ('-no-user-config', '-nodefaults', '-netdev', '-daemonize'):
            assert word in p.stdout, word
        assert max(map(len, p.stdout.splitlines())) <= 132
    assert run('-version', name='compat/qemu-system-x86_64').stdout.startswith('QEMU emulator version 10.')


def test_help_of_lists():
    for args, word in [(('-machine', 'help'), 'none'), (('-M', '?'), 'none'), (('-cpu', 'help'), 'max'),
                       (('-accel', 'help'), 'tcg'), (('-device', 'help'), 'virtio-blk-pci'),
                       (('-machine', 'accel=kvm:tcg', '-device', '?'), 'virtio-rng-pci'),
                       (('-device', 'virtio-blk-pci,help'), 'serial'), (('-chardev', 'help'), 'socket'),
                       (('-object', 'help'), 'rng-random'), (('-object', 'secret,help'), 'format'),
                       (('-netdev', 'help'), 'user'), (('-d', 'help'), 'in_asm'), (('-display', 'help'), 'none'),
                       (('-trace', 'help'), 'trace points'), (('-machine', 'none,help'), 'memory-backend')]:
        p = run(*args)
        assert p.returncode == 0 and word in p.stdout and not p.stderr, (args, p)


def test_what_is_wrong_is_named_with_the_right_spelling():
    for word, args in [
            ('-nodefaults', ['-nodefault']), ('-enable-kvm', ['-enablekvm']), ('did you mean q35', ['-M', 'q53']),
            ('virtio-blk-pci', ['-M', 'none', '-device', 'virtio-blk-pcu']), ('argument is missing', ['-m']),
            ('Haswell', ['-M', 'microvm', '-cpu', 'Haswel']), ('jit', ['-M', 'none', '-accel', 'jitt']),
            ('order', ['-boot', 'ordr=c']), ('cores', ['-smp', '4,cors=2']), ('product', ['-smp', '5,sockets=2,cores=2']),
            ('aio=', ['-drive', 'file=x,io=io_uring']), ('socket', ['-M', 'none', '-chardev', 'sockt,id=x']),
            ('server', ['-M', 'none', '-chardev', 'socket,id=x,path=/tmp/x,servr=on']),
            ('spicevmc', ['-M', 'none', '-chardev', 'spicevmc,id=x,name=y']), ('id', ['-M', 'none', '-chardev', 'null']),
            ('rng-random', ['-M', 'none', '-object', 'rng-randm,id=x']), ('filename', ['-M', 'none', '-object', 'rng-random,id=x,filenme=y']),
            ('VNC', ['-vnc', ':1']), ('gdb', ['-s']), ('SPICE', ['-spice', 'port=1']), ('gtk', ['-display', 'gtk']),
            ('9p', ['-virtfs', 'local,path=/,mount_tag=x,security_model=none']), ('migration', ['-incoming', 'defer']),
            ('UUID', ['-uuid', 'x']), ('kernel', ['-M', 'microvm', '-append', 'x']), ('RAM', ['-m', '0']),
            ('guest_errors', ['-d', 'guest_error']), ('clock', ['-rtc', 'clock=sun']), ('panic', ['-action', 'panc=none']),
            ('maxmem', ['-m', '1G,maxmem=512M']), ('yesterday', ['-M', 'q35', '-rtc', 'base=yesterday'])]:
        refused(word, *args)
    p = run(name='rhea-system-i386', *['-M', 'none', '-cpu', 'help'])
    assert p.returncode == 0 and 'qemu32' in p.stdout


def test_what_would_have_no_effect_is_refused():
    for word, args in [
            ('SATA', ['-M', 'q35,sata=on']), ('SMBus', ['-M', 'q35,smbus=on']), ('keyboard', ['-M', 'q35,i8042=on']),
            ('HPET', ['-M', 'microvm,hpet=on']), ('system management', ['-M', 'microvm,smm=on']),
            ('VMware', ['-M', 'q35,vmport=on']), ('USB', ['-M', 'pc,usb=on']), ('KVM', ['-M', 'q35,kernel-irqchip=split']),
            ('KVM', ['-accel', 'jit,kernel-irqchip=on']), ('writable', ['-accel', 'jit,split-wx=off']),
            ('-device help', ['-device', 'qqqqqqqq,help']),
            ('-object help', ['-object', 'qqqqqqqq,help']), ('KVM', ['-overcommit', 'cpu-pm=on']), ('splash', ['-boot', 'splash=x.jpg']), ('display', ['-k', 'de']),
            ('reboot-timeout', ['-M', 'q35', '-boot', 'reboot-timeout=65536']), ('hide', ['-compat', 'deprecated-output=drop']),
            ('add CPUs', ['-smp', '1,maxcpus=2']), ('add memory', ['-m', '1G,slots=1,maxmem=2G'])]:
        refused(word, *args)
    p = subprocess.run([program(), '-M', 'q35,sata=off,smbus=off,i8042=off,hpet=off,smm=off,vmport=off,kernel-irqchip=off,usb=off',
                        '-accel', 'jit,one-insn-per-tb=on,split-wx=on', '-global', 'ICH9-LPC.disable_s3=1', '-global',
                        'kvm-pit.lost_tick_policy=delay', '-rtc', 'base=utc,driftfix=slew', '-compat', 'deprecated-input=reject',
                        '-nodefaults', '-display', 'none', '-S', '-monitor', 'stdio', '-serial', 'none'],
                       input='quit\n', capture_output=True, text=True, timeout=60)
    assert p.returncode == 0 and 'kvm-pit' in p.stderr and p.stderr.count('\n') == 1, p


def test_machine_help_names_each_property_once():
    for machine in 'q35', 'pc', 'microvm':
        names = [line.split()[0] for line in run('-M', f'{machine},help').stdout.splitlines()[1:]]
        assert len(names) == len(set(names)) and 'accel' in names, names
        assert ('hpet' in names) == (machine != 'microvm'), names


def test_kvm_is_told_about():
    refused(['KVM', 'accel jit'], '-M', 'none', '-enable-kvm')
    refused('KVM', '-M', 'none,accel=kvm')
    for args in (['-machine', 'none,accel=kvm:tcg'], ['-M', 'none', '-accel', 'kvm', '-accel', 'tcg'],
                 ['-M', 'none', '-enable-kvm', '-accel', 'jit']):
        with Rhea(*args) as r, r.connect() as s:
            assert s.run('query-kvm')['enabled'] is False
            assert len(r.output().splitlines()) == 1 and 'KVM' in r.output(), r.output()


def test_daemonize_as_libvirt_probes():
    with tempfile.TemporaryDirectory() as d:
        p = run('-S', '-no-user-config', '-nodefaults', '-nographic', '-machine', 'none,accel=kvm:tcg', '-qmp',
                'unix:%s/qmp.monitor,server=on,wait=off' % d, '-pidfile', d + '/qmp.pid', '-daemonize')
        assert p.returncode == 0, p
        with open(d + '/qmp.pid') as f:
            pid = int(f.read())
        with open('/proc/%d/cmdline' % pid) as f:
            assert 'none,accel' in f.read()
        s = socket.socket(socket.AF_UNIX)
        s.connect(d + '/qmp.monitor')               # it listens already
        assert s.recv(5) == b'{"QMP'
        assert run('-M', 'none', '-nodefaults', '-pidfile', d + '/qmp.pid').returncode == 1
        os.kill(pid, signal.SIGTERM)
        assert until(lambda: not os.path.exists(d + '/qmp.pid'))    # it goes last
        assert not os.path.exists(d + '/qmp.monitor')
    p = run('-daemonize', '-M', 'none', '-nodefaults', '-chardev', 'file,id=x,path=/nowhere/x')
    assert p.returncode == 1 and '/nowhere/x' in p.stderr, p


def test_ports_and_sockets_in_use():
    with socket.socket() as s, tempfile.TemporaryDirectory() as d:
        s.bind(('127.0.0.1', 0))
        s.listen()
        port = s.getsockname()[1]
        refused([str(port), 'in use', 'another port'], '-M', 'none', '-nodefaults', '-monitor',
                'telnet:127.0.0.1:%d,server,nowait' % port)
        with Rhea() as r, r.connect():
            refused(['in use', r.path], '-M', 'none', '-nodefaults', '-qmp', 'unix:%s,server,nowait' % r.path)
        left = socket.socket(socket.AF_UNIX)            # left behind by a process that is gone
        left.bind(d + '/old')
        left.close()
        with Rhea('-qmp', 'unix:%s/old,server,nowait' % d) as r, r.connect(d + '/old') as c:
            assert c.run('query-status')
        refused(['connect', 'server=on'], '-M', 'none', '-nodefaults', '-monitor', 'unix:%s/none' % d)
        refused('107', '-M', 'none', '-nodefaults', '-monitor', 'unix:%s,server' % ('x' * 200))


def test_msg_name_uuid():
    uuid = '550e8400-e29b-41d4-a716-446655440000'
    with Rhea('-name', 'guest=deb,debug-threads=on', '-uuid', uuid, '-msg', 'timestamp=on', '-rtc',
              'base=utc,driftfix=slew', '-boot', 'strict=on', '-overcommit', 'mem-lock=off', '-no-shutdown', '-global',
              'virtio-blk-pci.scsi=off', '-no-user-config') as r, r.connect() as s:
        assert s.run('query-name') == {'name': 'deb'} and s.run('query-uuid') == {'UUID': uuid}
    p = run('-msg', 'timestamp=on', '-M', 'none', '-nodefaults', '-chardev', 'nul,id=x')
    assert re.match(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z rhea-system-x86_64: ', p.stderr), p.stderr


def test_json_forms_and_readconfig():
    with Rhea('-object', '{"qom-type":"secret","id":"s0","data":"x"}', '-chardev',
              '{"id":"c0","backend":{"type":"ringbuf","data":{"size":4096}}}', '-netdev', '{"type":"user","id":"n0"}') as r:
        with r.connect() as s:
            assert 's0' in [o['name'] for o in s.run('qom-list', {'path': '/objects'})]
            assert 'c0' in [c['label'] for c in s.run('query-chardev')]
            s.run('netdev_del', {'id': 'n0'})
    with tempfile.NamedTemporaryFile('w', suffix='.cfg') as f:
        f.write('# a machine\n[machine]\n  type = "none"\n[object "r0"]\n  qom-type = "rng-builtin"\n[name]\n guest = "a,b"\n')
        f.flush()
        with Rhea('-readconfig', f.name) as r, r.connect() as s:
            assert s.run('query-name') == {'name': 'a,b'}
            assert 'r0' in [o['name'] for o in s.run('qom-list', {'path': '/objects'})]


def test_memory_backends():
    with tempfile.TemporaryDirectory() as d:
        with Rhea('-object', 'memory-backend-memfd,id=m0,size=8M', '-object', 'memory-backend-ram,id=m1,size=4M,share=on',
                  '-object', 'memory-backend-file,id=m2,size=2M,share=on,mem-path=' + d + '/ram') as r, r.connect() as s:
            assert os.path.getsize(d + '/ram') == 2 << 20
            with open('/proc/%d/maps' % r.process.pid) as f:
                maps = f.read()
            assert 'memfd:m0' in maps and 'memfd:m1' in maps and d + '/ram' in maps
            for m in ('m0', 'm1', 'm2'):
                s.run('object-del', {'id': m})
            assert s.run('query-status')['status']
    refused('size', '-M', 'none', '-nodefaults', '-object', 'memory-backend-ram,id=m')
    refused('/nowhere', '-M', 'none', '-nodefaults', '-object', 'memory-backend-file,id=m,size=1M,mem-path=/nowhere/x')


def status_of(pid, key):
    with open('/proc/%d/status' % pid) as f:
        return next(line.split()[1] for line in f if line.startswith(key + ':'))


def test_sandbox_is_a_filter():
    # a sanitizer's leak search would trace the process, which the filter refuses
    with Rhea('-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
              env={'ASAN_OPTIONS': 'detect_leaks=0'}) as r:
        with r.connect() as s:
            assert status_of(r.process.pid, 'Seccomp') == '2' and status_of(r.process.pid, 'NoNewPrivs') == '1'
            s.run('object-add', {'qom-type': 'iothread', 'id': 't'})        # threads are still made
            assert s.run('query-iothreads')[0]['thread-id'] > 0
            s.run('quit')
        assert r.wait() == 0
    with Rhea() as r, r.connect():
        assert status_of(r.process.pid, 'Seccomp') == '0'


def test_runas_and_chroot():
    if os.geteuid():
        return
    with tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o755)
        with Rhea('-runas', 'nobody', '-chroot', d) as r, r.connect() as s:
            assert status_of(r.process.pid, 'Uid') != '0' and os.readlink('/proc/%d/root' % r.process.pid) == d
            assert s.run('query-status')
    refused('no-such-user', '-M', 'none', '-nodefaults', '-runas', 'no-such-user')


def test_inherited_listening_socket_as_libvirt_passes_it():
    with tempfile.TemporaryDirectory() as d, socket.socket(socket.AF_UNIX) as s:
        s.bind(d + '/monitor.sock')
        s.listen(1)
        p = subprocess.Popen([program(), '-M', 'none', '-nodefaults', '-S', '-chardev',
                              'socket,id=charmonitor,fd=%d,server=on,wait=off' % s.fileno(), '-mon',
                              'chardev=charmonitor,id=monitor,mode=control'], pass_fds=[s.fileno()])
        try:
            c = socket.socket(socket.AF_UNIX)
            c.settimeout(120)
            c.connect(d + '/monitor.sock')
            assert c.recv(5) == b'{"QMP'
        finally:
            p.terminate()
            assert p.wait(120) == 0


def test_stdio_has_one_user():
    refused(['terminal', 'mux'], '-M', 'none', '-nodefaults', '-qmp', 'stdio', '-monitor', 'stdio')


def test_drives_without_a_controller_are_refused():
    with tempfile.NamedTemporaryFile() as f:
        f.truncate(1 << 20)
        refused(['controller', 'if=virtio'], '-M', 'microvm', '-hda', f.name)
        with Rhea('-nodefaults', '-m', '64', '-S', '-drive', 'format=raw,if=none,id=spare,file=' + f.name,
                  machine='q35') as r, r.connect() as s:
            assert s.run('query-block')[0]['device'] == 'spare'


def test_explain():
    p = run('-M', 'none', '--explain', '-nodefaults', name='rhea')
    assert p.returncode == 0 and 'machine' in p.stdout and 'none' in p.stdout, p
    p = run('--explain', '-M', 'q35', '-m', '64', '-smp', '2', '-device', 'virtio-rng-pci,id=r', name='rhea')
    assert p.returncode == 0 and re.search(r'CPUs +2 x', p.stdout) and '64 MiB' in p.stdout, p
    assert re.search(r'virtio-rng-pci .*id=r', p.stdout), p.stdout


if __name__ == '__main__':
    main(globals())
