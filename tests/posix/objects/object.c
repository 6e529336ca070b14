/* SPDX-License-Identifier: MIT */
/*
 * An object that knows nothing of fibril, linked in several ways: it calls usleep by name, through
 * a pointer in its data and through one in its constant data, and tells where those point.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

int object_sleep(unsigned us);
int object_sleep_by_pointer(unsigned us);
int object_never_called(void);
void *object_pointer(void);
void *object_constant(void);
void *object_asked(void);
void *object_next(void);
void *object_old_cond(void);
long object_raw(void);
int object_count(void);

typedef int sleep_fn(useconds_t us);
typedef int wait_fn(pthread_cond_t *c, pthread_mutex_t *m);

static sleep_fn *volatile pointer = usleep;
static sleep_fn *const constant[] = {usleep, NULL};

#if defined(__x86_64__)
extern wait_fn old_cond_wait;
__asm__(".symver old_cond_wait, pthread_cond_wait@GLIBC_2.2.5");
static wait_fn *volatile old = old_cond_wait;
#else
static wait_fn *volatile old;
#endif

#define SHOWN __attribute__((visibility("default")))

SHOWN int object_sleep(unsigned us)
{
    return usleep(us);
}

SHOWN int object_sleep_by_pointer(unsigned us)
{
    return pointer(us);
}

SHOWN int object_never_called(void)
{
    return pause();
}

SHOWN void *object_pointer(void)
{
    return (void *)pointer;
}

SHOWN void *object_constant(void)
{
    sleep_fn *const *volatile table = constant;
    return (void *)table[0];
}

SHOWN void *object_asked(void)
{
    void *libc = dlopen("libc.so.6", RTLD_LAZY);
    void *found = dlsym(libc, "usleep");
    dlclose(libc);
    return found;
}

SHOWN void *object_next(void)
{
    return dlsym(RTLD_NEXT, "usleep");
}

SHOWN void *object_old_cond(void)
{
    return (void *)old;
}

/* A system call without libc. */
SHOWN long object_raw(void)
{
#if defined(__x86_64__)
    long result;
    __asm__ volatile("mov %1, %%eax\n\tsyscall"
                     : "=a"(result)
                     : "i"(SYS_getppid)
                     : "rcx", "r11", "memory");
    return result;
#else
    register long number __asm__("x8") = SYS_getppid;
    register long result __asm__("x0");
    __asm__ volatile("svc #0" : "=r"(result) : "r"(number) : "memory");
    return result;
#endif
}

static __thread int count;

SHOWN int object_count(void)
{
    return ++count;
}
