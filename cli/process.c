/* SPDX-License-Identifier: MIT */
/*
 * Reads /proc/self/status: VmRSS + VmPTE is all that a fibril costs in user memory, the tables that
 * map its stack included. Not smaps_rollup, which walks every page under the lock that page faults
 * take: it would slow down what it measures. Plain read(2) on purpose; it cannot block.
 */
#include "process.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int64_t figure(const char *text, const char *name)
{
    const char *at = strstr(text, name);

    return at ? strtoll(at + strlen(name), NULL, 10) : 0;
}

struct process_use process_look(void)
{
    struct process_use use = {0};
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return use;
    }
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n > 0) {
        text[n] = 0;
        use.bytes = 1024 * (figure(text, "\nVmRSS:") + figure(text, "\nVmPTE:"));
        use.threads = (unsigned)figure(text, "\nThreads:");
    }
    return use;
}

unsigned process_raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 1024;
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur > 100000000 ? 100000000 : (unsigned)limit.rlim_cur;
}
