/* Semihosting: what calls point to in the guest's memory. A bad pointer is an error of the call, not a fault of the guest. */
#include <glib.h>
#include <string.h>
#include "semihosting.h"

/* The host's bytes of va, up to the page's end; NULL: no RAM that this CPU may reach so. */
static uint8_t *host_bytes(struct cpu *cpu, uint64_t va, uint64_t *len, bool write)
{
    const struct guest *g = cpu->guest;
    enum mmu_access access = write ? ACCESS_WRITE : ACCESS_READ;
    unsigned mmu = g->mmu_index(cpu, false);
    struct mmu_result r = { 0 };
    bool ok = g->translate(cpu, va, access, mmu, true, &r);

    if (ok && write && !r.writable)     /* the first store to a page notes that in its entry */
        ok = g->translate(cpu, va, access, mmu, false, &r);
    if (!ok) {
        cpu->exception = -1;
        return NULL;
    }
    *len = MIN(*len, CPU_PAGE_SIZE - (va & (CPU_PAGE_SIZE - 1)));
    return as_map(&cpu->vcpu->vm->memory, r.phys, len, write, MEM_ATTRS_NONE);
}

static bool copy(struct cpu *cpu, uint64_t va, uint8_t *buf, uint64_t len, bool write)
{
    struct address_space *as = &cpu->vcpu->vm->memory;

    while (len) {
        unsigned token = mem_read_begin();
        uint64_t n = len;
        uint8_t *p = host_bytes(cpu, va, &n, write);

        if (p && write)
            memcpy(p, buf, n);
        else if (p)
            memcpy(buf, p, n);
        if (p)
            as_unmap(as, p, n, write, write ? n : 0);
        mem_read_end(token);
        if (!p || !n)
            return false;
        va += n;
        buf += n;
        len -= n;
    }
    return true;
}

bool sh_get(struct cpu *cpu, uint64_t va, void *buf, uint64_t len) { return copy(cpu, va, buf, len, false); }

static bool may_write(struct cpu *cpu, uint64_t va, uint64_t len)
{
    while (len) {
        unsigned token = mem_read_begin();
        uint64_t n = len;
        uint8_t *p = host_bytes(cpu, va, &n, true);

        if (p)
            as_unmap(&cpu->vcpu->vm->memory, p, n, true, 0);
        mem_read_end(token);
        if (!p || !n)
            return false;
        va += n;
        len -= n;
    }
    return true;
}

bool sh_put(struct cpu *cpu, uint64_t va, const void *buf, uint64_t len)
{
    return may_write(cpu, va, len) && copy(cpu, va, (uint8_t *)buf, len, true);
}

char *sh_string(struct cpu *cpu, uint64_t va, uint64_t len, uint64_t max)
{
    GString *s = g_string_new(NULL);
    bool counted = len != UINT64_MAX, ended = false;

    if (counted && len > max)
        return g_string_free(s, true);
    while (!ended && s->len < (counted ? len : max)) {
        char piece[256];
        uint64_t at = va + s->len, n = MIN(sizeof(piece) - (at & (sizeof(piece) - 1)), (counted ? len : max) - s->len);
        const char *nul;

        if (!sh_get(cpu, at, piece, n))
            break;
        nul = memchr(piece, 0, n);
        ended = nul;
        g_string_append_len(s, piece, nul ? nul - piece : (gssize)n);
    }
    /* Some count the NUL in. */
    if (counted ? s->len == len || (ended && s->len + 1 == len) : ended)
        return g_string_free(s, false);
    return g_string_free(s, true);
}
