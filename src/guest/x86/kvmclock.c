/* The paravirtual clock of KVM guests (Linux, Documentation/virt/kvm/x86/{msr,cpuid}.rst): it tells the frequency of the
 * TSC, which a guest that shares its processor with others measures badly. Found at CPUID 40000100H, behind the
 * translator's own signature. The TSC counts virtual nanoseconds, so the clock's factors are constants. */
#include <string.h>
#include "rhea/vm/vm.h"
#include "system.h"

enum { FEATURE_NOP_IO_DELAY = 1 << 1, FEATURE_CLOCKSOURCE2 = 1 << 3, FEATURE_CLOCK_STABLE = 1 << 24, FLAG_TSC_STABLE = 1 };

struct vcpu_time { uint32_t version, pad; uint64_t tsc_timestamp, system_time; uint32_t mul; int8_t shift; uint8_t flags, pad2[2]; };
struct wall_clock { uint32_t version, sec, nsec; };
_Static_assert(sizeof(struct vcpu_time) == 32 && sizeof(struct wall_clock) == 12, "the guest's layout");

void x86_kvm_cpuid(uint32_t leaf, uint32_t out[4])
{
    if (leaf == 0x40000100) {
        out[0] = 0x40000101;
        memcpy(&out[1], "KVMKVMKVM\0\0\0", 12);
    } else if (leaf == 0x40000101) {
        out[0] = FEATURE_NOP_IO_DELAY | FEATURE_CLOCKSOURCE2 | FEATURE_CLOCK_STABLE;
    }
}

/* MSR 4b564d01H: bit 0 enables, the rest is the physical address of the processor's struct. */
static void system_time(struct x86_cpu *c)
{
    struct vm *vm = c->cpu.vcpu->vm;
    /* ((tsc - timestamp) << 1) * 2^31 >> 32: a nanosecond a tick */
    struct vcpu_time t = { .version = 2, .tsc_timestamp = x86_tsc(c), .mul = 0x80000000, .shift = 1, .flags = FLAG_TSC_STABLE };

    t.system_time = t.tsc_timestamp - c->tsc_offset;    /* one reading for both: all processors tell the same line */
    as_write(&vm->memory, c->kvm_clock & ~UINT64_C(1), &t, sizeof(t), MEM_ATTRS_NONE);
}

void x86_kvm_clock_update(struct x86_cpu *c)
{
    if (c->kvm_clock & 1 && c->cpu.vcpu)
        system_time(c);
}

bool x86_kvm_msr_read(struct x86_cpu *c, uint32_t msr, uint64_t *v)
{
    if (msr != 0x4b564d00 && msr != 0x4b564d01)
        return false;
    *v = msr & 1 ? c->kvm_clock : c->kvm_wall;
    return true;
}

bool x86_kvm_msr_write(struct x86_cpu *c, uint32_t msr, uint64_t v)
{
    struct vm *vm = c->cpu.vcpu ? c->cpu.vcpu->vm : NULL;
    int64_t start;
    struct wall_clock w;

    if ((msr != 0x4b564d00 && msr != 0x4b564d01) || !vm)
        return false;
    if (msr & 1) {
        c->kvm_clock = v;
        x86_kvm_clock_update(c);
        return true;
    }
    start = vm_rtc_ns(vm) - vm_clock_ns(vm);    /* time of day when the machine's clock was zero */
    w = (struct wall_clock){ .version = 2, .sec = start / 1000000000, .nsec = start % 1000000000 };
    c->kvm_wall = v;
    as_write(&vm->memory, v, &w, sizeof(w), MEM_ATTRS_NONE);
    return true;
}
