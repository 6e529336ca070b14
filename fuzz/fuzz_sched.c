/* SPDX-License-Identifier: MIT */
/*
 * The scheduler and the sync floor: the bytes are the choices of a script (tests/sim/script.h),
 * which spawns, sends, receives, closes, sleeps, cancels, locks and selects over the simulated
 * poller and checks everything against a model. When the bytes are used up the script comes to its
 * end.
 *
 * The first byte is the seed of the simulation.
 */
#include "fuzz.h"
#include "sim/script.h"

enum { INPUT_MAX = 4096 };

_Noreturn void script_failed(const struct script *script, const char *file, int line,
                             const char *what)
{
    (void)script;
    fprintf(stderr, "%s:%d: property does not hold: %s\n", file, line, what);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script_result result;
    if (size < 1 || size > INPUT_MAX) {
        return 0;
    }
    struct script script = {.bytes = data + 1,
                            .len = size - 1,
                            .seed = 1u + data[0],
                            .print = getenv("FIBRIL_FUZZ_PRINT") != NULL};
    script_run(&script, &result);
    return 0;
}
