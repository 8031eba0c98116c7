/* What network hardware would do for a driver, in software: checksums (RFC 1071), TCP and UDP segmentation, UDP
 * fragmentation. Frames come from the guest: every header is checked before it is believed. */
#include <string.h>
#include "net/netdev.h"

enum { ETH_HEADER = 14, VLAN_TAG = 4, TYPE_IPV4 = 0x0800, TYPE_IPV6 = 0x86dd, TYPE_VLAN = 0x8100, TYPE_QINQ = 0x88a8,
       PROTO_TCP = 6, PROTO_UDP = 17, NEEDS_CSUM = 1 };
enum { GSO_TCPV4 = 1, GSO_UDP = 3, GSO_TCPV6 = 4, GSO_UDP_L4 = 5, GSO_ECN = 0x80 };
enum { TCP_FIN = 1, TCP_PSH = 8, TCP_CWR = 0x80, IP_MF = 0x2000 };

static uint16_t get16(const uint8_t *p) { return p[0] << 8 | p[1]; }
static void put16(uint8_t *p, uint16_t v) { p[0] = v >> 8; p[1] = v; }
static uint32_t get32(const uint8_t *p) { return (uint32_t)get16(p) << 16 | get16(p + 2); }
static void put32(uint8_t *p, uint32_t v) { put16(p, v >> 16); put16(p + 2, v); }

/* One's complement sum in host order, eight bytes at a time. */
static uint64_t sum_bytes(const uint8_t *p, size_t len)
{
    uint64_t sum = 0, carry = 0;

    for (; len >= 32; p += 32, len -= 32) {
        uint64_t w[4];

        memcpy(w, p, sizeof(w));
        for (int i = 0; i < 4; i++) {
            sum += (uint32_t)w[i];
            carry += w[i] >> 32;
        }
    }
    sum += carry;
    for (; len >= 2; p += 2, len -= 2) {
        uint16_t w;

        memcpy(&w, p, 2);
        sum += w;
    }
    if (len)
        sum += *p;              /* the low byte of a little-endian word */
    return sum;
}

static uint16_t fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

/* `sum`: a partial sum of big-endian words. */
uint16_t net_checksum(const void *data, size_t len, uint32_t sum)
{
    return ~fold((uint64_t)__builtin_bswap16(fold(sum_bytes(data, len))) + sum);
}

/* ---- headers */

struct headers { size_t l3, l4, payload; bool v6; uint8_t proto; };

static bool parse_l3(const uint8_t *f, size_t len, struct headers *h)
{
    size_t at = ETH_HEADER;
    uint16_t type;

    if (len < ETH_HEADER)
        return false;
    type = get16(f + 12);
    for (int tags = 0; tags < 2 && (type == TYPE_VLAN || type == TYPE_QINQ) && len >= at + VLAN_TAG; tags++) {
        type = get16(f + at + 2);
        at += VLAN_TAG;
    }
    h->l3 = at;
    if (type == TYPE_IPV4 && len >= at + 20 && f[at] >> 4 == 4) {
        h->v6 = false;
        h->proto = f[at + 9];
        h->l4 = at + 4 * (f[at] & 15);
        return h->l4 >= at + 20 && h->l4 <= len;
    }
    if (type == TYPE_IPV6 && len >= at + 40 && f[at] >> 4 == 6) {
        h->v6 = true;
        h->proto = f[at + 6];
        h->l4 = at + 40;
        return true;
    }
    return false;
}

/* The transport header, which csum_start names when extension headers hide it. */
static bool parse(const uint8_t *f, size_t len, const struct net_offload *off, struct headers *h)
{
    uint8_t gso = off->gso_type & 0x7f;

    if (!parse_l3(f, len, h))
        return false;
    if (off->flags & NEEDS_CSUM && off->csum_start > h->l4 && off->csum_start < len) {
        h->l4 = off->csum_start;
        h->proto = gso == GSO_UDP || gso == GSO_UDP_L4 ? PROTO_UDP
                   : gso                               ? PROTO_TCP
                   : off->csum_offset == 16            ? PROTO_TCP
                                                       : PROTO_UDP;
    }
    if (h->proto == PROTO_TCP) {
        if (len < h->l4 + 20)
            return false;
        h->payload = h->l4 + 4 * (f[h->l4 + 12] >> 4);
        return h->payload >= h->l4 + 20 && h->payload <= len;
    }
    h->payload = h->l4 + 8;
    return h->proto == PROTO_UDP && h->payload <= len;
}

static uint32_t pseudo_sum(const uint8_t *f, const struct headers *h, size_t l4_len)
{
    const uint8_t *addr = f + h->l3 + (h->v6 ? 8 : 12);
    uint32_t sum = h->proto + (l4_len >> 16) + (l4_len & 0xffff);

    for (unsigned i = 0; i < (h->v6 ? 32 : 8); i += 2)
        sum += get16(addr + i);
    return sum;
}

static void ip_finish(uint8_t *f, const struct headers *h, size_t len)
{
    uint8_t *ip = f + h->l3;

    if (h->v6) {
        put16(ip + 4, len - h->l3 - 40);
        return;
    }
    put16(ip + 2, len - h->l3);
    put16(ip + 10, 0);
    put16(ip + 10, net_checksum(ip, h->l4 - h->l3, 0));
}

static void l4_finish(uint8_t *f, const struct headers *h, size_t len)
{
    uint8_t *field = f + h->l4 + (h->proto == PROTO_TCP ? 16 : 6);
    uint16_t sum;

    put16(field, 0);
    sum = net_checksum(f + h->l4, len - h->l4, pseudo_sum(f, h, len - h->l4));
    put16(field, sum || h->proto == PROTO_TCP ? sum : 0xffff);
}

void net_checksum_fill(uint8_t *f, size_t len, const struct net_offload *off)
{
    struct headers h;
    size_t at = (size_t)off->csum_start + off->csum_offset;

    if (off->gso_type & 0x7f) {
        if (parse(f, len, off, &h))
            l4_finish(f, &h, len);
        return;
    }
    if (!(off->flags & NEEDS_CSUM) || at + 2 > len)
        return;
    /* virtio 1.2, 5.1.6.2: the field holds the sum of the pseudo header already */
    put16(f + at, net_checksum(f + off->csum_start, len - off->csum_start, 0));
    if (!get16(f + at) && off->csum_offset == 6)
        put16(f + at, 0xffff);
}

/* ---- cutting */

struct cut {
    uint8_t *frame;
    size_t len;
    const struct net_offload *off;
    struct headers h;
    net_emit_fn *emit;
    void *opaque;
};

/* TCP and UDP segments: each gets the headers, adjusted. */
static bool segment_l4(struct cut *c)
{
    const struct headers *h = &c->h;
    size_t hdr = h->payload, mss = c->off->gso_size, left = c->len - hdr, done = 0;
    g_autofree uint8_t *out = g_malloc(hdr + mss);
    uint32_t seq = h->proto == PROTO_TCP ? get32(c->frame + h->l4 + 4) : 0;
    uint8_t flags = h->proto == PROTO_TCP ? c->frame[h->l4 + 13] : 0;
    uint16_t id = h->v6 ? 0 : get16(c->frame + h->l3 + 4);

    do {
        size_t n = MIN(mss, left);

        memcpy(out, c->frame, hdr);
        memcpy(out + hdr, c->frame + hdr + done, n);
        if (!h->v6)
            put16(out + h->l3 + 4, id++);
        if (h->proto == PROTO_TCP) {
            put32(out + h->l4 + 4, seq + done);
            out[h->l4 + 13] = flags & ~((n < left ? TCP_FIN | TCP_PSH : 0) | (done ? TCP_CWR : 0));
        } else {
            put16(out + h->l4 + 4, 8 + n);
        }
        ip_finish(out, h, hdr + n);
        l4_finish(out, h, hdr + n);
        c->emit(c->opaque, out, hdr + n);
        done += n;
        left -= n;
    } while (left);
    return true;
}

/* IPv4 fragments of one datagram; gso_size is the payload of each. */
static bool fragment_udp(struct cut *c)
{
    const struct headers *h = &c->h;
    size_t ip = h->l4, mss = c->off->gso_size & ~7u, left = c->len - ip, done = 0;
    g_autofree uint8_t *out = NULL;

    if (h->v6 || !mss)
        return false;           /* an IPv6 fragment header would have to be made: no driver of today sends these */
    put16(c->frame + h->l4 + 4, left);
    l4_finish(c->frame, h, c->len);
    out = g_malloc(ip + mss);
    do {
        size_t n = MIN(mss, left);

        memcpy(out, c->frame, ip);
        memcpy(out + ip, c->frame + ip + done, n);
        put16(out + h->l3 + 6, done >> 3 | (n < left ? IP_MF : 0));
        ip_finish(out, h, ip + n);
        c->emit(c->opaque, out, ip + n);
        done += n;
        left -= n;
    } while (left);
    return true;
}

bool net_segment(uint8_t *frame, size_t len, const struct net_offload *off, net_emit_fn *emit, void *opaque)
{
    struct cut c = { frame, len, off, { 0 }, emit, opaque };
    uint8_t gso = off->gso_type & 0x7f;

    if (!off->gso_size || off->gso_size > 65000 || !parse(frame, len, off, &c.h))
        return false;
    switch (gso) {
    case GSO_TCPV4:
    case GSO_TCPV6:
        return c.h.proto == PROTO_TCP && c.h.v6 == (gso == GSO_TCPV6) && segment_l4(&c);
    case GSO_UDP_L4:
        return c.h.proto == PROTO_UDP && segment_l4(&c);
    case GSO_UDP:
        return c.h.proto == PROTO_UDP && fragment_udp(&c);
    default:
        return false;
    }
}
