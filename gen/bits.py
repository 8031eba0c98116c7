#!/usr/bin/env python3
"""Fixed-width instruction encodings as data to C: isa/NAME.isa -> decoder, rows, field descriptions.

usage: bits.py NAME HEADER OUT.h OUT.c FILE.isa...      (HEADER: what OUT.c includes)

A file holds directives and rows. `#` begins a comment.

  %set NAME             rows that follow belong to this instruction set (default: the guest's name); each gets a decoder
  %signed FIELD...      fields that are sign-extended from their top bit
  %where [EXPR]         a `where` of every row that follows and has the fields EXPR names (none: no more)

A row:  pattern | mnemonic [operands] | attributes
  pattern    most significant bit first: literal bits (0, 1; x or - for any), and fields
               name:width            the field's bits, in order
               name[hi:lo|n|...]:width   where each bit of the field goes (RISC-V manual's notation); all others are 0
             The widths add up to 16 or 32.
  mnemonic   as assemblers know it; the emitter is NAME_emit_<mnemonic, other characters as _> unless emit= says
  operands   text for the disassembler; words that are field names are replaced
  attributes if=A&&!B      features that must be there (NAME_HAS(features, A)); no blanks
             where=EXPR    C expression over the fields (imm!=0&&rd!=2); no blanks. A row whose `where` fails is passed over
             flow=next|cond|jump|call|indirect|end     (default next);  target=FIELD  the branch goes to pc + FIELD
             emit=NAME  arg=C-expression  test=no(reason)
             any other word W becomes a flag of the row: NAME_ROW_W
Rows of one set are tried from the most specific (most literal bits) to the least, then in the file's order.
A row without its emitter yet is an undefined instruction, logged under unimp."""

import re
import sys

FLOWS = {'next', 'cond', 'jump', 'call', 'indirect', 'end'}


class Bad(Exception):
    pass


def parse_slices(text):
    """'12|10:5' -> bit numbers of the field, most significant first."""
    bits = []
    for part in text.split('|'):
        hi, _, lo = part.partition(':')
        hi, lo = int(hi), int(lo or hi)
        if hi < lo:
            raise Bad(f'slice {part!r}')
        bits += range(hi, lo - 1, -1)
    return bits


class Row:
    def __init__(self, line, where, set_name, order):
        parts = [p.strip() for p in re.split(r'(?<!\|)\s\|\s(?!\|)|\s\|$', line)]
        if len(parts) < 2 or len(parts) > 3:
            raise Bad('a row is: pattern | mnemonic operands | attributes')
        self.location, self.set, self.order = where, set_name, order
        self.pieces = {}                # field -> [(raw bit, field bit)]
        self.pattern = ' '.join(parts[0].split())
        self.parse_pattern(self.pattern.split())
        self.mnemonic, _, self.operands = parts[1].partition(' ')
        self.operands = self.operands.strip()
        self.flow, self.target, self.arg, self.cond, self.check = 'next', None, '0', '', ''
        self.emit = re.sub(r'\W', '_', self.mnemonic)
        self.flags = set()
        self.parse_attributes(parts[2].split() if len(parts) == 3 else [])

    def parse_pattern(self, tokens):
        layout = []
        for t in tokens:
            m = re.fullmatch(r'([A-Za-z]\w*)(?:\[([\d:|]+)\])?:(\d+)', t)
            if m:
                width = int(m[3])
                bits = parse_slices(m[2]) if m[2] else list(range(width - 1, -1, -1))
                if len(bits) != width:
                    raise Bad(f'{t!r}: {len(bits)} bits named, {width} wide')
                layout += [(m[1], b) for b in bits]
            elif re.fullmatch(r'[01x-]+', t):
                layout += list(t)
            else:
                raise Bad(f'pattern token {t!r}')
        self.width = len(layout)
        if self.width not in (16, 32):
            raise Bad(f'{self.width} bits, not 16 or 32')
        self.mask = self.value = 0
        for n, item in enumerate(layout):
            bit = self.width - 1 - n
            if item in ('0', '1'):
                self.mask |= 1 << bit
                self.value |= int(item) << bit
            elif isinstance(item, tuple):
                self.pieces.setdefault(item[0], []).append((bit, item[1]))

    def add_check(self, expr):
        if expr and all(w in self.pieces for w in re.findall(r'[A-Za-z_]\w*', expr)):
            self.check = f'({self.check})&&({expr})' if self.check else expr

    def parse_attributes(self, tokens):
        for t in tokens:
            key, eq, value = t.partition('=')
            if key == 'if' and eq:
                self.cond = value
            elif key == 'where' and eq:
                self.check = value
            elif key == 'flow' and eq:
                if value not in FLOWS:
                    raise Bad(f'flow {value!r}')
                self.flow = value
            elif key == 'target' and eq:
                self.target = value
            elif key == 'emit' and eq:
                self.emit = value
            elif key == 'arg' and eq:
                self.arg = value
            elif key == 'test' and re.fullmatch(r'no\(.+\)', value):
                self.flags.add('NOTEST')
            elif re.fullmatch(r'\w+', t):
                self.flags.add(t.upper())
            else:
                raise Bad(f'attribute {t!r}')
        for f in ([self.target] if self.target else []):
            if f not in self.pieces:
                raise Bad(f'no field {f!r}')


def read(name, paths):
    rows, signed, current, bad, common = [], set(), name, False, ''
    for path in paths:
        with open(path, encoding='utf-8') as f:
            for number, line in enumerate(f, 1):
                line = line.split('#', 1)[0].strip()
                if not line:
                    continue
                try:
                    if line.startswith('%'):
                        word, *args = line[1:].split()
                        if word == 'set':
                            current = args[0]
                        elif word == 'signed':
                            signed |= set(args)
                        elif word == 'where':
                            common = ''.join(args)
                        else:
                            raise Bad(f'directive {word!r}')
                    else:
                        rows.append(Row(line, f'{path}:{number}', current, len(rows)))
                        rows[-1].add_check(common)
                except (Bad, ValueError) as e:
                    print(f'{path}:{number}: {e}', file=sys.stderr)
                    bad = True
    if bad:
        sys.exit(1)
    return rows, signed


def extraction(pieces, signed):
    """C expression of one field from raw: runs of neighbouring bits, each shifted into place."""
    runs = []
    for raw, bit in sorted(pieces, key=lambda p: -p[1]):
        if runs and runs[-1][0] - 1 == raw and runs[-1][1] - 1 == bit:
            runs[-1][0], runs[-1][1], runs[-1][2] = raw, bit, runs[-1][2] + 1
        else:
            runs.append([raw, bit, 1])
    terms = []
    for raw, bit, n in runs:
        e = f'(raw >> {raw} & {(1 << n) - 1:#x})' if raw else f'(raw & {(1 << n) - 1:#x})'
        terms.append(f'{e} << {bit}' if bit else e)
    e = ' | '.join(terms)
    if signed:
        top = max(b for _, b in pieces)
        return f'(int32_t)(({e}) << {31 - top}) >> {31 - top}' if top < 31 else f'(int32_t)({e})'
    return e


class Generator:
    def __init__(self, name, rows, signed):
        self.name, self.rows, self.signed = name, rows, signed
        self.fields = {}                # name -> highest bit
        for r in rows:
            for f, p in r.pieces.items():
                self.fields[f] = max(self.fields.get(f, 0), max(b for _, b in p))
        self.formats, self.conds, self.checks = {}, {'': 0}, {'': 0}
        for r in rows:
            r.format = self.formats.setdefault(tuple(sorted((f, tuple(p)) for f, p in r.pieces.items())), len(self.formats))
            r.cond_number = self.conds.setdefault(r.cond, len(self.conds))
            r.check_number = self.checks.setdefault(r.check, len(self.checks))
        for r in rows:
            if r.check:
                for w in re.findall(r'[A-Za-z_]\w*', r.check):
                    if w in self.fields and w not in r.pieces:
                        sys.exit(f'{r.location}: where names field {w!r}, which the row has not')
        self.sets = list(dict.fromkeys(r.set for r in rows))

    def field_type(self, f):
        if f in self.signed:
            return 'int32_t'
        top = self.fields[f]
        return 'uint8_t' if top < 8 else 'uint16_t' if top < 16 else 'uint32_t'

    def header(self, out):
        n, up = self.name, self.name.upper()
        w = out.write
        w(f'/* Made by gen/bits.py. */\n#ifndef RHEA_{up}_ISA_H\n#define RHEA_{up}_ISA_H\n')
        w(f'#define {up}_FIELDS \\\n    ' + ' \\\n    '.join(f'{self.field_type(f)} {f};' for f in sorted(self.fields)) + '\n')
        flags = sorted({f for r in self.rows for f in r.flags} | {'NOTEST'})
        w('enum {\n' + ''.join(f'    {up}_ROW_{f} = 1 << {i},\n' for i, f in enumerate(flags)) + '};\n')
        w(f'#endif\n#ifdef {up}_EMITTERS      /* after struct {n}_insn is known */\n')
        for e in sorted({r.emit for r in self.rows}):
            w(f'{n}_emit_fn {n}_emit_{e};\n')
        for s in self.sets:
            w(f'extern const struct {n}_row {s}_rows[];\nextern const unsigned {s}_row_count;\n'
              f'/* The row of an instruction (16-bit ones in the low half), its fields put into *i; NULL: undefined. */\n'
              f'const struct {n}_row *{s}_row_find(uint32_t raw, unsigned width, const struct {n}_features *features,\n'
              f'                                   struct {n}_insn *i);\n')
        w(f'extern const struct bits_field {n}_field_table[];\n'
          f'bool {n}_condition(unsigned number, const struct {n}_features *features);\n#endif\n')

    def source(self, out):
        n, up = self.name, self.name.upper()
        w = out.write
        w(f'/* Made by gen/bits.py. */\n#include "{self.include}"\n')
        for e in sorted({r.emit for r in self.rows}):
            w(f'#pragma weak {n}_emit_{e}\n')
        w(f'\nbool {n}_condition(unsigned number, const struct {n}_features *features)\n{{\n    switch (number) {{\n')
        for text, number in self.conds.items():
            if text:
                e = re.sub(r'[A-Za-z_]\w*', lambda m: f'{up}_HAS(features, {m[0]})', text)
                w(f'    case {number}: return {e};\n')
        w('    default: return true;\n    }\n}\n\n')
        for fmt, number in self.formats.items():
            w(f'static void format_{number}(struct {n}_insn *i, uint32_t raw)\n{{\n')
            for f, pieces in fmt:
                w(f'    i->{f} = ({self.field_type(f)})({extraction(pieces, f in self.signed)});\n')
            w('}\n')
        w(f'static void (*const formats[])(struct {n}_insn *i, uint32_t raw) = {{\n')
        w(''.join(f'    format_{number},\n' for number in self.formats.values()) + '};\n')
        w(f'static bool where(unsigned number, const struct {n}_insn *i)\n{{\n    switch (number) {{\n')
        for text, number in self.checks.items():
            if text:
                e = re.sub(r'[A-Za-z_]\w*', lambda m: f'i->{m[0]}' if m[0] in self.fields else m[0], text)
                w(f'    case {number}: return {e};\n')
        w('    default: return true;\n    }\n}\n')
        w(f'const struct bits_field {n}_field_table[] = {{\n')
        for f in sorted(self.fields):
            w(f'    {{ "{f}", offsetof(struct {n}_insn, {f}), sizeof(((struct {n}_insn *)0)->{f}), {int(f in self.signed)} }},\n')
        w('    { NULL, 0, 0, 0 },\n};\n')
        for s in self.sets:
            self.set_source(w, s)

    def set_source(self, w, s):
        n, up = self.name, self.name.upper()
        rows = [r for r in self.rows if r.set == s]
        for i, r in enumerate(rows):
            r.index = i
        w(f'\nconst struct {n}_row {s}_rows[] = {{\n')
        for r in rows:
            flags = ' | '.join(f'{up}_ROW_{f}' for f in sorted(r.flags)) or '0'
            target = f'(int)offsetof(struct {n}_insn, {r.target})' if r.target else '-1'
            w(f'    {{ "{r.mnemonic}", "{r.operands}", {n}_emit_{r.emit}, {r.mask:#x}, {r.value:#x}, {r.width}, FLOW_{r.flow.upper()}, '
              f'{r.cond_number}, {flags}, {r.arg}, {target}, "{r.pattern}" }},\n')
        w(f'}};\nconst unsigned {s}_row_count = {len(rows)};\n\n')
        tree = Tree(rows)
        roots = {width: tree.add(sorted((r for r in rows if r.width == width), key=lambda r: (-bin(r.mask).count('1'), r.order)), 0)
                 for width in sorted({r.width for r in rows})}
        w(f'static const struct {{ uint16_t format, where; }} {s}_how[] = {{\n')
        w(''.join(f'    {{ {r.format}, {r.check_number} }},\n' for r in rows) + '};\n')
        w(f'/* A node looks at bits of the word: its children, at `next`, are nodes, or ~n: a list of rows at {s}_lists[n]. */\n'
          f'static const struct {{ uint8_t shift; uint16_t mask; uint32_t next; }} {s}_tree[] = {{\n')
        w(''.join(f'    {{ {shift}, {mask:#x}, {at} }},\n' for shift, mask, at in tree.nodes) + '    { 0, 0, 0 },\n};\n')
        w(f'static const int32_t {s}_branches[] = {{\n')
        for k in range(0, len(tree.next), 16):
            w('    ' + ', '.join(map(str, tree.next[k:k + 16])) + ',\n')
        w(f'    0,\n}};\nstatic const uint16_t {s}_lists[] = {{\n')
        for k in range(0, len(tree.lists), 16):
            w('    ' + ', '.join(map(str, tree.lists[k:k + 16])) + ',\n')
        w(f'}};\nconst struct {n}_row *{s}_row_find(uint32_t raw, unsigned width, const struct {n}_features *features, '
          f'struct {n}_insn *i)\n{{\n    const struct {n}_insn before = *i;         /* a row that is passed over leaves no trace */\n'
          f'    int32_t at;\n\n    switch (width) {{\n')
        for width, root in roots.items():
            w(f'    case {width}: at = {root}; break;\n')
        w(f'''    default: return NULL;
    }}
    while (at >= 0)
        at = {s}_branches[{s}_tree[at].next + (raw >> {s}_tree[at].shift & {s}_tree[at].mask)];
    for (const uint16_t *list = &{s}_lists[~at]; *list != {NO_ROW}; list++) {{
        const struct {n}_row *row = &{s}_rows[*list];

        if ((raw & row->mask) != row->value || (features && row->cond && !{n}_condition(row->cond, features)))
            continue;
        formats[{s}_how[*list].format](i, raw);
        if (where({s}_how[*list].where, i))
            return row;
        *i = before;
    }}
    return NULL;
}}
''')


NO_ROW = 0xffff


class Tree:
    """Nodes that look at a run of bits each, down to lists of a few rows."""

    def __init__(self, rows):
        self.index = {id(r): i for i, r in enumerate(rows)}
        self.nodes, self.next, self.lists, self.known = [], [], [], {}

    def add(self, rows, tested):
        """The number of the node, or ~ the place of the list."""
        key = (tuple(self.index[id(r)] for r in rows), tested)
        if key in self.known:
            return self.known[key]
        best = self.choose(rows, tested) if len(rows) > 3 else None
        if not best:
            self.known[key] = ~len(self.lists)
            self.lists += list(key[0]) + [NO_ROW]
            return self.known[key]
        shift, bits = best
        m = (1 << bits) - 1
        node, at = len(self.nodes), len(self.next)
        self.nodes.append((shift, m, at))
        self.next += [0] * (m + 1)
        for v in range(m + 1):
            self.next[at + v] = self.add([r for r in rows if ((r.value ^ v << shift) & r.mask & m << shift) == 0],
                                         tested | m << shift)
        self.known[key] = node
        return node

    @staticmethod
    def choose(rows, tested):
        """The run of at most 8 bits, not yet tested, whose switch leaves the fewest candidates on average."""
        best, best_cost = None, len(rows) * 0.9
        for shift in range(32):
            for bits in range(1, 9):
                m = ((1 << bits) - 1) << shift
                if shift + bits > 32 or m & tested:
                    break
                cost = 0.0
                for r in rows:
                    cost += 2.0 ** -bin(r.mask & m).count('1')
                cost += 0.02 * (1 << bits) * len(rows) / 64
                if cost < best_cost:
                    best, best_cost = (shift, bits), cost
        return best


def main():
    name, header, out_h, out_c, *paths = sys.argv[1:]
    g = Generator(name, *read(name, paths))
    g.include = header
    with open(out_h, 'w', encoding='utf-8') as f:
        g.header(f)
    with open(out_c, 'w', encoding='utf-8') as f:
        g.source(f)


if __name__ == '__main__':
    main()
