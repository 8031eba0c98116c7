#!/usr/bin/python3
"""A whole Debian tree of another architecture under rhea-user: its own dpkg sets it up (tools/guest.sh chroot), then its shell, text
tools, perl, archivers, openssl, sqlite and stress-ng run in it. Answers are compared with the same commands run natively where the
machine has them. SOAK=1: every architecture, packages installed by apt, programs built from Debian's sources with their own tests.

usage: test_chroot.py BUILD-FOLDER [ARCH...]"""
import os
import subprocess
import sys
import tempfile

here = os.path.dirname(os.path.abspath(__file__))
top = os.path.dirname(os.path.dirname(here))
build = os.path.abspath(sys.argv[1])
soak = bool(os.environ.get("SOAK"))
archs = sys.argv[2:] or (["arm64", "armhf", "riscv64", "i386", "amd64"] if soak else ["arm64"])
env = {**os.environ, "BUILD": build, "RHEA_USER": os.path.join(build, "bin", "rhea-user")}
passed = failed = 0


def report(name, ok, detail=""):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    if not ok:
        print(f"FAILED {name}\n{detail[-4000:]}", flush=True)


def shell(argv, timeout):
    try:
        return subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=timeout, stdin=subprocess.DEVNULL, env=env)
    except subprocess.TimeoutExpired as e:
        return subprocess.CompletedProcess(argv, -1, (e.stdout or b"").decode(errors="replace"), f"no end within {timeout} s")


def enter(tree, script, timeout=600):
    return shell([os.path.join(top, "tools/chroot-enter"), tree, script], timeout)


# What any Debian answers alike. Each prints something that depends on much having gone right.
SAME = {
    "text tools": r"""seq 1 20000 | awk '{ printf "%d %s\n", ($1 * 7919) % 20011, substr("abcdefghij", $1 % 10 + 1) }' | sort -k2,2 -k1,1nr |
        sed -n 's/^\([0-9]*\)7 \(.\)$/\2:\1/p' | tee t | uniq -w1 -c; cut -d: -f2 t | sha256sum; tr a-j A-J <t | md5sum; wc -lc <t""",
    "archives": """mkdir -p a/b; for n in $(seq 1 150); do seq $n 500 >a/b/$n; done
        tar -cf - --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=644 a/b/1* | sha256sum
        tar -czf x.tgz a && mkdir o && tar -C o -xzf x.tgz && diff -r a o/a && echo alike; gzip -9 -n -c a/b/1 | gzip -dc | cksum; rm -r a o""",
    "perl": r"""perl -e 'use POSIX; my %h; for (1..30000) { my $k = ($_ * 31337) % 9973; $h{"k$k"} .= chr(97 + $_ % 26); }
        my $s = join ",", map { "$_=$h{$_}" } sort { length $h{$a} <=> length $h{$b} or $a cmp $b } keys %h; print unpack("%32C*", $s), " ", length $s, "\n";
        printf "%.15g %.15g %s\n", sin(1) ** 3.5, exp(10.1), POSIX::fmod(17.3, 4.1); my $p = open(my $f, "-|") // die; if (!$p) { print "child\n"; exit 3 }
        print <$f>; close $f; print $? >> 8, "\n"; $SIG{ALRM} = sub { print "alarm\n"; exit 0 }; alarm 1; 1 while 1;'""",
    "shell": r"""trap 'echo usr1' USR1; (sleep 0.2; kill -USR1 $$) & wait $! ; f() { local n=$1; [ $n -le 1 ] && echo 1 || echo $((n * $(f $((n - 1))))); }; f 15
        sh -c 'kill -SEGV $$'; echo $?; (exit 7); echo $?; yes | head -n 3; cat <<X | tr a-z A-Z
here $((1 << 40))
X
        for n in 1 2 3 4 5 6 7 8; do (exit $n) & done; for n in 1 2 3 4 5 6 7 8; do wait %$n 2>/dev/null; done; wait; echo end""",
    "openssl": """seq 1 50000 >t; for d in md5 sha1 sha256 sha512 sha3-256 blake2b512; do openssl dgst -$d -r t; done
        for c in aes-128-cbc aes-256-ctr chacha20 camellia-128-cbc; do openssl enc -$c -K 000102030405060708090a0b0c0d0e0f -iv 00112233445566778899aabbccddeeff -in t 2>/dev/null | sha256sum; done
        openssl genpkey -algorithm ed25519 -out k 2>/dev/null && openssl pkeyutl -sign -rawin -inkey k -in t -out s &&
        openssl pkey -in k -pubout -out p && openssl pkeyutl -verify -rawin -pubin -inkey p -in t -sigfile s""",
}


def sqlite_says():
    rows = [(x, x * 7919 % 10007, f"{x % 97:05d}") for x in range(1, 20001)]
    some = [r for r in rows if 100 <= r[1] <= 5000]
    return f"{len(some)}|{sum(r[1] for r in some)}|{max(r[2] for r in some)}\nok\n20000\n{sum(r[0] * r[1] for r in rows)}\n"


# What only the tree has: a script, and what it must print.
OWN = {
    "packages are sound": ("dpkg --audit; dpkg --verify bash perl-base coreutils libc6 | grep -v /usr/share/; apt-get check -qq && echo sound", "sound\n"),
    "sqlite": ("""sqlite3 d "create table t(a integer primary key, b, c); with recursive n(x) as (select 1 union all select x + 1 from n where x < 20000)
        insert into t select x, x * 7919 % 10007, printf('%05d', x % 97) from n; create index i on t(b);
        select count(*), sum(b), max(c) from t where b between 100 and 5000; pragma integrity_check;
        begin; delete from t where a % 3 = 0; rollback; select count(*) from t; vacuum; select sum(a * b) from t;" """,
               sqlite_says()),
    "random bytes compress back": ("head -c 300000 /dev/urandom >r; for z in gzip bzip2 xz; do command -v $z >/dev/null || continue; $z -c r | $z -dc | cmp - r || exit 1; done; echo same", "same\n"),
}
STRESSORS = "signal sigfd sigq futex clone fork vfork mmap mprotect timer pthread membarrier".split()
CLASSES = "dup eventfd fcntl flock get kill madvise mincore mlock mremap msg nice null pipe poll rename sem sem-sysv shm sigabrt sigfpe sigpending sigpipe sigrt sigsegv sigsuspend sock splice switch tee timerfd wait".split()


def same(tree, arch, name, script):
    with tempfile.TemporaryDirectory(prefix="rhea-chroot-") as folder:
        native = shell(["sh", "-c", f"cd {folder}; {script}"], 300)
    r = enter(tree, f"cd $(mktemp -d); {script}")
    report(f"{arch} {name}", (r.returncode, r.stdout) == (native.returncode, native.stdout),
           f"native {native.returncode}:\n{native.stdout}{native.stderr}\nhere {r.returncode}:\n{r.stdout}{r.stderr}")


def stress(tree, arch):
    seconds = 10 if soak else 1
    names = STRESSORS + (CLASSES if soak else [])
    r = enter(tree, "; ".join(f"echo {n} $(timeout 300 stress-ng --{n} 2 --timeout {seconds} --verify --temp-path /tmp >/tmp/out 2>&1; echo $?)"
                              f" $(grep -m 3 fail: /tmp/out)" for n in names), 120 * len(names))
    said = dict(line.split(" ", 1) for line in r.stdout.splitlines() if " " in line)
    for n in names:                     # 3 and 4 mean that it was left out
        allowed = ("0",) if n in STRESSORS else ("0", "3", "4")
        report(f"{arch} stress-ng {n}", said.get(n, "").split(" ")[0] in allowed, f"{said.get(n)}\n{r.stderr[-1000:]}")


def one(arch):
    p = subprocess.run([os.path.join(top, "tools/guest.sh"), "chroot", arch], capture_output=True, text=True, env=env)
    report(f"{arch} is set up by its own programs", p.returncode == 0, p.stderr)
    if p.returncode:
        return
    tree = os.path.join(p.stdout.strip().splitlines()[-1], "tree")
    for name, script in SAME.items():
        same(tree, arch, name, script)
    for name, (script, want) in OWN.items():
        r = enter(tree, f"cd $(mktemp -d); {script}")
        report(f"{arch} {name}", r.returncode == 0 and r.stdout == want, f"{r.stdout}{r.stderr}exit {r.returncode}")
    stress(tree, arch)


for arch in archs:
    one(arch)
print(f"{passed} passed, {failed} failed")
sys.exit(failed != 0)
