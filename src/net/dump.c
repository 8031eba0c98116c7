/* -object filter-dump: the packets of a back end in a capture file (pcap 2.4, as tcpdump and Wireshark read). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "net/netdev.h"
#include "rhea/base/options.h"
#include "rhea/vm/object.h"
#include "rhea/vm/vm.h"

enum { PCAP_MAGIC = 0xa1b2c3d4, LINK_ETHERNET = 1, SNAPLEN = 65536 };

struct pcap_header { uint32_t magic; uint16_t major, minor; int32_t zone; uint32_t accuracy, snaplen, link; };
struct pcap_packet { uint32_t seconds, microseconds, kept, len; };

struct net_dump {
    struct object obj;
    struct netdev *n;
    char *netdev;
    FILE *file;
    size_t most;
    struct net_dump *next;
};

void net_dump_packet(struct netdev *n, const struct iovec *iov, int niov)
{
    gint64 now = g_get_real_time();
    struct pcap_packet p = { now / G_USEC_PER_SEC, now % G_USEC_PER_SEC };

    for (int i = 0; i < niov; i++)
        p.len += iov[i].iov_len;
    for (struct net_dump *d = n->dumps; d; d = d->next) {
        size_t left = p.kept = MIN(p.len, d->most);

        fwrite(&p, sizeof(p), 1, d->file);
        for (int i = 0; i < niov && left; i++) {
            size_t k = MIN(left, iov[i].iov_len);

            fwrite(iov[i].iov_base, 1, k, d->file);
            left -= k;
        }
        fflush(d->file);
    }
}

static void dump_add(void *arg)
{
    struct net_dump *d = arg;

    d->next = d->n->dumps;
    d->n->dumps = d;
}

static void dump_remove(void *arg)
{
    struct net_dump *d = arg;

    for (struct net_dump **p = &d->n->dumps; *p; p = &(*p)->next) {
        if (*p == d) {
            *p = d->next;
            break;
        }
    }
}

static bool dump_create(struct object *obj, struct error *err)
{
    struct net_dump *d = (struct net_dump *)obj;
    const char *netdev = option_str(obj->opts, "netdev", NULL), *file = option_str(obj->opts, "file", NULL);
    struct pcap_header h = { PCAP_MAGIC, 2, 4, 0, 0, SNAPLEN, LINK_ETHERNET };
    uint64_t most;

    if (!netdev || !file)
        return error_set(err, ERR_GENERIC, "filter-dump needs netdev= and file=",
                         "-object filter-dump,id=f0,netdev=net0,file=net.pcap");
    if (!option_size(obj->opts, "maxlen", SNAPLEN, &most, err))
        return false;
    d->n = netdev_find(obj->vm, netdev);
    if (!d->n)
        return error_setf(err, ERR_GENERIC, "info network lists them", "netdev '%s' not found", netdev);
    d->netdev = g_strdup(netdev);
    d->most = most;
    d->file = fopen(file, "wb");
    if (!d->file || fwrite(&h, sizeof(h), 1, d->file) != 1 || fflush(d->file))
        return error_set_errno(err, errno, NULL, "could not write %s", file);
    loop_call(d->n->loop, dump_add, d);
    return true;
}

static void dump_destroy(struct object *obj)
{
    struct net_dump *d = (struct net_dump *)obj;

    if (d->netdev && d->file && netdev_find(obj->vm, d->netdev) == d->n)
        loop_call(d->n->loop, dump_remove, d);
    if (d->file)
        fclose(d->file);
    g_free(d->netdev);
}

OBJECT = {
    .name = "filter-dump",
    .parent = "netfilter",
    .summary = "writes a back end's packets to a capture file",
    .size = sizeof(struct net_dump),
    .props = (const struct prop[]){
        { .name = "netdev", .type = PROP_STR, .help = "the back end" },
        { .name = "file", .type = PROP_STR, .help = "the capture file" },
        { .name = "maxlen", .type = PROP_SIZE, .def = "65536", .help = "most bytes of a packet" },
        { 0 } },
    .create = dump_create,
    .destroy = dump_destroy,
};
