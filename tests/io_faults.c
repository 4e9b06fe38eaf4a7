/* Faults of disks and network shares, put under a process by LD_PRELOAD.

   IO_FAULT  what goes wrong: eio-read, eio-write, enospc, erofs, eacces, short-read, short-write,
             slow, enolck, estale
   IO_MATCH  part of the paths that are hit
   IO_AFTER  calls that go well before (default 0)
   IO_TIMES  calls that go wrong (default: all that follow)
   CLOCK_JUMP  seconds added to the clock, every second call with the other sign
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int calls, jumps;
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is(const char *kind) {
    const char *fault = getenv("IO_FAULT");
    return fault && !strcmp(fault, kind);
}

static int matches(int fd) {
    char link[64], path[PATH_MAX];
    const char *wanted = getenv("IO_MATCH");
    if (!wanted) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return strstr(path, wanted) != NULL;
}

/* Whether this call is one of those that go wrong. */
static int turn(void) {
    const char *after = getenv("IO_AFTER"), *times = getenv("IO_TIMES");
    int number = __sync_fetch_and_add(&calls, 1), first = after ? atoi(after) : 0;
    return number >= first && (!times || number < first + atoi(times));
}

static int refuse(int error) { errno = error; return -1; }

static void wait_a_little(void) {
    struct timespec pause = {0, 20000000};
    nanosleep(&pause, NULL);
}

static int read_fault(int fd) {
    if (is("eio-read") && matches(fd) && turn()) return EIO;
    if (is("estale") && matches(fd) && turn()) return ESTALE;
    if (is("slow") && matches(fd) && turn()) wait_a_little();
    return 0;
}

static int write_fault(int fd) {
    if (is("eio-write") && matches(fd) && turn()) return EIO;
    if (is("enospc") && matches(fd) && turn()) return ENOSPC;
    if (is("slow") && matches(fd) && turn()) wait_a_little();
    return 0;
}

static size_t shortened(int fd, size_t size, const char *kind) {
    return is(kind) && size > 1 && matches(fd) && turn() ? size / 2 : size;
}

ssize_t read(int fd, void *data, size_t size) {
    int error = read_fault(fd);
    if (error) return refuse(error);
    return REAL(read)(fd, data, shortened(fd, size, "short-read"));
}

ssize_t pread(int fd, void *data, size_t size, off_t at) {
    int error = read_fault(fd);
    if (error) return refuse(error);
    return REAL(pread)(fd, data, shortened(fd, size, "short-read"), at);
}

ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
    int error = read_fault(fd);
    if (error) return refuse(error);
    return REAL(pread64)(fd, data, shortened(fd, size, "short-read"), at);
}

ssize_t write(int fd, const void *data, size_t size) {
    int error = write_fault(fd);
    if (error) return refuse(error);
    return REAL(write)(fd, data, shortened(fd, size, "short-write"));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    int error = write_fault(fd);
    if (error) return refuse(error);
    return REAL(pwrite64)(fd, data, size, at);
}

int fsync(int fd) {
    if ((is("eio-fsync")) && matches(fd) && turn()) return refuse(EIO);
    return REAL(fsync)(fd);
}

int fcntl64(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    int locks = command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK;
    if (is("enolck") && locks && matches(fd)) return refuse(ENOLCK);
    return REAL(fcntl64)(fd, command, argument);
}

int fcntl(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    int locks = command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK;
    if (is("enolck") && locks && matches(fd)) return refuse(ENOLCK);
    return REAL(fcntl)(fd, command, argument);
}

int flock(int fd, int operation) {
    if (is("enolck") && matches(fd)) return refuse(ENOLCK);
    return REAL(flock)(fd, operation);
}

/* A clock that is set forth and back while somebody looks at it. */
static time_t jump(void) {
    const char *seconds = getenv("CLOCK_JUMP");
    if (!seconds) return 0;
    return __sync_fetch_and_add(&jumps, 1) % 2 ? -atol(seconds) : atol(seconds);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = REAL(clock_gettime)(clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += jump();
    return failed;
}

time_t time(time_t *out) {
    time_t now = REAL(time)(NULL) + jump();
    if (out) *out = now;
    return now;
}
