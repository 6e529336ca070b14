/* SPDX-License-Identifier: MIT */
/* Random scripts from seeds on one loop. */
#include "seeds.h"

#include "test.h"

TEST_WITHIN(scripts_follow_the_model, 600)
{
    static const struct seeds seeds = {"scripts_follow_the_model", script_run, 50, 5, 1};
    seeds_play(&seeds);
}
