#!/usr/bin/env python3
"""Makes BUILD/bin: links from each program's names to its executable, compat names in bin/compat.

usage: links.py STAMP BINDIR EXECUTABLE NAME[=COMPAT-NAME]... [-- EXECUTABLE NAME...]..."""
import os
import sys


def link(target, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    relative = os.path.relpath(target, os.path.dirname(path))
    if os.path.islink(path) and os.readlink(path) == relative:
        return
    if os.path.lexists(path):
        os.unlink(path)
    os.symlink(relative, path)


def main():
    stamp, bindir, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
    group = []
    for word in rest + ['--']:
        if word != '--':
            group.append(word)
            continue
        if group:
            for name in group[1:]:
                name, _, compat = name.partition('=')
                link(group[0], os.path.join(bindir, name))
                if compat:
                    link(group[0], os.path.join(bindir, 'compat', compat))
        group = []
    with open(stamp, 'w') as f:
        f.write('')


main()
