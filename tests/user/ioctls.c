/* ioctl() requests whose structures differ between ABIs, and some that do not: what the kernel says, as text that is the same
 * for all of them. test_user.py compares it with the native run's. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/ethtool.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/hdreg.h>
#include <linux/if_tun.h>
#include <linux/kd.h>
#include <linux/loop.h>
#include <linux/nsfs.h>
#include <linux/random.h>
#include <linux/serial.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/route.h>
#include <pty.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static bool said(const char *what, long r)
{
    printf("%s: %s", what, r < 0 ? strerrorname_np(errno) : "ok");
    return r >= 0;
}
/* What was asked; "ok" and what came of it, or the error. */
#define SAY(what, r, ...) ((void)(said(what, r) ? printf(" " __VA_ARGS__) : 0), (void)putchar('\n'))

static void terminals(void)
{
    struct winsize w = { 30, 100, 1, 2 }, got = { 0 };
    struct serial_struct serial = { 0 };
    struct termios t;
    int master, slave, n = 0, tty;
    char c = 0;

    SAY("openpty", openpty(&master, &slave, NULL, NULL, NULL));
    SAY("TIOCSWINSZ", ioctl(slave, TIOCSWINSZ, &w));
    SAY("TIOCGWINSZ", ioctl(master, TIOCGWINSZ, &got), "%d %d %d %d", got.ws_row, got.ws_col, got.ws_xpixel, got.ws_ypixel);
    SAY("TCGETS", tcgetattr(slave, &t), "%x %x %x", t.c_iflag, t.c_oflag, t.c_lflag);
    t.c_lflag &= ~ICANON, t.c_cc[VMIN] = 7;
    SAY("TCSETS", tcsetattr(slave, TCSANOW, &t));
    t.c_cc[VMIN] = 0;
    SAY("TCGETS", tcgetattr(slave, &t), "%x %d", t.c_lflag, t.c_cc[VMIN]);
    SAY("TIOCGPTPEER", ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY));
    SAY("TIOCGPTLCK", ioctl(master, TIOCGPTLCK, &n), "%d", n);
    SAY("TIOCPKT", ioctl(master, TIOCPKT, &(int){ 1 }));
    SAY("TIOCGPKT", ioctl(master, TIOCGPKT, &n), "%d", n);
    SAY("TIOCGSERIAL of a pty", ioctl(slave, TIOCGSERIAL, &serial));
    SAY("KDGKBTYPE of a pty", ioctl(slave, KDGKBTYPE, &c));
    tty = open("/dev/ttyS0", O_RDWR | O_NONBLOCK | O_NOCTTY);
    if (tty >= 0)
        SAY("TIOCGSERIAL", ioctl(tty, TIOCGSERIAL, &serial), "%d %d %#x %d %#x %d %d %d %d", serial.type, serial.line, serial.port, serial.irq,
            serial.flags, serial.baud_base, serial.close_delay, serial.closing_wait, serial.iomem_reg_shift);
}

static void files(void)
{
    char name[] = "/tmp/rhea-ioctls-XXXXXX", data[8192] = "x";
    struct { struct fiemap map; struct fiemap_extent extents[4]; } map = { { .fm_length = ~0ull, .fm_extent_count = 4, .fm_flags = FIEMAP_FLAG_SYNC } };
    struct file_clone_range range = { .src_length = 4096 };
    struct fsxattr x = { 0 };
    int fd = mkstemp(name), flags = 0, n = 0, net = open("/proc/self/ns/net", O_RDONLY);
    loff_t size = 0;

    unlink(name);
    SAY("a file", write(fd, data, sizeof(data)));
    SAY("FS_IOC_GETFLAGS", ioctl(fd, FS_IOC_GETFLAGS, &flags), "%#x", flags);
    flags |= FS_NODUMP_FL;
    SAY("FS_IOC_SETFLAGS", ioctl(fd, FS_IOC_SETFLAGS, &flags));
    flags = 0;
    SAY("FS_IOC_GETFLAGS", ioctl(fd, FS_IOC_GETFLAGS, &flags), "%d", flags & FS_NODUMP_FL);
    SAY("FS_IOC_SETVERSION", ioctl(fd, FS_IOC_SETVERSION, &(int){ 0x12345678 }));
    SAY("FS_IOC_GETVERSION", ioctl(fd, FS_IOC_GETVERSION, &n));
    SAY("FS_IOC_FSGETXATTR", ioctl(fd, FS_IOC_FSGETXATTR, &x), "%#x %u", x.fsx_xflags, x.fsx_projid);
    SAY("FS_IOC_FIEMAP", ioctl(fd, FS_IOC_FIEMAP, &map), "%u %d", map.map.fm_mapped_extents, (int)map.extents[0].fe_length);
    SAY("FIGETBSZ", ioctl(fd, FIGETBSZ, &n), "%d", n);
    SAY("FIOQSIZE", ioctl(fd, FIOQSIZE, &size), "%d", (int)size);
    SAY("FIONREAD", ioctl(fd, FIONREAD, &n), "%d", n);
    range.src_fd = fd;
    SAY("FICLONERANGE", ioctl(fd, FICLONERANGE, &range));
    SAY("BLKGETSIZE64 of a file", ioctl(fd, BLKGETSIZE64, &size));
    SAY("NS_GET_NSTYPE", ioctl(net, NS_GET_NSTYPE), "%#x", ioctl(net, NS_GET_NSTYPE));
    SAY("an unknown request", ioctl(fd, 0x12345678, 0));
    SAY("no file", ioctl(-1, FS_IOC_GETFLAGS, &flags));
    SAY("nowhere", ioctl(fd, FS_IOC_GETFLAGS, 16));
}

/* The next loop device that nobody else takes meanwhile. */
static int loop_take(int file)
{
    struct loop_config config = { .fd = file, .block_size = 512, .info = { .lo_offset = 4096, .lo_flags = LO_FLAGS_AUTOCLEAR, .lo_file_name = "a name" } };
    int control = open("/dev/loop-control", O_RDWR), fd = -1;

    for (int tries = 0; control >= 0 && tries < 100; tries++) {
        char name[32];

        snprintf(name, sizeof(name), "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
        fd = open(name, O_RDWR);
        if (fd < 0 || !ioctl(fd, LOOP_CONFIGURE, &config))
            break;
        close(fd);
        fd = -1;
        usleep(1000);
    }
    return fd;
}

static void disks(void)
{
    char name[] = "/tmp/rhea-ioctls-XXXXXX";
    struct blkpg_partition part = { .start = 8192, .length = 4096, .pno = 1 };
    struct blkpg_ioctl_arg arg = { .op = BLKPG_ADD_PARTITION, .datalen = sizeof(part), .data = &part };
    struct loop_info64 info = { 0 };
    struct hd_geometry geometry = { 0 };
    int file = mkstemp(name), loop, n = 0;
    unsigned long sectors = 0;
    long ahead = 0;
    uint64_t size = 0;
    unsigned short most = 0;

    unlink(name);
    SAY("a file", ftruncate(file, 1 << 20));
    loop = loop_take(file);
    SAY("a loop device", loop);
    if (loop < 0)
        return;
    SAY("LOOP_GET_STATUS64", ioctl(loop, LOOP_GET_STATUS64, &info), "%d %s", (int)info.lo_offset, info.lo_file_name);
    SAY("BLKGETSIZE64", ioctl(loop, BLKGETSIZE64, &size), "%d", (int)size);
    SAY("BLKGETSIZE", ioctl(loop, BLKGETSIZE, &sectors), "%lu", sectors);
    SAY("BLKRASET", ioctl(loop, BLKRASET, 96));
    SAY("BLKRAGET", ioctl(loop, BLKRAGET, &ahead), "%ld", ahead);
    SAY("BLKSSZGET", ioctl(loop, BLKSSZGET, &n), "%d", n);
    SAY("BLKBSZSET", ioctl(loop, BLKBSZSET, &(int){ 1024 }));
    SAY("BLKBSZGET", ioctl(loop, BLKBSZGET, &n), "%d", n >= 512);     /* others who look at new disks may set it, too */
    SAY("BLKSECTGET", ioctl(loop, BLKSECTGET, &most), "%d", most > 0);
    SAY("BLKDISCARD", ioctl(loop, BLKDISCARD, (uint64_t[]){ 0, 4096 }));
    SAY("HDIO_GETGEO", ioctl(loop, HDIO_GETGEO, &geometry));
    SAY("BLKPG", ioctl(loop, BLKPG, &arg));
    arg.op = BLKPG_DEL_PARTITION;
    SAY("BLKPG", ioctl(loop, BLKPG, &arg));
    SAY("LOOP_CLR_FD", ioctl(loop, LOOP_CLR_FD, 0));
    loop = open("/dev/vda", O_RDONLY);
    if (loop >= 0)
        SAY("HDIO_GETGEO", ioctl(loop, HDIO_GETGEO, &geometry), "%d %d %d %lu", geometry.heads, geometry.sectors, geometry.cylinders, geometry.start);
}

static struct sockaddr address(const char *text)
{
    struct sockaddr_in in = { .sin_family = AF_INET };
    struct sockaddr out;

    inet_pton(AF_INET, text, &in.sin_addr);
    memcpy(&out, &in, sizeof(out));
    return out;
}

static void stamps(void)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(to);
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct timespec ns = { 0 };
    struct timeval us = { 0 };
    char c;

    SAY("bind", bind(s, (struct sockaddr *)&to, len));
    getsockname(s, (struct sockaddr *)&to, &len);
    SAY("SIOCGSTAMP before", ioctl(s, SIOCGSTAMP, &us));
    SAY("send", sendto(s, "x", 1, 0, (struct sockaddr *)&to, len));
    SAY("receive", recv(s, &c, 1, 0));
    SAY("SIOCGSTAMP", ioctl(s, SIOCGSTAMP, &us), "%d", us.tv_sec > 1700000000 && us.tv_usec < 1000000);
    SAY("SIOCGSTAMPNS", ioctl(s, SIOCGSTAMPNS, &ns), "%d", ns.tv_sec > 1700000000 && ns.tv_nsec < 1000000000);
}

static void networks(void)
{
    struct ifreq r = { .ifr_name = "rhea0", .ifr_flags = IFF_TUN | IFF_NO_PI }, list[8];
    struct ifconf conf = { .ifc_len = sizeof(list), .ifc_req = list };
    struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
    struct rtentry route = { .rt_dst = address("10.99.0.0"), .rt_genmask = address("255.255.0.0"), .rt_gateway = address("10.9.8.2"),
                             .rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = "rhea0", .rt_metric = 3, .rt_mtu = 1234 };
    int s, tun, n = 0;
    FILE *f;
    char line[256];

    SAY("a network", unshare(CLONE_NEWNET));
    s = socket(AF_INET, SOCK_DGRAM, 0);
    tun = open("/dev/net/tun", O_RDWR);
    SAY("TUNGETFEATURES", ioctl(tun, TUNGETFEATURES, &n), "%d", (n & IFF_TUN) != 0);
    SAY("TUNSETIFF", ioctl(tun, TUNSETIFF, &r), "%s", r.ifr_name);
    SAY("TUNGETIFF", ioctl(tun, TUNGETIFF, &r), "%s %#x", r.ifr_name, r.ifr_flags);
    SAY("TUNSETSNDBUF", ioctl(tun, TUNSETSNDBUF, &(int){ 50000 }));
    SAY("TUNGETSNDBUF", ioctl(tun, TUNGETSNDBUF, &n), "%d", n);
    r.ifr_addr = address("10.9.8.1");
    SAY("SIOCSIFADDR", ioctl(s, SIOCSIFADDR, &r));
    r.ifr_netmask = address("255.255.255.0");
    SAY("SIOCSIFNETMASK", ioctl(s, SIOCSIFNETMASK, &r));
    r.ifr_mtu = 1400;
    SAY("SIOCSIFMTU", ioctl(s, SIOCSIFMTU, &r));
    r.ifr_mtu = 0;
    SAY("SIOCGIFMTU", ioctl(s, SIOCGIFMTU, &r), "%d", r.ifr_mtu);
    r.ifr_flags = IFF_UP;
    SAY("SIOCSIFFLAGS", ioctl(s, SIOCSIFFLAGS, &r));
    SAY("SIOCGIFFLAGS", ioctl(s, SIOCGIFFLAGS, &r), "%#x", r.ifr_flags);
    SAY("SIOCGIFTXQLEN", ioctl(s, SIOCGIFTXQLEN, &r), "%d", r.ifr_qlen);
    SAY("SIOCGIFMAP", ioctl(s, SIOCGIFMAP, &r), "%lu %lu %d %d %d", r.ifr_map.mem_start, r.ifr_map.mem_end, r.ifr_map.base_addr, r.ifr_map.irq, r.ifr_map.dma);
    r.ifr_data = (char *)&info;
    SAY("SIOCETHTOOL", ioctl(s, SIOCETHTOOL, &r), "%s %s", info.driver, info.bus_info);
    SAY("SIOCGIFCONF", ioctl(s, SIOCGIFCONF, &conf), "%d %s", conf.ifc_len / (int)sizeof(list[0]), list[0].ifr_name);
    SAY("SIOCADDRT", ioctl(s, SIOCADDRT, &route));
    f = fopen("/proc/net/route", "r");
    while (f && fgets(line, sizeof(line), f))
        printf("%s", line);
    SAY("SIOCDELRT", ioctl(s, SIOCDELRT, &route));
    memcpy(r.ifr_name, "lo", 3);
    r.ifr_flags = IFF_UP;
    SAY("SIOCSIFFLAGS", ioctl(s, SIOCSIFFLAGS, &r));
    stamps();
}

static void noise(void)
{
    struct { int count, size; uint32_t bytes[4]; } more = { 0, 16, { 1, 2, 3, 4 } };
    int fd = open("/dev/urandom", O_RDWR), n = 0;

    SAY("RNDGETENTCNT", ioctl(fd, RNDGETENTCNT, &n), "%d", n > 0);
    SAY("RNDADDENTROPY", ioctl(fd, RNDADDENTROPY, &more));
    SAY("RNDRESEEDCRNG", ioctl(fd, RNDRESEEDCRNG, 0));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    terminals();
    files();
    disks();
    noise();
    networks();
    return 0;
}
