/* SPDX-License-Identifier: MIT */
/* Compiler thread-locals of objects that are known: libstdc++ keeps the exceptions being handled
 * there. */
#include "thread_rig.h"

#include <dlfcn.h>

/* What __cxa_get_globals points to, by the C++ ABI of Itanium. */
struct exceptions {
    void *caught;
    unsigned uncaught;
};

static struct exceptions *(*get)(void);

/* The library is loaded once the layer is there, as an extension module would be. */
static bool has_library(void)
{
    void *object = dlopen("libstdc++.so.6", RTLD_NOW);
    fibril__load_look();
    if (object) {
        *(void **)&get = dlsym(object, "__cxa_get_globals");
    }
    return object && get;
}

/* A catch block that parks: what it is handling is its own, before and after. */
static void *park_in_catch(void *arg)
{
    int *name = arg;
    ASSERT(get()->caught == NULL);
    ASSERT_EQ(get()->uncaught, 0);
    get()->caught = name;
    get()->uncaught = (unsigned)*name;
    for (int i = 0; i < *name; i++) {
        fibril_yield();
        ASSERT(get()->caught == name);
        ASSERT_EQ(get()->uncaught, (unsigned)*name);
    }
    return NULL; /* one that ends in the middle of it leaves nothing to the next */
}

static void *look_on(void *arg)
{
    for (int i = 0; i < 20; i++) {
        ASSERT(get()->caught == NULL);
        fibril_yield();
    }
    return arg;
}

ON_LOOP(each_fibril_handles_exceptions_of_its_own)
{
    static int names[8] = {1, 2, 3, 5, 8, 13, 3, 1}, own;
    pthread_t threads[16];
    if (!has_library()) {
        SKIP("libstdc++ is not here");
    }
    get()->caught = &own;
    for (int i = 0; i < 8; i++) {
        threads[2 * i] = rig_go(park_in_catch, &names[i]);
        threads[2 * i + 1] = rig_go(look_on, NULL);
    }
    for (int i = 0; i < 16; i++) {
        rig_end(threads[i]);
    }
    ASSERT(get()->caught == &own);
    get()->caught = NULL;
}

static int spawned_main(void *arg)
{
    park_in_catch(arg);
    return 0;
}

ON_LOOP(fibrils_without_a_thread_have_their_own_as_well)
{
    static int names[2] = {3, 5};
    struct fibril *f[2];
    if (!has_library()) {
        SKIP("libstdc++ is not here");
    }
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(fibril_spawn(spawned_main, &names[i], NULL, &f[i]));
    }
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(fibril_join(f[i], FIBRIL_FOREVER, NULL));
    }
    ASSERT(get()->caught == NULL);
}

static __thread void *word;

static void *keep_in_word(void *mine)
{
    ASSERT(word == NULL);
    word = mine;
    for (int i = 0; i < 3; i++) {
        sched_yield();
        ASSERT(word == mine);
    }
    return NULL;
}

ON_LOOP(a_word_that_a_runtime_names_belongs_to_the_fibril)
{
    int own;
    ASSERT_OK(fibril_posix_own(&word, sizeof word));
    word = &own;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        threads[i] = rig_go(keep_in_word, &threads[i]);
    }
    for (int i = 0; i < 4; i++) {
        rig_end(threads[i]);
    }
    ASSERT(word == &own);
    word = NULL;
}
