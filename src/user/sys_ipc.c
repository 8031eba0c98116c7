/* System V IPC: its structures and i386's one call for all. */
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include "user/mem.h"
#include "user/syscall.h"

enum { IPC_64_FLAG = 0x100, MESSAGE_MAX = 1 << 20 };

/* The kernel's struct ipc64_perm and what follows, as words in order. 32-bit guests have times in two words, of which we
 * set the lower; x86-64's semid_ds has a hole there too. */
#define PERM(p) (p).__key, (p).uid, (p).gid, (p).cuid, (p).cgid, (p).mode, (p).__seq, 0, 0, 0
#define PERM_FIELDS "6I2H2L"

static int64_t perm_get(struct thread *t, uint64_t va, struct ipc_perm *p)
{
    uint32_t raw[6];

    if (guest_read(t, raw, va, sizeof(raw)))
        return -EFAULT;
    p->uid = raw[1];
    p->gid = raw[2];
    p->mode = raw[5];
    return 0;
}

SYS(shmctl)
{
    const struct abi *abi = t->abi;
    int command = (int)a[1] & ~IPC_64_FLAG;
    struct shmid_ds ds = { 0 };
    uint8_t out[160];
    int64_t r;
    size_t n;

    if (abi->bits == 64)        /* the same structures */
        return user_safe_syscall(t, SYS_shmctl, (int32_t)a[0], command, (uint64_t)user_ptr_write(t, a[2], sizeof(ds)), 0, 0, 0);
    if (command == IPC_SET && perm_get(t, a[2], &ds.shm_perm))
        return -EFAULT;
    if (command == IPC_INFO || command == SHM_INFO)
        return -EINVAL;
    r = user_safe_syscall(t, SYS_shmctl, (int32_t)a[0], command, (uint64_t)&ds, 0, 0, 0);
    if (r < 0 || (command != IPC_STAT && command != SHM_STAT))
        return r;
    {
        uint64_t v[] = { PERM(ds.shm_perm), ds.shm_segsz, ds.shm_atime, 0, ds.shm_dtime, 0, ds.shm_ctime, 0, ds.shm_cpid, ds.shm_lpid,
                         ds.shm_nattch, 0, 0 };

        n = user_pack(abi, PERM_FIELDS "L6L2i3L", v, out);
    }
    return guest_write(t, a[2], out, n) ? -EFAULT : r;
}

SYS(msgctl)
{
    const struct abi *abi = t->abi;
    int command = (int)a[1] & ~IPC_64_FLAG;
    struct msqid_ds ds = { 0 };
    uint8_t out[160];
    int64_t r;
    size_t n;

    if (abi->bits == 64)
        return user_safe_syscall(t, SYS_msgctl, (int32_t)a[0], command, (uint64_t)user_ptr_write(t, a[2], sizeof(ds)), 0, 0, 0);
    if (command == IPC_SET) {
        uint32_t bytes;

        if (perm_get(t, a[2], &ds.msg_perm) || guest_read(t, &bytes, a[2] + 36 + 32, sizeof(bytes)))
            return -EFAULT;
        ds.msg_qbytes = bytes;
    }
    if (command == IPC_INFO || command == MSG_INFO)
        return -EINVAL;
    r = user_safe_syscall(t, SYS_msgctl, (int32_t)a[0], command, (uint64_t)&ds, 0, 0, 0);
    if (r < 0 || (command != IPC_STAT && command != MSG_STAT))
        return r;
    {
        uint64_t v[] = { PERM(ds.msg_perm), ds.msg_stime, 0, ds.msg_rtime, 0, ds.msg_ctime, 0, ds.__msg_cbytes, ds.msg_qnum,
                         ds.msg_qbytes, ds.msg_lspid, ds.msg_lrpid, 0, 0 };

        n = user_pack(abi, PERM_FIELDS "6L3L2i2L", v, out);
    }
    return guest_write(t, a[2], out, n) ? -EFAULT : r;
}

static int64_t sem_status(struct thread *t, int id, int number, int command, uint64_t va)
{
    const struct abi *abi = t->abi;
    struct semid_ds ds = { 0 };
    uint8_t out[160];
    int64_t r;
    size_t n;

    if (command == IPC_SET && perm_get(t, va, &ds.sem_perm))
        return -EFAULT;
    r = user_safe_syscall(t, SYS_semctl, id, number, command, (uint64_t)&ds, 0, 0);
    if (r < 0 || command == IPC_SET)
        return r;
    if (abi->stat_generic) {
        uint64_t v[] = { PERM(ds.sem_perm), ds.sem_otime, ds.sem_ctime, ds.sem_nsems, 0, 0 };

        n = user_pack(abi, PERM_FIELDS "2l3L", v, out);
    } else {
        uint64_t v[] = { PERM(ds.sem_perm), ds.sem_otime, 0, ds.sem_ctime, 0, ds.sem_nsems, 0, 0 };

        n = user_pack(abi, PERM_FIELDS "4l3L", v, out);
    }
    return guest_write(t, va, out, n) ? -EFAULT : r;
}

SYS(semctl)
{
    int command = (int)a[2] & ~IPC_64_FLAG;
    struct semid_ds ds;

    switch (command) {
    case IPC_STAT: case SEM_STAT: case IPC_SET:
        return sem_status(t, (int)a[0], (int)a[1], command, a[3]);
    case GETALL: case SETALL:
        if (semctl((int)a[0], 0, IPC_STAT, &ds) < 0)
            return -errno;
        return user_safe_syscall(t, SYS_semctl, (int32_t)a[0], (int32_t)a[1], command,
                                 (uint64_t)user_ptr_write(t, a[3], ds.sem_nsems * 2), 0, 0);
    case IPC_INFO: case SEM_INFO:       /* ten ints */
        return user_safe_syscall(t, SYS_semctl, (int32_t)a[0], (int32_t)a[1], command, (uint64_t)user_ptr_write(t, a[3], 40), 0, 0);
    default:
        return user_safe_syscall(t, SYS_semctl, (int32_t)a[0], (int32_t)a[1], command, (int32_t)a[3], 0, 0);
    }
}

/* struct msgbuf begins with a long. */
SYS(msgsnd)
{
    unsigned word = t->abi->bits / 8;
    g_autofree uint8_t *buf = NULL;
    int64_t type = 0;

    if (a[2] > MESSAGE_MAX)
        return -EINVAL;
    buf = g_malloc(a[2] + 8);
    if (guest_read(t, &type, a[1], word) || guest_read(t, buf + 8, a[1] + word, a[2]))
        return -EFAULT;
    type = word == 4 ? (int32_t)type : type;
    memcpy(buf, &type, sizeof(type));
    return user_safe_syscall(t, SYS_msgsnd, (int32_t)a[0], (uint64_t)buf, a[2], (int32_t)a[3], 0, 0);
}

SYS(msgrcv)
{
    unsigned word = t->abi->bits / 8;
    uint64_t size = MIN(a[2], MESSAGE_MAX);
    g_autofree uint8_t *buf = g_malloc(size + 8);
    int64_t type = is_32bit(t) ? (int32_t)a[3] : (int64_t)a[3];
    int64_t r = user_safe_syscall(t, SYS_msgrcv, (int32_t)a[0], (uint64_t)buf, size, type, (int32_t)a[4], 0);

    if (r < 0)
        return r;
    return guest_write(t, a[1], buf, word) || guest_write(t, a[1] + word, buf + 8, r) ? -EFAULT : r;
}

/* ipc(call, first, second, third, ptr, fifth) of i386: ipc(2) */
SYS(ipc)
{
    unsigned call = a[0] & 0xffff, version = a[0] >> 16 & 0xffff;
    uint64_t v[6] = { a[1], a[2], a[3], a[4] };
    uint32_t word;

    switch (call) {
    case 1: v[0] = a[1], v[1] = a[4], v[2] = a[2]; return call_run(t, CALL_semop, v);
    case 2: return call_run(t, CALL_semget, v);
    case 3:
        if (guest_read(t, &word, a[4], sizeof(word)))
            return -EFAULT;
        v[0] = a[1], v[1] = a[2], v[2] = a[3], v[3] = word;
        return call_run(t, CALL_semctl, v);
    case 4: v[0] = a[1], v[1] = a[4], v[2] = a[2], v[3] = a[5]; return call_run(t, CALL_semtimedop, v);
    case 11: v[0] = a[1], v[1] = a[4], v[2] = a[2], v[3] = a[3]; return call_run(t, CALL_msgsnd, v);
    case 12:
        if (version == 0) {     /* pointer and type are in memory */
            uint32_t kludge[2];

            if (guest_read(t, kludge, a[4], sizeof(kludge)))
                return -EFAULT;
            v[1] = kludge[0], v[3] = kludge[1];
        } else {
            v[1] = a[4], v[3] = a[5];
        }
        v[0] = a[1], v[2] = a[2], v[4] = a[3];
        return call_run(t, CALL_msgrcv, v);
    case 13: v[0] = a[1], v[1] = a[2]; return call_run(t, CALL_msgget, v);
    case 14: v[0] = a[1], v[1] = a[2], v[2] = a[4]; return call_run(t, CALL_msgctl, v);
    case 21: {
        int64_t r = mem_shmat(t->process, (int)a[1], a[4], (int)a[2]);

        if (r < 0 && r > -4096)
            return r;
        word = r;
        return guest_write(t, a[3], &word, sizeof(word));
    }
    case 22: v[0] = a[4]; return call_run(t, CALL_shmdt, v);
    case 23: return call_run(t, CALL_shmget, v);
    case 24: v[0] = a[1], v[1] = a[2], v[2] = a[4]; return call_run(t, CALL_shmctl, v);
    default: return -ENOSYS;
    }
}
