/* SPDX-License-Identifier: MIT */
/*
 * What the tests of actors share: a body that runs as the main fibril in virtual time, with what
 * goes wrong noted instead of printed.
 */
#ifndef FIBRIL_TESTS_ACTOR_RIG_H
#define FIBRIL_TESTS_ACTOR_RIG_H

#include "test.h"

#include <fibril/actor.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS(n) ((int64_t)(n)*1000000)

/* The last crash that was reported, what else was last, and how many there were of both. */
struct noted {
    struct fibril_actor_report last;
    enum fibril_actor_trouble other;
    uint64_t count;
    char name[64], text[200], state[200];
    int crashes, others;
};
extern struct noted noted;

/* A test whose body is the main fibril of a simulated loop. */
#define ACTOR_TEST(test_name)                                                                      \
    static int actor_body_##test_name(void *arg);                                                  \
    TEST(test_name)                                                                                \
    {                                                                                              \
        rig_run(actor_body_##test_name);                                                           \
    }                                                                                              \
    static int actor_body_##test_name(void *arg UNUSED_ARG)

/* Two tests with one body: rig_stack is what actors are to be started on. */
#define ACTOR_TEST_ON_BOTH_STACKS(test_name)                                                       \
    static int actor_body_##test_name(void *arg);                                                  \
    TEST(test_name)                                                                                \
    {                                                                                              \
        rig_run(actor_body_##test_name);                                                           \
    }                                                                                              \
    TEST(test_name##_copied)                                                                       \
    {                                                                                              \
        rig_stack = FIBRIL_STACK_COPIED;                                                           \
        rig_run(actor_body_##test_name);                                                           \
    }                                                                                              \
    static int actor_body_##test_name(void *arg UNUSED_ARG)

extern enum fibril_stack rig_stack;

#define UNUSED_ARG __attribute__((unused))

void rig_run(fibril_fn *body);
/* For fibril_actor_on_trouble. */
void note_nothing(const struct fibril_actor_report *r);

/* Lets all others run until they wait. */
void settle(void);

/* A message with a tag and an int. */
struct fibril_message *note(uint64_t tag, int value);
int value_of(struct fibril_message *m);
/* Sends one; asserts that it was taken. */
void tell(uint64_t actor, uint64_t tag, int value);
/* Takes the next message, which must have this tag, and returns its value. */
int expect(uint64_t tag);
/* Takes the next message, which must be a signal with this tag, and returns it. */
struct fibril_signal expect_signal(uint64_t tag);
struct fibril_signal expect_signal_within(uint64_t tag, int64_t ms);

uint64_t spawn(fibril_fn *fn, void *arg);
uint64_t spawn_linked(fibril_fn *fn, void *arg);
uint64_t spawn_monitored(fibril_fn *fn, void *arg, uint64_t *ret_ref);

/* Bodies. */
int idle(void *arg);              /* receives and drops until it is told to end */
int returns(void *arg);           /* returns *(int *)arg at once */
int returns_when_told(void *arg); /* returns the value of the first message */

#endif
