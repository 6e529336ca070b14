/* SPDX-License-Identifier: MIT */
/*
 * A stranger's program: built by test_install.sh against the installed tree alone, by the flags
 * that pkg-config gives, once with the shared library and once with the static one. It is also
 * valid C++.
 */
#include <fibril/fibril.h>

#include <stdio.h>
#include <string.h>

static int child(void *arg)
{
    int *sum = (int *)arg;
    for (int i = 1; i <= 10; i++) {
        *sum += i;
        fibril_yield();
    }
    return 7;
}

static int parent(void *arg)
{
    struct fibril *fibril = NULL;
    int result = 0;
    int rc = fibril_spawn(child, arg, NULL, &fibril);
    if (rc < 0) {
        return rc;
    }
    rc = fibril_join(fibril, FIBRIL_FOREVER, &result);
    return rc < 0 ? rc : result;
}

int main(void)
{
    int sum = 0;
    int rc = fibril_run(NULL, parent, &sum);
    printf("%s sum %d result %d\n", fibril_version(), sum, rc);
    return rc == 7 && sum == 55 ? 0 : 1;
}
