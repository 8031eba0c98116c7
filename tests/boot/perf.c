/* What `perf stat` and `perf record` ask of a Linux kernel: counters that are read, and counters that interrupt, with the place
 * where they did. usage: perf [instructions]; prints a line for each that works. */
#define _GNU_SOURCE
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, RING = 8 * PAGE, PERIOD = 500000, WANTED = 20, SECONDS = 60 };

static volatile uint64_t sink;

static void __attribute__((noinline, noclone)) hot(void)
{
    for (uint64_t n = 0; n < 1000000; n++)
        sink += n;
}
static void __attribute__((noinline, noclone)) hot_end(void) { sink = 0; }

static int event_open(uint64_t event, uint64_t period)
{
    struct perf_event_attr a = { .type = PERF_TYPE_HARDWARE, .size = sizeof(a), .config = event, .sample_period = period, .exclude_kernel = 1,
                                 .disabled = 1, .sample_type = period ? PERF_SAMPLE_IP : 0 };
    int fd = (int)syscall(SYS_perf_event_open, &a, 0, -1, -1, 0);

    if (fd < 0)
        perror("perf_event_open");
    return fd;
}

static uint64_t count_read(int fd)
{
    uint64_t v = 0;

    return read(fd, &v, sizeof(v)) == sizeof(v) ? v : 0;
}

/* It counts while it is enabled, and stands still before and behind. */
static void stat_works(const char *name, uint64_t event)
{
    int fd = event_open(event, 0);
    uint64_t once, more, behind;

    if (fd < 0)
        return;
    hot();
    if (count_read(fd))
        printf("%s count before they are enabled\n", name);
    ioctl(fd, PERF_EVENT_IOC_ENABLE, 0);
    hot();
    once = count_read(fd);
    hot();
    ioctl(fd, PERF_EVENT_IOC_DISABLE, 0);
    more = count_read(fd);
    hot();
    behind = count_read(fd);
    if (once > 1000 && more > once && behind == more)
        printf("%s are counted\n", name);
    else
        printf("%s: %llu, %llu, %llu\n", name, (unsigned long long)once, (unsigned long long)more, (unsigned long long)behind);
    close(fd);
}

/* Samples in the ring that lie in hot(). They are taken out. */
static unsigned samples_in_hot(struct perf_event_mmap_page *ring)
{
    const uint8_t *data = (const uint8_t *)ring + PAGE;
    uint64_t head = __atomic_load_n(&ring->data_head, __ATOMIC_ACQUIRE), at = ring->data_tail;
    unsigned found = 0;

    while (at < head) {
        struct { struct perf_event_header h; uint64_t ip; } r;

        for (unsigned n = 0; n < sizeof(r); n++)
            ((uint8_t *)&r)[n] = data[(at + n) % RING];
        if (r.h.type == PERF_RECORD_SAMPLE && r.ip >= (uintptr_t)hot && r.ip < (uintptr_t)hot_end)
            found++;
        at += r.h.size ? r.h.size : head - at;
    }
    __atomic_store_n(&ring->data_tail, at, __ATOMIC_RELEASE);
    return found;
}

static void record_works(const char *name, uint64_t event)
{
    int fd = event_open(event, PERIOD);
    struct perf_event_mmap_page *ring;
    unsigned samples = 0;
    time_t end = time(NULL) + SECONDS;

    if (fd < 0)
        return;
    ring = mmap(NULL, PAGE + RING, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ring == MAP_FAILED) {
        perror("mmap");
        return;
    }
    ioctl(fd, PERF_EVENT_IOC_ENABLE, 0);
    while (samples < WANTED && time(NULL) < end) {
        hot();
        samples += samples_in_hot(ring);
    }
    ioctl(fd, PERF_EVENT_IOC_DISABLE, 0);
    if (samples >= WANTED)
        printf("%s are sampled\n", name);
    else
        printf("%s: %u samples\n", name, samples);
    munmap(ring, PAGE + RING);
    close(fd);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    hot_end();
    stat_works("cycles", PERF_COUNT_HW_CPU_CYCLES);
    record_works("cycles", PERF_COUNT_HW_CPU_CYCLES);
    if (argc > 1) {
        stat_works("instructions", PERF_COUNT_HW_INSTRUCTIONS);
        record_works("instructions", PERF_COUNT_HW_INSTRUCTIONS);
    }
    return 0;
}
