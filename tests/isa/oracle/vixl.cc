/* A second oracle for A64: cases (case.h) by the simulator of vixl, Debian's libvixl-dev, in batches as runner.c takes them.
 * It has neither FPSR nor other rounding than to nearest, flush to zero or alternative half-precision, and not all of the
 * architecture: what it does not know it ends with abort(), and such a case is answered with CASE_REFUSED. */
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <sys/mman.h>
#include <unistd.h>
#include "aarch64/decoder-aarch64.h"
#include "aarch64/simulator-aarch64.h"
#include "case.h"

using namespace vixl;
using namespace vixl::aarch64;

enum { STEPS_MAX = 10000 };             /* of a case; more is taken for no end */
static case_request requests[CASE_MAX];
static case_state results[CASE_MAX];
static sigjmp_buf out;
static volatile sig_atomic_t caught;
static void *volatile caught_at;

static uint8_t *data_area(void) { return reinterpret_cast<uint8_t *>(DATA_BASE64); }
static uint8_t *code_area(void) { return data_area() + CODE_OFFSET; }
static uint8_t *window(void) { return data_area() + WINDOW_OFFSET; }

static void handler(int signo, siginfo_t *info, void *)
{
    caught = signo;
    caught_at = info->si_addr;
    siglongjmp(out, 1);
}

/* Its monitors fail now and then, for realism; ours are as new for each case. */
class Machine : public Simulator {
public:
    Machine(Decoder *decoder, FILE *stream) : Simulator(decoder, stream) { SetCPUFeatures(CPUFeatures::All()); }

    void load(const case_state &s)
    {
        ResetState();
        new (&local_monitor_) SimExclusiveLocalMonitor();
        new (&global_monitor_) SimExclusiveGlobalMonitor();
        for (unsigned n = 0; n < 31; n++)
            WriteXRegister(n, static_cast<int64_t>(s.r[n]), NoRegLog);
        WriteXRegister(31, static_cast<int64_t>(s.r[31]), NoRegLog, Reg31IsStackPointer);
        for (unsigned n = 0; n < 32; n++) {
            qreg_t q;

            memcpy(q.val, s.v[n], sizeof(q.val));
            WriteQRegister(n, q, NoRegLog);
        }
        ReadNzcv().SetRawValue(s.flags);
        ReadFpcr().SetRawValue(s.fpcr);
        WritePc(reinterpret_cast<const Instruction *>(s.pc), NoBranchLog);
    }

    void store(case_state *s)
    {
        for (unsigned n = 0; n < 31; n++)
            s->r[n] = static_cast<uint64_t>(ReadXRegister(n));
        s->r[31] = static_cast<uint64_t>(ReadXRegister(31, Reg31IsStackPointer));
        for (unsigned n = 0; n < 32; n++) {
            qreg_t q = ReadQRegister(n);

            memcpy(s->v[n], q.val, sizeof(q.val));
        }
        s->flags = ReadNzcv().GetRawValue();
        s->fpcr = ReadFpcr().GetRawValue();
        s->pc = reinterpret_cast<uint64_t>(ReadPc());
    }

    /* To the signal that ends the case, which has begun at `place`. */
    int run(uint64_t place, uint64_t *address)
    {
        for (unsigned n = 0; n < STEPS_MAX; n++) {
            uint64_t pc = reinterpret_cast<uint64_t>(ReadPc());
            uint32_t insn;

            *address = pc;
            if (pc & 3)
                return SIGBUS;
            if (pc - reinterpret_cast<uint64_t>(code_area()) >= CASE_MAX * CASE_BYTES)
                return SIGSEGV;
            memcpy(&insn, ReadPc(), sizeof(insn));
            if ((insn & 0xffe0001f) == 0xd4200000)      /* BRK */
                return pc - place < CASE_BYTES ? 0 : SIGTRAP;
            if ((insn & 0xffe0001f) == 0xd4400000)      /* HLT: vixl's own calls */
                return CASE_REFUSED;
            ExecuteInstruction();
        }
        return SIGVTALRM;
    }
};

static Machine *machine;

static uint32_t data_check(void)
{
    uint32_t stray = 0;

    for (unsigned n = 0; n < DATA_BYTES / 8; n++) {
        uint64_t want = data_pattern(n);
        uint8_t *at = data_area() + 8 * n;

        if (at >= window() && at < window() + WINDOW_BYTES)
            continue;
        if (memcmp(at, &want, 8)) {
            memcpy(at, &want, 8);
            stray = stray ? stray : 8 * n + 1;
        }
    }
    return stray;
}

static void run_case(unsigned n)
{
    uint64_t place = DATA_BASE64 + CODE_OFFSET + static_cast<uint64_t>(n) * CASE_BYTES;
    case_state *s = &results[n];

    memset(s, 0, sizeof(*s));
    memcpy(window(), requests[n].state.window, WINDOW_BYTES);
    machine->load(requests[n].state);
    if (!sigsetjmp(out, 0)) {
        s->signal = machine->run(place, &s->address);
    } else {
        s->signal = caught == SIGABRT ? static_cast<int>(CASE_REFUSED) : caught;
        s->address = reinterpret_cast<uint64_t>(caught_at);
    }
    machine->store(s);
    s->fpsr = requests[n].state.fpsr;
    memcpy(s->window, window(), WINDOW_BYTES);
    s->stray = data_check();
}

static bool transfer(bool output, int fd, void *at, size_t n)
{
    for (size_t done = 0; done < n;) {
        char *p = static_cast<char *>(at) + done;
        ssize_t r = output ? write(fd, p, n - done) : read(fd, p, n - done);

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return false;
        done += static_cast<size_t>(r);
    }
    return true;
}

static bool map(uint8_t *at, size_t n)
{
    return mmap(at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED_NOREPLACE | MAP_ANONYMOUS, -1, 0) == at;
}

int main()
{
    static const int signals[] = { SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV };
    int answers = dup(STDOUT_FILENO);           /* vixl has things to say on standard output */
    FILE *nothing = fopen("/dev/null", "w");
    struct sigaction a = {};
    struct { uint32_t first, end; } batch;
    Decoder decoder;

    if (answers < 0 || !nothing || !freopen("/dev/null", "w", stdout) || !map(data_area(), DATA_BYTES) ||
        !map(code_area(), CASE_MAX * CASE_BYTES))
        return 2;
    data_check();
    machine = new Machine(&decoder, nothing);
    a.sa_sigaction = handler;
    a.sa_flags = SA_SIGINFO | SA_NODEFER;        /* it leaves by siglongjmp() */
    for (int signo : signals)
        sigaction(signo, &a, nullptr);
    while (transfer(false, STDIN_FILENO, &batch, sizeof(batch))) {
        if (batch.end > CASE_MAX || batch.first >= batch.end)
            return 3;
        if (!transfer(false, STDIN_FILENO, &requests[batch.first], (batch.end - batch.first) * sizeof(requests[0])))
            return 1;
        for (unsigned n = batch.first; n < batch.end; n++)
            memcpy(code_area() + n * CASE_BYTES, requests[n].code, CASE_BYTES);
        for (unsigned n = batch.first; n < batch.end; n++)
            run_case(n);
        if (!transfer(true, answers, &results[batch.first], (batch.end - batch.first) * sizeof(results[0])))
            return 1;
    }
    return 0;
}
