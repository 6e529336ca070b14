/* SPDX-License-Identifier: MIT */
/* State machines: states and their being entered, postponement, events of their own, timeouts, the
 * end, other code. */
#include "rig.h"

#include <fibril/machine.h>

#include <stdarg.h>

enum { A, B, C, STATES };

/* What a machine of these tests is told; the value of the message is the argument. */
enum {
    GO = 1,   /* to a state */
    NOTE,     /* is logged; in A postponed */
    ASK,      /* the same, a call */
    TWO,      /* two events of its own */
    OWN,      /* one of those */
    AGAIN,    /* enters its state again */
    STATE_MS, /* state timeout */
    QUIET_MS,
    TIMER_MS,     /* timeouts 1, 2, ...: hundreds of the value say which */
    GO_TIMED,     /* to a state, with a state timeout of 10 ms */
    GO_POSTPONED, /* postpones this, and goes to a state; in other states than A it is logged */
    TAKE,
    FAIL,
    NOBODY, /* left unhandled */
    NOTHING,
};

static char events[512];

static void log_event(const char *format, ...)
{
    size_t n = strlen(events);
    va_list args;
    va_start(args, format);
    vsnprintf(events + n, sizeof events - n, format, args);
    va_end(args);
}

static void expect_events(const char *text)
{
    ASSERT_STR(events, text);
    events[0] = '\0';
}

struct data {
    int entered, in_enter_ms; /* state timeout to be set when a state is entered */
    bool go_in_enter;
    struct fibril_message *kept;
};

static int init_result, init_in_enter_ms;
static bool init_go_in_enter, init_happens;
static unsigned init_state;

static int init(struct fibril_machine *m, void *data, void *arg)
{
    struct data *d = data;
    (void)arg;
    d->in_enter_ms = init_in_enter_ms;
    d->go_in_enter = init_go_in_enter;
    fibril_machine_go(m, init_state);
    if (init_happens) {
        fibril_machine_happen(m, note(OWN, 9));
    }
    return init_result;
}

static int enter(struct fibril_machine *m, void *data, unsigned old)
{
    struct data *d = data;
    d->entered++;
    log_event("%c>%c ", 'a' + (int)old, 'a' + (int)fibril_machine_state(m));
    if (d->in_enter_ms) {
        fibril_machine_state_timeout(m, MS(d->in_enter_ms));
    }
    if (d->go_in_enter && d->entered > 1) {
        fibril_machine_go(m, C);
    }
    return 0;
}

static int note_or_postpone(struct fibril_machine *m, int value)
{
    if (fibril_machine_state(m) == A) {
        fibril_machine_postpone(m);
    } else {
        log_event("%c%d ", 'A' + (int)fibril_machine_state(m), value);
    }
    return 0;
}

static int told(struct fibril_machine *m, struct data *d, uint64_t tag, int value)
{
    switch (tag) {
    case GO: fibril_machine_go(m, (unsigned)value); return 0;
    case AGAIN: fibril_machine_enter_again(m); return 0;
    case NOTE: return note_or_postpone(m, value);
    case TWO:
        fibril_machine_happen(m, note(OWN, 1));
        fibril_machine_happen(m, note(OWN, 2));
        return 0;
    case STATE_MS:
        fibril_machine_state_timeout(m, value < 0 ? FIBRIL_FOREVER : MS(value));
        return 0;
    case QUIET_MS:
        fibril_machine_quiet_timeout(m, value < 0 ? FIBRIL_FOREVER : MS(value));
        return 0;
    case TIMER_MS:
        return fibril_machine_timeout(m, (uint64_t)value / 100,
                                      value % 100 == 99 ? FIBRIL_FOREVER : MS(value % 100));
    case GO_TIMED:
        fibril_machine_state_timeout(m, MS(10));
        fibril_machine_go(m, (unsigned)value);
        return 0;
    case GO_POSTPONED:
        fibril_machine_postpone(m);
        fibril_machine_go(m, (unsigned)value);
        return 0;
    case TAKE: d->kept = fibril_machine_take(m); return 0;
    case FAIL: return value;
    case NOTHING: return 0;
    default: return FIBRIL_UNHANDLED;
    }
}

static int happens(struct fibril_machine *m, void *data, const struct fibril_happening *h)
{
    unsigned state = fibril_machine_state(m);
    struct fibril_from from;
    switch (h->kind) {
    case FIBRIL_HAPPENS_STATE_TIMEOUT: log_event("%c-state ", 'A' + (int)state); return 0;
    case FIBRIL_HAPPENS_QUIET: log_event("%c-quiet ", 'A' + (int)state); return 0;
    case FIBRIL_HAPPENS_TIMEOUT: log_event("%c-t%d ", 'A' + (int)state, (int)h->tag); return 0;
    case FIBRIL_HAPPENS_OWN: log_event("own%d ", value_of(h->message)); return 0;
    case FIBRIL_HAPPENS_CALL:
        if (h->tag == NOBODY) {
            return FIBRIL_UNHANDLED;
        }
        if (state == A) {
            fibril_machine_postpone(m);
            return 0;
        }
        from = fibril_message_from(h->message);
        return fibril_server_reply(from, &state, sizeof state);
    default: break;
    }
    if (state != A && h->tag == GO_POSTPONED) {
        log_event("%c-again ", 'A' + (int)state);
        return 0;
    }
    return told(m, data, h->tag, value_of(h->message));
}

static void terminate(struct fibril_machine *m, void *data, int reason)
{
    struct data *d = data;
    (void)m;
    fibril_message_free(d->kept);
    log_event("end%d ", reason);
}

static void describe(const void *data, char *text, size_t size)
{
    snprintf(text, size, "%d entered", ((const struct data *)data)->entered);
}

static const struct fibril_machine_state states[STATES] = {
    [A] = {"a", happens, enter}, [B] = {"b", happens, enter}, [C] = {"c", happens, enter}};

static const struct fibril_machine_type type = {.name = "test",
                                                .data_bytes = sizeof(struct data),
                                                .states = states,
                                                .n_states = STATES,
                                                .postponed_max = 5,
                                                .init = init,
                                                .terminate = terminate,
                                                .describe = describe};

static uint64_t start_type(const struct fibril_machine_type *t)
{
    struct fibril_actor_opts opts = {.stack = rig_stack};
    uint64_t actor = 0;
    ASSERT_OK(fibril_machine_start(t, NULL, &opts, fibril_after(MS(1000)), &actor));
    return actor;
}

static uint64_t start(void)
{
    uint64_t actor = start_type(&type);
    expect_events("a>a ");
    return actor;
}

/* ---- states ---- */

ACTOR_TEST_ON_BOTH_STACKS(the_first_state_is_entered_before_the_start_returns)
{
    init_state = B;
    init_happens = true;
    uint64_t a = start_type(&type);
    ASSERT_EQ(strncmp(events, "b>b ", 4), 0);
    settle();
    expect_events("b>b own9 ");
    ASSERT(fibril_actor_alive(a));
    return 0;
}

ACTOR_TEST(an_init_that_fails_fails_the_start)
{
    uint64_t actor;
    init_result = -EACCES;
    ASSERT_ERR(fibril_machine_start(&type, NULL, NULL, FIBRIL_FOREVER, &actor), -EACCES);
    init_result = 0;
    init_state = 7;
    ASSERT_ERR(fibril_machine_start(&type, NULL, NULL, FIBRIL_FOREVER, &actor), -EINVAL);
    expect_events("");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_state_is_entered_when_it_changes_and_when_asked)
{
    uint64_t a = start();
    tell(a, GO, B);
    tell(a, GO, B);
    tell(a, AGAIN, 0);
    tell(a, GO, A);
    settle();
    expect_events("a>b b>b b>a ");
    return 0;
}

ACTOR_TEST(a_state_that_is_not_is_a_failure)
{
    uint64_t a = start();
    tell(a, GO, STATES);
    settle();
    expect_events("end-22 ");
    ASSERT_STR(noted.text, "machine \"test\" asks for a state that it does not have");
    ASSERT_STR(noted.state, "a: 1 entered");
    ASSERT(!fibril_actor_alive(a));
    return 0;
}

ACTOR_TEST(what_is_entered_cannot_be_left_by_entering)
{
    init_go_in_enter = true;
    uint64_t a = start();
    tell(a, GO, B);
    settle();
    expect_events("a>b end-22 ");
    ASSERT_EQ(noted.crashes, 1);
    return 0;
}

/* ---- postponing ---- */

ACTOR_TEST_ON_BOTH_STACKS(what_was_postponed_comes_again_in_order_before_what_waits)
{
    uint64_t a = start();
    tell(a, NOTE, 1);
    tell(a, NOTE, 2);
    tell(a, GO, B);
    tell(a, NOTE, 3);
    settle();
    expect_events("a>b B1 B2 B3 ");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(what_is_postponed_again_keeps_its_order)
{
    uint64_t a = start();
    for (int i = 1; i <= 3; i++) {
        tell(a, NOTE, i);
    }
    tell(a, AGAIN, 0);
    tell(a, GO, A);
    settle();
    expect_events("a>a ");
    tell(a, NOTE, 4);
    tell(a, GO_POSTPONED, C);
    settle();
    expect_events("a>c C1 C2 C3 C4 C-again ");
    return 0;
}

struct asker {
    uint64_t machine;
    int state;
};

static int asks(void *arg)
{
    struct asker *asker = arg;
    unsigned state = 99;
    int rc = fibril_server_call(asker->machine, ASK, NULL, 0, fibril_after(MS(500)), &state,
                                sizeof state);
    asker->state = rc < 0 ? rc : (int)state;
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_postponed_call_is_replied_to_later_and_ends_with_its_machine)
{
    static struct asker one, two;
    uint64_t a = start();
    one.machine = two.machine = a;
    spawn(asks, &one);
    settle();
    tell(a, GO, B);
    settle();
    ASSERT_EQ(one.state, B);
    tell(a, GO, A);
    spawn(asks, &two);
    settle();
    ASSERT_OK(fibril_server_stop(a, 0, FIBRIL_FOREVER));
    settle();
    ASSERT_EQ(two.state, -EPIPE);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(the_postponed_are_bounded)
{
    static struct asker one;
    struct fibril_actor_counts counts;
    uint64_t a = start();
    for (int i = 1; i <= 7; i++) {
        tell(a, NOTE, i);
    }
    settle();
    one.machine = a;
    spawn(asks, &one);
    settle();
    ASSERT_EQ(one.state, -EAGAIN);
    fibril_actor_counts(&counts);
    ASSERT_EQ(counts.dropped, 2);
    tell(a, GO, B);
    settle();
    expect_events("a>b B1 B2 B3 B4 B5 ");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(what_is_left_at_the_end_is_a_dead_letter)
{
    struct fibril_actor_counts counts;
    uint64_t a = start();
    tell(a, NOTE, 1);
    tell(a, NOTE, 2);
    tell(a, FAIL, -EIO);
    settle();
    expect_events("end-5 ");
    fibril_actor_counts(&counts);
    ASSERT_EQ(counts.dead_letters, 2);
    return 0;
}

/* ---- events of its own ---- */

ACTOR_TEST_ON_BOTH_STACKS(its_own_events_come_first_and_in_order)
{
    uint64_t a = start();
    tell(a, NOTE, 1);
    tell(a, TWO, 0);
    tell(a, GO, B);
    settle();
    expect_events("own1 own2 a>b B1 ");
    return 0;
}

ACTOR_TEST(what_nobody_handles_is_refused_or_a_dead_letter)
{
    struct fibril_actor_counts counts;
    uint64_t a = start();
    tell(a, NOBODY, 1);
    ASSERT_ERR(fibril_server_call(a, NOBODY, NULL, 0, FIBRIL_FOREVER, NULL, 0), -ENOSYS);
    fibril_actor_counts(&counts);
    ASSERT_EQ(counts.dead_letters, 1);
    return 0;
}

static int other(struct fibril_machine *m, void *data, const struct fibril_happening *h)
{
    (void)m;
    (void)data;
    log_event("other%d ", (int)h->tag);
    return 0;
}

ACTOR_TEST(what_a_state_leaves_is_for_the_whole_machine)
{
    static struct fibril_machine_type with_other;
    with_other = type;
    with_other.other = other;
    uint64_t a = start_type(&with_other);
    tell(a, NOBODY, 1);
    settle();
    expect_events("a>a other14 ");
    return 0;
}

ACTOR_TEST(a_message_that_is_taken_is_kept)
{
    uint64_t a = start();
    tell(a, TAKE, 1);
    ASSERT_OK(fibril_server_stop(a, 0, FIBRIL_FOREVER));
    expect_events("end0 ");
    return 0;
}

/* ---- timeouts ---- */

ACTOR_TEST_ON_BOTH_STACKS(a_state_timeout_comes_whatever_else_does)
{
    uint64_t a = start();
    tell(a, STATE_MS, 10);
    for (int i = 0; i < 4; i++) {
        ASSERT_OK(fibril_sleep(MS(2)));
        tell(a, NOTHING, 0);
    }
    settle();
    expect_events("");
    ASSERT_OK(fibril_sleep(MS(2)));
    expect_events("A-state ");
    ASSERT_OK(fibril_sleep(MS(50)));
    expect_events("");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_state_timeout_ends_with_its_state)
{
    uint64_t a = start();
    tell(a, STATE_MS, 10);
    ASSERT_OK(fibril_sleep(MS(5)));
    tell(a, GO, B);
    ASSERT_OK(fibril_sleep(MS(50)));
    expect_events("a>b ");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_state_timeout_set_while_going_is_that_of_the_new_state)
{
    uint64_t a = start();
    tell(a, GO_TIMED, B);
    ASSERT_OK(fibril_sleep(MS(12)));
    expect_events("a>b B-state ");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_state_timeout_can_be_set_when_the_state_is_entered)
{
    init_in_enter_ms = 10;
    uint64_t a = start();
    ASSERT_OK(fibril_sleep(MS(5)));
    tell(a, GO, B);
    ASSERT_OK(fibril_sleep(MS(8)));
    expect_events("a>b ");
    ASSERT_OK(fibril_sleep(MS(8)));
    expect_events("B-state ");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_state_timeout_is_replaced_and_cancelled)
{
    uint64_t a = start();
    tell(a, STATE_MS, 10);
    tell(a, STATE_MS, 20);
    ASSERT_OK(fibril_sleep(MS(15)));
    expect_events("");
    tell(a, STATE_MS, -1);
    ASSERT_OK(fibril_sleep(MS(50)));
    expect_events("");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(any_event_ends_the_quiet_timeout)
{
    uint64_t a = start();
    tell(a, QUIET_MS, 10);
    ASSERT_OK(fibril_sleep(MS(5)));
    tell(a, NOTHING, 0);
    ASSERT_OK(fibril_sleep(MS(50)));
    expect_events("");
    tell(a, QUIET_MS, 10);
    ASSERT_OK(fibril_sleep(MS(15)));
    expect_events("A-quiet ");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_timeout_ends_the_quiet_timeout_too)
{
    uint64_t a = start();
    tell(a, STATE_MS, 5);
    tell(a, QUIET_MS, 10);
    ASSERT_OK(fibril_sleep(MS(50)));
    expect_events("A-state ");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_quiet_timeout_of_zero_comes_before_what_waits_and_after_its_own_events)
{
    uint64_t a = start();
    tell(a, TWO, 0);
    tell(a, QUIET_MS, 0);
    tell(a, GO, B);
    settle();
    expect_events("own1 own2 A-quiet a>b ");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(timeouts_with_ids_survive_the_state_and_come_in_time)
{
    uint64_t a = start();
    tell(a, TIMER_MS, 120);
    tell(a, TIMER_MS, 210);
    tell(a, TIMER_MS, 330);
    tell(a, TIMER_MS, 405);
    tell(a, GO, B);
    tell(a, TIMER_MS, 299); /* cancelled */
    tell(a, TIMER_MS, 999); /* there was none */
    tell(a, TIMER_MS, 315); /* earlier */
    ASSERT_OK(fibril_sleep(MS(50)));
    expect_events("a>b B-t4 B-t3 B-t1 ");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_flood_does_not_keep_a_timeout_away)
{
    struct fibril_mailbox small = {.messages = 4, .overflow = FIBRIL_OVERFLOW_DROP_OLDEST};
    struct fibril_actor_opts opts = {.stack = rig_stack, .mailbox = small};
    uint64_t a;
    ASSERT_OK(fibril_machine_start(&type, NULL, &opts, FIBRIL_FOREVER, &a));
    tell(a, STATE_MS, 10);
    settle();
    for (int i = 0; i < 20; i++) {
        for (int k = 0; k < 10; k++) {
            tell(a, NOTHING, 0);
        }
        ASSERT_OK(fibril_sleep(MS(1)));
    }
    expect_events("a>a A-state ");
    return 0;
}

/* ---- the end, other code ---- */

ACTOR_TEST_ON_BOTH_STACKS(its_end_says_the_reason)
{
    uint64_t a = start();
    tell(a, FAIL, FIBRIL_STOP);
    settle();
    expect_events("end0 ");
    a = start();
    ASSERT_OK(fibril_actor_exit(a, FIBRIL_EXIT_KILL));
    settle();
    expect_events("end-10003 ");
    return 0;
}

ACTOR_TEST(its_status_names_the_state)
{
    char text[40];
    uint64_t a = start();
    tell(a, GO, B);
    ASSERT_OK(fibril_server_status(a, text, sizeof text, FIBRIL_FOREVER));
    ASSERT_STR(text, "b: 2 entered");
    return 0;
}

/* The other version has one state more, and its numbers are others. */
static int change(struct fibril_machine *m, void *data, unsigned *ret_state,
                  const struct fibril_machine_type *old, void *old_data, void *extra)
{
    (void)m;
    if (extra) {
        return -EBUSY;
    }
    ASSERT_EQ(old->n_states, STATES);
    ((struct data *)data)->entered = 10 * ((struct data *)old_data)->entered;
    *ret_state = *ret_state + 1;
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(other_code_takes_over_with_state_postponed_and_timeouts)
{
    static const struct fibril_machine_state more[] = {{"new", happens, enter},
                                                       {"a", happens, enter},
                                                       {"b", happens, enter},
                                                       {"c", happens, enter}};
    static struct fibril_machine_type next, wrong;
    char text[40];
    next = type;
    next.states = more;
    next.n_states = 4;
    wrong = next;
    next.change = change;
    uint64_t a = start();
    tell(a, NOTE, 1);
    tell(a, TIMER_MS, 120);
    ASSERT_ERR(fibril_machine_replace(a, &wrong, NULL, FIBRIL_FOREVER), -EINVAL);
    ASSERT_ERR(fibril_machine_replace(a, &next, &next, FIBRIL_FOREVER), -EBUSY);
    ASSERT_OK(fibril_machine_replace(a, &next, NULL, FIBRIL_FOREVER));
    ASSERT_OK(fibril_server_status(a, text, sizeof text, FIBRIL_FOREVER));
    ASSERT_STR(text, "a: 10 entered");
    tell(a, GO, C);
    ASSERT_OK(fibril_sleep(MS(30)));
    expect_events("b>c C1 C-t1 ");
    static const struct fibril_server_type server = {.state_bytes = sizeof(struct data)};
    ASSERT_ERR(fibril_server_replace(a, &server, NULL, FIBRIL_FOREVER), -EINVAL);
    return 0;
}
