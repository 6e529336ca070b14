/* SPDX-License-Identifier: MIT */
/*
 * See doctor.h. With --preload the command becomes the program: the layer, preloaded, writes its
 * report to standard error when the program ends by itself. A program without a loader (a static
 * one) cannot be covered, and is refused rather than run as if it were.
 */
#include "doctor.h"

#include "process.h"
#include "say.h"

#include <fibril/fibril.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static const char usage[] =
    "usage: fibril doctor [--preload PROGRAM ARGUMENT...]\n"
    "\n"
    "Without a program: the kernel, the poller and the limits that hold here.\n"
    "With one: runs it with its threads as fibrils, and prints at its end, object by\n"
    "object, how many calls were covered and what may still block, on standard error.\n";

enum { PROGRAM_HEADERS_MOST = 64 };

/* ---- what is here ---- */

static int name_poller(void *ret_name)
{
    *(const char **)ret_name = fibril_loop_poller(fibril_loop_current());
    return 0;
}

static long number_in(const char *path)
{
    FILE *f = fopen(path, "re");
    long n = -1;
    if (f) {
        n = fscanf(f, "%ld", &n) == 1 ? n : -1;
        fclose(f);
    }
    return n;
}

/* Where the layer is: beside this program in a build tree, or where libraries are installed. */
static const char *find_layer(void)
{
    static const char *const places[] = {"/../src/libfibril-posix.so", "/../lib/libfibril-posix.so",
                                         "/../lib/x86_64-linux-gnu/libfibril-posix.so",
                                         "/../lib/aarch64-linux-gnu/libfibril-posix.so",
                                         "/../lib64/libfibril-posix.so"};
    static char path[PATH_MAX + 64];
    ssize_t len = readlink("/proc/self/exe", path, PATH_MAX);
    char *slash = len > 0 ? memrchr(path, '/', (size_t)len) : NULL;
    for (size_t i = 0; slash && i < sizeof places / sizeof places[0]; i++) {
        memcpy(slash, places[i], strlen(places[i]) + 1); /* the buffer has room for the longest */
        if (access(path, R_OK) == 0) {
            return path;
        }
    }
    return NULL;
}

static int show_here(void)
{
    struct utsname kernel;
    const char *poller = NULL, *layer = find_layer();
    int rc = fibril_run(NULL, name_poller, &poller);
    if (rc < 0) {
        return say_wrong("doctor", "no loop can be started: %s", strerror(-rc));
    }
    uname(&kernel);
    printf("fibril %s on %s %s %s\n", fibril_version(), kernel.sysname, kernel.release,
           kernel.machine);
    printf("poller       %s\n", poller);
    printf("descriptors  %u\n", process_raise_descriptors());
    printf("mappings     %ld\n", number_in("/proc/sys/vm/max_map_count"));
    printf("POSIX layer  %s\n", layer ? layer : "not found");
    return EXIT_FINE;
}

/* ---- a program ---- */

static int find_program(const char *name, char *ret_path)
{
    const char *path = strchr(name, '/') ? NULL : getenv("PATH");
    snprintf(ret_path, PATH_MAX, "%s", name);
    while (path) {
        size_t n = strcspn(path, ":");
        snprintf(ret_path, PATH_MAX, "%.*s/%s", (int)n, path, name);
        if (access(ret_path, X_OK) == 0) {
            return 0;
        }
        path = path[n] ? path + n + 1 : NULL;
    }
    return strchr(name, '/') && access(name, X_OK) == 0 ? 0 : -ENOENT;
}

/* Whether it is an ELF program that asks for no loader. Scripts are not: their interpreter counts.
 */
static bool is_static(const char *path)
{
    Elf64_Ehdr head;
    Elf64_Phdr parts[PROGRAM_HEADERS_MOST];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool elf = fd >= 0 && pread(fd, &head, sizeof head, 0) == sizeof head &&
               memcmp(head.e_ident, ELFMAG, SELFMAG) == 0 && head.e_ident[EI_CLASS] == ELFCLASS64 &&
               head.e_phentsize == sizeof parts[0] && head.e_phnum <= PROGRAM_HEADERS_MOST;
    size_t bytes = elf ? head.e_phnum * sizeof parts[0] : 0;
    elf = elf && pread(fd, parts, bytes, (off_t)head.e_phoff) == (ssize_t)bytes;
    bool has_loader = false;
    for (int i = 0; elf && i < head.e_phnum; i++) {
        has_loader |= parts[i].p_type == PT_INTERP;
    }
    if (fd >= 0) {
        close(fd);
    }
    return elf && !has_loader;
}

static void preload(const char *layer)
{
    char text[PATH_MAX * 2], report[64];
    const char *before = getenv("LD_PRELOAD");
    snprintf(text, sizeof text, "%s%s%s", layer, before && *before ? ":" : "",
             before ? before : "");
    setenv("LD_PRELOAD", text, 1);
    snprintf(report, sizeof report, "%d %d", STDERR_FILENO, (int)getpid());
    setenv("FIBRIL_POSIX_REPORT", report, 1);
}

static int run_program(char **argv)
{
    char path[PATH_MAX];
    const char *layer = find_layer();
    if (!layer) {
        return say_wrong("doctor", "libfibril-posix.so is not where this program is installed");
    }
    if (find_program(argv[0], path) < 0) {
        return say_wrong("doctor", "there is no program '%s'", argv[0]);
    }
    if (is_static(path)) {
        return say_wrong("doctor", "'%s' is a static program: nothing in it can be covered", path);
    }
    preload(layer);
    execv(path, argv);
    return say_wrong("doctor", "'%s' cannot be run: %s", path, strerror(errno));
}

int doctor_main(int argc, char **argv)
{
    if (argc == 1) {
        return show_here();
    }
    if (strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return EXIT_FINE;
    }
    if (strcmp(argv[1], "--preload") != 0) {
        return say_wrong("doctor", "unknown option '%s' (see fibril doctor --help)", argv[1]);
    }
    if (argc == 2) {
        return say_wrong("doctor", "--preload wants a program");
    }
    return run_program(argv + 2);
}
