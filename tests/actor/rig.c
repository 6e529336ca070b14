/* SPDX-License-Identifier: MIT */
/* See rig.h. */
#include "rig.h"

struct noted noted;
enum fibril_stack rig_stack;

static void note_trouble(const struct fibril_actor_report *r)
{
    if (r->trouble != FIBRIL_TROUBLE_CRASH) {
        noted.other = r->trouble;
        noted.count = r->count;
        noted.others++;
        return;
    }
    noted.last = *r;
    snprintf(noted.name, sizeof noted.name, "%s", r->name);
    snprintf(noted.text, sizeof noted.text, "%s", r->text);
    snprintf(noted.state, sizeof noted.state, "%s", r->state);
    noted.crashes++;
}

void note_nothing(const struct fibril_actor_report *r)
{
    (void)r;
}

void rig_run(fibril_fn *body)
{
    struct fibril_opts opts = {.poller = "sim", .seed = 1};
    fibril_actor_on_trouble(note_trouble);
    ASSERT_OK(fibril_run(&opts, body, NULL));
    struct fibril_actor_counts counts;
    fibril_actor_counts(&counts);
    ASSERT_EQ(counts.spawned, counts.ended);
}

void settle(void)
{
    ASSERT_OK(fibril_sleep(MS(1)));
}

struct fibril_message *note(uint64_t tag, int value)
{
    struct fibril_message *m;
    ASSERT_OK(fibril_message_of(tag, &value, sizeof value, &m));
    return m;
}

int value_of(struct fibril_message *m)
{
    ASSERT_EQ(fibril_message_size(m), sizeof(int));
    return *(int *)fibril_message_data(m);
}

void tell(uint64_t actor, uint64_t tag, int value)
{
    ASSERT_OK(fibril_actor_send(actor, note(tag, value), FIBRIL_FOREVER));
}

int expect(uint64_t tag)
{
    struct fibril_message *m;
    ASSERT_OK(fibril_actor_receive(fibril_after(MS(1000)), &m));
    ASSERT_EQ(fibril_message_tag(m), tag);
    int value = value_of(m);
    fibril_message_free(m);
    return value;
}

struct fibril_signal expect_signal(uint64_t tag)
{
    return expect_signal_within(tag, 1000);
}

struct fibril_signal expect_signal_within(uint64_t tag, int64_t ms)
{
    struct fibril_message *m;
    ASSERT_OK(fibril_actor_receive(fibril_after(MS(ms)), &m));
    ASSERT_EQ(fibril_message_tag(m), tag);
    ASSERT_EQ(fibril_message_kind(m), FIBRIL_MESSAGE_SIGNAL);
    struct fibril_signal signal = *(struct fibril_signal *)fibril_message_data(m);
    fibril_message_free(m);
    return signal;
}

static uint64_t spawn_by(fibril_fn *fn, void *arg, const struct fibril_actor_opts *opts)
{
    uint64_t actor = 0;
    ASSERT_OK(fibril_actor_spawn(fn, arg, opts, &actor));
    ASSERT_NE(actor, 0);
    return actor;
}

uint64_t spawn(fibril_fn *fn, void *arg)
{
    return spawn_by(fn, arg, NULL);
}

uint64_t spawn_linked(fibril_fn *fn, void *arg)
{
    return spawn_by(fn, arg, &(struct fibril_actor_opts){.link = true});
}

uint64_t spawn_monitored(fibril_fn *fn, void *arg, uint64_t *ret_ref)
{
    return spawn_by(fn, arg, &(struct fibril_actor_opts){.ret_monitor = ret_ref});
}

int idle(void *arg)
{
    (void)arg;
    struct fibril_message *m;
    int rc;
    while ((rc = fibril_actor_receive(FIBRIL_FOREVER, &m)) == 0) {
        fibril_message_free(m);
    }
    return rc;
}

int returns(void *arg)
{
    return *(int *)arg;
}

int returns_when_told(void *arg)
{
    (void)arg;
    struct fibril_message *m;
    int rc = fibril_actor_receive(FIBRIL_FOREVER, &m);
    if (rc == 0) {
        rc = value_of(m);
        fibril_message_free(m);
    }
    return rc;
}
