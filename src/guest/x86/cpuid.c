/* CPUID. SDM vol. 2, CPUID; AMD APM vol. 3, appendix E. */
#include <string.h>
#include "rhea/vm/vm.h"
#include "cpuid.h"

struct topology { unsigned threads, cores, thread_bits, core_bits, total; };

static unsigned bits_for(unsigned n) { return n <= 1 ? 0 : 32 - (unsigned)__builtin_clz(n - 1); }

static struct topology topology_of(const struct x86_cpu *c)
{
    const struct vm_config *cfg = c->cpu.vcpu ? &c->cpu.vcpu->vm->config : NULL;
    struct topology t = { .threads = cfg && cfg->threads ? cfg->threads : 1, .cores = cfg && cfg->cores ? cfg->cores : 1 };

    if (cfg && cfg->dies)
        t.cores *= cfg->dies;
    if (cfg && cfg->clusters)
        t.cores *= cfg->clusters;
    t.thread_bits = bits_for(t.threads);
    t.core_bits = bits_for(t.cores);
    t.total = t.threads * t.cores;
    return t;
}

uint32_t x86_apic_id(const struct x86_cpu *c) { return c->cpu.vcpu ? c->cpu.vcpu->arch_id : (uint32_t)c->cpu.index; }

static uint32_t signature(const struct x86_identity *id)
{
    uint32_t v = id->stepping & 15;

    v |= (id->family > 15 ? 15u : id->family) << 8 | (id->family > 15 ? id->family - 15 : 0) << 20;
    return v | (id->model & 15) << 4 | (id->model >> 4 & 15) << 16;
}

static void put_text(uint32_t *out, const char *text, size_t n)
{
    memcpy(out, text, n);
}

/* EBX, EDX, ECX */
static void put_vendor(uint32_t out[4], const char *vendor)
{
    memcpy(&out[1], vendor, 4);
    memcpy(&out[3], vendor + 4, 4);
    memcpy(&out[2], vendor + 8, 4);
}

static void leaf_1(const struct x86_cpu *c, uint32_t out[4])
{
    struct topology t = topology_of(c);

    out[0] = signature(c->identity);
    out[1] = x86_apic_id(c) << 24 | t.total << 16 | 8 << 8;     /* CLFLUSH: 64 bytes */
    out[2] = c->features[FW_1_ECX];
    out[3] = c->features[FW_1_EDX];
    if (c->cr4 & CR4_OSXSAVE)
        out[2] |= 1 << 27;
    if (!(c->apic_base & 1 << 11))
        out[3] &= ~(1u << 9);
    if (t.total > 1)
        out[3] |= 1 << 28;
}

/* Deterministic cache parameters: 32 KiB L1 data and code, 4 MiB L2 (2 MiB steps kept simple), 16 MiB L3 shared. */
static void cache_leaf(const struct topology *t, uint32_t sub, bool amd, uint32_t out[4])
{
    static const struct { uint8_t type, level; uint16_t ways, sets; bool shared; } caches[] = {
        { 1, 1, 8, 64, false }, { 2, 1, 8, 64, false }, { 3, 2, 16, 4096, false }, { 3, 3, 16, 16384, true },
    };
    unsigned sharing;

    if (sub >= sizeof(caches) / sizeof(caches[0]))
        return;
    sharing = caches[sub].shared ? 1u << (t->thread_bits + t->core_bits) : 1u << t->thread_bits;
    out[0] = caches[sub].type | (uint32_t)caches[sub].level << 5 | 1 << 8 | (sharing - 1) << 14;
    if (!amd)
        out[0] |= ((1u << t->core_bits) - 1) << 26;
    out[1] = 63 | (uint32_t)(caches[sub].ways - 1) << 22;
    out[2] = caches[sub].sets - 1;
}

static void leaf_7(const struct x86_cpu *c, uint32_t sub, uint32_t out[4])
{
    if (sub == 0) {
        out[0] = c->features[FW_7_1_EAX] ? 1 : 0;
        out[1] = c->features[FW_7_EBX];
        out[2] = c->features[FW_7_ECX];
        out[3] = c->features[FW_7_EDX];
    } else if (sub == 1) {
        out[0] = c->features[FW_7_1_EAX];
    }
}

/* Extended topology: threads, then cores */
static void leaf_b(const struct x86_cpu *c, uint32_t sub, uint32_t out[4])
{
    struct topology t = topology_of(c);

    out[2] = sub & 0xff;
    out[3] = x86_apic_id(c);
    if (sub == 0) {
        out[0] = t.thread_bits;
        out[1] = t.threads;
        out[2] |= 1 << 8;
    } else if (sub == 1) {
        out[0] = t.thread_bits + t.core_bits;
        out[1] = t.total;
        out[2] |= 2 << 8;
    }
}

static void leaf_d(const struct x86_cpu *c, uint32_t sub, uint32_t out[4])
{
    uint64_t supported = x86_xcr0_supported(c);

    if (!supported)
        return;
    if (sub == 0) {
        out[0] = (uint32_t)supported;
        out[1] = c->xcr0 & 4 ? 832 : 576;
        out[2] = supported & 4 ? 832 : 576;
    } else if (sub == 1) {
        out[0] = c->features[FW_D1_EAX];
        out[1] = c->features[FW_D1_EAX] & 2 ? (c->xcr0 & 4 ? 832 : 576) : 0;
    } else if (sub == 2 && (supported & 4)) {
        out[0] = 256;
        out[1] = 576;
    }
}

static void basic_leaf(const struct x86_cpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    struct topology t = topology_of(c);
    bool amd = !strcmp(c->identity->vendor, "AuthenticAMD");

    switch (leaf) {
    case 0:
        out[0] = c->identity->level;
        put_vendor(out, c->identity->vendor);
        break;
    case 1: leaf_1(c, out); break;
    case 2:
        if (!amd)
            out[0] = 0xff01;    /* see leaf 4 */
        break;
    case 4:
        if (!amd)
            cache_leaf(&t, sub, false, out);
        break;
    case 5:
        if (x86_has(c->features, XF_MONITOR)) {
            out[0] = out[1] = 64;
            out[2] = 3;         /* interrupts end MWAIT even when masked, if asked to */
            out[3] = 1 << 4;    /* one kind of C1 */
        }
        break;
    case 6: out[0] = c->features[FW_6_EAX]; break;
    case 7: leaf_7(c, sub, out); break;
    case 0xb: leaf_b(c, sub, out); break;
    case 0xd: leaf_d(c, sub, out); break;
    default: break;
    }
}

static void extended_leaf(const struct x86_cpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    struct topology t = topology_of(c);
    bool amd = !strcmp(c->identity->vendor, "AuthenticAMD");

    switch (leaf) {
    case 0x80000000:
        out[0] = c->identity->xlevel;
        if (amd)
            put_vendor(out, c->identity->vendor);
        break;
    case 0x80000001:
        out[0] = amd ? signature(c->identity) : 0;
        out[2] = c->features[FW_80000001_ECX];
        out[3] = c->features[FW_80000001_EDX];
        if (amd)                /* bits it shares with leaf 1 */
            out[3] |= c->features[FW_1_EDX] & 0x0183f3ff;
        if (amd && t.total > 1)
            out[2] |= 2;
        break;
    case 0x80000002: case 0x80000003: case 0x80000004:
        put_text(out, c->identity->brand + 16 * (leaf - 0x80000002), 16);
        break;
    case 0x80000005:
        out[2] = 32u << 24 | 8 << 16 | 1 << 8 | 64;
        out[3] = 32u << 24 | 8 << 16 | 1 << 8 | 64;
        break;
    case 0x80000006:
        out[2] = 4096u << 16 | 8 << 12 | 1 << 8 | 64;
        out[3] = 32u << 18 | 8 << 12 | 1 << 8 | 64;
        break;
    case 0x80000007: out[3] = c->features[FW_80000007_EDX]; break;
    case 0x80000008:
        out[0] = c->identity->phys_bits | (x86_has(c->features, XF_LA57) ? 57 : 48) << 8;
        out[1] = c->features[FW_80000008_EBX];
        if (t.total > 1)
            out[2] = (t.total - 1) | (t.thread_bits + t.core_bits) << 12;
        break;
    case 0x8000001d:
        if (x86_has(c->features, XF_TOPOEXT))
            cache_leaf(&t, sub, true, out);
        break;
    case 0x8000001e:
        if (x86_has(c->features, XF_TOPOEXT)) {
            out[0] = x86_apic_id(c);
            out[1] = x86_apic_id(c) >> t.thread_bits | (t.threads - 1) << 8;
        }
        break;
    default: break;
    }
}

static void hypervisor_leaf(uint32_t leaf, uint32_t out[4])
{
    if (leaf == 0x40000000) {
        out[0] = 0x40000001;
        memcpy(&out[1], "TCGTCGTCGTCG", 12);    /* what guests know a translator by */
    } else {
        x86_kvm_cpuid(leaf, out);
    }
}

void x86_cpuid(struct x86_cpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    memset(out, 0, 16);
    if (!c->identity)
        return;
    if (leaf >> 16 == 0x4000 && x86_has(c->features, XF_HYPERVISOR)) {
        hypervisor_leaf(leaf, out);
        return;
    }
    if (leaf >= 0x80000000) {
        if (leaf <= c->identity->xlevel)
            extended_leaf(c, leaf, sub, out);
        return;
    }
    basic_leaf(c, leaf > c->identity->level ? c->identity->level : leaf, sub, out);
}

void helper_cpuid(struct cpu *cpu)
{
    struct x86_cpu *c = x86(cpu);
    uint32_t out[4];

    x86_cpuid(c, (uint32_t)c->regs[R_RAX], (uint32_t)c->regs[R_RCX], out);
    c->regs[R_RAX] = out[0];
    c->regs[R_RBX] = out[1];
    c->regs[R_RCX] = out[2];
    c->regs[R_RDX] = out[3];
}
