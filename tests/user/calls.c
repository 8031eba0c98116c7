/* What a Linux program may expect of its kernel, by areas: each check prints "ok NAME" or "FAILED NAME (line)". Run natively,
 * under Rhea and under the incumbent for each architecture (test_user.py); the answers must be the same: all ok. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/aio_abi.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <utime.h>

static int failures;
static const char *self;        /* argv[0] */

static void check(bool ok, const char *name, int line)
{
    printf(ok ? "ok %s\n" : "FAILED %s (line %d, errno %d)\n", name, line, errno);
    fflush(stdout);
    failures += !ok;
}
#define OK(name, condition) check(condition, name, __LINE__)

/* ---- files */

static void files(void)
{
    char dir[] = "/tmp/rhea-user-XXXXXX", path[300], buf[256] = "";
    struct iovec v[2] = { { "hello ", 6 }, { "world", 5 } };
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 2 };
    struct statx sx;
    struct statfs fs;
    struct statvfs vfs;
    struct stat st;
    struct dirent *e;
    int fd, n = 0;
    DIR *d;

    OK("mkdtemp", mkdtemp(dir) != NULL);
    snprintf(path, sizeof(path), "%s/file", dir);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    OK("open", fd >= 0);
    OK("open excl", open(path, O_RDWR | O_CREAT | O_EXCL, 0640) == -1 && errno == EEXIST);
    OK("writev", writev(fd, v, 2) == 11);
    OK("pread", pread(fd, buf, 5, 6) == 5 && !memcmp(buf, "world", 5));
    OK("lseek", lseek(fd, 0, SEEK_END) == 11);
    OK("fstat", fstat(fd, &st) == 0 && st.st_size == 11 && S_ISREG(st.st_mode) && (st.st_mode & 0777) == 0640 && st.st_nlink == 1
       && st.st_blksize >= 512 && st.st_uid == getuid() && st.st_mtime > 1000000000);
    OK("statx", statx(AT_FDCWD, path, 0, STATX_ALL, &sx) == 0 && sx.stx_size == 11 && sx.stx_ino == st.st_ino);
    OK("lstat", lstat(path, &st) == 0 && st.st_size == 11);
    OK("fstatat", fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size == 11);
    OK("ftruncate", ftruncate(fd, 5) == 0 && fstat(fd, &st) == 0 && st.st_size == 5);
    OK("truncate", truncate(path, 4096) == 0 && stat(path, &st) == 0 && st.st_size == 4096);
    OK("fallocate", fallocate(fd, 0, 4096, 8192) == 0 && fstat(fd, &st) == 0 && st.st_size == 12288);
    OK("fadvise", posix_fadvise(fd, 0, 100, POSIX_FADV_WILLNEED) == 0);
    OK("large offset", pwrite64(fd, "x", 1, 0x123456789) == 1 && lseek64(fd, 0, SEEK_END) == 0x12345678a);
    v[0].iov_base = buf, v[0].iov_len = 2;
    OK("preadv", preadv64(fd, v, 1, 0x123456788) == 2 && buf[0] == 0 && buf[1] == 'x');
    OK("smaller again", ftruncate64(fd, 12288) == 0);
    OK("readahead", readahead(fd, 0, 100) == 0);
    OK("sync_file_range", sync_file_range(fd, 0, 4096, SYNC_FILE_RANGE_WRITE) == 0);
    OK("fcntl lock", fcntl(fd, F_SETLK, &lock) == 0);
    if (fork() == 0) {
        lock = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 100 };
        _exit(fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_start == 1 && lock.l_len == 2 && lock.l_pid == getppid() ? 0 : 1);
    }
    OK("fcntl getlk in a child", wait(&n) > 0 && n == 0);
    OK("flock", flock(fd, LOCK_EX | LOCK_NB) == 0);
    OK("fcntl getfl", (fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_DIRECTORY | O_DIRECT | O_NOFOLLOW)) == O_RDWR && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    OK("fcntl setfl", fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK) == 0 && (fcntl(fd, F_GETFL) & (O_APPEND | O_NONBLOCK)) == (O_APPEND | O_NONBLOCK));
    OK("dup", (n = dup(fd)) > fd && close(n) == 0 && dup3(fd, fd, 0) == -1 && errno == EINVAL);
    close(fd);
    OK("close twice", close(fd) == -1 && errno == EBADF);
    OK("open directory", (fd = open(dir, O_RDONLY | O_DIRECTORY)) >= 0);
    OK("open no directory", open(path, O_RDONLY | O_DIRECTORY) == -1 && errno == ENOTDIR);
    OK("openat", (n = openat(fd, "file", O_RDONLY | O_NOFOLLOW)) >= 0 && close(n) == 0);
    OK("symlinkat", symlinkat("file", fd, "link") == 0 && readlinkat(fd, "link", buf, sizeof(buf)) == 4 && !memcmp(buf, "file", 4));
    OK("nofollow", openat(fd, "link", O_RDONLY | O_NOFOLLOW) == -1 && errno == ELOOP);
    OK("linkat", linkat(fd, "file", fd, "hard", 0) == 0 && fstatat(fd, "hard", &st, 0) == 0 && st.st_nlink == 2);
    OK("renameat", renameat(fd, "hard", fd, "renamed") == 0 && faccessat(fd, "hard", F_OK, 0) == -1 && errno == ENOENT);
    OK("fchmodat", fchmodat(fd, "file", 0600, 0) == 0 && fstatat(fd, "file", &st, 0) == 0 && (st.st_mode & 07777) == 0600);
    {
        struct timespec times[2] = { { 1000000000, 123456789 }, { 1100000000, 987654321 } };
        struct utimbuf u = { 900000000, 950000000 };

        OK("utimensat", utimensat(fd, "file", times, 0) == 0 && fstatat(fd, "file", &st, 0) == 0 && st.st_atim.tv_sec == 1000000000
           && st.st_mtim.tv_nsec == 987654321);
        OK("utime", utime(path, &u) == 0 && stat(path, &st) == 0 && st.st_mtime == 950000000);
    }
    OK("opendir", (d = opendir(dir)) != NULL);
    for (n = 0; d && (e = readdir(d)); n++)
        if (!strcmp(e->d_name, "link"))
            OK("dirent type", e->d_type == DT_LNK && e->d_ino != 0);
    OK("readdir", n == 5 && closedir(d) == 0);
    OK("statfs", statfs(dir, &fs) == 0 && fs.f_bsize > 0 && fs.f_blocks > 0 && fs.f_namelen == 255);
    OK("statvfs", fstatvfs(fd, &vfs) == 0 && vfs.f_bsize > 0 && vfs.f_namemax == 255);
    OK("chdir", fchdir(fd) == 0 && getcwd(buf, sizeof(buf)) && !strcmp(buf, dir) && access("file", R_OK) == 0);
    OK("unlinkat", unlinkat(fd, "file", 0) == 0 && unlink("link") == 0 && unlink("renamed") == 0 && chdir("/") == 0 && rmdir(dir) == 0);
    close(fd);
    OK("bad address", write(1, (void *)16, 1) == -1 && errno == EFAULT);
    OK("bad path", open((void *)16, O_RDONLY) == -1 && errno == EFAULT);
    OK("memfd", (fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING)) >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) == 0
       && write(fd, "abc", 3) == -1 && errno == EPERM);
    close(fd);
    OK("proc exe", readlink("/proc/self/exe", buf, sizeof(buf)) > 0 && strstr(buf, "calls"));
    OK("open exe", (fd = open("/proc/self/exe", O_RDONLY)) >= 0 && read(fd, buf, 20) == 20 && !memcmp(buf, "\177ELF", 4)
       && buf[4] == (sizeof(long) == 8 ? 2 : 1));
    close(fd);
    {
        FILE *f = fopen("/proc/self/maps", "r");
        char line[512];
        bool stack = false, code = false;

        while (f && fgets(line, sizeof(line), f)) {
            unsigned long a, b;

            if (sscanf(line, "%lx-%lx", &a, &b) != 2)
                break;
            stack |= (uintptr_t)&line >= a && (uintptr_t)&line < b && strstr(line, "rw") && strstr(line, "[stack]");
            code |= (uintptr_t)files >= a && (uintptr_t)files < b && strstr(line, "r-xp");
        }
        OK("proc maps", f && stack && code && fclose(f) == 0);
        f = fopen("/proc/self/cmdline", "r");
        OK("proc cmdline", f && fgets(line, sizeof(line), f) && strstr(line, "calls") && fclose(f) == 0);
    }
    {
        static volatile uint32_t word = 0x12345678;
        off_t at = (off_t)(uintptr_t)&word;
        uint32_t v = 0, w = 0x9abcdef0;

        fd = open("/proc/self/mem", O_RDWR);
        OK("proc mem", pread(fd, &v, 4, at) == 4 && v == 0x12345678 && pwrite(fd, &w, 4, at) == 4 && word == w);
        OK("proc mem at its position", lseek(fd, at, SEEK_SET) == at && read(fd, &v, 2) == 2 && lseek(fd, 0, SEEK_CUR) == at + 2
           && lseek(fd, -2, SEEK_CUR) == at && preadv(fd, &(struct iovec){ &v, 4 }, 1, at) == 4 && v == 0x9abcdef0);
        OK("proc mem where nothing is", pread(fd, &v, 4, 16) == -1 && errno == EIO);
        close(fd);
    }
}

/* What /proc/self/smaps says of the mapping at p: a field's kB, -1: nothing. */
static long smaps_says(const char *path, void *p, const char *field)
{
    FILE *f = fopen(path, "r");
    char line[512], name[64];
    bool here = !p;
    long kb = -1, v;

    while (f && fgets(line, sizeof(line), f)) {
        unsigned long a, b;

        if (p && sscanf(line, "%lx-%lx ", &a, &b) == 2)
            here = (uintptr_t)p >= a && (uintptr_t)p < b;
        else if (here && sscanf(line, "%63[^:]: %ld kB", name, &v) == 2 && !strcmp(name, field))
            kb = v;
    }
    if (f)
        fclose(f);
    return kb;
}

static void counted_memory(void)
{
    char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);     /* joins no other */
    long before = smaps_says("/proc/self/smaps_rollup", NULL, "Rss"), rss;

    memset(p, 1, 400 << 10);
    rss = smaps_says("/proc/self/smaps", p, "Rss");
    OK("smaps", rss >= 400 && smaps_says("/proc/self/smaps", p, "Size") >= 1024 && smaps_says("/proc/self/smaps", p, "KernelPageSize") == 4);
    OK("smaps of code", smaps_says("/proc/self/smaps", (void *)counted_memory, "Rss") > 0);
    OK("smaps_rollup", before > 0 && smaps_says("/proc/self/smaps_rollup", NULL, "Rss") >= 400);
    munmap(p, 1 << 20);
}

/* ---- pipes, sockets, waiting */

static int tcp_pair(int out[2])
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, peer;
    socklen_t n = sizeof(a);
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    if (setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) || bind(s, (struct sockaddr *)&a, n) || listen(s, 1)
        || getsockname(s, (struct sockaddr *)&a, &n))
        return -1;
    out[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(out[0], (struct sockaddr *)&a, sizeof(a)))
        return -1;
    n = sizeof(peer);
    out[1] = accept4(s, (struct sockaddr *)&peer, &n, SOCK_NONBLOCK);
    close(s);
    return n == sizeof(peer) && peer.sin_family == AF_INET ? 0 : -1;
}

static void many_events(void)
{
    static struct epoll_event out[2000];
    struct epoll_event add = { .events = EPOLLIN };
    struct rlimit limit;
    int fd = epoll_create1(EPOLL_CLOEXEC), wanted, made = 0, list[1100];

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    wanted = limit.rlim_cur < 1200 ? (int)limit.rlim_cur - 100 : 1100;
    while (made < wanted && (list[made] = eventfd(1, EFD_CLOEXEC)) >= 0 && epoll_ctl(fd, EPOLL_CTL_ADD, list[made], &add) == 0)
        made++;
    OK("epoll_wait for many", made == wanted && epoll_wait(fd, out, 2000, 0) == made);
    OK("epoll_wait for too many", epoll_wait(fd, out, INT_MAX, 0) == -1 && errno == EINVAL);
    while (made)
        close(list[--made]);
    close(fd);
}

static void group_join(int s)
{
    struct group_source_req from = { .gsr_interface = 1 };
    struct group_req r = { .gr_interface = 1 };
    struct sockaddr_in *in = (struct sockaddr_in *)&r.gr_group;

    *in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xe8010203) };
    OK("MCAST_JOIN_GROUP", setsockopt(s, IPPROTO_IP, MCAST_JOIN_GROUP, &r, sizeof(r)) == 0);
    OK("twice", setsockopt(s, IPPROTO_IP, MCAST_JOIN_GROUP, &r, sizeof(r)) == -1 && errno == EADDRINUSE);
    OK("MCAST_LEAVE_GROUP", setsockopt(s, IPPROTO_IP, MCAST_LEAVE_GROUP, &r, sizeof(r)) == 0);
    memcpy(&from.gsr_group, in, sizeof(*in));
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(&from.gsr_source, in, sizeof(*in));
    OK("MCAST_JOIN_SOURCE_GROUP", setsockopt(s, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, &from, sizeof(from)) == 0);
    OK("MCAST_LEAVE_SOURCE_GROUP", setsockopt(s, IPPROTO_IP, MCAST_LEAVE_SOURCE_GROUP, &from, sizeof(from)) == 0);
}

/* Software's receive time of a datagram: the first of three. */
static void stamped_receive(void)
{
    union { char buf[256]; struct cmsghdr align; } control = { 0 };
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(to);
    char data[4];
    struct iovec iov = { data, sizeof(data) };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof(control.buf) };
    int s = socket(AF_INET, SOCK_DGRAM, 0), flags = 1 << 3 | 1 << 4;    /* SOF_TIMESTAMPING_RX_SOFTWARE, _SOFTWARE */
    struct cmsghdr *c;
    struct timespec at[3] = { 0 };

    OK("bound", bind(s, (struct sockaddr *)&to, len) == 0 && getsockname(s, (struct sockaddr *)&to, &len) == 0);
    OK("SO_TIMESTAMPING", setsockopt(s, SOL_SOCKET, 37, &flags, sizeof(flags)) == 0);
    for (int n = 0; n < 1000; n++) {        /* the kernel begins to take times a little later */
        m.msg_controllen = sizeof(control.buf);
        OK("a datagram", sendto(s, "x", 1, 0, (struct sockaddr *)&to, len) == 1 && recvmsg(s, &m, 0) == 1);
        if (CMSG_FIRSTHDR(&m))
            break;
        usleep(1000);
    }
    c = CMSG_FIRSTHDR(&m);
    OK("SCM_TIMESTAMPING", c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == 37 && c->cmsg_len == CMSG_LEN(6 * sizeof(long)));
    if (c)
        for (int n = 0; n < 2; n++)
            memcpy(n ? (void *)&at[0].tv_nsec : (void *)&at[0].tv_sec, CMSG_DATA(c) + n * sizeof(long), sizeof(long));
    OK("its time", at[0].tv_sec > 1600000000 && at[0].tv_nsec >= 0 && at[0].tv_nsec < 1000000000);
    group_join(s);
    close(s);
}

static void sockets(void)
{
    union { char buf[CMSG_SPACE(2 * sizeof(int))]; struct cmsghdr align; } control = { 0 };
    struct timeval tv = { 1, 500000 };
    struct iovec iov = { "data", 4 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof(control.buf) };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    int s[2], p[2], fds[2], n;
    char buf[64] = "";
    socklen_t len;

    OK("pipe", pipe2(p, O_CLOEXEC) == 0);
    OK("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(c), p, sizeof(p));
    OK("sendmsg with descriptors", sendmsg(s[0], &m, 0) == 4);
    memset(&control, 0, sizeof(control));
    iov.iov_base = buf, iov.iov_len = sizeof(buf);
    m.msg_controllen = sizeof(control.buf);
    OK("recvmsg", recvmsg(s[1], &m, MSG_CMSG_CLOEXEC) == 4 && !memcmp(buf, "data", 4));
    c = CMSG_FIRSTHDR(&m);
    OK("descriptors came", c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(2 * sizeof(int)) && !CMSG_NXTHDR(&m, c));
    memcpy(fds, CMSG_DATA(c), sizeof(fds));
    OK("they work", write(fds[1], "pipe", 4) == 4 && read(p[0], buf, 10) == 4);
    OK("sockopt timeout", setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0);
    memset(&tv, 0, sizeof(tv));
    len = sizeof(tv);
    OK("sockopt read back", getsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, &len) == 0 && tv.tv_sec == 1 && tv.tv_usec >= 490000);
    OK("FIONREAD", write(s[0], "123", 3) == 3 && ioctl(s[1], FIONREAD, &n) == 0 && n == 3);
    OK("send, recv", send(s[0], "45", 2, MSG_NOSIGNAL) == 2 && recv(s[1], buf, 10, MSG_WAITALL * 0) == 5 && !memcmp(buf, "12345", 5));
    stamped_receive();
    OK("shutdown", shutdown(s[0], SHUT_WR) == 0 && read(s[1], buf, 1) == 0);
    close(s[0]), close(s[1]);
    OK("tcp", tcp_pair(s) == 0);
    OK("tcp data", write(s[0], "over tcp", 8) == 8 && poll(&(struct pollfd){ s[1], POLLIN, 0 }, 1, 5000) == 1 && read(s[1], buf, 20) == 8);
    OK("would block", read(s[1], buf, 1) == -1 && errno == EAGAIN);
    {
        struct epoll_event ev = { EPOLLIN | EPOLLOUT, { .u64 = 0x123456789abcdef0 } }, out[4];
        int ep = epoll_create1(EPOLL_CLOEXEC), efd = eventfd(5, EFD_NONBLOCK);
        uint64_t count;

        OK("epoll_ctl", epoll_ctl(ep, EPOLL_CTL_ADD, s[1], &ev) == 0);
        ev.events = EPOLLIN, ev.data.u64 = 77;
        OK("epoll two", epoll_ctl(ep, EPOLL_CTL_ADD, efd, &ev) == 0 && epoll_wait(ep, out, 4, 1000) == 2);
        OK("epoll data", (out[0].data.u64 == 77 && out[1].data.u64 == 0x123456789abcdef0) || (out[1].data.u64 == 77 && out[0].data.u64 == 0x123456789abcdef0));
        OK("eventfd", read(efd, &count, 8) == 8 && count == 5 && read(efd, &count, 8) == -1 && errno == EAGAIN);
        close(ep), close(efd);
    }
    {
        struct timespec ts = { 0, 1000000 };
        fd_set r;

        tv = (struct timeval){ 0, 1000 };
        FD_ZERO(&r);
        FD_SET(p[0], &r);
        OK("select empty", select(p[0] + 1, &r, NULL, NULL, &tv) == 0 && !FD_ISSET(p[0], &r));
        OK("select ready", write(p[1], "x", 1) == 1 && (FD_SET(p[0], &r), pselect(p[0] + 1, &r, NULL, NULL, &ts, NULL)) == 1 && FD_ISSET(p[0], &r));
        OK("ppoll", ppoll(&(struct pollfd){ p[0], POLLIN, 0 }, 1, &ts, NULL) == 1);
    }
    {
        struct itimerspec it = { { 0, 0 }, { 0, 2000000 } }, now;
        int t = timerfd_create(CLOCK_MONOTONIC, 0);
        uint64_t count = 0;

        OK("timerfd", t >= 0 && timerfd_settime(t, 0, &it, NULL) == 0 && timerfd_gettime(t, &now) == 0 && now.it_value.tv_sec == 0
           && now.it_value.tv_nsec <= 2000000 && read(t, &count, 8) == 8 && count == 1);
        close(t);
    }
    {
        struct sockaddr_un a = { AF_UNIX, "" };
        struct mmsghdr mm[2] = { 0 };
        struct iovec two[2] = { { "one", 3 }, { "three", 5 } };
        int d = socket(AF_UNIX, SOCK_DGRAM, 0), d2 = socket(AF_UNIX, SOCK_DGRAM, 0);

        snprintf(a.sun_path + 1, 90, "rhea-user-%d", getpid());
        OK("abstract socket", bind(d, (struct sockaddr *)&a, sizeof(a)) == 0 && connect(d2, (struct sockaddr *)&a, sizeof(a)) == 0);
        mm[0].msg_hdr.msg_iov = &two[0], mm[0].msg_hdr.msg_iovlen = 1;
        mm[1].msg_hdr.msg_iov = &two[1], mm[1].msg_hdr.msg_iovlen = 1;
        OK("sendmmsg", sendmmsg(d2, mm, 2, 0) == 2 && mm[0].msg_len == 3 && mm[1].msg_len == 5);
        OK("recvfrom", recv(d, buf, 10, 0) == 3 && recvfrom(d, buf, 10, 0, NULL, NULL) == 5 && !memcmp(buf, "three", 5));
        close(d), close(d2);
    }
    close(s[0]), close(s[1]), close(p[0]), close(p[1]);
    many_events();
}

/* ---- memory */

static volatile uintptr_t fault_addr;
static volatile int fault_signal, fault_code, fault_expected;
static sigjmp_buf fault_buf;

static void on_fault(int sig, siginfo_t *info, void *uc)
{
    fault_signal = sig;
    fault_code = info->si_code;
    fault_addr = (uintptr_t)info->si_addr;
    if (!fault_expected)
        _exit(99);
    siglongjmp(fault_buf, 1);
}

/* 0: read went well; else the signal */
static int touch(volatile char *p, bool write)
{
    fault_signal = 0;
    fault_expected = 1;
    if (sigsetjmp(fault_buf, 1) == 0) {
        if (write)
            *p = 1;
        else
            (void)*p;
    }
    fault_expected = 0;
    return fault_signal;
}

/* mseal(): the host's kernel may be older than it. */
static bool sealed(void)
{
    char *p = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (syscall(462, p + 4096, 4096, 0))
        return errno == ENOSYS && getenv("NATIVE");
    p[4096] = 1;
    return munmap(p, 3 * 4096) == -1 && errno == EPERM && mprotect(p + 4096, 4096, PROT_READ) == -1 && errno == EPERM
        && mmap(p + 4096, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED && errno == EPERM
        && mremap(p + 4096, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED && errno == EPERM && syscall(462, p + 1, 4096, 0) == -1
        && errno == EINVAL && p[4096] == 1 && mprotect(p, 4096, PROT_READ) == 0 && munmap(p + 8192, 4096) == 0;
}

static void memory(void)
{
    struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO }, old[2];
    size_t page = sysconf(_SC_PAGESIZE);
    char *p, *q;
    int fd;

    sigaction(SIGSEGV, &sa, &old[0]);
    sigaction(SIGBUS, &sa, &old[1]);
    p = mmap(NULL, 8 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    OK("mseal", sealed());
    OK("mmap", p != MAP_FAILED && touch(p + 8 * page - 1, true) == 0);
    OK("munmap middle", munmap(p + 2 * page, page) == 0 && touch(p + 2 * page + 5, false) == SIGSEGV && fault_code == SEGV_MAPERR
       && fault_addr == (uintptr_t)p + 2 * page + 5);
    OK("mprotect", mprotect(p + 4 * page, page, PROT_READ) == 0 && touch(p + 4 * page, false) == 0 && touch(p + 4 * page + 9, true) == SIGSEGV
       && fault_code == SEGV_ACCERR && fault_addr == (uintptr_t)p + 4 * page + 9);
    OK("mprotect hole", mprotect(p, 8 * page, PROT_READ) == -1 && errno == ENOMEM && touch(p, true) == SIGSEGV && touch(p + 6 * page, true) == 0);
    mprotect(p, page * 2, PROT_READ | PROT_WRITE);
    OK("write to read-only", pread(open("/proc/self/exe", O_RDONLY), p + 4 * page, 4, 0) == -1 && errno == EFAULT);
    OK("fixed", mmap(p + 2 * page, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + 2 * page);
    OK("noreplace", mmap(p + 2 * page, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED && errno == EEXIST);
    q = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(q + 3 * page, "moved");
    q = mremap(q, 4 * page, 64 * page, MREMAP_MAYMOVE);
    OK("mremap grows", q != MAP_FAILED && !strcmp(q + 3 * page, "moved") && touch(q + 63 * page, true) == 0);
    OK("mremap shrinks", mremap(q, 64 * page, page, 0) == q && touch(q + page, false) == SIGSEGV);
    OK("mremap fixed", mremap(q, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, p + 5 * page) == p + 5 * page && touch(q, false) == SIGSEGV);
    OK("madvise", (p[page] = 7, madvise(p + page, page, MADV_DONTNEED)) == 0 && p[page] == 0);
    OK("munmap", munmap(p, 8 * page) == 0 && touch(p, false) == SIGSEGV);
    fd = memfd_create("map", 0);
    OK("map a file", ftruncate(fd, page) == 0 && pwrite(fd, "file", 4, 0) == 4
       && (p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) != MAP_FAILED && !memcmp(p, "file", 4));
    OK("shared write", (memcpy(p, "FILE", 4), pread(fd, (char[4]){ 0 }, 4, 0)) == 4 && touch(p + page, false) == SIGBUS && fault_code == BUS_ADRERR);
    OK("msync", msync(p, page, MS_SYNC) == 0);
    munmap(p, 2 * page), close(fd);
    p = sbrk(0);
    OK("brk", sbrk(1 << 20) == p && touch(p + (1 << 20) - 1, true) == 0 && sbrk(-(1 << 20)) == p + (1 << 20) && sbrk(0) == p);
    OK("bad unmap", munmap((void *)1, page) == -1 && errno == EINVAL && mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
       && errno == EINVAL);
    OK("null", touch(NULL, false) == SIGSEGV && fault_addr == 0 && fault_code == SEGV_MAPERR);
    sigaction(SIGSEGV, &old[0], NULL);
    sigaction(SIGBUS, &old[1], NULL);
    counted_memory();
}

/* ---- processes */

/* A process in this one's memory, which goes on beside it. No libc in there: its thread-local data are the parent's. */
static volatile int shared_value, shared_go;
static volatile int shared_tid = -1;
static int sharer(void *arg)
{
    while (!__atomic_load_n(&shared_go, __ATOMIC_ACQUIRE))
        syscall(SYS_sched_yield);
    shared_value = 100 + (syscall(SYS_getpid) != (intptr_t)arg);
    syscall(SYS_exit_group, 9);
    return 0;
}

static bool runs_beside(int flags)
{
    enum { SIZE = 64 << 10 };
    char *stack = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int status = 0;
    pid_t pid;

    shared_value = shared_go = 0;
    shared_tid = 77;
    pid = clone(sharer, stack + SIZE, CLONE_VM | CLONE_CHILD_CLEARTID | flags, (void *)(intptr_t)getpid(), NULL, NULL, (void *)&shared_tid);
    if (pid < 0)
        return false;
    __atomic_store_n(&shared_go, 1, __ATOMIC_RELEASE);
    return waitpid(pid, &status, (flags & CSIGNAL) == SIGCHLD ? 0 : __WALL) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 9
        && shared_value == 101 && shared_tid == 0 && munmap(stack, SIZE) == 0;
}

static bool limited_memory(void)
{
    struct rlimit limit, got;
    void *p;

    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = 1 << 30;
    if (setrlimit(RLIMIT_AS, &limit) || getrlimit(RLIMIT_AS, &got) || got.rlim_cur != 1 << 30)
        return false;
    p = mmap(NULL, 1100 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED && errno == ENOMEM && mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

static void processes(void)
{
    char *const bad[] = { "/nonexistent/x", NULL };
    struct rusage usage;
    siginfo_t info;
    int status, p[2];
    char buf[64];
    pid_t pid;

    fflush(stdout);
    if (!(pid = fork())) {
        char *const argv[] = { "x", "exit", "43", NULL };

        fexecve(open(self, O_RDONLY | O_CLOEXEC), argv, environ);
        _exit(1);
    }
    OK("fexecve of a file that execve closes", waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 43);
    OK("a process in the same memory", runs_beside(SIGCHLD));
    OK("likewise with files and signals shared", runs_beside(CLONE_FS | CLONE_FILES | CLONE_SIGHAND | SIGCHLD));
    OK("likewise without a signal at its end", runs_beside(0));
    if (!(pid = fork()))
        _exit(limited_memory() ? 42 : 1);
    OK("RLIMIT_AS", waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 42);
    fflush(stdout);
    pid = fork();
    if (pid == 0)
        _exit(getppid() > 0 ? 42 : 1);
    OK("fork", pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 42);
    if ((pid = fork()) == 0)
        raise(SIGKILL);
    OK("killed", wait4(pid, &status, 0, &usage) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    if ((pid = fork()) == 0)
        abort();
    OK("aborted", waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    if ((pid = fork()) == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        *(volatile int *)8 = 1;
    }
    OK("segmentation fault", waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    if ((pid = fork()) == 0)
        _exit(9);
    OK("waitid", waitid(P_PID, pid, &info, WEXITED) == 0 && info.si_pid == pid && info.si_code == CLD_EXITED && info.si_status == 9
       && info.si_signo == SIGCHLD);
    OK("no child", wait(NULL) == -1 && errno == ECHILD);
    pipe(p);
    if ((pid = vfork()) == 0) {
        dup2(p[1], 1);
        execl(self, self, "echo", "from exec", NULL);
        _exit(127);
    }
    close(p[1]);
    OK("vfork and exec", pid > 0 && read(p[0], buf, sizeof(buf)) == 10 && !memcmp(buf, "from exec\n", 10) && waitpid(pid, &status, 0) == pid && status == 0);
    close(p[0]);
    {
        volatile int shared = 1;

        if ((pid = vfork()) == 0) {
            shared = 2;
            _exit(0);
        }
        OK("vfork shares memory", shared == 2 && waitpid(pid, &status, 0) == pid && status == 0);
    }
    OK("posix_spawn tells failure", posix_spawn(&pid, bad[0], NULL, NULL, bad, NULL) == ENOENT);
    OK("posix_spawn", posix_spawn(&pid, self, NULL, NULL, (char *const[]){ (char *)self, "exit", "5", NULL }, (char *const[]){ "A=b", NULL }) == 0
       && waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5);
    {
        char script[] = "/tmp/rhea-script-XXXXXX";
        int fd = mkstemp(script);

        dprintf(fd, "#!%s exit\n", self);
        fchmod(fd, 0755);
        close(fd);
        if ((pid = fork()) == 0) {
            execl(script, "x", NULL);
            _exit(1);
        }
        /* its arguments: exit SCRIPT */
        OK("script", waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 77);
        unlink(script);
    }
    OK("environment of exec", system("exit 3") != -1);
    /* in a process namespace of its own the group and session may be those of somebody outside: 0 */
    OK("getpgid", getpgid(0) == getpgrp() && getsid(0) == getsid(getpid()) && getsid(0) >= 0);
    if ((pid = fork()) == 0)
        _exit(setsid() == getpid() && getpgrp() == getpid() && getsid(0) == getpid() ? 78 : 1);
    OK("setsid", waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 78);
    OK("exec of nothing", execl("/nonexistent", "x", NULL) == -1 && errno == ENOENT);
    OK("exec of a folder", execl("/tmp", "x", NULL) == -1 && errno == EACCES);
}

/* ---- threads */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long counter;
static atomic_long atomic_counter;
static __thread int tls_value = 5;
static int turn;

static void *count_up(void *arg)
{
    tls_value += (int)(intptr_t)arg;
    for (int n = 0; n < 20000; n++) {
        pthread_mutex_lock(&lock);
        counter++;
        pthread_mutex_unlock(&lock);
        atomic_fetch_add(&atomic_counter, 1);
    }
    return (void *)(intptr_t)tls_value;
}

static void *ping(void *arg)
{
    int me = (int)(intptr_t)arg;

    for (int n = 0; n < 1000; n++) {
        pthread_mutex_lock(&lock);
        while (turn != me)
            pthread_cond_wait(&cond, &lock);
        turn = !me;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static pthread_mutex_t robust;
static void *die_with_lock(void *arg)
{
    pthread_mutex_lock(&robust);
    return NULL;
}

static void *cancelled(void *arg)
{
    for (;;)
        pause();
}

static void *forker(void *arg)
{
    int status = 1;
    pid_t pid = fork();

    if (pid == 0) {
        void *p = malloc(1000);

        free(p);
        _exit(23);
    }
    waitpid(pid, &status, 0);
    return (void *)(intptr_t)WEXITSTATUS(status);
}

/* setuid() in a process of several threads: the C library sends a signal of its own to each. */
static void *reads_uid(void *arg)
{
    char c;

    read(*(int *)arg, &c, 1);
    return (void *)(intptr_t)syscall(SYS_getuid);
}

static bool changes_all_ids(void)
{
    int p[2];
    pthread_t t;
    void *r = NULL;
    bool ok = pipe(p) == 0 && pthread_create(&t, NULL, reads_uid, p) == 0;

    usleep(20000);
    ok = ok && setresuid(-1, -1, -1) == 0 && setresgid(-1, -1, -1) == 0 && write(p[1], "x", 1) == 1;
    return ok && pthread_join(t, &r) == 0 && (uid_t)(intptr_t)r == getuid() && close(p[0]) == 0 && close(p[1]) == 0;
}

/* The files of a thread tell of it, those of the process of the process. */
static bool told_id(const char *path, const char *format, int want)
{
    char text[4096] = "", *at;
    int fd = open(path, O_RDONLY), id = -1;

    read(fd, text, sizeof(text) - 1);
    close(fd);
    at = strstr(text, "\nPid:");
    return sscanf(at ? at : text, format, &id) == 1 && id == want;
}

static void *reads_own_files(void *arg)
{
    int tid = syscall(SYS_gettid);
    char path[100];
    bool ok = told_id("/proc/self/status", "\nPid: %d", getpid()) && told_id("/proc/thread-self/status", "\nPid: %d", tid)
        && told_id("/proc/self/stat", "%d", getpid());

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
    return (void *)(intptr_t)(ok && told_id(path, "%d", tid));
}

static void threads(void)
{
    pthread_t t[8];
    pthread_mutexattr_t attr;
    struct timespec ts;
    void *r;
    long sum = 0;
    void *head = NULL;
    size_t len = 0;

    OK("robust list", syscall(SYS_get_robust_list, 0, &head, &len) == 0 && head && len == 3 * sizeof(long));
    OK("ids of all threads", changes_all_ids());
    pthread_create(&t[0], NULL, reads_own_files, NULL);
    OK("files of a thread", pthread_join(t[0], &r) == 0 && r);
    for (intptr_t n = 0; n < 8; n++)
        pthread_create(&t[n], NULL, count_up, (void *)n);
    for (int n = 0; n < 8; n++) {
        pthread_join(t[n], &r);
        sum += (intptr_t)r;
    }
    OK("mutex", counter == 160000);
    OK("atomics", atomic_counter == 160000);
    OK("thread-local", sum == 8 * 5 + 28 && tls_value == 5);
    pthread_create(&t[0], NULL, ping, (void *)0);
    pthread_create(&t[1], NULL, ping, (void *)1);
    OK("condition", pthread_join(t[0], NULL) == 0 && pthread_join(t[1], NULL) == 0);
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &attr);
    pthread_create(&t[0], NULL, die_with_lock, NULL);
    pthread_join(t[0], NULL);
    OK("robust mutex", pthread_mutex_lock(&robust) == EOWNERDEAD && pthread_mutex_consistent(&robust) == 0 && pthread_mutex_unlock(&robust) == 0);
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&robust, &attr);
    OK("priority inheritance", pthread_mutex_lock(&robust) == 0 && pthread_mutex_unlock(&robust) == 0);
    pthread_create(&t[0], NULL, cancelled, NULL);
    OK("cancel", pthread_cancel(t[0]) == 0 && pthread_join(t[0], &r) == 0 && r == PTHREAD_CANCELED);
    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_nsec += 1000000;
    ts.tv_sec += ts.tv_nsec / 1000000000;
    ts.tv_nsec %= 1000000000;
    pthread_mutex_lock(&lock);
    OK("timed wait", pthread_cond_timedwait(&cond, &lock, &ts) == ETIMEDOUT);
    pthread_mutex_unlock(&lock);
    pthread_create(&t[0], NULL, forker, NULL);
    OK("fork in a thread", pthread_join(t[0], &r) == 0 && (intptr_t)r == 23);
    for (int round = 0, bad = 0; round <= 50; round++) {
        if (round == 50) {
            OK("threads come and go", bad == 0);
            break;
        }
        for (int n = 0; n < 4; n++)
            bad += pthread_create(&t[n], NULL, count_up, NULL) != 0;
        for (int n = 0; n < 4; n++)
            pthread_join(t[n], NULL);
    }
}

/* ---- signals */

static volatile sig_atomic_t got, got_value, depth, max_depth;
static volatile pid_t got_pid;

static void count_signal(int sig) { got++; }
static void info_signal(int sig, siginfo_t *info, void *uc)
{
    got = sig;
    got_value = info->si_value.sival_int;
    got_pid = info->si_pid;
}
static void nested_signal(int sig)
{
    depth++;
    max_depth = depth > max_depth ? depth : max_depth;
    if (depth < 4)
        raise(SIGUSR1);
    depth--;
}
static volatile uintptr_t handler_sp;
static void stack_signal(int sig) { int here; handler_sp = (uintptr_t)&here; }

struct interrupted { pthread_t whom; int fd; volatile bool seen; };

static void *interrupter(void *arg)
{
    struct interrupted *who = arg;
    struct timespec ts = { 0, 20000000 };

    for (int n = 0; n < 3 || !who->seen; n++) {     /* the first may come before the read */
        nanosleep(&ts, NULL);
        pthread_kill(who->whom, SIGUSR2);
    }
    nanosleep(&ts, NULL);
    write(who->fd, "x", 1);
    return NULL;
}

static void signals(void)
{
    struct sigaction sa = { .sa_handler = count_signal };
    struct interrupted who = { pthread_self(), 0, true };
    static char alt[65536];
    stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) }, old_ss;
    struct itimerval it = { { 0, 3000 }, { 0, 3000 } };
    struct timespec ts = { 0, 200000000 };
    siginfo_t info;
    sigset_t set, old;
    pthread_t t;
    int p[2];
    char c;

    sigaction(SIGUSR1, &sa, NULL);
    sigaction(SIGUSR2, &sa, NULL);
    OK("raise", raise(SIGUSR1) == 0 && got == 1);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    raise(SIGUSR1);
    OK("blocked", got == 1 && sigpending(&set) == 0 && sigismember(&set, SIGUSR1) == 1);
    sigprocmask(SIG_SETMASK, &old, NULL);
    OK("delivered when unblocked", got == 2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    sigemptyset(&old);
    OK("sigsuspend", sigsuspend(&old) == -1 && errno == EINTR && got == 3);
    raise(SIGUSR1);
    OK("sigtimedwait", sigtimedwait(&set, &info, &ts) == SIGUSR1 && info.si_pid == getpid() && got == 3);
    ts.tv_nsec = 1000000;
    OK("sigtimedwait ends", sigtimedwait(&set, &info, &ts) == -1 && errno == EAGAIN);
    sigprocmask(SIG_SETMASK, &old, NULL);
    sa.sa_sigaction = info_signal, sa.sa_flags = SA_SIGINFO;
    sigaction(SIGRTMIN + 3, &sa, NULL);
    OK("sigqueue", sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = 4711 }) == 0 && got == SIGRTMIN + 3 && got_value == 4711
       && got_pid == getpid());
    sa.sa_handler = nested_signal, sa.sa_flags = SA_NODEFER;
    sigaction(SIGUSR1, &sa, NULL);
    raise(SIGUSR1);
    OK("nested", max_depth == 4 && depth == 0);
    sa.sa_handler = count_signal, sa.sa_flags = SA_RESETHAND;
    sigaction(SIGUSR1, &sa, NULL);
    got = 0;
    raise(SIGUSR1);
    OK("once", got == 1 && sigaction(SIGUSR1, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL);
    OK("sigaltstack", sigaltstack(&ss, NULL) == 0);
    sa.sa_handler = stack_signal, sa.sa_flags = SA_ONSTACK;
    sigaction(SIGUSR1, &sa, NULL);
    raise(SIGUSR1);
    OK("on the other stack", handler_sp >= (uintptr_t)alt && handler_sp < (uintptr_t)alt + sizeof(alt));
    OK("sigaltstack back", sigaltstack(NULL, &old_ss) == 0 && old_ss.ss_sp == alt && old_ss.ss_size == sizeof(alt) && old_ss.ss_flags == 0);
    ss.ss_flags = SS_DISABLE;
    sigaltstack(&ss, NULL);
    sa.sa_handler = count_signal, sa.sa_flags = 0;
    sigaction(SIGALRM, &sa, NULL);
    got = 0;
    setitimer(ITIMER_REAL, &it, NULL);
    OK("setitimer", pause() == -1 && errno == EINTR && got >= 1);
    setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
    pipe(p);
    who.fd = p[1];
    got = 0;
    sa.sa_flags = SA_RESTART;
    sigaction(SIGUSR2, &sa, NULL);
    pthread_create(&t, NULL, interrupter, &who);
    OK("restarted read", read(p[0], &c, 1) == 1 && got >= 1);     /* two may come as one */
    pthread_join(t, NULL);
    got = 0;
    sa.sa_flags = 0;
    sigaction(SIGUSR2, &sa, NULL);
    who.seen = false;
    pthread_create(&t, NULL, interrupter, &who);
    OK("interrupted read", read(p[0], &c, 1) == -1 && errno == EINTR && got >= 1);
    who.seen = true;
    while (read(p[0], &c, 1) != 1)
        ;
    pthread_join(t, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    {
        struct signalfd_siginfo si;
        int fd = signalfd(-1, &set, SFD_CLOEXEC);

        sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 9 });
        OK("signalfd", fd >= 0 && read(fd, &si, sizeof(si)) == sizeof(si) && si.ssi_signo == (unsigned)SIGRTMIN + 1 && si.ssi_int == 9);
        close(fd);
    }
    {
        struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = 31 };
        struct itimerspec its = { { 0, 0 }, { 0, 1000000 } };
        timer_t timer;

        ts = (struct timespec){ 60, 0 };
        OK("timer", timer_create(CLOCK_MONOTONIC, &ev, &timer) == 0 && timer_settime(timer, 0, &its, NULL) == 0
           && sigtimedwait(&set, &info, &ts) == SIGRTMIN + 1 && info.si_code == SI_TIMER && info.si_value.sival_int == 31
           && timer_delete(timer) == 0);
    }
    close(p[0]), close(p[1]);
}

/* ---- time, limits, names, IPC */

/* Linux's own asynchronous I/O, as libaio does it: the name of a context is also where a ring might be read. */
static void async_io(void)
{
    char text[6] = "", path[] = "/tmp/rhea-user-XXXXXX";
    int fd = mkstemp(path), event = eventfd(0, 0), wait_for = eventfd(0, 0);
    struct iovec v[2] = { { "abc", 3 }, { "defgh", 5 } };
    struct iocb write_cb = { .aio_data = 11, .aio_lio_opcode = IOCB_CMD_PWRITEV, .aio_fildes = fd, .aio_buf = (uintptr_t)v, .aio_nbytes = 2,
                             .aio_flags = IOCB_FLAG_RESFD, .aio_resfd = event };
    struct iocb read_cb = { .aio_data = 22, .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = fd, .aio_buf = (uintptr_t)text, .aio_nbytes = 5,
                            .aio_offset = 2 };
    struct iocb poll_cb = { .aio_data = 33, .aio_lio_opcode = IOCB_CMD_POLL, .aio_fildes = wait_for, .aio_buf = POLLIN };
    struct iocb bad_cb = { .aio_lio_opcode = 99, .aio_fildes = fd }, *list[2] = { &write_cb, &bad_cb };
    struct { sigset_t *mask; size_t bytes; } around = { NULL, 8 };
    struct timespec none = { 0, 0 };
    struct io_event e[4];
    unsigned long context = 0;
    uint64_t count;

    unlink(path);
    OK("io_setup", syscall(SYS_io_setup, 8, &context) == 0 && context != 0);
    OK("io_setup twice", syscall(SYS_io_setup, 8, &context) == -1 && errno == EINVAL);
    OK("no ring that libaio would read", *(uint32_t *)(context + 16) != 0xa10a10a1 || sizeof(long) == 8);
    OK("io_submit stops at a bad one", syscall(SYS_io_submit, context, 2, list) == 1);
    OK("aio's eventfd", read(event, &count, 8) == 8 && count == 1);
    OK("io_getevents", syscall(SYS_io_getevents, context, 1, 4, e, NULL) == 1 && e[0].data == 11 && e[0].obj == (uintptr_t)&write_cb && e[0].res == 8);
    OK("io_submit of a bad one", (list[0] = &bad_cb, syscall(SYS_io_submit, context, 1, list)) == -1 && errno == EINVAL);
    OK("io_submit read", (list[0] = &read_cb, syscall(SYS_io_submit, context, 1, list)) == 1);
    OK("io_pgetevents", syscall(SYS_io_pgetevents, context, 1, 4, e, NULL, &around) == 1 && e[0].data == 22 && e[0].res == 5 && !memcmp(text, "cdefg", 5));
    OK("io_submit poll", (list[0] = &poll_cb, syscall(SYS_io_submit, context, 1, list)) == 1);
    OK("nothing yet", syscall(SYS_io_getevents, context, 0, 4, e, &none) == 0);
    OK("io_cancel of another", syscall(SYS_io_cancel, context, &read_cb, e) == -1 && errno == EINVAL);
    OK("io_cancel", syscall(SYS_io_cancel, context, &poll_cb, e) == -1 && errno == EINPROGRESS
       && syscall(SYS_io_getevents, context, 1, 4, e, NULL) == 1 && e[0].data == 33 && e[0].obj == (uintptr_t)&poll_cb);
    OK("io_destroy", syscall(SYS_io_destroy, context) == 0 && syscall(SYS_io_destroy, context) == -1 && errno == EINVAL);
    OK("no such context", syscall(SYS_io_submit, 4096, 0, list) == -1 && errno == EINVAL);
    close(fd), close(event), close(wait_for);
}

/* A key of the session's own. */
static void keys(void)
{
    char text[64] = "";
    long session = syscall(SYS_keyctl, 1, "rhea-calls"), key, n;    /* KEYCTL_JOIN_SESSION_KEYRING */

    if (session < 0) {
        OK("no keys", errno == ENOSYS || errno == EPERM || errno == EDQUOT);
        return;
    }
    key = syscall(SYS_add_key, "user", "rhea:test", "payload", 7, -3);
    OK("add_key", key > 0);
    OK("KEYCTL_READ", (n = syscall(SYS_keyctl, 11, key, text, sizeof(text))) == 7 && !memcmp(text, "payload", 7));
    OK("KEYCTL_DESCRIBE", syscall(SYS_keyctl, 6, key, text, sizeof(text)) > 0 && !strncmp(text, "user;", 5) && strstr(text, ";rhea:test"));
    OK("KEYCTL_UPDATE", syscall(SYS_keyctl, 2, key, "longer than that", 16) == 0 && syscall(SYS_keyctl, 11, key, text, sizeof(text)) == 16);
    OK("KEYCTL_SEARCH", syscall(SYS_keyctl, 10, -3, "user", "rhea:test", 0) == key);
    OK("no such command", syscall(SYS_keyctl, 12345, 0, 0, 0, 0) == -1 && errno == EOPNOTSUPP);
}

#define ALL_BITS 0xffffffffUL
static void *wake_later(void *arg)
{
    usleep(20000);
    *(atomic_int *)arg = 1;
    syscall(454, arg, ALL_BITS, 1, 2);               /* futex_wake */
    return NULL;
}

/* Calls of Linux 6.7 and 6.8, if the kernel has them. */
static void newer_calls(void)
{
    struct { uint64_t val, uaddr; uint32_t flags, reserved; } pair[2] = { 0 };
    struct timespec never = { 0 };
    static atomic_int word, other;
    uint32_t size = 0;
    pthread_t th;
    int r;

    errno = 0;
    if (syscall(454, &word, ALL_BITS, 1, 2) < 0) {
        OK("no futex_wake", errno == ENOSYS);
        return;
    }
    pthread_create(&th, NULL, wake_later, &word);
    while (!word)
        syscall(455, &word, 0L, ALL_BITS, 2, NULL, 0);
    OK("futex_wait", pthread_join(th, NULL) == 0 && word == 1);
    OK("another value", syscall(455, &word, 0L, ALL_BITS, 2, NULL, 0) == -1 && errno == EAGAIN);
    clock_gettime(CLOCK_MONOTONIC, &never);
    OK("futex_wait ends", syscall(455, &word, 1L, ALL_BITS, 2, (int64_t[]){ never.tv_sec, never.tv_nsec }, CLOCK_MONOTONIC) == -1 && errno == ETIMEDOUT);
    pair[0].uaddr = (uintptr_t)&word, pair[1].uaddr = (uintptr_t)&other;
    pair[0].flags = pair[1].flags = 2, pair[0].val = 1;
    OK("futex_requeue", syscall(456, pair, 0, 1, 1) == 0);
    r = syscall(461, NULL, &size, 0);
    OK("lsm_list_modules", (r == -1 && (errno == E2BIG || errno == ENOSYS)) || (r == 0 && size == 0));
}

static void pages(void)
{
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct iovec v = { p, 8192 };
    void *list[2] = { p, p + 4096 };
    int status[2] = { 99, 99 }, pidfd = syscall(434, getpid(), 0);
    unsigned long mask[64] = { 0 };

    p[0] = 1;
    OK("move_pages", syscall(SYS_move_pages, 0, 2L, list, NULL, status, 0) == -1 ? errno == ENOSYS || errno == EPERM : status[0] >= 0 && status[1] == -ENOENT);
    OK("process_madvise", pidfd < 0 || syscall(440, pidfd, &v, 1L, MADV_COLD, 0) == 8192 || errno == ENOSYS || errno == EINVAL);
    OK("sched_getaffinity by longs", syscall(SYS_sched_getaffinity, 0, 63 * sizeof(long), mask) > 0 && mask[0]);
    OK("no longs", syscall(SYS_sched_getaffinity, 0, sizeof(long) + 2, mask) == -1 && errno == EINVAL);
    OK("pkey_free", syscall(SYS_pkey_free, 14) == -1 && errno == EINVAL);
    munmap(p, 8192);
}

#ifdef __i386__
/* What i386 had first. */
static void oldest_calls(void)
{
    struct { uint16_t dev, ino, mode, nlink, uid, gid, rdev; uint32_t size, atime, mtime, ctime; } st = { 0 };
    char old[5][9], names[5][65];
    struct utsname u;

    uname(&u);
    OK("olduname", syscall(109, names) == 0 && !strcmp(names[0], "Linux") && !strcmp(names[2], u.release));
    OK("oldolduname", syscall(59, old) == 0 && !strcmp(old[0], "Linux") && !strncmp(old[1], u.nodename, 8));
    OK("ssetmask", syscall(69, 1 << (SIGUSR1 - 1)) == 0 && syscall(68) == 1 << (SIGUSR1 - 1) && syscall(69, 0) == 1 << (SIGUSR1 - 1));
    OK("oldstat", syscall(18, "/proc", &st) == -1 ? errno == EOVERFLOW : st.ino && S_ISDIR(st.mode));
    OK("oldstat of nothing", syscall(18, "/nothing/there", &st) == -1 && errno == ENOENT);
}
#endif

static void others(void)
{
    struct timespec a, b, c = { 0, 2000000 };
    struct rlimit limit;
    struct sysinfo si;
    struct utsname u;
    struct timeval tv;
    struct rusage ru;
    struct tms tms;
    cpu_set_t cpus;
    int id;

#ifdef __riscv
    struct { int64_t key; uint64_t value; } probe[] = { { 3 }, { 4 }, { 12345 } };

    OK("riscv_hwprobe", syscall(258, probe, 3, 0, NULL, 0) == 0 && probe[0].value == 1 && (probe[1].value & 3) == 3 && probe[2].key == -1);
#endif
#ifdef __i386__
    for (int code = 0x1001; code <= 0x1004; code++)         /* segments are set_thread_area()'s */
        OK("arch_prctl", syscall(384, code, &a) == -1 && errno == EINVAL);
#endif
    keys();
    newer_calls();
    pages();
#ifdef __i386__
    oldest_calls();
#endif
    clock_gettime(CLOCK_MONOTONIC, &a);
    OK("nanosleep", nanosleep(&c, NULL) == 0 && clock_gettime(CLOCK_MONOTONIC, &b) == 0
       && (b.tv_sec - a.tv_sec) * 1000000000LL + b.tv_nsec - a.tv_nsec >= 2000000);
    OK("clock_getres", clock_getres(CLOCK_REALTIME, &a) == 0 && a.tv_sec == 0 && a.tv_nsec > 0);
    OK("gettimeofday", gettimeofday(&tv, NULL) == 0 && labs(tv.tv_sec - time(NULL)) <= 1 && tv.tv_usec < 1000000);
    OK("times", times(&tms) != (clock_t)-1 && getrusage(RUSAGE_SELF, &ru) == 0 && ru.ru_maxrss > 0);
    OK("getrlimit", getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > 0 && limit.rlim_cur <= limit.rlim_max);
    OK("setrlimit", (limit.rlim_cur = 200, setrlimit(RLIMIT_NOFILE, &limit)) == 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 200);
    OK("core limit", getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == RLIM_INFINITY ? limit.rlim_max == RLIM_INFINITY : true);
    OK("sysinfo", sysinfo(&si) == 0 && si.totalram > 0 && si.mem_unit > 0 && si.uptime > 0 && si.procs > 0);
    OK("uname", uname(&u) == 0 && !strcmp(u.sysname, "Linux") && u.machine[0]);
    OK("affinity", sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) == sysconf(_SC_NPROCESSORS_ONLN));
    OK("ids", getuid() == geteuid() && getgid() == getegid() && getgroups(0, NULL) >= 0);
    OK("sched", sched_yield() == 0 && sched_get_priority_max(SCHED_FIFO) == 99 && getpriority(PRIO_PROCESS, 0) >= -20);
    OK("unknown call", syscall(999) == -1 && errno == ENOSYS);
    id = shmget(IPC_PRIVATE, 10000, IPC_CREAT | 0600);
    {
        struct shmid_ds ds;
        char *p = shmat(id, NULL, 0);

        OK("shmat", p != (void *)-1 && (strcpy(p + 9000, "shared"), fork()) == 0 ? (strcpy(p, "child"), _exit(0), 0) : 1);
        wait(NULL);
        OK("shared memory", !strcmp(p, "child") && shmctl(id, IPC_STAT, &ds) == 0 && ds.shm_segsz == 10000 && ds.shm_nattch == 1
           && ds.shm_perm.mode == 0600 && ds.shm_cpid == getpid());
        OK("shmdt", shmdt(p) == 0 && shmctl(id, IPC_RMID, NULL) == 0);
    }
    id = semget(IPC_PRIVATE, 2, IPC_CREAT | 0600);
    {
        union { int val; struct semid_ds *buf; unsigned short *array; } arg;
        unsigned short values[2] = { 3, 4 };
        struct semid_ds ds;

        arg.array = values;
        OK("semctl SETALL", semctl(id, 0, SETALL, arg) == 0 && semctl(id, 1, GETVAL) == 4);
        arg.buf = &ds;
        OK("semop", semop(id, &(struct sembuf){ 0, -2, 0 }, 1) == 0 && semctl(id, 0, GETVAL) == 1 && semctl(id, 0, IPC_STAT, arg) == 0
           && ds.sem_nsems == 2 && ds.sem_otime > 1000000000);
        semctl(id, 0, IPC_RMID);
    }
    id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    {
        struct { long type; char text[16]; } m = { 7, "message" }, r = { 0 };
        struct msqid_ds ds;

        OK("message queue", msgsnd(id, &m, 8, 0) == 0 && msgctl(id, IPC_STAT, &ds) == 0 && ds.msg_qnum == 1
           && msgrcv(id, &r, 16, 7, 0) == 8 && r.type == 7 && !strcmp(r.text, "message"));
        msgctl(id, IPC_RMID, NULL);
    }
    {
        struct mq_attr attr = { .mq_maxmsg = 4, .mq_msgsize = 32 }, back;
        char name[32], buf[32];
        unsigned prio;
        mqd_t q;

        snprintf(name, sizeof(name), "/rhea-user-%d", getpid());
        q = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
        OK("POSIX message queue", q != (mqd_t)-1 && mq_send(q, "posix", 6, 5) == 0 && mq_getattr(q, &back) == 0 && back.mq_curmsgs == 1
           && back.mq_msgsize == 32 && mq_receive(q, buf, sizeof(buf), &prio) == 6 && prio == 5 && !strcmp(buf, "posix"));
        mq_close(q);
        mq_unlink(name);
    }
}

static const struct { const char *name; void (*run)(void); } areas[] = {
    { "files", files }, { "sockets", sockets }, { "memory", memory }, { "processes", processes }, { "threads", threads },
    { "signals", signals }, { "async_io", async_io }, { "others", others },
};

int main(int argc, char **argv)
{
    static char path[PATH_MAX];

    self = realpath(argv[0], path);
    if (argc > 2 && !strcmp(argv[1], "echo")) {
        puts(argv[2]);
        return 0;
    }
    if (argc > 2 && !strcmp(argv[1], "exit"))
        return strchr(argv[2], '/') ? 77 : atoi(argv[2]);
    for (size_t n = 0; n < sizeof(areas) / sizeof(areas[0]); n++)
        if (argc < 2 || !strcmp(argv[1], areas[n].name))
            areas[n].run();
    printf("%d failures\n", failures);
    return failures != 0;
}
