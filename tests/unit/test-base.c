/* Errors, options, loops, timers, coroutines and their locks. */
#include <glib.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>
#include "rhea/base/coroutine.h"
#include "rhea/base/error.h"
#include "rhea/base/log.h"
#include "rhea/base/loop.h"
#include "rhea/base/options.h"

/* ---- errors, log */

static void test_error_first_wins(void)
{
    struct error err = ERROR_INIT, moved = ERROR_INIT;

    g_assert_false(error_set_errno(&err, ENOENT, "look again", "%s", "a.img"));
    error_set(&err, ERR_DEVICE_NOT_FOUND, "second", NULL);
    error_prepend(&err, "drive %d", 3);
    g_assert_cmpstr(err.msg, ==, "drive 3: a.img: No such file or directory");
    g_assert_cmpstr(err.hint, ==, "look again");
    g_assert_cmpstr(error_class_name(err.cls), ==, "GenericError");
    error_move(&moved, &err);
    g_assert_false(error_is_set(&err));
    g_assert_true(error_is_set(&moved));
    error_clear(&moved);
    error_set(NULL, ERR_GENERIC, "nobody listens", NULL);
}

static void test_log(void)
{
    struct error err = ERROR_INIT;
    uint32_t mask = 0;

    g_assert_true(log_parse("in_asm,int", &mask, &err));
    g_assert_cmpuint(mask, ==, LOG_IN_ASM | LOG_INT);
    g_assert_false(log_parse("in_asm,guest_erors", &mask, &err));
    g_assert_nonnull(strstr(err.hint, "'guest_errors'"));
    error_clear(&err);
    g_assert_true(log_parse("trace:virtio_*", &mask, &err));
    log_set(mask);
    g_assert_true(log_trace_enabled("virtio_kick"));
    g_assert_false(log_trace_enabled("ahci_kick"));
    log_set(0);
    g_assert_true(log_set_filter("0x1000..0x1fff,0x8000+0x10,0xffffffffffffffff-1", &err));
    g_assert_true(log_in_filter(0x1fff));
    g_assert_false(log_in_filter(0x2000));
    g_assert_true(log_in_filter(0x800f));
    g_assert_false(log_in_filter(0x8010));
    g_assert_true(log_in_filter(UINT64_MAX));
    g_assert_false(log_set_filter("0x2000..0x1000", &err));
    error_clear(&err);
}

/* ---- options */

static void check_flat(const char *text, const char *implied, const char *want)
{
    struct error err = ERROR_INIT;
    struct json_object *o = options_parse(text, implied, &err);

    if (!want) {
        g_assert_null(o);
        g_assert_true(error_is_set(&err));
        error_clear(&err);
        return;
    }
    g_assert_nonnull(o);
    g_assert_cmpstr(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE), ==,
                    want);
    json_object_put(o);
}

static void test_options_flat(void)
{
    check_flat("", NULL, "{}");
    check_flat("q35,accel=jit", "type", "{\"type\":\"q35\",\"accel\":\"jit\"}");
    check_flat("file=a,,b.img,if=virtio", NULL, "{\"file\":\"a,b.img\",\"if\":\"virtio\"}");
    check_flat("a,,b.img,x", "file", "{\"file\":\"a,b.img\",\"x\":\"on\"}");
    check_flat("user,nowait,server", "type", "{\"type\":\"user\",\"nowait\":\"on\",\"server\":\"on\"}");
    check_flat("a=1,a=2,b=,", NULL, "{\"a\":[\"1\",\"2\"],\"b\":\"\"}");
    check_flat("file=x=y", NULL, "{\"file\":\"x=y\"}");
    check_flat("=x", NULL, NULL);
    check_flat("{\"a\":{\"b\":1}} ", NULL, "{\"a\":{\"b\":1}}");
    check_flat("{\"a\":1} x", NULL, NULL);
    check_flat("{\"a\":", NULL, NULL);
    check_flat("{a:1}", NULL, NULL);
}

static void check_nest(const char *text, const char *want)
{
    struct error err = ERROR_INIT;
    struct json_object *flat = options_parse(text, NULL, &err), *o = options_nest(flat, &err);

    json_object_put(flat);
    if (!want) {
        g_assert_null(o);
        g_assert_true(error_is_set(&err));
        error_clear(&err);
        return;
    }
    g_assert_nonnull(o);
    g_assert_cmpstr(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN), ==, want);
    json_object_put(o);
}

static void test_options_nest(void)
{
    check_nest("driver=qcow2,file.driver=file,file.filename=x",
               "{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"x\"}}");
    check_nest("s.1.port=2,s.0.port=1", "{\"s\":[{\"port\":\"1\"},{\"port\":\"2\"}]}");
    check_nest("s.0=a,s.2=b", NULL);
    check_nest("s.0=a,s.x=b", "{\"s\":{\"0\":\"a\",\"x\":\"b\"}}");
    check_nest("a=1,a.b=2", NULL);
    check_nest("a.b=2,a=1", NULL);
    check_nest("a..b=2", NULL);
    check_nest("a.=2", NULL);
    check_nest("0=a", NULL);
}

static void test_options_typed(void)
{
    struct error err = ERROR_INIT;
    struct json_object *o = options_parse("size=1.5G,ro=off,n=-3,n=-4,bad=12x", NULL, &err);
    uint64_t size;
    int64_t n;
    bool b;

    g_assert_true(option_size(o, "size", 0, &size, &err));
    g_assert_cmpuint(size, ==, 3ull << 29);
    g_assert_true(option_bool(o, "ro", true, &b, &err));
    g_assert_false(b);
    g_assert_true(option_bool(o, "absent", true, &b, &err));
    g_assert_true(b);
    g_assert_true(option_int(o, "n", 0, &n, &err));
    g_assert_cmpint(n, ==, -4);
    g_assert_false(option_int(o, "bad", 0, &n, &err));
    g_assert_cmpstr(err.msg, ==, "parameter 'bad' takes a whole number");
    error_clear(&err);
    json_object_put(o);
}

static void test_parse_size(void)
{
    static const struct { const char *text; uint64_t unit, value; bool ok; } cases[] = {
        { "0", 1, 0, true }, { "512", 1, 512, true }, { "512", 1 << 20, 512 << 20, true }, { "64k", 1, 65536, true },
        { "0x10", 1, 16, true }, { "0.5M", 1, 1 << 19, true }, { "7E", 1, 7ull << 60, true }, { "16E", 1, 0, false },
        { "1.5", 1, 0, false }, { "-1", 1, 0, false }, { "1KB", 1, 0, false }, { "", 1, 0, false },
        { "99999999999999999999", 1, 0, false }, { "3b", 1 << 20, 3, true },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint64_t v = 0;
        bool ok = parse_size(cases[i].text, cases[i].unit, &v, NULL);

        g_assert_cmpint(ok, ==, cases[i].ok);
        if (ok)
            g_assert_cmpuint(v, ==, cases[i].value);
    }
}

static void test_spelling(void)
{
    static const char *const words[] = { "virtio-net-pci", "virtio-blk-pci", "e1000", "q35", NULL };
    struct error err = ERROR_INIT;
    struct json_object *o = options_parse("q53=1", NULL, &err);

    g_assert_cmpstr(nearest_spelling("virtio-bkl-pci", words), ==, "virtio-blk-pci");
    g_assert_cmpstr(nearest_spelling("q53", words), ==, "q35");
    g_assert_null(nearest_spelling("rtl8139", words));
    g_assert_false(options_check(o, words, "-x", &err));
    g_assert_cmpstr(err.hint, ==, "did you mean 'q35'?");
    error_clear(&err);
    json_object_put(o);
}

/* ---- loops */

static GString *trace;

static void trace_add(void *arg)
{
    g_string_append(trace, arg);
}

static void quit_loop(void *arg)
{
    loop_quit(arg);
}

static void test_loop_post_order(void)
{
    struct loop *l = loop_new("t");

    trace = g_string_new(NULL);
    loop_post(l, trace_add, "a");
    loop_post(l, trace_add, "b");
    loop_post(l, trace_add, "c");
    loop_post(l, quit_loop, l);
    loop_run(l);
    g_assert_cmpstr(trace->str, ==, "abc");
    g_string_free(trace, TRUE);
    loop_free(l);
}

static void *post_quit(void *l)
{
    loop_post(l, quit_loop, l);
    return NULL;
}

/* What was posted runs before loop_post() has returned there: the loop is still its then (sanitizers see it). */
static void test_loop_free_while_posting(void)
{
    for (unsigned i = 0; i < 300; i++) {
        struct loop *l = loop_new("t");
        pthread_t thread;

        g_assert_cmpint(pthread_create(&thread, NULL, post_quit, l), ==, 0);
        loop_run(l);
        loop_free(l);
        pthread_join(thread, NULL);
    }
}

struct nested { struct loop *l; bool inner; };

static void set_inner(void *arg)
{
    ((struct nested *)arg)->inner = true;
}

static void step_until_inner(void *arg)
{
    struct nested *n = arg;

    for (int i = 0; i < 100 && !n->inner; i++)
        loop_step(n->l, false);
}

static void test_loop_nested_step(void)
{
    struct nested n = { loop_new("t") };

    loop_post(n.l, step_until_inner, &n);
    loop_post(n.l, set_inner, &n);
    loop_step(n.l, true);
    g_assert_true(n.inner);
    loop_free(n.l);
}

struct ping { struct loop *a, *b; unsigned n; };

static void ping_a(void *arg);
static void ping_b(void *arg)
{
    struct ping *p = arg;

    g_assert_true(loop_current() == p->b);
    loop_post(p->a, ping_a, p);
}

static void ping_a(void *arg)
{
    struct ping *p = arg;

    g_assert_true(loop_current() == p->a);
    if (++p->n == 20000)
        loop_quit(p->a);
    else
        loop_post(p->b, ping_b, p);
}

static void read_tid(void *arg)
{
    *(int *)arg = gettid();
}

static void test_loop_threads(void)
{
    struct ping p = { loop_new("a"), loop_new("b"), 0 };
    int tid = 0;

    loop_thread_start(p.b);
    loop_call(p.b, read_tid, &tid);
    g_assert_cmpint(tid, ==, loop_thread_id(p.b));
    g_assert_cmpint(tid, !=, gettid());
    loop_post(p.a, ping_a, &p);
    loop_run(p.a);
    g_assert_cmpuint(p.n, ==, 20000);
    loop_thread_stop(p.b);
    loop_free(p.a);
    loop_free(p.b);
}

/* ---- busy waiting */

struct answer { struct loop *l; bool expected; unsigned asked, after; bool got; };

static bool answer_begin(void *arg)
{
    struct answer *a = arg;

    a->asked = 0;
    return a->expected;
}

static void answer_take(void *arg)
{
    ((struct answer *)arg)->got = true;
}

static bool answer_ready(void *arg)
{
    struct answer *a = arg;

    if (++a->asked == a->after)
        loop_post(a->l, answer_take, a);
    return a->asked >= a->after;
}

static const struct loop_poller answer_poller = { .begin = answer_begin, .ready = answer_ready };

static void nothing(void *arg)
{
}

/* What is asked for is found without sleep; nothing expected: nobody asks. The timer only ends what goes wrong. */
static void test_loop_poll(void)
{
    struct loop *l = loop_new("t");
    struct answer a = { .l = l, .after = 3 };
    struct loop_timer *t = loop_timer_new(l, nothing, NULL);

    loop_enter(l);
    loop_set_poll(l, 10000000, 0, 0);
    loop_set_poller(l, &answer_poller, &a);
    loop_timer_set(t, host_clock_ns() + 1000000);
    loop_step(l, true);
    g_assert_cmpuint(a.asked, ==, 0);
    a.expected = true;
    for (int i = 0; i < 100 && !a.got; i++) {           /* the host may take the processor away meanwhile */
        loop_timer_set(t, host_clock_ns() + 20000000);
        loop_step(l, true);
    }
    g_assert_true(a.got);
    loop_set_poll(l, 0, 0, 0);
    a.got = false;
    loop_timer_set(t, host_clock_ns() + 1000000);
    loop_step(l, true);
    g_assert_false(a.got);
    loop_set_poller(l, NULL, NULL);
    loop_timer_free(t);
    loop_free(l);
}

struct tick { struct loop *l; struct loop_timer *t; int64_t due; int64_t late[200]; unsigned n; };

static void tick(void *arg)
{
    struct tick *k = arg;
    int64_t now = host_clock_ns();

    g_assert_cmpint(now, >=, k->due);
    k->late[k->n++] = now - k->due;
    if (k->n == G_N_ELEMENTS(k->late)) {
        loop_quit(k->l);
        return;
    }
    k->due = now + 300000;
    loop_timer_set(k->t, k->due);
}

static int cmp_i64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static void test_timer_precision(void)
{
    struct tick k = { .l = loop_new("t") };

    k.t = loop_timer_new(k.l, tick, &k);
    k.due = host_clock_ns() + 300000;
    loop_timer_set(k.t, k.due);
    loop_run(k.l);
    qsort(k.late, k.n, sizeof(k.late[0]), cmp_i64);
    g_test_message("late: median %d ns, 90%% %d ns", (int)k.late[k.n / 2], (int)k.late[k.n * 9 / 10]);
    g_assert_cmpint(k.late[0], <, 200000);      /* the machine may be busy most of the time; a wait by the millisecond never hits it */
    loop_timer_free(k.t);
    loop_free(k.l);
}

static void test_timer_order(void)
{
    struct loop *l = loop_new("t");
    struct loop_timer *t[26];
    static char text[26][2];
    int64_t base = host_clock_ns() + 2000000;
    GRand *r = g_rand_new_with_seed(1);

    trace = g_string_new(NULL);
    for (int i = 0; i < 26; i++) {
        text[i][0] = 'a' + i;
        t[i] = loop_timer_new(l, trace_add, text[i]);
        loop_timer_set(t[i], base + g_rand_int_range(r, 0, 1000000));
    }
    for (int i = 25; i >= 0; i--)       /* moves each */
        loop_timer_set(t[i], base + i * 1000);
    loop_timer_cancel(t[3]);
    loop_timer_cancel(t[3]);
    for (int i = 0; i < 50 && trace->len < 25; i++)
        loop_step(l, true);
    g_assert_cmpstr(trace->str, ==, "abcefghijklmnopqrstuvwxyz");
    for (int i = 0; i < 26; i++)
        loop_timer_free(t[i]);
    g_rand_free(r);
    g_string_free(trace, TRUE);
    loop_free(l);
}

static void slow_fire(void *arg)
{
    __atomic_store_n((int *)arg, 1, __ATOMIC_SEQ_CST);
    g_usleep(20000);
    __atomic_store_n((int *)arg, 2, __ATOMIC_SEQ_CST);
}

static void test_timer_cancel_waits(void)
{
    struct loop *l = loop_new("t");
    int state = 0;
    struct loop_timer *t = loop_timer_new(l, slow_fire, &state);

    loop_thread_start(l);
    loop_timer_set(t, host_clock_ns());
    while (!__atomic_load_n(&state, __ATOMIC_SEQ_CST))
        sched_yield();
    loop_timer_cancel(t);
    g_assert_cmpint(__atomic_load_n(&state, __ATOMIC_SEQ_CST), ==, 2);
    loop_timer_free(t);
    loop_free(l);
}

struct echo { struct loop *l; int fd; struct loop_fd *w; unsigned seen; };

static void echo_ready(void *arg, unsigned events)
{
    struct echo *e = arg;
    char c;

    e->seen |= events;
    if (events & LOOP_IN)
        g_assert_cmpint(read(e->fd, &c, 1), >=, 0);
}

static void test_fd(void)
{
    struct echo e = { .l = loop_new("t") };
    int p[2];

    g_assert_cmpint(pipe(p), ==, 0);
    e.fd = p[0];
    e.w = loop_fd_add(e.l, p[0], LOOP_IN, echo_ready, &e);
    g_assert_false(loop_step(e.l, false));
    g_assert_cmpint(write(p[1], "x", 1), ==, 1);
    loop_step(e.l, true);
    g_assert_cmpuint(e.seen, ==, LOOP_IN);
    loop_fd_set(e.w, 0);
    close(p[1]);
    g_assert_false(loop_step(e.l, false));      /* a hang-up of a paused one does not spin */
    loop_fd_set(e.w, LOOP_IN);
    loop_step(e.l, true);
    g_assert_cmpuint(e.seen, ==, LOOP_IN | LOOP_HUP);
    loop_fd_remove(e.w);
    close(p[0]);
    loop_free(e.l);
}

/* ---- coroutines */

struct co_test { struct loop *l; struct coroutine *co[8]; unsigned running, n; struct co_mutex m; struct co_rwlock rw;
                 struct co_queue q; int64_t counter; bool inside; };

static void co_yielder(void *arg)
{
    struct co_test *t = arg;

    t->co[0] = coroutine_self();
    t->n = 1;
    coroutine_yield();
    t->n = 2;
    coroutine_wake(t->co[0]);           /* kept */
    coroutine_yield();
    t->n = 3;
}

static void test_co_yield(void)
{
    struct co_test t = { 0 };

    g_assert_false(in_coroutine());
    coroutine_start(co_yielder, &t);
    g_assert_cmpuint(t.n, ==, 1);
    g_assert_false(in_coroutine());
    coroutine_wake(t.co[0]);
    g_assert_cmpuint(t.n, ==, 3);
}

static void co_deep(void *arg)
{
    unsigned *n = arg;
    volatile char page[8000];

    page[0] = 1;
    if ((*n)--) {
        coroutine_start(co_deep, n);
        g_assert_cmpint(page[0], ==, 1);
    }
}

static void test_co_nest(void)
{
    unsigned n = 400;

    coroutine_start(co_deep, &n);
    g_assert_cmpuint(n, ==, UINT_MAX);
}

static void co_locker(void *arg)
{
    struct co_test *t = arg;

    for (int i = 0; i < 50; i++) {
        co_mutex_lock(&t->m);
        g_assert_false(t->inside);
        t->inside = true;
        if (i % 10 == 0)
            coroutine_sleep_ns(1000);
        t->counter++;
        t->inside = false;
        co_mutex_unlock(&t->m);
    }
    if (__atomic_sub_fetch(&t->running, 1, __ATOMIC_SEQ_CST) == 0)
        loop_quit(t->l);
}

static void start_locker(void *arg)
{
    coroutine_start(co_locker, arg);
}

static void test_co_mutex(void)
{
    struct loop *a = loop_new("a"), *b = loop_new("b");
    struct co_test t = { .l = a, .running = 20 };

    co_mutex_init(&t.m);
    loop_thread_start(b);
    for (int i = 0; i < 20; i++)
        loop_post(i & 1 ? a : b, start_locker, &t);
    loop_run(a);
    g_assert_cmpint(t.counter, ==, 1000);
    loop_free(b);
    loop_free(a);
}

static void co_reader(void *arg)
{
    struct co_test *t = arg;

    for (int i = 0; i < 20; i++) {
        bool write = (i + t->n) % 5 == 0;

        if (write)
            co_rwlock_wrlock(&t->rw);
        else
            co_rwlock_rdlock(&t->rw);
        g_assert_false(t->inside);
        if (write) {
            t->inside = true;
            coroutine_sleep_ns(1000);
            t->inside = false;
            t->counter++;
        } else {
            coroutine_sleep_ns(1000);
        }
        co_rwlock_unlock(&t->rw);
    }
    if (--t->running == 0)
        loop_quit(t->l);
}

static void test_co_rwlock(void)
{
    struct co_test t = { .l = loop_new("t"), .running = 5 };

    co_rwlock_init(&t.rw);
    loop_enter(t.l);
    for (int i = 0; i < 5; i++)
        coroutine_start(co_reader, &t);
    loop_run(t.l);
    g_assert_cmpint(t.counter, ==, 20);
    loop_free(t.l);
}

static void co_waiter(void *arg)
{
    struct co_test *t = arg;

    co_mutex_lock(&t->m);
    while (!t->inside)
        co_queue_wait(&t->q, &t->m);
    t->n++;
    co_mutex_unlock(&t->m);
}

static void test_co_queue(void)
{
    struct co_test t = { 0 };

    co_mutex_init(&t.m);
    co_queue_init(&t.q);
    for (int i = 0; i < 6; i++)
        coroutine_start(co_waiter, &t);
    co_queue_wake_one(&t.q);            /* finds nothing, waits again */
    g_assert_cmpuint(t.n, ==, 0);
    t.inside = true;
    co_queue_wake_one(&t.q);
    g_assert_cmpuint(t.n, ==, 1);
    co_queue_wake_all(&t.q);
    g_assert_cmpuint(t.n, ==, 6);
}

static void co_nothing(void *arg)
{
    ++*(unsigned *)arg;
}

static void test_co_cost(void)
{
    unsigned n = 0;
    int64_t start = host_clock_ns();

    for (int i = 0; i < 1000000; i++)
        coroutine_start(co_nothing, &n);
    g_test_message("start and end: %.1f ns", (host_clock_ns() - start) / 1e6);
    g_assert_cmpuint(n, ==, 1000000);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/error/first-wins", test_error_first_wins);
    g_test_add_func("/log/parse", test_log);
    g_test_add_func("/options/flat", test_options_flat);
    g_test_add_func("/options/nest", test_options_nest);
    g_test_add_func("/options/typed", test_options_typed);
    g_test_add_func("/options/size", test_parse_size);
    g_test_add_func("/options/spelling", test_spelling);
    g_test_add_func("/loop/post-order", test_loop_post_order);
    g_test_add_func("/loop/free-while-posting", test_loop_free_while_posting);
    g_test_add_func("/loop/nested-step", test_loop_nested_step);
    g_test_add_func("/loop/threads", test_loop_threads);
    g_test_add_func("/loop/poll", test_loop_poll);
    g_test_add_func("/loop/timer-precision", test_timer_precision);
    g_test_add_func("/loop/timer-order", test_timer_order);
    g_test_add_func("/loop/timer-cancel-waits", test_timer_cancel_waits);
    g_test_add_func("/loop/fd", test_fd);
    g_test_add_func("/coroutine/yield", test_co_yield);
    g_test_add_func("/coroutine/nest", test_co_nest);
    g_test_add_func("/coroutine/mutex", test_co_mutex);
    g_test_add_func("/coroutine/rwlock", test_co_rwlock);
    g_test_add_func("/coroutine/queue", test_co_queue);
    g_test_add_func("/coroutine/cost", test_co_cost);
    return g_test_run();
}
