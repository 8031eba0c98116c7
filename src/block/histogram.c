/* How long requests took. */
#include "block/histogram.h"

struct histogram *histogram_new(struct json_object *bounds, struct error *err)
{
    size_t count = json_object_is_type(bounds, json_type_array) ? json_object_array_length(bounds) : 0;
    struct histogram *h;

    if (count < 1 || count > HISTOGRAM_BOUNDS_MAX) {
        error_setf(err, ERR_GENERIC, "give up to 1024 numbers that grow", "a histogram cannot have %zu boundaries", count);
        return NULL;
    }
    h = g_new0(struct histogram, 1);
    h->count = count;
    h->bounds = g_new0(uint64_t, count);
    h->bins = g_new0(atomic_uint_fast64_t, count + 1);
    for (size_t i = 0; i < count; i++) {
        struct json_object *v = json_object_array_get_idx(bounds, i);

        h->bounds[i] = json_object_is_type(v, json_type_int) && json_object_get_int64(v) > 0 ? json_object_get_uint64(v) : 0;
        if (h->bounds[i] <= (i ? h->bounds[i - 1] : 0)) {
            error_set(err, ERR_GENERIC, "boundaries of a histogram are numbers above 0 that grow", NULL);
            histogram_free(h);
            return NULL;
        }
    }
    return h;
}

void histogram_free(struct histogram *h)
{
    if (!h)
        return;
    g_free(h->bounds);
    g_free(h->bins);
    g_free(h);
}

void histogram_add(struct histogram *h, uint64_t ns)
{
    unsigned low = 0, high = h->count;

    while (low < high) {
        unsigned mid = (low + high) / 2;

        if (ns < h->bounds[mid])
            high = mid;
        else
            low = mid + 1;
    }
    atomic_fetch_add_explicit(&h->bins[low], 1, memory_order_relaxed);
}

struct json_object *histogram_info(const struct histogram *h)
{
    struct json_object *o = json_object_new_object(), *bounds = json_object_new_array(), *bins = json_object_new_array();

    for (unsigned i = 0; i < h->count; i++)
        json_object_array_add(bounds, json_object_new_uint64(h->bounds[i]));
    for (unsigned i = 0; i <= h->count; i++)
        json_object_array_add(bins, json_object_new_uint64(h->bins[i]));
    json_object_object_add(o, "boundaries", bounds);
    json_object_object_add(o, "bins", bins);
    return o;
}
