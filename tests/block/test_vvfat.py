#!/usr/bin/env python3
"""A folder as a FAT disk: judged by fsck.fat, read and changed by mtools, changed back into the folder."""
import contextlib
import os
import random
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
import cases                            # noqa: E402

BIN = os.path.abspath(os.path.join(os.environ.get('BUILD', 'build'), 'bin'))
IMG, IO = os.path.join(BIN, 'rhea-img'), os.path.join(BIN, 'rhea-io')
START = 63 * 512                        # of the partition
KINDS = {'': START, '16:': START, '12:': START, '32:': START, 'floppy:': 0, 'floppy:16:': 0}


def run(*args, ok=(0,), **kw):
    p = subprocess.run([str(a) for a in args], capture_output=True, timeout=300, env={**os.environ, 'LC_ALL': 'C.UTF-8', 'TZ': 'UTC'}, **kw)
    if p.returncode not in ok:
        raise AssertionError('%s: status %d\n%s%s' % (' '.join(map(str, args)), p.returncode, p.stdout.decode(), p.stderr.decode()))
    return p


def write(path, data):
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    with open(path, 'wb') as f:
        f.write(data)


def folder(name, seed=1, many=150):
    """Names of all kinds, files of all lengths; what stays out."""
    r = random.Random(seed)
    files = {'HELLO.TXT': b'hello\n', 'empty': b'', 'A long name, with spaces.text': b'x', 'Ünï çödé ✓.txt': r.randbytes(8192), 'a.b.c': b'dots',
             'sub/data.bin': r.randbytes(300001), 'sub/deep/er/one': r.randbytes(513), '.hidden': b'h', 'n' * 255: b'longest', 'x' * 26: b'26', 'x' * 13 + '.y': b'15'}
    files.update({'sub/many/file number %d.txt' % i: b'%d' % i for i in range(many)})
    for path, data in files.items():
        write(os.path.join(name, path), data)
    os.symlink('/etc/passwd', name + '/link')
    os.mkfifo(name + '/fifo')
    write(name + '/what:is?this', b'')
    return files


def tree(name):
    """Its files, those that a FAT disk can show."""
    found = {}
    for d, _, files in os.walk(name):
        for f in files:
            path = os.path.join(d, f)
            if os.path.isfile(path) and not os.path.islink(path) and ':' not in f:
                with open(path, 'rb') as data:
                    found[os.path.relpath(path, name)] = data.read()
    return found


def holds(name, files):
    """Of a folder that is being changed."""
    try:
        return tree(name) == files
    except FileNotFoundError:
        return False


def disk(name, kind='', out='disk.raw'):
    run(IMG, 'convert', '-O', 'raw', 'fat:%s%s' % (kind, name), out)
    return '%s@@%d' % (out, KINDS[kind])


def fsck(image):
    name, start = image.split('@@')
    run(IMG, 'convert', '-O', 'raw', '--image-opts', 'driver=raw,offset=%s,file.driver=file,file.filename=%s' % (start, name), 'partition')
    text = run('fsck.fat', '-n', '-v', 'partition').stdout.decode()
    assert 'Free cluster summary wrong' not in text and 'differ' not in text, text


def mtools(command, image, *args):
    return run(command, '-i', image, *args).stdout


def test_what_the_guest_sees():
    files = folder('folder')
    for kind in KINDS:
        image = disk('folder', kind)
        fsck(image)
        os.makedirs('out' + kind)
        run('mcopy', '-s', '-n', '-Q', '-i', image, '::/', 'out' + kind)
        got = tree('out' + kind)
        assert got == files, (kind, sorted(set(got) ^ set(files)))
        assert b'QEMU VVFAT' in mtools('mdir', image, '::')
    run(IMG, 'convert', '-O', 'raw', '--image-opts', 'driver=raw,file.driver=vvfat,file.dir=folder,file.label=ELEVEN CHRS,file.fat-type=32,read-only=on', 'l.raw')
    assert b'ELEVEN CHRS' in mtools('mdir', 'l.raw@@%d' % START, '::')


def test_what_is_refused():
    folder('folder')
    write('file', b'')
    opts = 'driver=raw,file.driver=vvfat,file.dir=folder,read-only=on,file.'
    for words, args in (('folder', ['fat:']), ('No such file', ['fat:nowhere']), ('vvfat is for folders', ['fat:file']),
                        ('only 12, 16 and 32', ['--image-opts', opts + 'fat-type=24']), ('11 bytes', ['--image-opts', opts + 'label=twelve bytes']),
                        ('FAT12 or FAT16', ['fat:floppy:32:folder'])):
        err = run(IMG, 'info', *args, ok=(1,)).stderr.decode()
        assert words in err, (words, err)
    with open('folder/large', 'wb') as f:
        f.truncate(600 << 20)
    err = run(IMG, 'info', 'fat:floppy:folder', ok=(1,)).stderr.decode()
    assert 'does not fit in FAT12 on a floppy disk' in err, err
    info = run(IMG, 'info', 'fat:32:folder').stdout.decode()
    assert '8 GiB' in info, info
    with open('folder/larger', 'wb') as f:
        f.truncate(5 << 30)
    assert 'larger than FAT allows' in run(IMG, 'info', 'fat:folder').stderr.decode()
    assert 'read-only' in run(IO, '-f', 'raw', '-c', 'write 0 512', 'fat:folder', ok=(1,)).stderr.decode().lower()


def data_in(path):
    """Where a file is no hole."""
    with open(path, 'rb') as f:
        size, at = os.fstat(f.fileno()).st_size, 0
        while at < size:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            yield from range(at // 65536 * 65536, end, 65536)
            at = end


def put_back(image, before, name, kind=''):
    """Writes the sectors that differ, as a guest does, then flushes."""
    commands = []
    with open(image, 'rb') as new, open(before, 'rb') as old:
        for at in sorted(set(data_in(image)) | set(data_in(before))):
            new.seek(at)
            old.seek(at)
            a, b = new.read(65536), old.read(65536)
            for i in range(0, len(a), 512):
                if a[i:i + 512] != b[i:i + 512]:
                    write('sectors/%d' % (at + i), a[i:i + 512])
                    commands += ['-c', 'write -q -s sectors/%d %d 512' % (at + i, at + i)]
    return run(IO, '-f', 'raw', *commands, '-c', 'flush', 'fat:rw:%s%s' % (kind, name))


def change(image, files):
    """As a guest might; what the folder is to hold then."""
    files = dict(files)
    write('c', b'changed\n')
    mtools('mcopy', image, '-o', 'c', '::/HELLO.TXT')
    files['HELLO.TXT'] = b'changed\n'
    mtools('mdel', image, '::/A long name, with spaces.text')
    del files['A long name, with spaces.text']
    mtools('mmd', image, '::/New Folder')
    write('big', random.Random(7).randbytes(123456))
    mtools('mcopy', image, 'big', '::/New Folder/A new file.bin')
    files['New Folder/A new file.bin'] = open('big', 'rb').read()
    mtools('mmove', image, '::/sub/deep', '::/New Folder/Deeper still')
    files['New Folder/Deeper still/er/one'] = files.pop('sub/deep/er/one')
    mtools('mren', image, '::/sub/data.bin', '::/sub/Another name.bin')         # its clusters stay where they are
    files['sub/Another name.bin'] = files.pop('sub/data.bin')
    mtools('mdeltree', image, '::/sub/many')
    return {k: v for k, v in files.items() if not k.startswith('sub/many/')}


def test_what_the_guest_writes():
    for kind in ('', '32:', 'floppy:'):
        files = folder('folder' + kind, 2)
        image = disk('folder' + kind, kind)
        run('cp', '--sparse=always', 'disk.raw', 'before.raw')
        files = change(image, files)
        put_back('disk.raw', 'before.raw', 'folder' + kind, kind)
        got = tree('folder' + kind)
        assert got == files, (kind, sorted(set(got) ^ set(files)))
        for left in ('link', 'fifo', 'what:is?this'):
            assert os.path.lexists('folder%s/%s' % (kind, left))       # what the guest was not shown
        assert not os.path.exists('folder%s/sub/many' % kind) and os.path.isdir('folder%s/sub' % kind)
        run('rm', '-r', 'sectors')


def test_a_guest_that_means_harm():
    """A file system that makes no sense changes nothing; names that would lead out of the folder are not followed."""
    files = folder('folder', 3, 3)
    write('outside', b'outside')
    disk('folder')
    original = open('disk.raw', 'rb').read(2 << 20)
    there = sorted(os.listdir('.') + ['s'])
    fat, root = START + 512, original.index(b'QEMU VVFAT ', START + 512)
    r = random.Random(5)
    attacks = [('fat', fat + 4, b'\2\0' * 64), ('loop', fat + 4, bytes(b for i in range(2, 100) for b in (i, 0)))]
    for name in (b'../OUTSI', b'..      ', b'/ETC    ', b'A/B     ', b'CON:    '):
        at = original.index(b'HELLO   TXT', root)
        attacks.append((name, at, name))
    attacks += [('size', original.index(b'HELLO   TXT', root) + 28, b'\xff\xff\xff\xff'), ('first', original.index(b'HELLO   TXT', root) + 26, b'\xff\xfe')]
    attacks += [('noise', root + 32 * r.randrange(40), r.randbytes(64)) for _ in range(8)]
    for what, at, data in attacks:
        sector = at // 512 * 512
        end = (at + len(data) + 511) // 512 * 512
        write('s', original[sector:at] + data + original[at + len(data):end])
        run(IO, '-f', 'raw', '-c', 'write -q -s s %d %d' % (sector, end - sector), '-c', 'flush', 'fat:rw:folder', ok=(0, 1))
        assert sorted(os.listdir('.')) == there and open('outside', 'rb').read() == b'outside', what
        if what != 'noise':
            assert tree('folder') == files, what
        run('rm', '-r', 'folder')
        folder('folder', 3, 3)


@contextlib.contextmanager
def attached(name):
    """The folder as a disk in use: a file m that a storage daemon has made of it."""
    write('m', b'')
    p = subprocess.Popen([os.path.join(BIN, 'rhea-storage-daemon'), '--chardev', 'stdio,id=qmp', '--monitor', 'chardev=qmp',
                          '--blockdev', 'driver=vvfat,node-name=d,rw=on,dir=' + name, '--export', 'fuse,id=e,node-name=d,mountpoint=m,writable=on'],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        p.stdout.readline()             # the greeting
        assert cases.until(lambda: p.poll() is not None or os.path.getsize('m') > 0)
        yield
        out, err = p.communicate(b'{"execute": "qmp_capabilities"}{"execute": "quit"}', timeout=300)
        assert p.returncode == 0, (out, err)
    finally:
        p.kill()
        p.wait()
        subprocess.run(['fusermount3', '-q', '-u', '-z', 'm'])


def test_a_disk_in_use():
    """What a guest does reaches the folder while it goes on, and without a flush."""
    r = random.Random(11)
    files, folders = folder('folder', 6, 10), ['', 'sub/', 'sub/deep/er/']
    for step in range(30):
        write('d/%d' % step, r.randbytes(r.choice((0, 1, 512, 20000, 300000))))
    with attached('folder'):
        for step in range(200 if os.environ.get('SOAK') else 30):
            what, old, to = r.randrange(5), r.choice(sorted(files)), r.choice(folders) + 'Step %d.bin' % step
            if what == 0:
                mtools('mmd', 'm@@%d' % START, '::/' + to)
                folders.append(to + '/')
            elif what == 1 and len(files) > 3:
                mtools('mdel', 'm@@%d' % START, '::/' + old)
                del files[old]
            elif what == 2:
                mtools('mmove' if os.path.dirname(old) != os.path.dirname(to) else 'mren', 'm@@%d' % START, '::/' + old, '::/' + to)
                files[to] = files.pop(old)
            else:
                to = old if what == 3 else to
                mtools('mcopy', 'm@@%d' % START, '-D', 'o', 'd/%d' % (step % 30), '::/' + to)
                files[to] = open('d/%d' % (step % 30), 'rb').read()
            if step % 10 == 9:
                assert cases.until(lambda: holds('folder', files)), sorted(set(tree('folder')) ^ set(files))
        run('cp', 'm', 'disk.raw')
        mtools('mdel', 'm@@%d' % START, '::/' + sorted(files)[0])
    del files[sorted(files)[0]]
    assert tree('folder') == files                      # at the end, at once
    fsck('disk.raw@@%d' % START)
    for d in folders:
        assert os.path.isdir('folder/' + d), d


def test_every_sector_is_written():
    files = folder('folder', 4)
    disk('folder')
    run(IMG, 'convert', '-n', '-S', '0', '-O', 'raw', 'disk.raw', 'fat:rw:folder') if os.environ.get('SOAK') else \
        run(IMG, 'convert', '-n', '-O', 'raw', 'disk.raw', 'fat:rw:folder')
    assert tree('folder') == files


cases.run(cases.named(globals()), 'rhea-vvfat-')
