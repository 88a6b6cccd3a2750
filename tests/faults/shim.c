/* The seam under every file and database operation: it stands between the C library and whoever calls it, which is
 * Python and SQLite alike (LD_PRELOAD). It counts what is done below one folder, fails or ends the process at the n-th
 * operation of a kind, slows them, jumps clocks, and records what is written, so that a loss of power can be played back.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) == 8, "as on every 64-bit Linux");

enum { OPEN = 1, READ = 2, WRITE = 4, SYNC = 8, RENAME = 16, UNLINK = 32, TRUNCATE = 64, CREATE = 128 };
enum { NOTHING, KILL, TEAR, FAIL, SHORTEN, JUMP, SLOW };

static char folder[4096];
static size_t folder_len;
static int kinds, fault, error_number, sticky, trace = -1;
static long long jump_ns, wall_ns, monotonic_ns;
static volatile long nth, count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(type, name, ...)                                  \
    static type (*real)(__VA_ARGS__);                          \
    if (!real)                                                 \
        *(void **)&real = dlsym(RTLD_NEXT, name)

void faults_arm(const char *below, int of_kinds, int what, long at, int number, int stays, long long jump)
{
    folder_len = 0;
    kinds = of_kinds, fault = what, nth = at, error_number = number, sticky = stays, jump_ns = jump;
    count = 0, wall_ns = monotonic_ns = 0;
    strncpy(folder, below, sizeof folder - 1);
    folder_len = strlen(folder);
}

long faults_count(void) { return count; }

static void record(int kind, uint64_t inode, uint64_t at, const char *name, const void *data, uint64_t size)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    uint64_t head[5] = {kind, inode, at, name ? strlen(name) : 0, size};
    real(trace, head, sizeof head);
    if (name)
        real(trace, name, head[3]);
    if (size)
        real(trace, data, size);
}

/* Record all that is done from now on into an open file; -1 ends it. */
void faults_trace(int handle) { trace = handle; }

/* Something that happened outside, in its place among what is recorded. */
void faults_mark(const char *text)
{
    if (trace >= 0)
        record(0, 0, 0, text, NULL, 0);
}

static int below(const char *path) { return folder_len && path && !strncmp(path, folder, folder_len); }

static int name_of(int handle, char *path)
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = folder_len ? readlink(link, path, 4095) : -1;
    path[length < 0 ? 0 : length] = 0;
    return length > 0 && below(path);
}

static uint64_t inode_of(int handle)
{
    struct stat found;
    return fstat(handle, &found) ? 0 : found.st_ino;
}

/* What to do about an operation: 0 do it, 1 do half of it, -1 fail. Ends the process where that is asked for. */
static int decide(int kind)
{
    if (!(kind & kinds))
        return 0;
    long number = __sync_add_and_fetch(&count, 1);
    if (number != nth && !(sticky && nth && number > nth))
        return 0;
    switch (fault) {
    case KILL: raise(SIGKILL); break;
    case TEAR: if (kind == WRITE) return 1; raise(SIGKILL); break;
    case SHORTEN: return 1;
    case JUMP: wall_ns += jump_ns; if (jump_ns > 0) monotonic_ns += jump_ns; return 0;
    case SLOW: usleep(jump_ns / 1000); return 0;
    case FAIL: errno = error_number; return -1;
    }
    return 0;
}

static size_t half(size_t size) { return size > 1 ? size / 2 : size; }

static int opened(const char *path, int flags, int mode, int dir)
{
    static int (*real)(int, const char *, int, ...);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "openat64");
    if (!below(path))
        return real(dir, path, flags, mode);
    int is_new = (flags & O_CREAT) && access(path, F_OK);
    if (decide(is_new ? CREATE : OPEN) < 0)
        return -1;
    if (trace < 0)
        return real(dir, path, flags, mode);
    pthread_mutex_lock(&lock);
    int handle = real(dir, path, flags, mode);
    if (handle >= 0 && is_new)
        record(CREATE, inode_of(handle), 0, path, NULL, 0);
    else if (handle >= 0 && (flags & O_TRUNC))
        record(TRUNCATE, inode_of(handle), 0, path, NULL, 0);
    pthread_mutex_unlock(&lock);
    return handle;
}

#define MODE                                                   \
    int mode = 0;                                              \
    if (flags & (O_CREAT | O_TMPFILE)) {                       \
        va_list rest;                                          \
        va_start(rest, flags);                                 \
        mode = va_arg(rest, int);                              \
        va_end(rest);                                          \
    }

int open(const char *path, int flags, ...) { MODE return opened(path, flags, mode, AT_FDCWD); }
int open64(const char *path, int flags, ...) { MODE return opened(path, flags, mode, AT_FDCWD); }
int openat(int dir, const char *path, int flags, ...) { MODE return opened(path, flags, mode, dir); }
int openat64(int dir, const char *path, int flags, ...) { MODE return opened(path, flags, mode, dir); }

static ssize_t written(int handle, const void *data, size_t size, off_t at)
{
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t);
    static ssize_t (*plain)(int, const void *, size_t);
    if (!plain)
        *(void **)&plain = dlsym(RTLD_NEXT, "write");
    char path[4096];
    if (!folder_len || !name_of(handle, path))
        return at < 0 ? plain(handle, data, size) : real(handle, data, size, at);
    int what = decide(WRITE);
    if (what < 0)
        return -1;
    if (what)
        size = half(size);
    if (trace >= 0)
        pthread_mutex_lock(&lock);
    off_t place = at < 0 ? lseek(handle, 0, fcntl(handle, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR) : at;
    ssize_t done = at < 0 ? plain(handle, data, size) : real(handle, data, size, at);
    if (trace >= 0) {
        if (done > 0)
            record(WRITE, inode_of(handle), place, path, data, done);
        pthread_mutex_unlock(&lock);
    }
    if (what && fault == TEAR)
        raise(SIGKILL);
    return done;
}

ssize_t write(int handle, const void *data, size_t size) { return written(handle, data, size, -1); }
ssize_t pwrite(int handle, const void *data, size_t size, off_t at) { return written(handle, data, size, at); }
ssize_t pwrite64(int handle, const void *data, size_t size, off_t at) { return written(handle, data, size, at); }

/* Python copies by the plain way then, which is seen. */
ssize_t sendfile(int out, int in, off_t *at, size_t size)
{
    (void)out, (void)in, (void)at, (void)size;
    errno = ENOTSOCK;
    return -1;
}

ssize_t sendfile64(int out, int in, off_t *at, size_t size) { return sendfile(out, in, at, size); }

ssize_t read(int handle, void *data, size_t size)
{
    REAL(ssize_t, "read", int, void *, size_t);
    char path[4096];
    int what = folder_len && (kinds & READ) && name_of(handle, path) ? decide(READ) : 0;
    return what < 0 ? -1 : real(handle, data, what ? half(size) : size);
}

static ssize_t read_at(int handle, void *data, size_t size, off_t at)
{
    REAL(ssize_t, "pread64", int, void *, size_t, off_t);
    char path[4096];
    int what = folder_len && (kinds & READ) && name_of(handle, path) ? decide(READ) : 0;
    return what < 0 ? -1 : real(handle, data, what ? half(size) : size, at);
}

ssize_t pread(int handle, void *data, size_t size, off_t at) { return read_at(handle, data, size, at); }
ssize_t pread64(int handle, void *data, size_t size, off_t at) { return read_at(handle, data, size, at); }

static int synced(int handle)
{
    static int (*real)(int);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "fsync");
    char path[4096];
    if (!folder_len || !name_of(handle, path))
        return real(handle);
    if (decide(SYNC) < 0)
        return -1;
    if (trace >= 0) {
        pthread_mutex_lock(&lock);
        record(SYNC, inode_of(handle), 0, path, NULL, 0);
        pthread_mutex_unlock(&lock);
    }
    return 0;
}

int fsync(int handle) { return synced(handle); }
int fdatasync(int handle) { return synced(handle); }

static int truncated(int handle, off_t size)
{
    REAL(int, "ftruncate64", int, off_t);
    char path[4096];
    if (!folder_len || !name_of(handle, path))
        return real(handle, size);
    if (decide(TRUNCATE) < 0)
        return -1;
    if (trace >= 0) {
        pthread_mutex_lock(&lock);
        record(TRUNCATE, inode_of(handle), size, path, NULL, 0);
        pthread_mutex_unlock(&lock);
    }
    return real(handle, size);
}

int ftruncate(int handle, off_t size) { return truncated(handle, size); }
int ftruncate64(int handle, off_t size) { return truncated(handle, size); }

int rename(const char *from, const char *to)
{
    REAL(int, "rename", const char *, const char *);
    if (!below(from) && !below(to))
        return real(from, to);
    if (decide(RENAME) < 0)
        return -1;
    if (trace < 0)
        return real(from, to);
    pthread_mutex_lock(&lock);
    struct stat found;
    uint64_t inode = stat(from, &found) ? 0 : found.st_ino;
    int failed = real(from, to);
    if (!failed)
        record(RENAME, inode, 0, from, to, strlen(to));
    pthread_mutex_unlock(&lock);
    return failed;
}

static int unlinked(int dir, const char *path, int flags)
{
    REAL(int, "unlinkat", int, const char *, int);
    char whole[8192];
    if (folder_len && dir != AT_FDCWD && path[0] != '/') {
        char of_folder[4096];
        name_of(dir, of_folder);
        snprintf(whole, sizeof whole, "%s/%s", of_folder, path);
    } else
        snprintf(whole, sizeof whole, "%s", path);
    if (!below(whole))
        return real(dir, path, flags);
    if (decide(UNLINK) < 0)
        return -1;
    if (trace < 0)
        return real(dir, path, flags);
    pthread_mutex_lock(&lock);
    int failed = real(dir, path, flags);
    if (!failed && !(flags & AT_REMOVEDIR))
        record(UNLINK, 0, 0, whole, NULL, 0);
    pthread_mutex_unlock(&lock);
    return failed;
}

int unlink(const char *path) { return unlinked(AT_FDCWD, path, 0); }
int unlinkat(int dir, const char *path, int flags) { return unlinked(dir, path, flags); }

int clock_gettime(clockid_t clock, struct timespec *now)
{
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int failed = real(clock, now);
    long long more = clock == CLOCK_REALTIME ? wall_ns : clock == CLOCK_MONOTONIC ? monotonic_ns : 0;
    if (!failed && more) {
        long long all = now->tv_sec * 1000000000LL + now->tv_nsec + more;
        now->tv_sec = all / 1000000000LL, now->tv_nsec = all % 1000000000LL;
    }
    return failed;
}
