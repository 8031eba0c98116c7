/* Saved regions that say anything of themselves, with a right checksum: what is called valid stays within its bytes. RHEA_TEST_SEED=N
 * starts elsewhere, SOAK=1 makes many more. tests/user/test_cache.py has real ones. */
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include "rhea/jit/jit.h"

enum { ROOM = 4096 };

static void seal(struct saved_region *s)
{
    s->check = jit_checksum(&s->size, s->size - offsetof(struct saved_region, size));
}

/* The least that is valid: one byte of code from one guest byte. */
static struct saved_region *least(uint8_t *room)
{
    struct saved_region *s = (struct saved_region *)room;

    memset(room, 0, ROOM);
    s->lo = 8;
    s->hi = 9;
    s->insns = 1;
    s->code_size = 1;
    s->size = (sizeof(*s) + 2 + SAVED_ALIGN - 1) & -SAVED_ALIGN;
    seal(s);
    return s;
}

static void test_least(void)
{
    _Alignas(SAVED_ALIGN) uint8_t room[ROOM];
    struct saved_region *s = least(room);
    unsigned n;

    g_assert_true(jit_saved_valid(s, s->size));
    g_assert_true(jit_saved_valid(s, ROOM));
    g_assert_true(jit_saved_bytes(s, &n) == (uint8_t *)(s + 1));
    g_assert_cmpuint(n, ==, 1);
    for (unsigned cut = 0; cut < s->size; cut++)
        g_assert_false(jit_saved_valid(s, cut));
}

static void test_each_bit_is_checked(void)
{
    _Alignas(SAVED_ALIGN) uint8_t room[ROOM];
    unsigned size = least(room)->size;

    for (unsigned bit = 0; bit < size * 8; bit++) {
        room[bit / 8] ^= 1 << bit % 8;
        g_assert_false(jit_saved_valid((struct saved_region *)room, ROOM));
        room[bit / 8] ^= 1 << bit % 8;
    }
    g_assert_true(jit_saved_valid((struct saved_region *)room, ROOM));
}

static void test_fields_beyond_bounds(void)
{
    _Alignas(SAVED_ALIGN) uint8_t room[ROOM];
    struct saved_region *s;

#define REFUSED(change) do { s = least(room); change; seal(s); g_assert_false(jit_saved_valid(s, ROOM)); } while (0)
    REFUSED(s->size += SAVED_ALIGN);
    REFUSED(s->code_size = 100);
    REFUSED(s->code_size = UINT32_MAX);
    REFUSED(s->lo = 9);
    REFUSED(s->hi = CPU_PAGE_SIZE + 1);
    REFUSED(s->len2 = CPU_PAGE_SIZE + 1);
    REFUSED(s->nexits = 1);
    REFUSED(s->nrelocs = 1);
    REFUSED(s->faults = 2);
    REFUSED(s->nfaults = 1);
#undef REFUSED
}

/* Random fields, most of them small, with a checksum that fits: under ASan this reads no byte too many. */
static void test_random(void)
{
    const char *given = getenv("RHEA_TEST_SEED");
    guint32 seed = given ? strtoul(given, NULL, 0) : g_random_int();
    GRand *rng = g_rand_new_with_seed(seed);
    unsigned valid = 0, rounds = getenv("SOAK") ? 3000000 : 100000;

    g_test_message("RHEA_TEST_SEED=%u", seed);
    for (unsigned i = 0; i < rounds; i++) {
        unsigned size = sizeof(struct saved_region) + SAVED_ALIGN * g_rand_int_range(rng, 1, 12), n;
        g_autofree uint8_t *data = g_malloc0(size);
        struct saved_region *s = (struct saved_region *)data;
        const uint8_t *bytes;

        for (unsigned k = sizeof(*s); k < size; k++)
            data[k] = g_rand_int_range(rng, 0, 4) ? 0 : g_rand_int(rng);
        s->size = size;
        s->lo = g_rand_int_range(rng, 0, 8);
        s->hi = g_rand_int_range(rng, 0, 12);
        s->len2 = g_rand_int_range(rng, 0, 20) ? 0 : g_rand_int(rng);
        s->nexits = g_rand_int_range(rng, 0, 3);
        s->nrelocs = g_rand_int_range(rng, 0, 5);
        s->code_size = g_rand_int_range(rng, 0, 64);
        s->faults = g_rand_int_range(rng, 0, 64);
        s->nfaults = g_rand_int_range(rng, 0, 4);
        seal(s);
        if (!jit_saved_valid(s, size))
            continue;
        valid++;
        bytes = jit_saved_bytes(s, &n);
        g_assert_true(bytes >= (uint8_t *)(s + 1) && n <= size && bytes + n + s->code_size <= data + size);
        g_assert_cmpuint(s->faults + s->nfaults * 8, <=, s->code_size);
    }
    g_assert_cmpuint(valid, >, rounds / 1000);
    g_rand_free(rng);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/saved/least", test_least);
    g_test_add_func("/saved/each-bit-is-checked", test_each_bit_is_checked);
    g_test_add_func("/saved/fields-beyond-bounds", test_fields_beyond_bounds);
    g_test_add_func("/saved/random", test_random);
    return g_test_run();
}
