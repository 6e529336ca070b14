/* SPDX-License-Identifier: MIT */
/* Random scripts from seeds on several loops, whose OS threads run in turns: see loops.h. */
#include "loops.h"
#include "seeds.h"

#include "test.h"

TEST_WITHIN(loops_follow_the_model, 1800)
{
    static const struct seeds seeds = {"loops_follow_the_model", loops_run, 50, 5, 1};
    seeds_play(&seeds);
}
