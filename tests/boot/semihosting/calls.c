/* Every semihosting call, with good and bad arguments, from a program without a library. The same on all guests. */
#include <stddef.h>
#include <stdint.h>

typedef unsigned long word;
enum { OPEN = 1, CLOSE, WRITEC, WRITE0, WRITE, READ, READC, ISERROR, ISTTY, SEEK, FLEN = 0xc, TMPNAM, REMOVE, RENAME, CLOCK, TIME, SYSTEM,
       ERRNO, GET_CMDLINE = 0x15, HEAPINFO, EXIT = 0x18, EXIT_EXTENDED = 0x20, ELAPSED = 0x30, TICKFREQ };
#define NOWHERE ((word)0x20)            /* nothing of the guest's is there that a call may write */

static long call_raw(word op, word arg)
{
#if defined(__riscv)
    register word a0 __asm__("a0") = op, a1 __asm__("a1") = arg;
    __asm__ volatile(".option push\n.option norvc\n.balign 16\nslli x0, x0, 0x1f\nebreak\nsrai x0, x0, 7\n.option pop" : "+r"(a0) : "r"(a1) : "memory");
    return (long)a0;
#elif defined(__aarch64__)
    register word x0 __asm__("x0") = op, x1 __asm__("x1") = arg;
    __asm__ volatile("hlt 0xf000" : "+r"(x0) : "r"(x1) : "memory");
    return (long)x0;
#else
    register word r0 __asm__("r0") = op, r1 __asm__("r1") = arg;
#if defined(CALL_HLT) && defined(__thumb__)
    __asm__ volatile(".inst.n 0xbabc" : "+r"(r0) : "r"(r1) : "memory");
#elif defined(CALL_HLT)
    __asm__ volatile(".inst 0xe10f0070" : "+r"(r0) : "r"(r1) : "memory");
#elif defined(CALL_BKPT)
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
#elif defined(__thumb__)
    __asm__ volatile("svc 0xab" : "+r"(r0) : "r"(r1) : "memory", "lr");
#else
    __asm__ volatile("svc 0x123456" : "+r"(r0) : "r"(r1) : "memory", "lr");
#endif
    return (long)r0;
#endif
}

static long call(word op, word a, word b, word c, word d)
{
    word block[4] = { a, b, c, d };

    return call_raw(op, (word)block);
}

static word length(const char *s)
{
    word n = 0;

    while (s[n])
        n++;
    return n;
}

static void say(const char *s) { call_raw(WRITE0, (word)s); }

static unsigned failures;
static void check(int ok, const char *what)
{
    if (ok)
        return;
    failures++;
    say("wrong: ");
    say(what);
    say("\n");
}
#define CHECK(x) check(!!(x), #x)

static long open_file(const char *path, word mode) { return call(OPEN, (word)path, mode, length(path), 0); }
static int same(const char *a, const char *b, word n)
{
    while (n && *a == *b)
        a++, b++, n--;
    return !n;
}

static void files(void)
{
    char buf[64];
    long h = open_file("semihosting.tmp", 7 /* w+b */), r;

    CHECK(h > 0);
    CHECK(call(WRITE, h, (word)"abcdefgh", 8, 0) == 0);
    CHECK(call(FLEN, h, 0, 0, 0) == 8);
    CHECK(call(ISTTY, h, 0, 0, 0) == 0);
    CHECK(call(SEEK, h, 3, 0, 0) == 0);
    CHECK(call(READ, h, (word)buf, 64, 0) == 59 && same(buf, "defgh", 5));
    CHECK(call(READ, h, (word)buf, 64, 0) == 64);       /* the end */
    CHECK(call(SEEK, h, 0, 0, 0) == 0);
    CHECK(call(READ, h, NOWHERE, 4, 0) == 4);           /* not there: nothing read, nothing lost */
    CHECK(call_raw(ERRNO, 0) == 14);
    CHECK(call(READ, h, (word)buf, 4, 0) == 0 && same(buf, "abcd", 4));
    CHECK(call(WRITE, h, (word)-16, 64, 0) > 0);
    CHECK(call(CLOSE, h, 0, 0, 0) == 0);
    CHECK(call(CLOSE, h, 0, 0, 0) == -1 && call_raw(ERRNO, 0) == 9);
    r = open_file("semihosting.tmp", 9 /* ab */);
    CHECK(r > 0 && call(WRITE, r, (word)"XY", 2, 0) == 0 && call(FLEN, r, 0, 0, 0) == 10);
    CHECK(call(READ, r, (word)buf, 2, 0) == 2);         /* for appending alone */
    CHECK(call(CLOSE, r, 0, 0, 0) == 0);
    CHECK(call(RENAME, (word)"semihosting.tmp", 15, (word)"semihosting.new", 15) == 0);
    CHECK(open_file("semihosting.tmp", 0) == -1 && call_raw(ERRNO, 0) == 2);
    CHECK(call(REMOVE, (word)"semihosting.new", 15, 0, 0) == 0);
    CHECK(call(REMOVE, (word)"semihosting.new", 15, 0, 0) == -1);
    CHECK(call(TMPNAM, (word)buf, 1, 64, 0) == 0 && buf[0] == '/');
    CHECK(call(TMPNAM, (word)buf, 1, 4, 0) == -1);
    CHECK(call(TMPNAM, (word)buf, 999, 64, 0) == -1);
}

static void bad_arguments(void)
{
    CHECK(open_file("x", 12) == -1);
    CHECK(call(OPEN, NOWHERE, 0, 8, 0) == -1);
    CHECK(call(OPEN, (word)"x", 0, (word)-1, 0) == -1);
    CHECK(call(OPEN, (word)"a\0b", 0, 3, 0) == -1);
    CHECK(call_raw(OPEN, (word)-8) == -1);              /* the block itself */
    CHECK(call_raw(HEAPINFO, NOWHERE) == -1);
    CHECK(call_raw(ELAPSED, NOWHERE) == -1);
    CHECK(call(CLOSE, (word)-1, 0, 0, 0) == -1 && call(CLOSE, 0, 0, 0, 0) == -1 && call(CLOSE, 4096, 0, 0, 0) == -1);
    CHECK(call(FLEN, 200, 0, 0, 0) == -1);
    CHECK(call(WRITE, 200, (word)"x", 1, 0) == 1);
    CHECK(call(SEEK, 200, 0, 0, 0) == -1);
    CHECK(call_raw(0x19, 0) == -1 && call_raw(ERRNO, 0) == 38);
    CHECK(call_raw(0x7fffffff, 0) == -1);
    CHECK(call(GET_CMDLINE, NOWHERE, 64, 0, 0) == -1);
    call_raw(WRITE0, NOWHERE);
    call_raw(WRITEC, NOWHERE);
}

static void console(void)
{
    static const char typed[] = "typed";
    long out = open_file(":tt", 4), in = open_file(":tt", 0), err = open_file(":tt", 8);
    char buf[8];
    word have = 0;

    CHECK(out > 0 && in > 0 && err > 0);
    CHECK(call(WRITE, out, (word)"to the console\n", 15, 0) == 0);
    CHECK(call(SEEK, out, 0, 0, 0) == -1);
    CHECK(call(WRITE, in, (word)"x", 1, 0) == 1);
    say("type now\n");
    while (have < 5) {
        long left = call(READ, in, (word)buf + have, 5 - have, 0);

        if (left < 0 || left > (long)(5 - have))
            break;
        have = 5 - left;
    }
    CHECK(have == 5 && same(buf, typed, 5));
    CHECK(call_raw(READC, 0) == '!');
    CHECK(call(CLOSE, in, 0, 0, 0) == 0 && call(CLOSE, out, 0, 0, 0) == 0);
}

static void features(void)
{
    uint8_t b[8];
    long h = open_file(":semihosting-features", 0);

    CHECK(h > 0 && open_file(":semihosting-features", 4) == -1);
    CHECK(call(FLEN, h, 0, 0, 0) == 5);
    CHECK(call(READ, h, (word)b, 5, 0) == 0 && b[0] == 0x53 && b[1] == 0x48 && b[2] == 0x46 && b[3] == 0x42 && b[4] == 3);
    CHECK(call(READ, h, (word)b, 1, 0) == 1);
    CHECK(call(SEEK, h, 4, 0, 0) == 0 && call(READ, h, (word)b, 1, 0) == 0 && b[0] == 3);
    CHECK(call(CLOSE, h, 0, 0, 0) == 0);
}

static void time_and_system(void)
{
    uint64_t t0 = 0, t1 = 0;
    char line[32];
    word block[2] = { (word)line, sizeof(line) }, heap[4] = { 1, 1, 1, 1 }, pointer = (word)heap;

    CHECK(call_raw(TICKFREQ, 0) == 1000000000);
    CHECK(call_raw(ELAPSED, (word)&t0) == 0 && call_raw(ELAPSED, (word)&t1) == 0 && t1 > t0);
    CHECK(call_raw(CLOCK, 0) >= 0 && call_raw(TIME, 0) > 1700000000);
    CHECK(call(ISERROR, (word)-1, 0, 0, 0) && !call(ISERROR, 1, 0, 0, 0));
    CHECK(call_raw(GET_CMDLINE, (word)block) == 0 && block[1] == 7 && same(line, "one two", 8));
    block[1] = 7;
    CHECK(call_raw(GET_CMDLINE, (word)block) == -1);    /* no room for the NUL */
    CHECK(call_raw(HEAPINFO, (word)&pointer) == 0 && heap[1] > (word)heap && heap[2] > (word)heap);
#ifdef SPAWN
    CHECK(call(SYSTEM, (word)"exit 7", 6, 0, 0) == 7);
#else
    CHECK(call(SYSTEM, (word)"exit 7", 6, 0, 0) == -1 && call_raw(ERRNO, 0) == 1);
#endif
}

void main_program(void)
{
    long status;

    files();
    bad_arguments();
    features();
    time_and_system();
    console();
    status = failures ? 1 : 42;
    say(failures ? "some failed\n" : "all passed\n");
    call(EXIT_EXTENDED, 0x20026, status, 0, 0);
    say("still here\n");
}
