/* A disk that forgets: an LD_PRELOAD layer for tests of durability.
 *
 * For every file and directory below $UNSYNCED_DIR it writes down, in $UNSYNCED_JOURNAL (a file outside that directory),
 * how to undo each change before the change is made, and each fsync after it succeeded. After the process was killed,
 * `replay` (mod.rs beside this file) walks the journal backwards and undoes whatever no later fsync covers: written bytes,
 * file sizes, and names in directories. What is left is what the least helpful disk allowed by POSIX would have kept.
 *
 * Not undone: removals (the strictest choice, as far as losing data goes), and files ending in -shm, which hold nothing
 * that must last and are written through mmap.
 *
 * Also $UNSYNCED_FAIL=KIND:FIRST:COUNT:ERRNO makes the FIRST-th (from 1) and the following calls of KIND (write, sync)
 * below the directory fail; it is read again when the file that $UNSYNCED_FAIL_FILE names exists, instead of the variable.
 *
 *   cc -shared -fPIC -O1 -o unsynced.so unsynced.c -ldl -lpthread
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAGIC 0x6d737875u
enum { WRITE = 1, SYNC = 2, NAME = 3, RENAME = 4 };

/* One record; `length` bytes of old content or of paths follow. Little-endian, as the machine is. */
struct record {
    uint32_t magic, kind;
    uint64_t inode;  /* the file's or, for a sync, the file's or directory's; for NAME and RENAME the directory's */
    uint64_t offset; /* WRITE: where; SYNC: the journal's length when the sync began */
    uint64_t size;   /* WRITE: the file's size before */
    uint64_t length;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char directory[PATH_MAX];
static size_t directory_length;
static int journal = -1;
static uint64_t journal_length;
#define FDS 65536
static unsigned char watched[FDS]; /* 1: a file, 2: a directory */
static long calls[2];

static void die(const char *what) {
    dprintf(2, "unsynced: %s: %s\n", what, strerror(errno));
    _exit(99);
}

__attribute__((constructor)) static void start(void) {
    const char *dir = getenv("UNSYNCED_DIR"), *file = getenv("UNSYNCED_JOURNAL");
    if (!dir || !file) return;
    if (!realpath(dir, directory)) die("UNSYNCED_DIR");
    directory_length = strlen(directory);
    int opened = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (opened < 0) die("UNSYNCED_JOURNAL");
    journal = fcntl(opened, F_DUPFD_CLOEXEC, 900);
    if (journal < 0) journal = opened; else syscall(SYS_close, opened);
    struct stat st;
    if (fstat(journal, &st)) die("fstat");
    journal_length = (uint64_t)st.st_size;
}

static void put(uint32_t kind, uint64_t inode, uint64_t offset, uint64_t size, const void *data, uint64_t length) {
    struct record record = {MAGIC, kind, inode, offset, size, length};
    struct iovec parts[2] = {{&record, sizeof record}, {(void *)data, length}};
    ssize_t want = (ssize_t)(sizeof record + length);
    if (syscall(SYS_writev, journal, parts, 2) != want) die("journal");
    journal_length += (uint64_t)want;
}

/* Whether the path is below the directory and worth watching. */
static int inside(const char *path) {
    if (strncmp(path, directory, directory_length) || (path[directory_length] && path[directory_length] != '/')) return 0;
    size_t length = strlen(path);
    return !(length > 4 && !strcmp(path + length - 4, "-shm"));
}

static int absolute(int at, const char *path, char out[PATH_MAX]) {
    if (path[0] == '/') return snprintf(out, PATH_MAX, "%s", path) < PATH_MAX;
    char base[PATH_MAX], link[64];
    if (at == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return 0;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t got = readlink(link, base, sizeof base - 1);
        if (got < 0) return 0;
        base[got] = 0;
    }
    return snprintf(out, PATH_MAX, "%s/%s", base, path) < PATH_MAX;
}

static uint64_t parent_inode(const char *path) {
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    struct stat st;
    if (!slash) return 0;
    *slash = 0;
    return stat(parent, &st) ? 0 : (uint64_t)st.st_ino;
}

static int failing(int kind) {
    char text[128];
    const char *plan = getenv("UNSYNCED_FAIL"), *file = getenv("UNSYNCED_FAIL_FILE");
    long now = __sync_add_and_fetch(&calls[kind], 1);
    if (file) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
        if (fd < 0) return 0;
        ssize_t got = syscall(SYS_read, fd, text, sizeof text - 1);
        syscall(SYS_close, fd);
        text[got > 0 ? got : 0] = 0;
        plan = text;
    }
    if (!plan) return 0;
    char name[16];
    long first, count;
    int error;
    if (sscanf(plan, "%15[a-z]:%ld:%ld:%d", name, &first, &count, &error) != 4) return 0;
    if (strcmp(name, kind ? "sync" : "write") || now < first || now - first >= count) return 0;
    errno = error;
    return 1;
}

static int opened(int at, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    int watch = journal >= 0 && absolute(at, path, full) && inside(full);
    if (!watch) {
        int fd = (int)syscall(SYS_openat, at, path, flags, mode);
        if (fd >= 0 && fd < FDS) watched[fd] = 0;
        return fd;
    }
    pthread_mutex_lock(&lock);
    struct stat st;
    int there = !lstat(full, &st);
    if (there && (flags & O_TRUNC) && S_ISREG(st.st_mode) && st.st_size > 0) { errno = ENOTSUP; die("O_TRUNC"); }
    if (!there && (flags & O_CREAT)) put(NAME, parent_inode(full), 0, 0, full, strlen(full) + 1);
    int fd = (int)syscall(SYS_openat, at, path, flags, mode);
    int error = errno;
    if (fd >= FDS) die("too many files");
    if (fd >= 0) watched[fd] = fstat(fd, &st) ? 0 : S_ISDIR(st.st_mode) ? 2 : S_ISREG(st.st_mode) ? 1 : 0;
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define MODE(flags, last) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, last); mode = va_arg(rest, mode_t); va_end(rest); }
int open(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags, flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags, flags) return opened(at, path, flags, mode); }

int close(int fd) {
    if (fd >= 0 && fd < FDS) watched[fd] = 0;
    return (int)syscall(SYS_close, fd);
}

static int is_watched(int fd) { return journal >= 0 && fd >= 0 && fd < FDS && watched[fd]; }

/* Before bytes [offset, offset + length) change; a length of -1 stands for everything from there on. */
static void remember(int fd, off_t offset, off_t length) {
    struct stat st;
    if (fstat(fd, &st)) die("fstat");
    off_t end = length < 0 || offset + length > st.st_size ? st.st_size : offset + length;
    size_t keep = end > offset ? (size_t)(end - offset) : 0;
    char *old = keep ? malloc(keep) : NULL;
    char link[64];
    int reader = fd;
    if (keep) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        reader = (int)syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC);
        if (reader < 0 || !old || syscall(SYS_pread64, reader, old, keep, offset) != (ssize_t)keep) die("old content");
        syscall(SYS_close, reader);
    }
    put(WRITE, st.st_ino, (uint64_t)offset, (uint64_t)st.st_size, old, keep);
    free(old);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    if (!is_watched(fd)) return syscall(SYS_pwrite64, fd, data, length, offset);
    if (failing(0)) return -1;
    pthread_mutex_lock(&lock);
    remember(fd, offset, (off_t)length);
    ssize_t done = syscall(SYS_pwrite64, fd, data, length, offset);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

static off_t position(int fd) {
    int flags = fcntl(fd, F_GETFL);
    struct stat st;
    if (flags >= 0 && flags & O_APPEND && !fstat(fd, &st)) return st.st_size;
    return lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *data, size_t length) {
    if (!is_watched(fd)) return syscall(SYS_write, fd, data, length);
    if (failing(0)) return -1;
    pthread_mutex_lock(&lock);
    remember(fd, position(fd), (off_t)length);
    ssize_t done = syscall(SYS_write, fd, data, length);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!is_watched(fd)) return syscall(SYS_writev, fd, parts, count);
    if (failing(0)) return -1;
    off_t length = 0;
    for (int at = 0; at < count; at++) length += (off_t)parts[at].iov_len;
    pthread_mutex_lock(&lock);
    remember(fd, position(fd), length);
    ssize_t done = syscall(SYS_writev, fd, parts, count);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int ftruncate64(int fd, off64_t length) {
    if (!is_watched(fd)) return (int)syscall(SYS_ftruncate, fd, length);
    if (failing(0)) return -1;
    pthread_mutex_lock(&lock);
    remember(fd, length, -1);
    int done = (int)syscall(SYS_ftruncate, fd, length);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

/* The other ways to write, which nothing here uses: better to stop than to miss them. */
#define REFUSED(fd) do { if (is_watched(fd)) { errno = ENOTSUP; die(__func__); } } while (0)
ssize_t pwritev(int fd, const struct iovec *p, int n, off_t o) { REFUSED(fd); return syscall(SYS_pwritev, fd, p, n, o, 0); }
ssize_t pwritev64(int fd, const struct iovec *p, int n, off64_t o) { REFUSED(fd); return syscall(SYS_pwritev, fd, p, n, o, 0); }
ssize_t copy_file_range(int a, off64_t *b, int fd, off64_t *d, size_t n, unsigned f) {
    REFUSED(fd);
    return syscall(SYS_copy_file_range, a, b, fd, d, n, f);
}
int fallocate(int fd, int m, off_t o, off_t l) { REFUSED(fd); return (int)syscall(SYS_fallocate, fd, m, o, l); }

static int synced(int fd, long number) {
    if (!is_watched(fd)) return (int)syscall(number, fd);
    if (failing(1)) return -1;
    pthread_mutex_lock(&lock);
    uint64_t begun = journal_length;
    pthread_mutex_unlock(&lock);
    /* The real sync is left out: the machine does not really lose power. */
    struct stat st;
    if (fstat(fd, &st)) die("fstat");
    pthread_mutex_lock(&lock);
    put(SYNC, st.st_ino, begun, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return 0;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

static int renamed(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    char a[PATH_MAX], b[PATH_MAX], both[2 * PATH_MAX];
    int watch = journal >= 0 && absolute(from_at, from, a) && absolute(to_at, to, b) && inside(a) && inside(b);
    if (!watch) return (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    struct stat st;
    if (!lstat(b, &st)) { errno = ENOTSUP; die("rename over a file"); }
    pthread_mutex_lock(&lock);
    size_t length = (size_t)snprintf(both, sizeof both, "%s", a) + 1;
    length += (size_t)snprintf(both + length, sizeof both - length, "%s", b) + 1;
    put(RENAME, parent_inode(b), 0, 0, both, length);
    int done = (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int rename(const char *a, const char *b) { return renamed(AT_FDCWD, a, AT_FDCWD, b, 0); }
int renameat(int x, const char *a, int y, const char *b) { return renamed(x, a, y, b, 0); }
int renameat2(int x, const char *a, int y, const char *b, unsigned f) { return renamed(x, a, y, b, f); }

static void named(int at, const char *path) {
    char full[PATH_MAX];
    struct stat st;
    if (journal < 0 || !absolute(at, path, full) || !inside(full) || !lstat(full, &st)) return;
    pthread_mutex_lock(&lock);
    put(NAME, parent_inode(full), 0, 0, full, strlen(full) + 1);
    pthread_mutex_unlock(&lock);
}
int mkdirat(int at, const char *path, mode_t mode) { named(at, path); return (int)syscall(SYS_mkdirat, at, path, mode); }
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
int linkat(int x, const char *a, int y, const char *b, int flags) { named(y, b); return (int)syscall(SYS_linkat, x, a, y, b, flags); }
int link(const char *a, const char *b) { return linkat(AT_FDCWD, a, AT_FDCWD, b, 0); }
