#!/usr/bin/python3
"""A whole Debian tree of another architecture under rhea-user: its own dpkg sets it up (tools/guest.sh chroot), then its shell, text
tools, perl, archivers, openssl, sqlite and stress-ng run in it. Answers are compared with the same commands run natively where the
machine has them. SOAK=1: every architecture; more stressors for longer, compared with their results on the machine itself; and what its
own apt installs: git, gpg, a TLS server, ffmpeg, compilers and runtimes at work, GNU hello and zlib built from Debian's sources with
their own tests, the parts of CPython's that lean on the kernel.

usage: test_chroot.py BUILD-FOLDER [ARCH|PART...]; a part is same, own, stress, python or a word of an application's name: go, zlib"""
import functools
import os
import re
import signal
import subprocess
import sys
import tempfile

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
from cases import finish, report            # noqa: E402

top = os.path.dirname(os.path.dirname(here))
build = os.path.abspath(sys.argv[1])
soak = bool(os.environ.get("SOAK"))
ARCHS = ["arm64", "armhf", "armel", "riscv64", "i386", "amd64"]
archs = [a for a in sys.argv[2:] if a in ARCHS] or (ARCHS if soak else ["arm64"])
only = [a for a in sys.argv[2:] if a not in ARCHS]
env = {**os.environ, "BUILD": build, "RHEA_USER": os.path.join(build, "bin", "rhea-user")}


def shell(argv, timeout, more={}):
    try:
        return subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=timeout, stdin=subprocess.DEVNULL, env={**env, **more},
                              preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))     # in the background it is ignored
    except subprocess.TimeoutExpired as e:
        return subprocess.CompletedProcess(argv, -1, (e.stdout or b"").decode(errors="replace"), f"no end within {timeout} s")


def enter(tree, script, timeout=600, more={}):
    return shell([os.path.join(top, "tools/chroot-enter"), tree, script], timeout, more)


@functools.cache
def native_tree():
    """amd64's: on the machine itself where NATIVE, env, starts its programs."""
    out = subprocess.run([os.path.join(top, "tools/guest.sh"), "chroot", "amd64"], check=True, stdout=subprocess.PIPE, text=True, env=env).stdout
    return os.path.join(out.strip().splitlines()[-1], "tree")


NATIVE = {"RHEA_USER": "/usr/bin/env"}
CACHED = {"RHEA_CACHE": "/var/cache/rhea"}      # compilers start often


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
# Under SOAK=1. What is installed by the tree's own apt, and what is done with it: the last line must be "ok".
APPS = {
    "git": ("git", """export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        git init -q -b main r; cd r; for n in 1 2 3 4 5; do seq $n 3000 >f$n; git add .; git commit -q -m c$n; done; git gc -q; git fsck
        git clone -q file://$PWD ../c; cd ../c; git fsck; [ $(git log --oneline | wc -l) = 5 ]; diff -r -x .git . ../r"""),
    "gpg": ("gnupg", """export GNUPGHOME=$PWD/g; mkdir -m 700 g; echo text >m; gpg -q --batch --passphrase '' --quick-gen-key me@x default default never
        gpg -q --batch -s m; gpg -q --batch --verify m.gpg; gpg -q --batch -e -r me@x -o e m; [ "$(gpg -q --batch -d e)" = text ]; gpgconf --kill all"""),
    "a TLS server": ("openssl", r"""openssl req -x509 -newkey rsa:2048 -nodes -keyout k -out c -subj /CN=localhost -days 2 2>/dev/null
        openssl s_server -accept 44330 -cert c -key k -www -quiet & until (: </dev/tcp/127.0.0.1/44330) 2>/dev/null; do sleep 0.2; done
        printf 'GET / HTTP/1.0\r\n\r\n' | openssl s_client -connect localhost:44330 -quiet -CAfile c -verify_return_error 2>/dev/null | grep -q TLSv1.3
        kill %1; openssl speed -seconds 1 -evp aes-128-gcm 2>/dev/null | grep -qi aes-128-gcm"""),
    "ffmpeg": ("ffmpeg", """ffmpeg -v error -f lavfi -i testsrc=duration=2:size=160x120:rate=10 -f lavfi -i sine=duration=2 -c:v libx264 -c:a aac o.mp4
        ffmpeg -v error -i o.mp4 -c:v libvpx -c:a libvorbis o.webm
        [ $(ffprobe -v error -count_frames -select_streams v -show_entries stream=nb_read_frames -of csv=p=0 o.webm) = 20 ]"""),
    "GNU hello": ("build-essential", """cd hello-*/; FORCE_UNSAFE_CONFIGURE=1 ./configure -q; make -s; make -s check | tee log; grep -q '^# FAIL: *0' log
        grep -q '^# PASS: *[1-9]' log; [ "$(./hello)" = 'Hello, world!' ]"""),
    "zlib": ("build-essential", """cd zlib-*/; ./configure >/dev/null; make -s test | tee log; [ $(grep -c 'test OK' log) -ge 2 ]"""),
    "go": ("golang-go", r"""export HOME=$PWD; printf 'module x\ngo 1.19\n' >go.mod; printf '%s\n' 'package main' 'import ("fmt"; "io"; "net"; "net/http")' 'func main() {' \
        'l, _ := net.Listen("tcp", "127.0.0.1:0"); go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) }))' \
        'for n := 0; n < 50; n++ { r, err := http.Get(fmt.Sprintf("http://%s/%d", l.Addr(), n)); if err != nil { panic(err) }; b, _ := io.ReadAll(r.Body)' \
        'if string(b) != fmt.Sprintf("/%d", n) { panic(string(b)) } }; fmt.Println("served") }' >main.go; go build -o x .; [ "$(./x)" = served ]"""),
    "cargo": ("cargo", r"""export HOME=$PWD USER=u; cargo new -q x; cd x; printf 'use std::{sync::mpsc, thread};\nfn main() { let (t, r) = mpsc::channel();\n'\
'for n in 0..8u64 { let t = t.clone(); thread::spawn(move || t.send((0..=n * 1000).sum::<u64>()).unwrap()); }\ndrop(t); println!("{}", r.iter().sum::<u64>()); }\n' >src/main.rs
        cargo build -q --release; [ "$(target/release/x)" = 70014000 ]"""),
    "java": ("default-jdk-headless", r"""printf 'public class X { public static void main(String[] a) throws Exception { long[] s = new long[4]; Thread[] t = new Thread[4];\n'\
'for (int n = 0; n < 4; n++) { final int k = n; t[n] = new Thread(() -> { for (int m = 0; m < 200000; m++) s[k] += ("x" + m).hashCode() & 7; }); t[n].start(); }\n'\
'for (Thread x : t) x.join(); System.out.println(s[0] == s[1] && s[1] == s[2] && s[2] == s[3] && s[0] > 0); } }\n' >X.java
        javac X.java; [ "$(java -Xmx256m X)" = true ]"""),
    "node": ("nodejs", """printf '%s\n' 'const { Worker, isMainThread, parentPort, workerData } = require("worker_threads");' 'if (isMainThread) { let sum = 0, left = 4;' \\
        'for (let n = 0; n < 4; n++) new Worker(__filename, { workerData: n }).on("message", m => { sum += m; if (!--left) console.log(sum); }); }' \\
        'else { let s = 0; for (let m = 0; m < 3e6; m++) s += m % (workerData + 2); parentPort.postMessage(s); }' >w.js; [ "$(node w.js)" = 15000000 ]"""),
}
SOURCES = {"GNU hello": "hello", "zlib": "zlib"}
# Of CPython's own tests those that lean on the kernel; SOAK=1: all of them.
PYTHON = ("signal subprocess threading mmap os posix socket select epoll asyncio multiprocessing_spawn fcntl resource time io faulthandler pty"
          " selectors eintr gc").split()
STRESSORS = "signal sigfd sigq futex clone fork vfork mmap mprotect timer pthread membarrier".split()
CLASSES = "dup eventfd fcntl flock get kill madvise mincore mlock mremap msg nice null pipe poll rename sem sem-sysv shm sigabrt sigfpe sigpending sigpipe sigrt sigsegv sigsuspend sock splice switch tee timerfd wait".split()


def same(tree, arch, name, script):
    with tempfile.TemporaryDirectory(prefix="rhea-chroot-") as folder:
        native = shell(["sh", "-c", f"cd {folder}; {script}"], 300)
    r = enter(tree, f"cd $(mktemp -d); {script}")
    report(f"{arch} {name}", (r.returncode, r.stdout) == (native.returncode, native.stdout),
           f"native {native.returncode}:\n{native.stdout}{native.stderr}\nhere {r.returncode}:\n{r.stdout}{r.stderr}")


def own(tree, arch, name):
    script, want = OWN[name]
    r = enter(tree, f"cd $(mktemp -d); {script}")
    report(f"{arch} {name}", r.returncode == 0 and r.stdout == want, f"{r.stdout}{r.stderr}exit {r.returncode}")


def app(tree, arch, name):
    """Installs and uses it, all in memory."""
    packages, script = APPS[name]
    source = SOURCES.get(name)
    fetch = f"sed -n 's/^deb /deb-src /p' /etc/apt/sources.list >/etc/apt/sources.list.d/src.list; apt-get update -qq; apt-get source -qq {source}" if source else ":"
    r = enter(tree, f"""set -e; cd $(mktemp -d); apt-get update -qq; apt-get install -y -qq --no-install-recommends ca-certificates {packages} >log 2>&1 || (cat log; false)
        ({fetch}) >log 2>&1 || (cat log; false)
        cat >script <<'END OF SCRIPT'
set -e
{script}
END OF SCRIPT
        bash script; echo ok""", 7200, CACHED)
    if "Unable to locate package" in r.stdout + r.stderr or "no installation candidate" in r.stdout + r.stderr:
        return                          # this architecture has none
    report(f"{arch} {name}", r.returncode == 0 and r.stdout.splitlines()[-1:] == ["ok"], f"{r.stdout}{r.stderr}exit {r.returncode}")


def python_says(tree, version, tests, more):
    """What ran to its end, the tests that failed."""
    r = enter(tree, f"""apt-get update -qq; apt-get install -y -qq --no-install-recommends python3 netbase libpython{version}-testsuite >/dev/null 2>&1
        cd $(mktemp -d); python3 -m test -j2 -w --timeout 3600 -i '*VSOCK*' {' '.join(tests)}""", 14400, more)
    failed = re.findall(r"^\d+ tests? failed:\n((?: .*\n)+)", r.stdout, re.M)
    return r, set(failed[-1].split()) if failed else set()


def python(tree, arch):
    """What fails must fail on the machine itself as well."""
    version = "3.13" if arch == "riscv64" else "3.11"
    r, failed = python_says(tree, version, [] if soak else ["test_" + n for n in PYTHON], CACHED)
    native = python_says(native_tree(), "3.11", sorted(failed), NATIVE)[1] if failed else set()
    ended = re.search("^(Tests result|Result): ", r.stdout, re.M)
    report(f"{arch} CPython's tests", ended and (r.returncode == 0 or failed) and failed <= native,
           f"{sorted(failed - native)}\n{r.stdout}{r.stderr}exit {r.returncode}")


def stress_codes(enter_tree, names, seconds):
    r = enter_tree("; ".join(f"echo {n} $(timeout 300 stress-ng --{n} 2 --timeout {seconds} --verify --temp-path /tmp >/tmp/out 2>&1; echo $?)"
                             f" $(grep -m 3 fail: /tmp/out)" for n in names), 120 * len(names))
    return dict(line.split(" ", 1) for line in r.stdout.splitlines() if " " in line), r.stderr[-1000:]


@functools.cache
def stress_native(seconds):
    return stress_codes(lambda script, timeout: enter(native_tree(), script, timeout, NATIVE), STRESSORS + CLASSES, seconds)[0]


def stress(tree, arch):
    seconds = 10 if soak else 1
    names = STRESSORS + (CLASSES if soak else [])
    native = stress_native(2) if soak and os.uname().machine == "x86_64" else {}
    said, log = stress_codes(lambda script, timeout: enter(tree, script, timeout), names, seconds)
    for n in names:                     # 3 and 4 mean that it was left out
        want = native.get(n, "0").split(" ")[0]
        allowed = (want,) if n in STRESSORS else (want, "3", "4")
        report(f"{arch} stress-ng {n}", said.get(n, "").split(" ")[0] in allowed, f"{said.get(n)}, native {native.get(n)}\n{log}")


def one(arch):
    p = subprocess.run([os.path.join(top, "tools/guest.sh"), "chroot", arch], capture_output=True, text=True, env=env)
    report(f"{arch} is set up by its own programs", p.returncode == 0, p.stderr)
    if p.returncode:
        return
    tree = os.path.join(p.stdout.strip().splitlines()[-1], "tree")
    parts = {"same": lambda: [same(tree, arch, name, script) for name, script in SAME.items()],
             "own": lambda: [own(tree, arch, name) for name in OWN], "stress": lambda: stress(tree, arch)}
    if soak or only:
        parts |= {name: lambda name=name: app(tree, arch, name) for name in APPS} | {"python": lambda: python(tree, arch)}
    for name, part in parts.items():
        if not only or set(only) & {name, *name.split()}:
            part()


for arch in archs:
    one(arch)
finish()
