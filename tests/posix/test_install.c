/* SPDX-License-Identifier: MIT */
/*
 * Import tables, of an object linked in every way that is common: what is rewritten, that it works,
 * and that all is as before when the layer has gone. FIBRIL_TEST_OBJECTS names the folder of them.
 */
#include "thread_rig.h"

#include "posix/io_calls.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern int fibril_posix_dlclose(void *handle);
extern void *fibril_posix_dlopen(const char *path, int flags);
extern void *fibril_posix_dlsym(void *handle, const char *name);
extern int fibril_posix_usleep(useconds_t us);

static const char *const ways[] = {"lazy", "now", "noplt"};
enum { WAYS = sizeof ways / sizeof ways[0] };

static const char *path_of(const char *way)
{
    static char path[4096];
    const char *folder = getenv("FIBRIL_TEST_OBJECTS");
    if (!folder) {
        SKIP("FIBRIL_TEST_OBJECTS is not set");
    }
    snprintf(path, sizeof path, "%s/object_%s.so", folder, way);
    return path;
}

static void *open_object(const char *way)
{
    void *handle = dlopen(path_of(way), RTLD_LAZY);
    if (!handle) {
        test_fail(__FILE__, __LINE__, "%s", dlerror());
    }
    return handle;
}

static void install(void)
{
    struct fibril_posix_opts opts = {.threads = FIBRIL_POSIX_THREADS_ALL};
    ASSERT_OK(fibril_posix_install(&opts));
}

/* The body runs as main fibril of a loop, without the layer. */
static int run_body(void *arg)
{
    (*(void (**)(void))arg)();
    return 0;
}

#define IN_LOOP(name)                                                                              \
    static void in_loop_##name(void);                                                              \
    TEST(name)                                                                                     \
    {                                                                                              \
        static void (*body)(void) = in_loop_##name;                                                \
        ASSERT_EQ(fibril_run(NULL, run_body, &body), 0);                                           \
    }                                                                                              \
    static void in_loop_##name(void)

/* ---- does it park? ---- */

static int ticks;
static bool stop;

static int tick(void *arg)
{
    (void)arg;
    while (!stop) {
        ticks++;
        fibril_sleep(RIG_MS / 4);
    }
    return 0;
}

/* Whether others run while fn(us), a function of the object, sleeps. */
static bool parks(void *handle, const char *name)
{
    int (*fn)(unsigned us) = (int (*)(unsigned))(uintptr_t)dlsym(handle, name);
    struct fibril *ticker;
    ASSERT(fn);
    ticks = 0;
    stop = false;
    ASSERT_OK(fibril_spawn(tick, NULL, NULL, &ticker));
    ASSERT_EQ(fn(20000), 0);
    stop = true;
    int seen = ticks;
    ASSERT_OK(fibril_join(ticker, FIBRIL_FOREVER, NULL));
    return seen > 0;
}

static void *ask(void *handle, const char *name)
{
    void *(*fn)(void) = (void *(*)(void))(uintptr_t)dlsym(handle, name);
    ASSERT(fn);
    return fn();
}

static void check_covered(void *handle)
{
    void *ours = (void *)(uintptr_t)fibril_posix_usleep;
    ASSERT(parks(handle, "object_sleep"));
    ASSERT(parks(handle, "object_sleep_by_pointer"));
    ASSERT(ask(handle, "object_pointer") == ours);
    ASSERT(ask(handle, "object_constant") == ours);
    ASSERT(ask(handle, "object_asked") == ours);
    ASSERT(ask(handle, "object_next") == (void *)(uintptr_t)usleep);
    ASSERT(ask(handle, "object_old_cond") != (void *)(uintptr_t)fibril_posix_pthread_cond_wait);
}

IN_LOOP(imports_are_covered_however_the_object_was_linked)
{
    void *handles[WAYS];
    for (int i = 0; i < WAYS; i++) {
        handles[i] = open_object(ways[i]);
        ASSERT(!parks(handles[i], "object_sleep"));
    }
    install();
    for (int i = 0; i < WAYS; i++) {
        check_covered(handles[i]);
    }
    ASSERT_OK(fibril_posix_uninstall());
    for (int i = 0; i < WAYS; i++) {
        ASSERT(!parks(handles[i], "object_sleep"));
        ASSERT(ask(handles[i], "object_pointer") == (void *)(uintptr_t)usleep);
    }
}

/* ---- as before ---- */

enum { SEGMENTS = 4 };

struct image {
    const void *dynamic; /* of the object that is meant */
    const char *start[SEGMENTS];
    char *copy[SEGMENTS];
    size_t bytes[SEGMENTS], len;
};

static int copy_segments(struct dl_phdr_info *o, size_t size, void *arg)
{
    struct image *image = arg;
    bool meant = false;
    (void)size;
    for (int i = 0; i < o->dlpi_phnum; i++) {
        uintptr_t start = o->dlpi_addr + o->dlpi_phdr[i].p_vaddr;
        meant |= o->dlpi_phdr[i].p_type == PT_DYNAMIC && (const void *)start == image->dynamic;
    }
    for (int i = 0; meant && i < o->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &o->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && (p->p_flags & PF_W)) {
            image->start[image->len] = (const char *)o->dlpi_addr + p->p_vaddr;
            image->bytes[image->len] = p->p_memsz;
            image->copy[image->len] = malloc(p->p_memsz);
            memcpy(image->copy[image->len], image->start[image->len], p->p_memsz);
            image->len++;
        }
    }
    return meant;
}

/* Whether any word of the object's data differs; frees the copy if `last`. */
static bool differs(struct image *image, bool last)
{
    bool different = false;
    for (size_t i = 0; i < image->len; i++) {
        different |= memcmp(image->start[i], image->copy[i], image->bytes[i]) != 0;
        if (last) {
            free(image->copy[i]);
        }
    }
    return different;
}

IN_LOOP(uninstalling_leaves_every_word_as_it_was)
{
    for (int i = 0; i < WAYS; i++) {
        void *handle = open_object(ways[i]);
        const struct link_map *map = handle;
        struct image image = {.dynamic = map->l_ld};
        ASSERT(!parks(handle, "object_sleep")); /* bound; object_never_called is not */
        dl_iterate_phdr(copy_segments, &image);
        ASSERT_GE(image.len, 1);
        install();
        ASSERT(differs(&image, /* last= */ false));
        ASSERT_OK(fibril_posix_uninstall());
        ASSERT(!differs(&image, /* last= */ true));
        ASSERT_EQ(dlclose(handle), 0);
    }
}

/* ---- objects that come and go ---- */

IN_LOOP(an_object_loaded_later_is_covered_before_it_can_be_called)
{
    path_of("lazy");
    install();
    for (int i = 0; i < WAYS; i++) {
        void *handle = fibril_posix_dlopen(path_of(ways[i]), RTLD_NOW);
        ASSERT(handle && fibril_posix_dlsym(handle, "object_sleep"));
        check_covered(handle);
    }
    ASSERT_OK(fibril_posix_uninstall());
}

IN_LOOP(an_object_that_has_gone_is_not_written_to)
{
    size_t before, with;
    path_of("lazy");
    install();
    before = fibril_posix_imports(NULL);
    void *handle = fibril_posix_dlopen(path_of("now"), RTLD_NOW);
    ASSERT(fibril_posix_dlsym(handle, "object_sleep"));
    with = fibril_posix_imports(NULL);
    ASSERT_GT(with, before);
    ASSERT_EQ(fibril_posix_dlclose(handle), 0);
    ASSERT_EQ(fibril_posix_imports(NULL), before);
    handle = fibril_posix_dlopen(path_of("now"), RTLD_NOW);
    ASSERT(fibril_posix_dlsym(handle, "object_sleep"));
    ASSERT_EQ(dlclose(handle), 0); /* by somebody whose calls are not covered */
    ASSERT_OK(fibril_posix_uninstall());
}

IN_LOOP(an_object_that_comes_back_to_its_place_is_covered_anew)
{
    install();
    for (int i = 0; i < 3; i++) {
        void *handle = dlopen(path_of("now"), RTLD_NOW);
        ASSERT(handle && fibril_posix_dlsym(handle, "object_sleep"));
        check_covered(handle);
        ASSERT_EQ(dlclose(handle), 0);
    }
    ASSERT_OK(fibril_posix_uninstall());
}

/* ---- errors ---- */

IN_LOOP(installing_twice_says_EALREADY_and_is_counted)
{
    size_t objects;
    ASSERT(!fibril_posix_installed());
    ASSERT_EQ(fibril_posix_imports(NULL), 0);
    open_object("lazy");
    install();
    ASSERT(fibril_posix_installed());
    ASSERT_ERR(fibril_posix_install(NULL), -EALREADY);
    ASSERT_GT(fibril_posix_imports(&objects), 3);
    ASSERT_GE(objects, 1);
    ASSERT_OK(fibril_posix_uninstall());
    ASSERT_EQ(fibril_posix_imports(&objects), 0);
    ASSERT_EQ(objects, 0);
    ASSERT_OK(fibril_posix_uninstall()); /* nothing to do */
    install();
    ASSERT_OK(fibril_posix_uninstall());
}

TEST(installing_outside_loops_says_EPERM)
{
    ASSERT_ERR(fibril_posix_install(NULL), -EPERM);
}

static void *park_a_while(void *arg)
{
    fibril_sleep(RIG_MS);
    return arg;
}

IN_LOOP(uninstalling_says_EBUSY_while_threads_are_left)
{
    install();
    pthread_t thread = rig_go(park_a_while, NULL);
    ASSERT_ERR(fibril_posix_uninstall(), -EBUSY);
    rig_end(thread);
    ASSERT_OK(fibril_posix_uninstall());
}

static int sleep_really(void *arg)
{
    return ((int (*)(unsigned))(uintptr_t)dlsym(arg, "object_sleep"))(20000);
}

IN_LOOP(a_bypass_blocks_the_os_thread)
{
    void *handle = open_object("lazy");
    struct fibril *ticker;
    install();
    ASSERT_OK(fibril_spawn(tick, NULL, NULL, &ticker));
    ASSERT_EQ(fibril_posix_bypass(sleep_really, handle), 0);
    ASSERT_EQ(ticks, 0);
    stop = true;
    ASSERT_OK(fibril_join(ticker, FIBRIL_FOREVER, NULL));
    ASSERT_OK(fibril_posix_uninstall());
}

/* ---- while others load objects ---- */

static _Atomic bool loading;

static void *load_and_unload(void *arg)
{
    for (int i = 0; i < 300; i++) {
        void *handle = dlopen(arg, RTLD_LAZY);
        ASSERT(handle);
        int (*fn)(unsigned us) = (int (*)(unsigned))(uintptr_t)dlsym(handle, "object_sleep");
        ASSERT_EQ(fn(0), 0); /* bound lazily: an address that is half rewritten crashes here */
        ASSERT_EQ(dlclose(handle), 0);
    }
    loading = false;
    return NULL;
}

IN_LOOP(objects_are_covered_while_another_thread_loads_them)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", path_of("lazy"));
    install();
    loading = true;
    rig_foreign(1, load_and_unload, path);
    while (loading) {
        fibril_posix_dlsym(RTLD_DEFAULT, "usleep");
        fibril_yield();
    }
    rig_foreign_end();
    ASSERT_OK(fibril_posix_uninstall());
}

/* ---- the report ---- */

IN_LOOP(the_report_names_what_cannot_be_covered)
{
    static char text[65536];
    int ends[2];
    void *handle = open_object("now");
    ASSERT_GT(((long (*)(void))(uintptr_t)dlsym(handle, "object_raw"))(), 0);
    install();
    ASSERT_OK(pipe(ends));
    ASSERT_GE(fibril_posix_report(ends[1]), 1);
    ssize_t n = read(ends[0], text, sizeof text - 1);
    ASSERT_GT(n, 0);
    text[n] = 0;
    ASSERT(strncmp(text, "covered: ", 9) == 0);
    const char *here = strstr(text, "/object_now.so\n");
    ASSERT(here);
    const char *calls = strstr(here, "calls the kernel itself in 1 place");
    const char *locals = strstr(here, " 4 bytes of thread-local variables");
    ASSERT(calls && locals && locals - here < 250);
    ASSERT_OK(fibril_posix_uninstall());
    close(ends[0]);
    close(ends[1]);
}
