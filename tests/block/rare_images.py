"""Images of formats that no tool of Debian's makes, put together by hand."""
import base64
import bz2
import struct
import zlib


def bochs(name, data, version=2, extent=65536):
    entries = (len(data) + extent - 1) // extent
    bitmap = max(extent // 512 // 8, 1)
    catalog, body = [], b''
    for i in range(entries):
        chunk = data[i * extent:(i + 1) * extent].ljust(extent, b'\0')
        if not any(chunk):
            catalog.append(0xffffffff)
            continue
        catalog.append(len(body) // ((bitmap + 511) // 512 * 512 + extent))
        bits = bytearray((bitmap + 511) // 512 * 512)
        for s in range(extent // 512):
            if any(chunk[s * 512:s * 512 + 512]):
                bits[s // 8] |= 1 << s % 8
        body += bytes(bits) + chunk
    h = b'Bochs Virtual HD Image'.ljust(32, b'\0') + b'Redolog'.ljust(16, b'\0') + b'Growing'.ljust(16, b'\0')
    h += struct.pack('<IIIII', version << 16, 512, entries, bitmap, extent)
    h += struct.pack('<IQ', 0, len(data)) if version == 2 else struct.pack('<Q', len(data))
    with open(name, 'wb') as f:
        f.write(h.ljust(512, b'\0') + struct.pack('<%dI' % entries, *catalog) + body)


def cloop(name, data, block=65536):
    script = b'#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n'
    blocks = [zlib.compress(data[i:i + block].ljust(block, b'\0')) for i in range(0, len(data), block)]
    at, offsets = 136 + 8 * (len(blocks) + 1), []
    for b in blocks + [b'']:
        offsets.append(at)
        at += len(b)
    with open(name, 'wb') as f:
        f.write(script.ljust(128, b'\0') + struct.pack('>II', block, len(blocks)) + struct.pack('>%dQ' % len(offsets), *offsets))
        f.write(b''.join(blocks))


def dmg(name, data, chunk=256 * 512, fork=False):
    body, chunks = b'', b''
    for n, i in enumerate(range(0, len(data), chunk)):
        part = data[i:i + chunk]
        kind = 2 if not any(part) else (1, 0x80000005, 0x80000006)[n % 3]
        packed = {1: part, 2: b''}.get(kind) if kind < 3 else zlib.compress(part) if kind == 0x80000005 else bz2.compress(part)
        chunks += struct.pack('>IIQQQQ', kind, 0, i // 512, len(part) // 512, len(body), len(packed))
        body += packed
    chunks += struct.pack('>IIQQQQ', 0xffffffff, 0, len(data) // 512, 0, len(body), 0)
    mish = b'mish' + struct.pack('>IQQQII', 1, 0, len(data) // 512, 0, 0, 0) + bytes(160)
    mish = mish[:200] + struct.pack('>I', len(chunks) // 40) + chunks
    if fork:
        lists = struct.pack('>IIII', 256, 256, len(mish) + 4, 0).ljust(256, b'\0') + struct.pack('>I', len(mish)) + mish
    else:
        lists = (b'<plist><dict><key>blkx</key><array><dict><key>Data</key><data>\n' + base64.encodebytes(mish) +
                 b'</data></dict></array></dict></plist>')
    koly = bytearray(512)
    struct.pack_into('>4sIIIQQQQQ', koly, 0, b'koly', 4, 512, 1, 0, 0, len(body), len(body) if fork else 0,
                     len(lists) if fork else 0)
    if not fork:
        struct.pack_into('>QQ', koly, 216, len(body), len(lists))
    struct.pack_into('>IQ', koly, 488, 1, len(data) // 512)
    with open(name, 'wb') as f:
        f.write(body + lists + bytes(koly))
