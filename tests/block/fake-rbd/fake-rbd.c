/* A Ceph cluster for test_rbd.py: the calls of librados and librbd that the driver makes, over a folder (FAKE_RBD): a pool is a
 * folder, an image a file. What is configured is written to "conf"; a file "down" keeps clients from connecting. Both libraries
 * are made of this file; requests end on threads of their own. */
#include <rados/librados.h>
#include <rbd/features.h>
#include <rbd/librbd.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

struct pool { char path[PATH_BYTES]; };
struct image { int fd; int refuses_writes; };
struct completion { void *arg; rbd_callback_t fn; ssize_t ret; };

static void path_of(char out[PATH_BYTES], const char *folder, const char *name)
{
    if (snprintf(out, PATH_BYTES, "%s/%s", folder, name) >= PATH_BYTES)
        abort();
}

static int there(const char *name)
{
    char path[PATH_BYTES];

    path_of(path, getenv("FAKE_RBD"), name);
    return !access(path, F_OK);
}

static void note(const char *key, const char *value)
{
    char path[PATH_BYTES];
    FILE *f;

    path_of(path, getenv("FAKE_RBD"), "conf");
    f = fopen(path, "a");
    fprintf(f, "%s=%s\n", key, value);
    fclose(f);
}

/* ---- librados */

int rados_create(rados_t *cluster, const char *id)
{
    *cluster = malloc(1);
    note("id", id ? id : "(none)");
    return 0;
}

void rados_shutdown(rados_t cluster) { free(cluster); }
int rados_conf_read_file(rados_t cluster, const char *path) { return path && !access(path, R_OK) ? 0 : -ENOENT; }
int rados_connect(rados_t cluster) { return there("down") ? -ETIMEDOUT : 0; }

int rados_conf_set(rados_t cluster, const char *option, const char *value)
{
    if (!strcmp(option, "no_such_option"))
        return -ENOENT;
    note(option, value);
    return 0;
}

int rados_ioctx_create(rados_t cluster, const char *name, rados_ioctx_t *out)
{
    struct pool *p;

    if (!there(name))
        return -ENOENT;
    p = calloc(1, sizeof(*p));
    path_of(p->path, getenv("FAKE_RBD"), name);
    *out = p;
    return 0;
}

void rados_ioctx_destroy(rados_ioctx_t io) { free(io); }

void rados_ioctx_set_namespace(rados_ioctx_t io, const char *nspace)
{
    struct pool *p = io;
    char path[PATH_BYTES];

    path_of(path, p->path, nspace);
    strcpy(p->path, path);
}

/* ---- librbd: images */

static int image_open(rados_ioctx_t io, const char *name, rbd_image_t *out, const char *snap, int flags)
{
    char path[PATH_BYTES], whole[1024];
    struct image *i;
    int fd;

    if (snprintf(whole, sizeof(whole), "%s%s%s", name, snap ? "@" : "", snap ? snap : "") >= (int)sizeof(whole))
        return -ENAMETOOLONG;
    path_of(path, ((struct pool *)io)->path, whole);
    fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    i = malloc(sizeof(*i));
    *i = (struct image){ fd, snap || flags == O_RDONLY || !strcmp(name, "full") };
    *out = i;
    return 0;
}

int rbd_open(rados_ioctx_t io, const char *name, rbd_image_t *image, const char *snap)
{
    return image_open(io, name, image, snap, O_RDWR);
}

int rbd_open_read_only(rados_ioctx_t io, const char *name, rbd_image_t *image, const char *snap)
{
    return image_open(io, name, image, snap, O_RDONLY);
}

int rbd_close(rbd_image_t image)
{
    close(((struct image *)image)->fd);
    free(image);
    return 0;
}

int rbd_create(rados_ioctx_t io, const char *name, uint64_t size, int *order)
{
    char path[PATH_BYTES];
    int fd, ret;

    path_of(path, ((struct pool *)io)->path, name);
    fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    ret = ftruncate(fd, size) ? -errno : 0;
    close(fd);
    return ret;
}

int rbd_get_size(rbd_image_t image, uint64_t *size)
{
    struct stat st;

    if (fstat(((struct image *)image)->fd, &st))
        return -errno;
    *size = st.st_size;
    return 0;
}

int rbd_resize(rbd_image_t image, uint64_t size) { return ftruncate(((struct image *)image)->fd, size) ? -errno : 0; }

int rbd_get_features(rbd_image_t image, uint64_t *features)
{
    *features = there("plain") ? 0 : RBD_FEATURE_FAST_DIFF;
    return 0;
}

int rbd_get_flags(rbd_image_t image, uint64_t *flags)
{
    *flags = 0;
    return 0;
}

int rbd_diff_iterate2(rbd_image_t image, const char *from, uint64_t off, uint64_t len, uint8_t parent, uint8_t whole,
                      int (*cb)(uint64_t, size_t, int, void *), void *arg)
{
    int fd = ((struct image *)image)->fd;
    off_t at = off, end = off + len, stop;

    while (at < end && (at = lseek(fd, at, SEEK_DATA)) >= 0 && at < end) {
        int ret;

        stop = lseek(fd, at, SEEK_HOLE);
        stop = stop > end ? end : stop;
        ret = cb(at, stop - at, 1, arg);
        if (ret < 0)
            return ret;
        at = stop;
    }
    return 0;
}

/* ---- librbd: requests */

struct work {
    enum { READ, WRITE, DISCARD, ZEROES, FLUSH } kind;
    struct image *image;
    const struct iovec *iov;
    int niov, flags;
    uint64_t off, bytes;
    struct completion *c;
};

static ssize_t work_do(const struct work *w)
{
    struct stat st;
    int zero = FALLOC_FL_KEEP_SIZE;

    if (w->kind != READ && w->kind != FLUSH && w->image->refuses_writes)
        return -EROFS;
    if (fstat(w->image->fd, &st) || w->off > (uint64_t)st.st_size || w->bytes > st.st_size - w->off)
        return -EINVAL;
    switch (w->kind) {
    case READ: return preadv(w->image->fd, w->iov, w->niov, w->off) == (ssize_t)w->bytes ? (ssize_t)w->bytes : -EIO;
    case WRITE: return pwritev(w->image->fd, w->iov, w->niov, w->off) == (ssize_t)w->bytes ? 0 : -EIO;
    case FLUSH: return fsync(w->image->fd) ? -errno : 0;
    case DISCARD: zero |= FALLOC_FL_PUNCH_HOLE; break;
    case ZEROES: zero |= w->flags & RBD_WRITE_ZEROES_FLAG_THICK_PROVISION ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE; break;
    }
    return fallocate(w->image->fd, zero, w->off, w->bytes) ? -errno : 0;
}

static void *work_run(void *arg)
{
    struct work *w = arg;

    w->c->ret = work_do(w);
    w->c->fn(w->c, w->c->arg);
    free(w);
    return NULL;
}

static int start(struct work work)
{
    struct work *w = malloc(sizeof(*w));
    pthread_t t;

    *w = work;
    for (int i = 0; i < w->niov; i++)
        w->bytes += w->iov[i].iov_len;
    if (pthread_create(&t, NULL, work_run, w))
        return -EAGAIN;
    pthread_detach(t);
    return 0;
}

int rbd_aio_create_completion(void *arg, rbd_callback_t fn, rbd_completion_t *out)
{
    struct completion *c = calloc(1, sizeof(*c));

    *c = (struct completion){ .arg = arg, .fn = fn };
    *out = c;
    return 0;
}

ssize_t rbd_aio_get_return_value(rbd_completion_t c) { return ((struct completion *)c)->ret; }
void rbd_aio_release(rbd_completion_t c) { free(c); }

int rbd_aio_readv(rbd_image_t i, const struct iovec *iov, int niov, uint64_t off, rbd_completion_t c)
{
    return start((struct work){ .kind = READ, .image = i, .iov = iov, .niov = niov, .off = off, .c = c });
}

int rbd_aio_writev(rbd_image_t i, const struct iovec *iov, int niov, uint64_t off, rbd_completion_t c)
{
    return start((struct work){ .kind = WRITE, .image = i, .iov = iov, .niov = niov, .off = off, .c = c });
}

int rbd_aio_discard(rbd_image_t i, uint64_t off, uint64_t bytes, rbd_completion_t c)
{
    return start((struct work){ .kind = DISCARD, .image = i, .off = off, .bytes = bytes, .c = c });
}

int rbd_aio_write_zeroes(rbd_image_t i, uint64_t off, size_t bytes, rbd_completion_t c, int flags, int op_flags)
{
    return start((struct work){ .kind = ZEROES, .image = i, .off = off, .bytes = bytes, .flags = flags, .c = c });
}

int rbd_aio_flush(rbd_image_t i, rbd_completion_t c)
{
    return start((struct work){ .kind = FLUSH, .image = i, .c = c });
}
