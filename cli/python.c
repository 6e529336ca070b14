/* SPDX-License-Identifier: MIT */
/*
 * Which Python: $FIBRIL_PYTHON, else the one that the package was built for, else python3 on the
 * PATH. In a build tree the package lies beside this program's folder and is put on Python's path;
 * installed, Python finds it by itself.
 */
#include "python.h"

#include "say.h"

#include <errno.h>
#include <linux/limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
static const char letters_digits[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.0123456789";

static bool is_folder(const char *word)
{
    struct stat st;

    return stat(word, &st) == 0 && S_ISDIR(st.st_mode);
}

/* "shop.wsgi:application", "shop:create_app()". A port begins with a digit, and what is behind
 * "unix:" of an address is a path or the value of --bind. */
static bool is_application(const char *word)
{
    size_t module = strspn(word, letters_digits);
    const char *name = word + module + 1;

    if (!strchr(letters, word[0]) || word[module] != ':' || !*name || !strchr(letters, *name)) {
        return false;
    }
    const char *rest = name + strspn(name, letters_digits);
    return (!*rest || strcmp(rest, "()") == 0) && !is_folder(word);
}

bool python_wants(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] && is_application(argv[i]) && strcmp(argv[i - 1], "--bind") != 0) {
            return true;
        }
    }
    return false;
}

static void set_path(void)
{
    char path[PATH_MAX + 64], with[2 * PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", path, PATH_MAX);
    char *slash = len > 0 ? memrchr(path, '/', (size_t)len) : NULL;
    const char *before = getenv("PYTHONPATH");

    if (!slash) {
        return;
    }
    size_t room = sizeof(path) - (size_t)(slash - path);
    snprintf(slash, room, "%s", "/../python/fibril/serve.py");
    if (access(path, R_OK) < 0) {
        return;
    }
    snprintf(slash, room, "%s", "/../python");
    snprintf(with, sizeof(with), "%s%s%s", path, before ? ":" : "", before ? before : "");
    setenv("PYTHONPATH", with, 1);
}

static const char *program(void)
{
    const char *asked = getenv("FIBRIL_PYTHON");

    if (asked && *asked) {
        return asked;
    }
    return access(FIBRIL_PYTHON, X_OK) == 0 ? FIBRIL_PYTHON : "python3";
}

int python_serve(int argc, char **argv)
{
    const char *python = program();
    char **words = calloc((size_t)argc + 4, sizeof(*words));

    if (!words) {
        return say_wrong("serve", "out of memory");
    }
    words[0] = (char *)(uintptr_t)python;
    words[1] = "-m";
    words[2] = "fibril";
    memcpy(words + 3, argv, (size_t)argc * sizeof(*words)); /* argv[0] is "serve" */
    set_path();
    execvp(python, words);
    free(words);
    return say_wrong("serve", "cannot run %s: %s", python, strerror(errno));
}
