#!/usr/bin/env python3
"""Instruction encodings as data to C: isa/x86*.isa -> decoder rows and index.

usage: isa.py OUT.h OUT.c FILE.isa...
The syntax of a row is described at the top of isa/x86.isa. Uses nothing but the standard library."""

import re
import sys

FLAG_BITS = {'cf': 0x1, 'pf': 0x4, 'af': 0x10, 'zf': 0x40, 'sf': 0x80, 'of': 0x800}
SIMPLE = {'lock', 'x64', 'no64', 'd64', 'f64', 'priv', 'rep', 'align', 'vsib', 'noreal', 'fpu', 'mmx', 'plus_r'}
FLOWS = {'next', 'cond', 'jump', 'call', 'indirect', 'end'}
TYPES = ['b', 'w', 'd', 'q', 'y', 'v', 'z', 'dq', 'qq', 'x', 'ps', 'pd', 'ss', 'sd', 'si', 'pi', 'p', 's', 'a', 't',
         'dv', 'wv']
# addressing letters of the SDM (vol. 2, A.2.1); Z: register in the low opcode bits, T: ST(i) by modrm.rm
LETTERS = 'ABCDEGHIJLMNOPQRSUVWXYZT'
GPR8 = ['AL', 'CL', 'DL', 'BL']
GPR16 = ['AX', 'CX', 'DX', 'BX', 'SP', 'BP', 'SI', 'DI']
SEGS = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS']
MODRM_LETTERS = set('CDEGMNPQRSUVWT')
PP = {'NP': 1, '66': 2, 'F3': 4, 'F2': 8}


class Bad(Exception):
    pass


def parse_operand(text):
    """-> (addressing, type, register or second type)"""
    if text == '1':
        return ('AM_ONE', 'OT_b', '0')
    if text in GPR8:
        return ('AM_FIXED', 'OT_b', str(GPR8.index(text)))
    if text in GPR16:
        return ('AM_FIXED', 'OT_w', str(GPR16.index(text)))
    if text[:1] == 'r' and text[1:] in GPR16:
        return ('AM_FIXED', 'OT_v', str(GPR16.index(text[1:])))
    if text[:1] == 'e' and text[1:] in GPR16:
        return ('AM_FIXED', 'OT_z', str(GPR16.index(text[1:])))
    if text in SEGS:
        return ('AM_FIXSEG', 'OT_w', str(SEGS.index(text)))
    if text == 'ST0':
        return ('AM_ST0', 'OT_t', '0')
    if text == 'XMM0':
        return ('AM_XMM0', 'OT_dq', '0')
    if text == 'sIb':
        return ('AM_SI', 'OT_b', '0')
    m = re.fullmatch(r'([A-Z])([a-z]*)(?:/M([a-z]+))?', text)
    if not m or m[1] not in LETTERS:
        raise Bad(f'operand {text!r}')
    kind = m[2]
    if kind and kind not in TYPES:
        raise Bad(f'operand type {kind!r} in {text!r}')
    second = '0'
    if m[3]:
        if m[3] not in TYPES:
            raise Bad(f'operand type {m[3]!r} in {text!r}')
        second = f'OT_{m[3]}'
    return (f'AM_{m[1]}', f'OT_{kind}' if kind else 'OT_none', second)


class Row:
    def __init__(self, line, where):
        fields = [f.strip() for f in line.split('|')]
        if len(fields) < 2 or len(fields) > 4:
            raise Bad('a row is: pattern | mnemonic | operands | attributes')
        fields += [''] * (4 - len(fields))
        self.where = where
        self.mnemonic = fields[1]
        self.vex = 0
        self.map = 0
        self.pp = 15
        self.w = self.l = -1
        self.ext = self.rm = -1
        self.mod = 0                    # 1: memory only, 2: register only
        self.plus_r = False
        self.modrm = False
        self.flags = set()
        self.flow = 'next'
        self.feature = '0'
        self.undef = 0
        self.emit = re.sub(r'\W', '_', self.mnemonic)
        self.arg = '0'
        self.parse_pattern(fields[0].split())
        self.operands = [parse_operand(o.strip()) for o in fields[2].split(',') if o.strip()]
        if len(self.operands) > 4:
            raise Bad('more than four operands')
        for o in self.operands:
            letter = o[0][3:]
            if letter in MODRM_LETTERS:
                self.modrm = True
            if letter == 'M':
                self.mod |= 1
            if letter in 'NRUT':
                self.mod |= 0 if o[2] != '0' else 2     # Rd/Mb takes memory too
        if self.mod == 3:
            raise Bad('both memory only and register only')
        self.parse_attributes(fields[3].split())

    def parse_pattern(self, tokens):
        tokens = list(tokens)
        if tokens and tokens[0].startswith('VEX.'):
            self.parse_vex(tokens.pop(0))
        else:
            pps = 0
            while tokens and len(tokens) > 1 and tokens[0] in ('NP', '66', 'F3', 'F2', 'NFx', 'REX.W', 'W0', 'W1'):
                t = tokens.pop(0)
                if t in PP:
                    pps |= PP[t]
                elif t == 'NFx':
                    pps |= 3
                else:
                    self.w = 0 if t == 'W0' else 1
            if pps:
                self.pp = pps
            if tokens and tokens[0] in ('0F38', '0F3A'):
                self.map = 2 if tokens.pop(0) == '0F38' else 3
            elif tokens and tokens[0] == '0F':
                tokens.pop(0)
                self.map = 1
                if len(tokens) > 1 and tokens[0] in ('38', '3A') and re.fullmatch('[0-9A-F]{2}', tokens[1]):
                    self.map = 2 if tokens.pop(0) == '38' else 3
        if not tokens:
            raise Bad('no opcode')
        op = tokens.pop(0)
        m = re.fullmatch(r'([0-9A-F]{2})(\+r)?', op)
        if not m:
            raise Bad(f'opcode {op!r}')
        self.opcode = int(m[1], 16)
        self.plus_r = bool(m[2])
        for t in tokens:
            if t == '+r':
                self.plus_r = True
            elif t == '/r':
                self.modrm = True
            elif re.fullmatch('/[0-7]', t):
                self.modrm = True
                self.ext = int(t[1])
            elif t in ('/m', '/g'):
                self.modrm = True
                self.mod |= 1 if t == '/m' else 2
            elif t == 'is4' or t in ('ib', 'iw', 'id'):
                pass
            elif re.fullmatch(r'[0-9A-F]{2}(\+i)?', t):
                b = int(t[:2], 16)
                if b < 0xc0:
                    raise Bad(f'fixed modrm byte {t!r} below C0')
                self.modrm = True
                self.mod |= 2
                self.ext = b >> 3 & 7
                if not t.endswith('+i'):
                    self.rm = b & 7
            else:
                raise Bad(f'pattern token {t!r}')

    def parse_vex(self, text):
        self.vex = 1
        self.pp = 1
        for part in text.split('.')[1:]:
            if part in ('128', 'LZ', 'L0'):
                self.l = 0
            elif part in ('256', 'L1'):
                self.l = 1
            elif part in ('LIG', 'WIG'):
                pass
            elif part in PP:
                self.pp = PP[part]
            elif part in ('0F', '0F38', '0F3A'):
                self.map = {'0F': 1, '0F38': 2, '0F3A': 3}[part]
            elif part in ('W0', 'W1'):
                self.w = int(part[1])
            elif part in ('NDS', 'NDD', 'DDS'):
                pass
            else:
                raise Bad(f'VEX field {part!r}')
        if not self.map:
            raise Bad('VEX without a map')

    def parse_attributes(self, tokens):
        for t in tokens:
            key, _, value = t.partition('=')
            if not value and t in SIMPLE:
                self.flags.add(t)
            elif key == 'feature':
                self.feature = 'XF_' + re.sub(r'\W', '_', value).upper()
            elif key == 'undef':
                for f in value.split(','):
                    self.undef |= FLAG_BITS[f]
            elif key == 'emit':
                self.emit = value
            elif key == 'arg':
                self.arg = value
            elif key == 'flow':
                if value not in FLOWS:
                    raise Bad(f'flow {value!r}')
                self.flow = value
            elif key == 'test' and value.startswith('no'):
                self.flags.add('notest')
            else:
                raise Bad(f'attribute {t!r}')
        if self.plus_r:
            self.flags.add('plus_r')
        if self.modrm:
            self.flags.add('modrm')


def read_rows(paths):
    rows, bad = [], 0
    for path in paths:
        with open(path, encoding='utf-8') as f:
            for number, line in enumerate(f, 1):
                line = line.split('#', 1)[0].strip()
                if not line:
                    continue
                try:
                    rows.append(Row(line, f'{path}:{number}'))
                except (Bad, KeyError) as e:
                    print(f'{path}:{number}: {e}', file=sys.stderr)
                    bad = 1
    if bad:
        sys.exit(1)
    return rows


def c_row(r, opcode):
    flags = '|'.join(sorted('ROWF_' + f.upper() for f in r.flags)) or '0'
    ops = ', '.join('{%s, %s, %s}' % o for o in r.operands) or '{0}'
    return (f'    {{ "{r.mnemonic}", x86_emit_{r.emit}, {flags}, {r.arg}, {r.feature}, {r.undef:#x}, {r.vex}, {r.map}, '
            f'{opcode:#04x}, {r.pp}, {r.w}, {r.l}, {r.ext}, {r.rm}, {r.mod}, FLOW_{r.flow.upper()}, {{ {ops} }} }},')


def main():
    out_h, out_c, *paths = sys.argv[1:]
    rows = read_rows(paths)
    by_op = {}
    for r in rows:
        for opcode in range(r.opcode, r.opcode + (8 if r.plus_r else 1)):
            by_op.setdefault((r.vex, r.map, opcode), []).append(r)
    lines, index, n = [], [], 0
    for key in sorted(by_op):
        group = by_op[key]
        if len({r.modrm for r in group}) > 1:
            print(f'{group[0].where}: rows of one opcode disagree on having a modrm byte', file=sys.stderr)
            sys.exit(1)
        index.append(f'    [{key[0]}][{key[1]}][{key[2]:#04x}] = {{ {n}, {len(group)}, {int(group[0].modrm)} }},')
        for r in group:
            lines.append(c_row(r, key[2]))
        n += len(group)
    with open(out_h, 'w', encoding='utf-8') as f:
        f.write('/* Made by gen/isa.py. */\n#ifndef RHEA_X86_ISA_H\n#define RHEA_X86_ISA_H\n')
        f.write(f'enum {{ X86_ROW_COUNT = {n} }};\n')
        for name in sorted({r.emit for r in rows}):
            f.write(f'x86_emit_fn x86_emit_{name};\n')
        f.write('#endif\n')
    with open(out_c, 'w', encoding='utf-8') as f:
        f.write('/* Made by gen/isa.py. */\n#include "src/guest/x86/x86.h"\n#include "x86-isa.h"\n')
        f.write('/* Weak: a row without its emitter yet is an undefined opcode, logged under unimp. */\n')
        for name in sorted({r.emit for r in rows}):
            f.write(f'#pragma weak x86_emit_{name}\n')
        f.write('const struct x86_row x86_rows[] = {\n' + '\n'.join(lines) + '\n};\n')
        f.write('const unsigned x86_row_count = X86_ROW_COUNT;\n')
        f.write('const struct x86_index x86_index[2][4][256] = {\n' + '\n'.join(index) + '\n};\n')


if __name__ == '__main__':
    main()
