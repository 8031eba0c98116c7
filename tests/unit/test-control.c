/* The control layer in process: JSON in and out, schema checks, CPU topology, two machines side by side. */
#include <glib.h>
#include <string.h>
#include "control/cmdline-internal.h"
#include "control/schema.h"
#include "rhea/chardev/chardev.h"
#include "rhea/control/monitor.h"
#include "rhea/vm/object.h"

static void json_is(const char *text, const char *printed)
{
    struct error err = ERROR_INIT;
    struct json_object *o = json_parse(text, strlen(text), &err);

    if (!printed) {
        g_assert_true(error_is_set(&err));
        error_clear(&err);
        return;
    }
    g_assert_cmpstr(err.msg, ==, NULL);
    g_autofree char *out = json_print(o, false);

    g_assert_cmpstr(out, ==, printed);
    json_object_put(o);
}

static void test_json(void)
{
    json_is("{'a' : [1,-2, 3.5,true,false,null,\"x\"]}", "{\"a\": [1, -2, 3.5, true, false, null, \"x\"]}");
    json_is("[]", "[]");
    json_is("{}", "{}");
    json_is("18446744073709551615", "18446744073709551615");
    json_is("9223372036854775807", "9223372036854775807");
    json_is("-9223372036854775808", "-9223372036854775808");
    json_is("\"\\u00e9\\ud83d\\ude00\\n\\\"\"", "\"\\u00E9\\uD83D\\uDE00\\n\\\"\"");
    static const char *const bad[] = { "", "{", "[1,]", "{\"a\":1,}", "{a:1}", "01", "1.", ".5", "-", "1e", "tru", "nul", "'a",
                                       "\"\\x\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\u0000\"", "\"\t\"", "[1] 2", "{\"a\":1 \"b\":2}",
                                       "{\"a\":1,\"a\":2}", "\"\xff\"", "1e999", "--1", "[1 2]" };
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++)
        json_is(bad[i], NULL);
    g_autofree char *deep = g_strnfill(100000, '[');

    json_is(deep, NULL);
}

/* Whatever comes in, what is understood prints as something that is understood as the same. */
static void test_json_random(void)
{
    static const char *const parts[] = { "{", "}", "[", "]", ",", ":", "\"a\"", "'b'", "1", "-2.5e3", "true", "null", " ", "\\", "\"" };
    unsigned good = 0;

    for (unsigned n = 0; n < 200000; n++) {
        g_autoptr(GString) text = g_string_new(NULL);

        for (int k = g_test_rand_int_range(1, 10); k; k--)
            g_string_append(text, parts[g_test_rand_int_range(0, G_N_ELEMENTS(parts))]);
        struct error err = ERROR_INIT;
        struct json_object *o = json_parse(text->str, text->len, &err);

        if (error_is_set(&err)) {
            error_clear(&err);
            continue;
        }
        g_autofree char *out = json_print(o, n & 1);

        json_object_put(o);
        o = json_parse(out, strlen(out), &err);
        g_assert_false(error_is_set(&err));
        g_autofree char *again = json_print(o, n & 1);

        g_assert_cmpstr(out, ==, again);
        json_object_put(o);
        good++;
    }
    g_assert_cmpuint(good, >, 1000);
}

static bool smp(const char *text, unsigned want[6])
{
    struct cmdline *c = cmdline_new("rhea-system-x86_64");
    char *argv[] = { (char *)"rhea", (char *)"-smp", (char *)text };
    struct error err = ERROR_INIT;
    bool ok = cmdline_parse(c, 3, argv, &err);
    unsigned have[6] = { c->config.cpus, c->config.max_cpus, c->config.sockets, c->config.dies, c->config.cores,
                         c->config.threads };

    error_clear(&err);
    cmdline_free(c);
    return ok && (!want || !memcmp(have, want, sizeof(have)));
}

static void test_topology(void)
{
    g_assert_true(smp("4", (unsigned[]){ 4, 4, 1, 1, 4, 1 }));
    g_assert_true(smp("4,sockets=2", (unsigned[]){ 4, 4, 2, 1, 2, 1 }));
    g_assert_true(smp("4,cores=2,threads=2", (unsigned[]){ 4, 4, 1, 1, 2, 2 }));
    g_assert_true(smp("1,maxcpus=3,sockets=3,cores=1,threads=1", (unsigned[]){ 1, 3, 3, 1, 1, 1 }));
    g_assert_true(smp("sockets=2,dies=2,cores=2,threads=2", (unsigned[]){ 16, 16, 2, 2, 2, 2 }));
    g_assert_true(smp("cpus=8,sockets=2,cores=2", (unsigned[]){ 8, 8, 2, 1, 2, 2 }));
    static const char *const bad[] = { "0", "-1", "5,sockets=2,cores=2,threads=1", "4,maxcpus=2", "4,cores=0", "x", "99999999999",
                                       "4,sockets=4096,cores=4096,threads=4096", "2,modules=2" };
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_false(smp(bad[i], NULL));
}

static struct vm *machine(struct cmdline **c, struct loop *loop, const char *name)
{
    char *argv[] = { (char *)"rhea", (char *)"-M", (char *)"none", (char *)"-nodefaults", (char *)"-name", (char *)name,
                     (char *)"-chardev", (char *)"ringbuf,id=ring,size=16" };
    struct error err = ERROR_INIT;
    struct vm *vm;

    *c = cmdline_new("rhea-system-x86_64");
    g_assert_true(cmdline_parse(*c, G_N_ELEMENTS(argv), argv, &err) && cmdline_complete(*c, &err));
    vm = cmdline_make_vm(*c, loop, &err);
    g_assert_cmpstr(err.msg, ==, NULL);
    return vm;
}

static char *ask(struct vm *vm, const char *text)
{
    struct json_object *request = json_parse(text, strlen(text), NULL), *reply = qmp_run(vm, request);
    char *out = json_print(reply, false);

    json_object_put(request);
    json_object_put(reply);
    return out;
}

static void answers(struct vm *vm, const char *request, const char *reply)
{
    g_autofree char *have = ask(vm, request);

    g_assert_cmpstr(have, ==, reply);
}

static void test_two_machines(void)
{
    struct loop *loop = loop_new("test");
    struct cmdline *c[2];
    struct vm *vm[2];

    loop_step(loop, false);
    vm[0] = machine(&c[0], loop, "one");
    vm[1] = machine(&c[1], loop, "two");
    answers(vm[0], "{'execute':'query-name'}", "{\"return\": {\"name\": \"one\"}}");
    answers(vm[1], "{'execute':'query-name','id':1}", "{\"return\": {\"name\": \"two\"}, \"id\": 1}");
    answers(vm[0], "{'execute':'object-add','arguments':{'qom-type':'secret','id':'s','data':'x'}}", "{\"return\": {}}");
    g_assert_nonnull(object_find(vm[0], "s"));
    g_assert_null(object_find(vm[1], "s"));
    /* a ring keeps the last bytes, of its own machine */
    answers(vm[0], "{'execute':'ringbuf-write','arguments':{'device':'ring','data':'0123456789abcdefXYZ'}}", "{\"return\": {}}");
    answers(vm[1], "{'execute':'ringbuf-read','arguments':{'device':'ring','size':99}}", "{\"return\": \"\"}");
    answers(vm[0], "{'execute':'ringbuf-read','arguments':{'device':'ring','size':5,'format':'utf8'}}", "{\"return\": \"34567\"}");
    g_autofree char *text = hmp_run(vm[1], "info name", 0);

    g_assert_cmpstr(text, ==, "two\n");
    for (int i = 0; i < 2; i++) {
        vm_destroy(vm[i]);
        cmdline_free(c[i]);
    }
    loop_free(loop);
}

/* Every command of the schema takes an argument object of noise without harm, and refuses it. */
static void test_noise_to_every_command(void)
{
    static const char *const noise[] = { "{'noise':1}", "{'id':[],'device':{},'path':7,'typename':null,'value':[1],'size':'x'}",
                                         "{'id':'','driver':'','qom-type':'','type':'','node-name':'','filename':''}" };
    struct loop *loop = loop_new("test");
    struct cmdline *c;
    struct vm *vm;
    unsigned refused = 0;

    loop_step(loop, false);
    vm = machine(&c, loop, "x");
    for (unsigned i = 0; i < schema_command_count; i++) {
        for (unsigned k = 0; k < G_N_ELEMENTS(noise); k++) {
            g_autofree char *request = g_strdup_printf("{'execute':'%s','arguments':%s}", schema_commands[i].name, noise[k]);
            g_autofree char *reply = ask(vm, request);

            refused += g_str_has_prefix(reply, "{\"error\"");
        }
    }
    g_assert_cmpuint(refused, ==, schema_command_count * G_N_ELEMENTS(noise));
    answers(vm, "{'execute':'query-name'}", "{\"return\": {\"name\": \"x\"}}");
    vm_destroy(vm);
    cmdline_free(c);
    loop_free(loop);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/control/json", test_json);
    g_test_add_func("/control/json-random", test_json_random);
    g_test_add_func("/control/topology", test_topology);
    g_test_add_func("/control/two-machines", test_two_machines);
    g_test_add_func("/control/noise", test_noise_to_every_command);
    return g_test_run();
}
