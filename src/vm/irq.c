/* Interrupt lines: a level that any thread may set, and a sink that is told of changes. */
#include <stdatomic.h>
#include <glib.h>
#include "rhea/vm/device.h"

/* LEVEL is what was set last. Whoever finds BUSY clear tells the sink and is the only one to do so; others leave AGAIN,
 * and it looks once more. So the sink hears changes in order, one at a time, and no lock is held meanwhile. */
enum { LEVEL = 1, BUSY = 2, AGAIN = 4 };

struct irq {
    _Atomic unsigned state;
    irq_handler *fn;
    void *opaque;
    int n;
    int told;                   /* the owner of BUSY alone */
};

struct irq *irq_new(irq_handler *fn, void *opaque, int n)
{
    struct irq *irq = g_new0(struct irq, 1);

    irq->fn = fn;
    irq->opaque = opaque;
    irq->n = n;
    return irq;
}

void irq_free(struct irq *irq)
{
    g_free(irq);
}

int irq_level(const struct irq *irq)
{
    return irq ? atomic_load(&irq->state) & LEVEL : 0;
}

static void irq_tell(struct irq *irq)
{
    unsigned s;

    do {
        int level;

        s = atomic_fetch_and(&irq->state, ~(unsigned)AGAIN);
        level = s & LEVEL;
        if (level != irq->told) {
            irq->told = level;
            irq->fn(irq->opaque, irq->n, level);
        }
        s = BUSY | (unsigned)irq->told;
        /* Done only if nobody changed the level or left AGAIN since. */
    } while (!atomic_compare_exchange_strong(&irq->state, &s, s & ~(unsigned)BUSY));
}

void irq_set(struct irq *irq, int level)
{
    unsigned old, new;

    if (!irq)
        return;
    old = atomic_load(&irq->state);
    do {
        if ((old & LEVEL) == (level ? LEVEL : 0))
            return;
        new = (old & ~(unsigned)LEVEL) | (level ? LEVEL : 0) | BUSY;
        if (old & BUSY)
            new |= AGAIN;
    } while (!atomic_compare_exchange_weak(&irq->state, &old, new));
    if (!(old & BUSY))
        irq_tell(irq);
}
