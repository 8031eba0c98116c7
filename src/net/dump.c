/* Captures of a back end's packets (-object filter-dump) in pcap files. */
#include "net/netdev.h"

void net_dump_packet(struct netdev *n, const struct iovec *iov, int niov)
{
}
