/* What differs between the kernel ABIs of the guests, as data. A new guest is a row in abi.c and a column of numbers. */
#ifndef RHEA_SRC_USER_ABI_H
#define RHEA_SRC_USER_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum abi_column { ABI_X86_64, ABI_I386, ABI_ARM, ABI_AARCH64, ABI_RISCV64, ABI_RISCV32, ABI_COUNT };

struct abi {
    const char *guest;          /* guest_user.name */
    enum abi_column column;     /* of syscall_numbers.def */
    uint8_t bits;
    uint32_t audit_arch;        /* AUDIT_ARCH_*, of seccomp */
    uint8_t align64;            /* alignment of a 64-bit field in a struct: i386 has 4 */
    bool pairs_even;            /* a 64-bit argument of a 32-bit guest begins at an even one */
    bool arm_open_flags;        /* O_DIRECTORY, O_NOFOLLOW, O_DIRECT, O_LARGEFILE as Arm has them */
    bool packed_epoll;          /* struct epoll_event without padding */
    bool clone_tls_last;        /* clone(flags, stack, ptid, ctid, tls); others: tls before ctid */
    bool no_restorer;           /* struct sigaction without sa_restorer */
    bool stat_generic;          /* struct stat as asm-generic has it (64 bits) */
};
const struct abi *abi_find(const char *guest);

/* Structures by their fields, a letter each, a count before it: b 8, h H 16, i I 32, q Q 64 bits; l L the guest's long;
 * p a pointer's value; R an rlimit's long (all ones: infinity); n 64 bits whose upper half a 32-bit guest leaves open
 * (nanoseconds of the kernel's timespec); a A an address, 64 bits in A. Other capitals are unsigned. */
#define LAYOUTS(X)                                                                                          \
    X(timespec, "2l") X(timespec64, "qn") X(itimerspec, "4l") X(itimerspec64, "qnqn")                       \
    X(timeval, "2l") X(timezone, "2i") X(itimerval, "4l") X(rusage, "18l") X(rlimit, "2R") X(rlimit64, "2Q")  \
    X(tms, "4l") X(utimbuf, "2l") X(flock, "2h2li") X(flock64, "2h2qi") X(mq_attr, "8l")                     \
    X(timex, "I4li3l2ll2li5li11i") X(timex64, "I4qi3q2qq2qi5qi11i") X(time, "l") X(sched_param, "i")          \
    X(long_, "l") X(int_, "i") X(int2, "2i") X(loff, "q") X(timespec_2, "4l") X(timeval_2, "4l")              \
    X(timespec64_2, "qnqn") X(statx, "32Q") X(cap_header, "2I") X(cap_data, "6I") X(kexec, "4L")
enum layout {
    LAYOUT_NONE,
#define X(name, fields) LAYOUT_##name,
    LAYOUTS(X)
#undef X
    LAYOUT_COUNT
};
enum { LAYOUT_MAX = 256 };      /* no host structure is larger */
size_t layout_size(const struct abi *abi, enum layout l);       /* abi NULL: the host's */
bool layout_same(const struct abi *abi, enum layout l);
/* Both buffers of layout_size(). */
void layout_to_host(const struct abi *abi, enum layout l, void *host, const void *guest);
void layout_to_guest(const struct abi *abi, enum layout l, void *guest, const void *host);
const char *layout_name(enum layout l);
/* The same by the fields themselves. Addresses (a, A) are converted as numbers. */
size_t fields_size(const struct abi *abi, const char *fields);
void fields_to_host(const struct abi *abi, const char *fields, void *host, const void *guest);
void fields_to_guest(const struct abi *abi, const char *fields, void *guest, const void *host);
/* Offset of the nth address among the fields, and its size; false: there are fewer. */
bool fields_address(const struct abi *abi, const char *fields, unsigned nth, size_t *at, unsigned *size);

int open_flags_to_host(const struct abi *abi, int flags);
int open_flags_to_guest(const struct abi *abi, int flags);

#endif
