/* Which bin a time is counted in; boundaries that make no sense. */
#include <glib.h>
#include "block/histogram.h"

static struct histogram *made(const char *bounds)
{
    struct json_object *o = json_tokener_parse(bounds);
    struct error err = ERROR_INIT;
    struct histogram *h = histogram_new(o, &err);

    g_assert_true(!h == error_is_set(&err));
    error_clear(&err);
    json_object_put(o);
    return h;
}

static void test_bins(void)
{
    static const uint64_t times[] = { 0, 9, 10, 49, 50, 99, 100, UINT64_MAX, 100 };
    struct histogram *h = made("[10, 50, 100]");
    struct json_object *o;

    for (unsigned i = 0; i < G_N_ELEMENTS(times); i++)
        histogram_add(h, times[i]);
    o = histogram_info(h);
    g_assert_cmpstr(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN), ==, "{\"boundaries\":[10,50,100],\"bins\":[2,2,2,3]}");
    json_object_put(o);
    histogram_free(h);
}

static void test_refused(void)
{
    static const char *const bad[] = { "[]", "[0]", "[1,1]", "[2,1]", "[-1]", "[\"1\"]", "[1.5]", "{}", "[1,null]" };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_null(made(bad[i]));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/histogram/bins", test_bins);
    g_test_add_func("/histogram/refused", test_refused);
    return g_test_run();
}
