/* SYS instructions (cache and TLB maintenance, address translation, DC ZVA) and MSR (immediate). DDI 0487 C5.3 to C5.6. */
#include <string.h>
#include "rhea/base/log.h"
#include "rhea/vm/vm.h"
#include "system_regs.h"

#define K ARM_SYSREG
static unsigned key_of(uint32_t raw) { return raw >> 5 & 0xffff; }

/* ---- caches: translated code is coherent with memory and memory with itself; what is left are traps and faults */

/* Level that an access by address from here traps to; 0: none. */
static unsigned cache_va_trap(const struct arm_cpu *c, bool to_pou)
{
    if (c->el == 0 && !(c->sys.sctlr[arm_regime(c, 0)] & SCTLR_UCI))
        return arm_sync_target(c);
    return c->el < 2 && arm_hcr(c) & (to_pou ? HCR_TPU : HCR_TPCP) ? 2 : 0;
}

static void dc_zva(struct arm_cpu *c, uint32_t raw, uint64_t va)
{
    static const uint8_t zero[2048];
    unsigned bytes = 4u << (arm_id(c, K(3, 3, 0, 0, 7)) & 15), el = 0;

    if (c->el == 0 && !(c->sys.sctlr[arm_regime(c, 0)] & SCTLR_DZE))
        el = arm_sync_target(c);
    else if (c->el < 2 && arm_hcr(c) & HCR_TDZ)
        el = 2;
    if (el)
        arm_sysreg_trap(c, raw, el);
    if (bytes > sizeof(zero))
        bytes = sizeof(zero);
    if (c->cpu.mode & MODE_WATCH)
        arm_watch(c, va & ~(uint64_t)(bytes - 1), bytes, WATCH_WRITE);
    cpu_store_bytes(&c->cpu, va & ~(uint64_t)(bytes - 1), zero, bytes, arm_mmu_index(&c->cpu, false));
}

/* Faults as a load there would, with ESR_ELx.CM and WnR set. */
static void cache_probe(struct arm_cpu *c, uint64_t va)
{
    struct mmu_result out;

    if (arm_translate(&c->cpu, va, ACCESS_READ, arm_mmu_index(&c->cpu, false), false, &out))
        return;
    c->exc_syndrome |= BIT(8) | BIT(6);
    cpu_loop_exit(&c->cpu);
}

static bool cache_op(struct arm_cpu *c, uint32_t raw, unsigned key, uint64_t v)
{
    unsigned op1 = key >> 11 & 7, crm = key >> 3 & 15, op2 = key & 7, el;

    if (op1 == 0) {             /* IC IALLU(IS), DC IVAC, ISW, CSW, CISW */
        if (c->el == 0)
            return false;
        if ((crm == 1 || crm == 5) && op2 == 0)
            el = c->el < 2 && arm_hcr(c) & HCR_TPU ? 2 : 0;
        else if ((crm == 6 || crm == 10 || crm == 14) && op2 == 2)
            el = c->el < 2 && arm_hcr(c) & HCR_TSW ? 2 : 0;
        else if (crm == 6 && op2 == 1)
            el = c->el < 2 && arm_hcr(c) & HCR_TPCP ? 2 : 0;
        else
            return false;
        if (el)
            arm_sysreg_trap(c, raw, el);
        if (crm == 6 && op2 == 1)
            cache_probe(c, v);
        return true;
    }
    if (op1 != 3)
        return false;
    if (crm == 3 && op2 == 4 && has(c, AF_SPECRES) == false)
        return false;
    if (crm == 4 && op2 == 1) {
        dc_zva(c, raw, v);
        return true;
    }
    /* IC IVAU; DC CVAC, CVAU, CVAP, CVADP, CIVAC */
    if (!(crm == 5 || crm == 10 || crm == 11 || crm == 14 || (crm == 12 && has(c, AF_DPB)) || (crm == 13 && has(c, AF_DPB2))) || op2 != 1)
        return false;
    el = cache_va_trap(c, crm == 5 || crm == 11);
    if (el)
        arm_sysreg_trap(c, raw, el);
    if (c->cpu.code_changed) {          /* user mode */
        if (crm == 5)
            c->cpu.code_changed(&c->cpu, v & ~UINT64_C(63), 64);
        return true;
    }
    cache_probe(c, v);
    return true;
}

/* ---- AT: D24.2.113 has the result's layout */

static uint64_t par_failure(const struct arm_walk *w)
{
    return 1 | (uint64_t)w->fault.fsc << 1 | (w->fault.s1ptw ? BIT(8) : 0) | (w->fault.stage2 ? BIT(9) : 0) | BIT(11);
}

static uint64_t combine_attr(const struct arm_walk *w) { return w->attr; }

void arm_translate_address(struct arm_cpu *c, uint64_t va, unsigned mmu, bool write, bool stage12)
{
    struct arm_walk w = { .c = c, .va = va, .access = write ? ACCESS_WRITE : ACCESS_READ, .mmu = mmu, .probe = true, .stage1_only = !stage12 };

    if (!arm_walk(&w)) {
        /* A walk that stage 2 stops is an exception, not a result: D8.14.2 */
        if (w.fault.stage2 && !stage12 && c->el == 1) {
            c->exc_hpfar = w.fault.ipa >> 12 << 4;
            arm_raise_el(c, 2, esr_make(EC_DABT_LOWER, w.fault.fsc | BIT(8) | (w.fault.s1ptw ? BIT(7) : 0) | BIT(6)), va);
        }
        c->sys.par[1] = par_failure(&w);
        return;
    }
    c->sys.par[1] = (w.phys & UINT64_C(0x000ffffffffff000)) | combine_attr(&w) << 56 | (uint64_t)w.sh << 7 |
                    (has_el3(c) && w.ns ? BIT(9) : 0) | BIT(11);
}

static bool at_op(struct arm_cpu *c, unsigned key, uint64_t v)
{
    unsigned op1 = key >> 11 & 7, crm = key >> 3 & 15, op2 = key & 7;
    bool write = op2 & 1, host = arm_in_host(c), pan = crm == 9;

    if (op1 == 0 && (crm == 8 || (crm == 9 && has(c, AF_PAN2) && op2 < 2))) {
        unsigned mmu = op2 & 2 ? host ? ARM_MMU_EL20_0 : ARM_MMU_EL0
                       : pan && c->pan ? host ? ARM_MMU_EL20_2_PAN : ARM_MMU_EL1_PAN
                                       : host ? ARM_MMU_EL20_2 : ARM_MMU_EL1;

        if (c->el == 0 || op2 > 3)
            return false;
        arm_translate_address(c, v, mmu, write, false);
        return true;
    }
    if (op1 == 4 && crm == 8 && c->el >= 2 && has_el2(c)) {
        if (op2 < 2)
            arm_translate_address(c, v, c->sys.hcr & HCR_E2H ? ARM_MMU_EL20_2 : ARM_MMU_EL2, write, false);
        else if (op2 >= 4)
            arm_translate_address(c, v, op2 & 2 ? ARM_MMU_EL0 : ARM_MMU_EL1, write, true);
        return op2 < 2 || op2 >= 4;
    }
    if (op1 == 6 && crm == 8 && c->el == 3 && op2 < 2) {
        arm_translate_address(c, v, ARM_MMU_EL3, write, false);
        return true;
    }
    return false;
}

/* ---- SYS */

static bool tlbi_op(struct arm_cpu *c, uint32_t raw, unsigned key, uint64_t v)
{
    unsigned op1 = key >> 11 & 7, least = op1 == 0 ? 1 : op1 == 4 ? 2 : 3;

    if ((op1 != 0 && op1 != 4 && op1 != 6) || c->el < least || (op1 == 4 && !has_el2(c)))
        return false;
    if (op1 == 0 && c->el == 1 && arm_hcr(c) & HCR_TTLB)
        arm_sysreg_trap(c, raw, 2);
    return arm_tlbi(c, key, v);
}

void arm_helper_sys_op(struct cpu *cpu, uint32_t raw, uint64_t v)
{
    struct arm_cpu *c = arm(cpu);
    unsigned key = key_of(raw), crn = key >> 7 & 15, crm = key >> 3 & 15;
    bool done = false;

    if (crn == 8)
        done = tlbi_op(c, raw, key, v);
    else if (crn == 7 && (crm == 8 || crm == 9))
        done = at_op(c, key, v);
    else if (crn == 7 && crm == 3 && has(c, AF_SPECRES))        /* CFP, DVP, CPP RCTX: nothing is predicted */
        done = c->el || c->sys.sctlr[arm_regime(c, 0)] & BIT(10);
    else if (crn == 7)
        done = cache_op(c, raw, key, v);
    if (done)
        return;
    log_at(LOG_UNIMP, "arm cpu %d: SYS #%u, C%u, C%u, #%u\n", cpu->index, key >> 11 & 7, crn, crm, key & 7);
    arm_raise_undefined(c);
}

uint64_t arm_helper_sysl_op(struct cpu *cpu, uint32_t raw) { arm_raise_undefined(arm(cpu)); }

bool arm_sys_op_ends(uint32_t raw)
{
    unsigned key = key_of(raw);

    return (key >> 7 & 15) == 8;
}

/* ---- MSR (immediate): C6.2.257 */

void arm_helper_msr_imm(struct cpu *cpu, uint32_t raw)
{
    struct arm_cpu *c = arm(cpu);
    unsigned op1 = raw >> 16 & 7, imm = raw >> 8 & 15, op2 = raw >> 5 & 7;

    switch (op1 << 3 | op2) {
    case 0 << 3 | 3:
        if (has(c, AF_UAO) && c->el) {
            c->uao = imm & 1;
            return;
        }
        break;
    case 0 << 3 | 4:
        if (has(c, AF_PAN) && c->el) {
            c->pan = imm & 1;
            return;
        }
        break;
    case 0 << 3 | 5:
        if (c->el) {
            arm_set_sp_el(c, c->el, imm & 1);
            return;
        }
        break;
    case 3 << 3 | 1:
        if (has(c, AF_SSBS2)) {
            c->ssbs = imm & 1;
            return;
        }
        break;
    case 3 << 3 | 2:
        if (has(c, AF_DIT)) {
            c->dit = imm & 1;
            return;
        }
        break;
    case 3 << 3 | 6: case 3 << 3 | 7:
        if (c->el == 0 && !(c->sys.sctlr[arm_regime(c, 0)] & SCTLR_UMA))
            arm_sysreg_trap(c, raw, arm_sync_target(c));
        c->daif = op2 == 6 ? c->daif | imm : c->daif & ~imm;
        return;
    default:
        break;
    }
    arm_raise_undefined(c);
}
