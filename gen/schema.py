#!/usr/bin/env python3
"""The control protocol's schema (schema/*.yaml, described in schema/README.md) to C and to the reference manual.

usage: schema.py (header|source|manual) OUTPUT SCHEMA.yaml..."""
import re
import sys

import yaml

BUILTIN = {'str': 'string', 'int': 'int', 'size': 'int', 'number': 'number', 'bool': 'boolean', 'any': 'value',
           'null': 'null'}
C_TYPE = {'str': 'const char *', 'int': 'int64_t ', 'size': 'uint64_t ', 'number': 'double ', 'bool': 'bool '}
GETTER = {'str': 'json_object_get_string', 'int': 'json_object_get_int64', 'size': 'json_object_get_uint64',
          'number': 'json_object_get_double', 'bool': 'json_object_get_boolean'}


class SchemaError(Exception):
    pass


def c_name(name):
    return re.sub(r'[^A-Za-z0-9]', '_', name)


def quote(text):
    return '"' + text.replace('\\', '\\\\').replace('"', '\\"') + '"'


class Member:
    def __init__(self, name, text):
        self.name = name
        text = str(text)
        self.optional = text.startswith('optional ')
        self.type = text[len('optional '):] if self.optional else text


class Type:
    """kind: builtin, enum, struct, union, alternate, list"""

    def __init__(self, name, kind, entry=None):
        self.name, self.kind = name, kind
        entry = entry or {}
        self.members, self.values, self.cases, self.tag, self.of = [], [], {}, None, []
        if kind == 'struct':
            self.members = [Member(n, t) for n, t in (entry.get('members') or {}).items()]
        elif kind == 'union':
            self.members = [Member(n, t) for n, t in entry['base'].items()]
            self.tag, self.cases = entry['tag'], entry['cases']
        elif kind == 'enum':
            values = entry['values']
            self.values = values.split() if isinstance(values, str) else [str(v) for v in values or []]
        elif kind == 'alternate':
            self.of = entry['of']


class Command:
    def __init__(self, entry, schema):
        self.name = entry['command']
        self.summary = entry['summary']
        self.session, self.open = entry.get('session', False), entry.get('open', False)
        self.features = entry.get('features', [])
        self.hmp = entry.get('hmp')
        args = entry.get('args')
        self.has_args = bool(args)
        if isinstance(args, dict):
            self.arg_type = 'q_%s_arg' % c_name(self.name)
            schema.add(Type(self.arg_type, 'struct', {'members': args}))
        else:
            self.arg_type = args or 'q_empty'
        self.returns = entry.get('returns')
        self.ret_type = self.returns or 'q_empty'


class Event:
    def __init__(self, entry, schema):
        self.name, self.summary = entry['event'], entry['summary']
        data = entry.get('data')
        self.arg_type = 'q_empty'
        if data:
            self.arg_type = 'q_%s_data' % c_name(self.name)
            schema.add(Type(self.arg_type, 'struct', {'members': data}))


class Schema:
    def __init__(self, paths):
        self.types, self.commands, self.events = {}, [], []
        for name in BUILTIN:
            self.add(Type(name, 'builtin'))
        self.add(Type('q_empty', 'struct'))
        for path in paths:
            with open(path) as f:
                for entry in yaml.safe_load(f):
                    self.entry(entry)
        self.check()

    def add(self, t):
        if t.name in self.types:
            raise SchemaError('type %s is there twice' % t.name)
        self.types[t.name] = t

    def entry(self, e):
        for kind in ('struct', 'union', 'enum', 'alternate'):
            if kind in e:
                self.add(Type(e[kind], kind, e))
                return
        if 'command' in e:
            self.commands.append(Command(e, self))
        elif 'event' in e:
            self.events.append(Event(e, self))
        else:
            raise SchemaError('unknown entry %s' % e)

    def need(self, name, where):
        if name.startswith('list of '):
            self.need(name[len('list of '):], where)
            if name not in self.types:
                self.add(Type(name, 'list'))
        elif name not in self.types:
            raise SchemaError('%s: there is no type %s' % (where, name))

    def check(self):
        for t in list(self.types.values()):
            for m in t.members:
                self.need(m.type, t.name)
            for case, name in t.cases.items():
                self.need(name, t.name)
                tag = next(m for m in t.members if m.name == t.tag)
                if str(case) not in self.types[tag.type].values:
                    raise SchemaError('%s: %s is no value of %s' % (t.name, case, tag.type))
            for name in t.of:
                self.need(name, t.name)
        for c in self.commands + self.events:
            self.need(c.arg_type, c.name)
            self.need(getattr(c, 'ret_type', 'q_empty'), c.name)
        self.commands.sort(key=lambda c: c.name)
        self.events.sort(key=lambda e: e.name)
        for i, t in enumerate(self.types.values()):
            t.index = i


# ---- header: argument structs and prototypes

def field_type(schema, m):
    kind = schema.types[m.type].kind
    if m.type in C_TYPE:
        return C_TYPE[m.type]
    if kind == 'enum':
        return 'enum q_%s ' % c_name(m.type)
    return 'struct json_object *'


def prototype(schema, c):
    params = ['struct monitor *mon' if c.session else 'struct vm *vm']
    if c.has_args:
        params.append('const struct %s_args *args' % c_name(c.name))
    if c.returns:
        params.append('struct json_object **ret')
    return 'bool qmp_%s(%s, struct error *err)' % (c_name(c.name), ', '.join(params))


def write_header(schema, out):
    out.write('/* Made by gen/schema.py from schema/: do not edit. */\n'
              '#ifndef RHEA_QMP_SCHEMA_H\n#define RHEA_QMP_SCHEMA_H\n\n'
              '#include "control/schema.h"\n\n')
    for t in schema.types.values():
        if t.kind == 'enum' and t.values:
            names = ['Q_%s_%s' % (c_name(t.name).upper(), c_name(v).upper()) for v in t.values]
            out.write('enum q_%s {\n    %s,\n};\n' % (c_name(t.name), ',\n    '.join(names)))
    for c in schema.commands:
        if c.has_args:
            out.write('\n/* %s */\nstruct %s_args {\n' % (c.name, c_name(c.name)))
            for m in schema.types[c.arg_type].members:
                flag = 'bool has_%s; ' % c_name(m.name) if m.optional else ''
                out.write('    %s%s%s;\n' % (flag, field_type(schema, m), c_name(m.name)))
            out.write('    struct json_object *all;    /* as they came */\n};\n')
        out.write('%s;\n' % prototype(schema, c))
    out.write('\n#endif\n')


# ---- source: tables of types, commands, events

def write_members(schema, t, out):
    for m in t.members:
        out.write('    { %s, %d, %s },\n' % (quote(m.name), schema.types[m.type].index, str(m.optional).lower()))


def write_type_tables(schema, out):
    for t in schema.types.values():
        if t.members:
            out.write('static const struct schema_member members_%d[] = {\n' % t.index)
            write_members(schema, t, out)
            out.write('};\n')
        if t.values:
            out.write('static const char *const values_%d[] = { %s, NULL };\n' %
                      (t.index, ', '.join(quote(v) for v in t.values)))
        if t.cases:
            out.write('static const struct schema_member cases_%d[] = {\n' % t.index)
            for case, name in t.cases.items():
                out.write('    { %s, %d, false },\n' % (quote(str(case)), schema.types[name].index))
            out.write('};\n')
        if t.of:
            out.write('static const struct schema_member cases_%d[] = { %s };\n' %
                      (t.index, ', '.join('{ NULL, %d, false }' % schema.types[n].index for n in t.of)))
    out.write('\nconst struct schema_type schema_types[] = {\n')
    for t in schema.types.values():
        fields = ['.name = %s' % quote(t.name), '.kind = SCHEMA_%s' % t.kind.upper()]
        if t.kind == 'builtin':
            fields.append('.json_type = %s' % quote(BUILTIN[t.name]))
        if t.members:
            fields.append('.members = members_%d, .nmembers = %d' % (t.index, len(t.members)))
        if t.values:
            fields.append('.values = values_%d' % t.index)
        if t.cases or t.of:
            fields.append('.cases = cases_%d, .ncases = %d' % (t.index, len(t.cases) or len(t.of)))
        if t.tag:
            fields.append('.tag = %s' % quote(t.tag))
        if t.kind == 'list':
            fields.append('.element = %d' % schema.types[t.name[len('list of '):]].index)
        out.write('    [%d] = { %s },\n' % (t.index, ', '.join(fields)))
    out.write('};\nconst unsigned schema_type_count = %d;\n\n' % len(schema.types))


def write_call(schema, c, out):
    out.write('static bool call_%s(struct monitor *mon, struct vm *vm, struct json_object *o, struct json_object **ret, '
              'struct error *err)\n{\n' % c_name(c.name))
    call = ['mon' if c.session else 'vm']
    if c.has_args:
        call.append('&args')
        out.write('    struct %s_args args = { .all = o };\n' % c_name(c.name))
        if schema.types[c.arg_type].members:
            out.write('    struct json_object *v;\n\n')
        for m in schema.types[c.arg_type].members:
            field, t = c_name(m.name), schema.types[m.type]
            out.write('    if (json_object_object_get_ex(o, %s, &v)) {\n' % quote(m.name))
            if m.optional:
                out.write('        args.has_%s = true;\n' % field)
            if m.type in GETTER:
                out.write('        args.%s = %s(v);\n' % (field, GETTER[m.type]))
            elif t.kind == 'enum':
                out.write('        args.%s = schema_enum(&schema_types[%d], json_object_get_string(v));\n' %
                          (field, t.index))
            else:
                out.write('        args.%s = v;\n' % field)
            out.write('    }\n')
    if c.returns:
        call.append('ret')
    out.write('    return qmp_%s(%s, err);\n}\n\n' % (c_name(c.name), ', '.join(call)))


def write_source(schema, out):
    out.write('/* Made by gen/schema.py from schema/: do not edit. */\n#include "control/qmp-schema.h"\n\n')
    write_type_tables(schema, out)
    for c in schema.commands:
        write_call(schema, c, out)
        if c.features:
            out.write('static const char *const features_%s[] = { %s, NULL };\n\n' %
                      (c_name(c.name), ', '.join(quote(f) for f in c.features)))
    out.write('const struct schema_command schema_commands[] = {\n')
    for c in schema.commands:
        out.write('    { %s, %s, call_%s, .arg_type = %d, .ret_type = %d, .open = %s, .features = %s, .hmp = %s },\n' %
                  (quote(c.name), quote(c.summary), c_name(c.name), schema.types[c.arg_type].index,
                   schema.types[c.ret_type].index, str(c.open).lower(),
                   'features_' + c_name(c.name) if c.features else 'NULL', quote(c.hmp) if c.hmp else 'NULL'))
    out.write('};\nconst unsigned schema_command_count = %d;\n\nconst struct schema_event schema_events[] = {\n' %
              len(schema.commands))
    for e in schema.events:
        out.write('    { %s, %s, %d },\n' % (quote(e.name), quote(e.summary), schema.types[e.arg_type].index))
    out.write('};\nconst unsigned schema_event_count = %d;\n' % len(schema.events))


# ---- manual

def member_lines(schema, t, indent=''):
    for m in t.members:
        kind = schema.types[m.type]
        text = m.type if kind.kind != 'enum' else 'one of ' + ', '.join('`%s`' % v for v in kind.values)
        yield '%s- `%s`: %s%s' % (indent, m.name, text, ' (optional)' if m.optional else '')
    for case, name in t.cases.items():
        if schema.types[name].members:
            yield '%s- with `%s` = `%s`:' % (indent, t.tag, case)
            yield from member_lines(schema, schema.types[name], indent + '  ')


def write_manual(schema, out):
    out.write('# QMP reference\n\nMade by `gen/schema.py` from `schema/`. %d commands, %d events.\n\n## Commands\n' %
              (len(schema.commands), len(schema.events)))
    for c in schema.commands:
        out.write('\n### %s\n\n%s\n' % (c.name, c.summary))
        lines = list(member_lines(schema, schema.types[c.arg_type]))
        if lines:
            out.write('\nArguments:\n\n%s\n' % '\n'.join(lines))
        if c.returns:
            out.write('\nReturns: %s\n' % c.returns)
        if c.hmp:
            out.write('\nMonitor: `%s`\n' % c.hmp)
    out.write('\n## Events\n')
    for e in schema.events:
        out.write('\n### %s\n\n%s\n' % (e.name, e.summary))
        lines = list(member_lines(schema, schema.types[e.arg_type]))
        if lines:
            out.write('\n%s\n' % '\n'.join(lines))
    out.write('\n## Types\n')
    for t in sorted(schema.types.values(), key=lambda t: t.name):
        if t.kind in ('builtin', 'list') or t.name.startswith('q_'):
            continue
        out.write('\n### %s\n\n' % t.name)
        if t.kind == 'enum':
            out.write('%s\n' % (', '.join('`%s`' % v for v in t.values) or 'no value yet'))
        elif t.kind == 'alternate':
            out.write('%s\n' % ', or '.join(t.of))
        else:
            out.write('%s\n' % '\n'.join(member_lines(schema, t)))


def main():
    what, output, paths = sys.argv[1], sys.argv[2], sys.argv[3:]
    schema = Schema(paths)
    with open(output, 'w') as out:
        {'header': write_header, 'source': write_source, 'manual': write_manual}[what](schema, out)


try:
    main()
except SchemaError as e:
    sys.exit('schema: %s' % e)
