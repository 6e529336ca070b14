/* SPDX-License-Identifier: MIT */
/* Messages, mailboxes, choosing among what waits, bounds. */
#include "rig.h"

ACTOR_TEST(messages_of_one_sender_keep_their_order)
{
    uint64_t self = fibril_actor_self();
    for (int i = 0; i < 1000; i++) {
        tell(self, 1, i);
    }
    for (int i = 0; i < 1000; i++) {
        ASSERT_EQ(expect(1), i);
    }
    return 0;
}

ACTOR_TEST(a_number_is_never_used_twice)
{
    static int zero;
    uint64_t last = 0;
    for (int i = 0; i < 3000; i++) {
        uint64_t actor = spawn(returns, &zero);
        ASSERT_NE(actor, last);
        settle();
        ASSERT(!fibril_actor_alive(actor));
        last = actor;
    }
    return 0;
}

ACTOR_TEST(receive_ends_at_its_deadline)
{
    struct fibril_message *m;
    int64_t deadline_ns = fibril_after(MS(50));
    ASSERT_ERR(fibril_actor_receive(deadline_ns, &m), -ETIMEDOUT);
    ASSERT_EQ(fibril_now(), deadline_ns);
    ASSERT_ERR(fibril_actor_receive(0, &m), -ETIMEDOUT);
    tell(fibril_actor_self(), 1, 5);
    ASSERT_OK(fibril_actor_receive(0, &m));
    fibril_message_free(m);
    return 0;
}

ACTOR_TEST(a_fibril_that_is_cancelled_receives_no_more)
{
    struct fibril_message *m;
    tell(fibril_actor_self(), 1, 5);
    ASSERT_OK(fibril_cancel(fibril_current()));
    ASSERT_ERR(fibril_actor_receive(FIBRIL_FOREVER, &m), -ECANCELED);
    fibril_cancel_clear();
    ASSERT_EQ(expect(1), 5);
    return 0;
}

ACTOR_TEST(receive_by_tag_leaves_the_others_in_order)
{
    uint64_t self = fibril_actor_self();
    struct fibril_message *m;
    for (int i = 0; i < 10; i++) {
        tell(self, (uint64_t)(i % 2), i);
    }
    for (int i = 0; i < 5; i++) {
        ASSERT_OK(fibril_actor_receive_tag(1, FIBRIL_FOREVER, &m));
        ASSERT_EQ(value_of(m), 2 * i + 1);
        fibril_message_free(m);
    }
    for (int i = 0; i < 5; i++) {
        ASSERT_EQ(expect(0), 2 * i);
    }
    return 0;
}

static int looked;

static bool has_value(const struct fibril_message *m, void *arg)
{
    looked++;
    return *(const int *)fibril_message_peek(m) == *(int *)arg;
}

ACTOR_TEST(a_choice_needs_somebody_who_chooses)
{
    struct fibril_message *m;
    tell(fibril_actor_self(), 1, 10);
    ASSERT_ERR(fibril_actor_receive_match(NULL, NULL, FIBRIL_FOREVER, &m), -EINVAL);
    ASSERT_EQ(expect(1), 10);
    return 0;
}

ACTOR_TEST(what_was_looked_at_is_not_looked_at_again)
{
    static int wanted = -1;
    uint64_t self = fibril_actor_self();
    struct fibril_message *m;
    for (int i = 0; i < 1000; i++) {
        tell(self, 1, i);
    }
    ASSERT_ERR(fibril_actor_receive_match(has_value, &wanted, 0, &m), -ETIMEDOUT);
    ASSERT_EQ(looked, 1000);
    for (int i = 0; i < 10; i++) {
        tell(self, 1, -1);
        ASSERT_OK(fibril_actor_receive_match(has_value, &wanted, 0, &m));
        fibril_message_free(m);
    }
    ASSERT_EQ(looked, 1010);
    return 0;
}

ACTOR_TEST(four_choices_keep_their_marks)
{
    static int wanted[4] = {-1, -2, -3, -4};
    uint64_t self = fibril_actor_self();
    struct fibril_message *m;
    looked = 0;
    for (int i = 0; i < 100; i++) {
        tell(self, 1, i);
    }
    for (int i = 0; i < 40; i++) {
        ASSERT_ERR(fibril_actor_receive_match(has_value, &wanted[i % 4], 0, &m), -ETIMEDOUT);
    }
    ASSERT_EQ(looked, 400);
    for (int i = 0; i < 8; i++) {
        tell(self, 1, wanted[i % 4]);
        ASSERT_OK(fibril_actor_receive_match(has_value, &wanted[i % 4], 0, &m));
        fibril_message_free(m);
    }
    ASSERT_LE(looked, 400 + 20);
    return 0;
}

ACTOR_TEST(a_mark_survives_the_taking_of_its_message)
{
    static int wanted = -1;
    uint64_t self = fibril_actor_self();
    struct fibril_message *m;
    for (int i = 0; i < 3; i++) {
        tell(self, (uint64_t)i, i);
    }
    ASSERT_ERR(fibril_actor_receive_match(has_value, &wanted, 0, &m), -ETIMEDOUT);
    for (int i = 2; i >= 0; i--) {
        ASSERT_OK(fibril_actor_receive_tag((uint64_t)i, 0, &m));
        fibril_message_free(m);
        tell(self, 9, -1);
        ASSERT_OK(fibril_actor_receive_match(has_value, &wanted, 0, &m));
        fibril_message_free(m);
    }
    ASSERT_EQ(fibril_actor_waiting(), 0);
    return 0;
}

/* ---- what messages own ---- */

static int destroyed;

static void count_destroyed(void *data, size_t size)
{
    (void)data;
    (void)size;
    destroyed++;
}

static int copy_fine(void *data, size_t size)
{
    (void)data;
    (void)size;
    return 0;
}

static const struct fibril_message_type owning = {.name = "owning", .destroy = count_destroyed};
static const struct fibril_message_type copying = {.destroy = count_destroyed, .copy = copy_fine};

static struct fibril_message *of_type(const struct fibril_message_type *type, size_t size)
{
    struct fibril_message *m;
    ASSERT_OK(fibril_message_new(1, size, type, &m));
    return m;
}

ACTOR_TEST(what_nobody_takes_is_destroyed_once)
{
    uint64_t child = spawn(returns_when_told, NULL);
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(fibril_actor_send(child, of_type(&owning, 4), FIBRIL_FOREVER));
    }
    settle(); /* it takes one, and the others are left */
    ASSERT_EQ(destroyed, 3);
    ASSERT_OK(fibril_actor_send(child, of_type(&owning, 4), FIBRIL_FOREVER));
    ASSERT_EQ(destroyed, 4);
    return 0;
}

ACTOR_TEST(a_message_of_any_size_is_aligned)
{
    for (size_t size = 0; size < 600; size += 37) {
        struct fibril_message *m = of_type(NULL, size);
        ASSERT_EQ((uintptr_t)fibril_message_data(m) % 16, 0);
        memset(fibril_message_data(m), 0xab, size);
        fibril_message_free(m);
    }
    return 0;
}

ACTOR_TEST(only_what_may_be_copied_is_copied)
{
    struct fibril_message *copy, *m = of_type(&owning, 8);
    ASSERT_ERR(fibril_message_copy(m, &copy), -ENOTSUP);
    fibril_message_free(m);
    m = of_type(&copying, 8);
    memcpy(fibril_message_data(m), "1234567", 8);
    ASSERT_OK(fibril_message_copy(m, &copy));
    ASSERT_STR(fibril_message_data(copy), "1234567");
    fibril_message_free(m);
    fibril_message_free(copy);
    ASSERT_EQ(destroyed, 3);
    return 0;
}

/* ---- bounds ---- */

static struct fibril_mailbox bounds;

static int bounded(void *arg)
{
    ASSERT_OK(fibril_actor_set_mailbox(&bounds));
    return arg ? ((fibril_fn *)(uintptr_t)arg)(NULL) : fibril_sleep(MS(1000));
}

static uint64_t spawn_bounded(uint32_t messages, enum fibril_overflow overflow, fibril_fn *fn)
{
    bounds = (struct fibril_mailbox){.messages = messages, .overflow = overflow};
    uint64_t actor = spawn(bounded, (void *)(uintptr_t)fn);
    settle();
    return actor;
}

static int send_one(uint64_t actor, int value, int64_t deadline_ns)
{
    struct fibril_message *m = note(1, value);
    int rc = fibril_actor_send(actor, m, deadline_ns);
    if (rc < 0) {
        fibril_message_free(m);
    }
    return rc;
}

ACTOR_TEST(a_full_mailbox_that_fails_says_so)
{
    uint64_t actor = spawn_bounded(3, FIBRIL_OVERFLOW_FAIL, NULL);
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(send_one(actor, i, FIBRIL_FOREVER));
    }
    ASSERT_ERR(send_one(actor, 3, FIBRIL_FOREVER), -EAGAIN);
    return 0;
}

static int values[16], taken;

static int collect(void *arg)
{
    (void)arg;
    struct fibril_message *m;
    fibril_sleep(MS(100));
    while (fibril_actor_receive(FIBRIL_FOREVER, &m) == 0) {
        values[taken++] = value_of(m);
        fibril_message_free(m);
    }
    return 0;
}

ACTOR_TEST(drop_oldest_keeps_the_newest)
{
    uint64_t actor = spawn_bounded(3, FIBRIL_OVERFLOW_DROP_OLDEST, collect);
    for (int i = 0; i < 10; i++) {
        ASSERT_OK(send_one(actor, i, FIBRIL_FOREVER));
    }
    fibril_sleep(MS(200));
    ASSERT_EQ(taken, 3);
    ASSERT_EQ(values[0], 7);
    ASSERT_EQ(values[2], 9);
    return 0;
}

ACTOR_TEST(drop_newest_keeps_the_oldest)
{
    struct fibril_actor_counts before, after;
    uint64_t actor = spawn_bounded(3, FIBRIL_OVERFLOW_DROP_NEWEST, collect);
    fibril_actor_counts(&before);
    for (int i = 0; i < 10; i++) {
        ASSERT_OK(send_one(actor, i, FIBRIL_FOREVER));
    }
    fibril_actor_counts(&after);
    fibril_sleep(MS(200));
    ASSERT_EQ(taken, 3);
    ASSERT_EQ(values[0], 0);
    ASSERT_EQ(values[2], 2);
    ASSERT_EQ(after.dropped - before.dropped, 7);
    return 0;
}

static uint64_t target;
static int sent;

/* Ends with what a send says: as an actor that is told to end it is refused one. */
static int sends_ten(void *arg)
{
    (void)arg;
    int rc = 0;
    for (int i = 0; i < 10 && rc == 0; i++) {
        rc = send_one(target, i, FIBRIL_FOREVER);
        sent += rc == 0;
    }
    return rc;
}

ACTOR_TEST(a_full_mailbox_parks_its_senders_until_there_is_room)
{
    target = spawn_bounded(3, FIBRIL_OVERFLOW_PARK, collect);
    spawn(sends_ten, NULL);
    settle();
    ASSERT_EQ(sent, 3);
    fibril_sleep(MS(200));
    ASSERT_EQ(sent, 10);
    ASSERT_EQ(taken, 10);
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(values[i], i);
    }
    return 0;
}

ACTOR_TEST(a_parked_sender_gives_up_at_its_deadline_with_its_message)
{
    target = spawn_bounded(1, FIBRIL_OVERFLOW_PARK, collect);
    ASSERT_OK(send_one(target, 1, FIBRIL_FOREVER));
    struct fibril_message *m = of_type(&owning, 4);
    ASSERT_ERR(fibril_actor_send(target, m, fibril_after(MS(10))), -ETIMEDOUT);
    ASSERT_EQ(destroyed, 0);
    fibril_message_free(m);
    fibril_sleep(MS(200));
    ASSERT_EQ(taken, 1);
    return 0;
}

ACTOR_TEST(a_parked_sender_can_be_killed)
{
    target = spawn_bounded(1, FIBRIL_OVERFLOW_PARK, collect);
    uint64_t sender = spawn(sends_ten, NULL), ref;
    settle();
    ASSERT_EQ(sent, 1);
    ASSERT_OK(fibril_actor_monitor(sender, &ref));
    ASSERT_OK(fibril_actor_exit(sender, FIBRIL_EXIT_KILL));
    struct fibril_signal end = expect_signal(FIBRIL_TAG_DOWN);
    ASSERT_EQ(end.ref, ref);
    ASSERT_EQ(end.reason, FIBRIL_EXIT_KILLED);
    ASSERT_EQ(sent, 1);
    return 0;
}

ACTOR_TEST(parked_senders_to_one_that_ends_send_dead_letters)
{
    struct fibril_actor_counts before, after;
    target = spawn_bounded(1, FIBRIL_OVERFLOW_PARK, NULL);
    spawn(sends_ten, NULL);
    settle();
    ASSERT_EQ(sent, 1);
    fibril_actor_counts(&before);
    ASSERT_OK(fibril_actor_exit(target, FIBRIL_EXIT_KILL));
    settle();
    fibril_actor_counts(&after);
    ASSERT_EQ(sent, 10);
    ASSERT_EQ(after.dead_letters - before.dead_letters, 10);
    return 0;
}

ACTOR_TEST(bytes_are_bounded_too)
{
    bounds = (struct fibril_mailbox){.bytes = 1000, .overflow = FIBRIL_OVERFLOW_FAIL};
    uint64_t actor = spawn(bounded, NULL);
    settle();
    ASSERT_OK(fibril_actor_send(actor, of_type(NULL, 900), 0));
    struct fibril_message *m = of_type(NULL, 101);
    ASSERT_ERR(fibril_actor_send(actor, m, 0), -EAGAIN);
    fibril_message_free(m);
    ASSERT_OK(fibril_actor_send(actor, of_type(NULL, 100), 0));
    return 0;
}

ACTOR_TEST(an_empty_mailbox_takes_what_is_larger_than_its_bound)
{
    bounds = (struct fibril_mailbox){.bytes = 10, .overflow = FIBRIL_OVERFLOW_FAIL};
    uint64_t actor = spawn(bounded, NULL);
    settle();
    ASSERT_OK(fibril_actor_send(actor, of_type(NULL, 5000), 0));
    return 0;
}

/* Those who end in one turn of the loop do so in any order. */
static void tick_off(uint64_t *refs, int n, uint64_t ref)
{
    int i = 0;
    while (i < n && refs[i] != ref) {
        i++;
    }
    ASSERT_LT(i, n);
    refs[i] = 0;
}

ACTOR_TEST(every_signal_reaches_a_flooded_mailbox)
{
    static int error = -EIO;
    enum fibril_overflow policies[] = {FIBRIL_OVERFLOW_FAIL, FIBRIL_OVERFLOW_DROP_OLDEST,
                                       FIBRIL_OVERFLOW_DROP_NEWEST};
    uint64_t self = fibril_actor_self(), refs[100];
    for (int p = 0; p < 3; p++) {
        bounds = (struct fibril_mailbox){.messages = 2, .overflow = policies[p]};
        ASSERT_OK(fibril_actor_set_mailbox(&bounds));
        for (int i = 0; i < 100; i++) {
            send_one(self, i, 0);
            spawn_monitored(returns, &error, &refs[i]);
        }
        settle();
        for (int i = 0; i < 100; i++) {
            send_one(self, i, 0);
        }
        for (int i = 0; i < 100; i++) {
            tick_off(refs, 100, expect_signal(FIBRIL_TAG_DOWN).ref);
        }
        expect(1);
        expect(1);
        ASSERT_EQ(fibril_actor_waiting(), 0);
    }
    return 0;
}

/* ---- dead letters ---- */

static int reads_letters(void *arg)
{
    (void)arg;
    struct fibril_message *m;
    while (fibril_actor_receive(FIBRIL_FOREVER, &m) == 0) {
        ASSERT_EQ(fibril_message_tag(m), FIBRIL_TAG_DEAD_LETTER);
        struct fibril_dead_letter *d = fibril_message_data(m);
        ASSERT_EQ(d->to, target);
        values[taken++] = value_of(d->letter);
        fibril_message_free(m);
    }
    return 0;
}

ACTOR_TEST(dead_letters_go_to_whoever_wants_them)
{
    static int zero;
    target = spawn(returns, &zero);
    uint64_t reader = spawn(reads_letters, NULL);
    settle();
    fibril_actor_dead_letters_to(reader);
    tell(target, 1, 11);
    tell(target, 1, 12);
    settle();
    ASSERT_EQ(taken, 2);
    ASSERT_EQ(values[0], 11);
    ASSERT_EQ(values[1], 12);
    return 0;
}

ACTOR_TEST(dead_letters_are_reported_once_a_second)
{
    static int zero;
    target = spawn(returns, &zero);
    settle();
    for (int i = 0; i < 10; i++) {
        tell(target, 1, i);
    }
    ASSERT_EQ(noted.others, 1);
    fibril_sleep(MS(1100));
    tell(target, 1, 0);
    ASSERT_EQ(noted.others, 2);
    ASSERT_EQ(noted.other, FIBRIL_TROUBLE_DEAD_LETTERS);
    ASSERT_EQ(noted.count, 10);
    return 0;
}

ACTOR_TEST(one_actor_tells_of_itself)
{
    struct fibril_actor_info info;
    uint64_t self = fibril_actor_self(), all[8];
    tell(self, 1, 1);
    spawn_linked(idle, NULL);
    ASSERT_OK(fibril_actor_register(self, "main"));
    ASSERT_OK(fibril_actor_info(self, &info));
    ASSERT_STR(info.name, "main");
    ASSERT_EQ(info.waiting, 1);
    ASSERT_EQ(info.waiting_bytes, sizeof(int));
    ASSERT_EQ(info.links, 1);
    ASSERT_EQ(info.fibril, fibril_current());
    ASSERT_EQ(fibril_actor_list(0, all, 8), 2);
    ASSERT_EQ(fibril_actor_list(all[0], all, 8), 1);
    return 0;
}
