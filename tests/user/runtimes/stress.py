"""What Python asks of an emulator: threads, forks of threaded processes, pools that share memory, signals. Prints "python ok"."""
import ctypes
import hashlib
import multiprocessing
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time


def check(ok, what):
    if not ok:
        print("FAILED:", what)
        sys.stdout.flush()
        os._exit(1)


def square(x):
    return x * x


def counted(counter, n):
    for _ in range(n):
        with counter.get_lock():
            counter.value += 1


def threads():
    q, results = queue.Queue(), queue.Queue()

    def work():
        while (item := q.get()) is not None:
            results.put(sum(i * i for i in range(item)))
    all_ = [threading.Thread(target=work) for _ in range(6)]
    for t in all_:
        t.start()
    for _ in range(200):
        q.put(100)
    for t in all_:
        q.put(None)
    for t in all_:
        t.join()
    check(sum(results.get() for _ in range(200)) == 200 * 328350, "sums of threads")


def processes():
    for how in ("fork", "spawn"):
        context = multiprocessing.get_context(how)
        with context.Pool(3) as pool:
            check(pool.map(square, range(300)) == [i * i for i in range(300)], f"pool by {how}")
    counter = multiprocessing.Value("i", 0)
    all_ = [multiprocessing.Process(target=counted, args=(counter, 300)) for _ in range(3)]
    for p in all_:
        p.start()
    for p in all_:
        p.join()
    check(counter.value == 900, f"shared counter {counter.value}")


def signals():
    got = []
    signal.signal(signal.SIGUSR1, lambda s, f: got.append(s))
    signal.signal(signal.SIGALRM, lambda s, f: got.append(s))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    x, until = 0, time.time() + 0.3
    while time.time() < until:
        x = (x * 1103515245 + 12345) & 0x7fffffff
    signal.setitimer(signal.ITIMER_REAL, 0)
    check(got, "no SIGALRM")
    got.clear()
    for _ in range(50):
        os.kill(os.getpid(), signal.SIGUSR1)
    check(len(got) == 50, f"{len(got)} of 50 signals")
    check(subprocess.run([sys.executable, "-c", "import os; os.abort()"], stderr=subprocess.DEVNULL).returncode == -signal.SIGABRT, "abort")
    p = subprocess.run([sys.executable, "-X", "faulthandler", "-c", "import ctypes; ctypes.string_at(1)"], stderr=subprocess.PIPE)
    check(p.returncode == -signal.SIGSEGV and b"string_at" in p.stderr, f"segmentation fault: {p}")


def callbacks():        # libffi writes closures' code
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    libc = ctypes.CDLL(None)
    for n in range(20):
        a = (ctypes.c_int * 50)(*[(i * 37 + n) % 101 for i in range(50)])
        libc.qsort(a, 50, ctypes.sizeof(ctypes.c_int), compare(lambda x, y: x[0] - y[0]))
        check(list(a) == sorted(a), "qsort")


def computed():
    check(hashlib.sha256(b"rhea" * 10000).hexdigest()[:16] == "6b126a7a67959887", "sha256")
    check(str(3 ** 2000)[:10] == "1747871251", f"3^2000 {str(3 ** 2000)[:10]}")
    a, b = socket.socketpair()
    threading.Thread(target=lambda: (b.sendall(b"x" * 200000), b.close())).start()
    n = 0
    while data := a.recv(5000):
        n += len(data)
    check(n == 200000, "socket pair")
    f = 0.0
    for i in range(1, 1000):
        f += 1 / i
    check(repr(f) == "7.484470860550343", f"sum of floats {f!r}")


if __name__ == "__main__":
    for part in (threads, processes, signals, callbacks, computed):
        part()
    print("python ok")
