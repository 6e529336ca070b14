/* SPDX-License-Identifier: MIT */
/*
 * A bank whose staff is killed at random, and whose money is always right. Accounts and tellers are
 * actors under a supervisor; a killer ends one of them every few milliseconds, wherever it happens
 * to wait, and the supervisor starts it again. What lasts is the disk: balances, which transfer an
 * account has booked, and a journal of transfers. A teller that comes back goes on with what the
 * journal has not finished; an account that is asked twice books once. An auditor adds up the disk
 * while all this happens: what the accounts hold and what is under way is what was there at first.
 *
 * Time, chance and order come from a seed, so that a run which goes wrong can be had again:
 *
 *     bank [SEED [HOW MANY SEEDS]]
 */
#include <fibril/supervisor.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000LL
enum { ACCOUNTS = 10, TELLERS = 4, TRANSFERS = 400, KILLS = 300, OPENING_BALANCE = 100 };
enum { BOOK = 1 };

enum state { WAITING, REFUSED, DONE };

struct transfer {
    int from, to;
    long amount;
    enum state state;
};

/* What survives a kill. An entry changes in one step: nobody can be killed in the middle of one. */
static struct {
    long balance[ACCOUNTS];
    bool booked[ACCOUNTS][TRANSFERS];
    struct transfer journal[TRANSFERS];
    int finished;
} disk;

static unsigned long chance;
static uint64_t kills, crashes;

static long random_below(long n)
{
    chance = chance * 6364136223846793005UL + 1442695040888963407UL;
    return (long)((chance >> 33) % (unsigned long)n);
}

/* ---- The staff ------------------------------------------------------------------------------- */

struct booking {
    int transfer;
    long amount; /* negative: taken out */
};

/* Writing takes its time, and who is killed meanwhile has written nothing. */
static int book(int account, const struct booking *b)
{
    if (disk.booked[account][b->transfer]) {
        return 0;
    }
    int rc = fibril_sleep(random_below(2 * MS));
    if (rc < 0) {
        return rc;
    }
    if (disk.balance[account] + b->amount < 0) {
        return -EDQUOT;
    }
    disk.balance[account] += b->amount;
    disk.booked[account][b->transfer] = true;
    return 0;
}

static int account(void *arg)
{
    int number = (int)(intptr_t)arg, rc;
    struct fibril_message *m, *receipt;

    while ((rc = fibril_actor_receive(FIBRIL_FOREVER, &m)) == 0) {
        struct fibril_from from = fibril_message_from(m);
        rc = book(number, fibril_message_data(m));
        fibril_message_free(m);
        if (rc == 0 && (rc = fibril_message_new(BOOK, 0, NULL, &receipt)) == 0) {
            fibril_actor_reply(from, receipt);
        } else if (rc == -EDQUOT) {
            rc = fibril_actor_refuse(from, rc);
        }
        if (rc < 0) {
            break;
        }
    }
    return rc;
}

/* Returns 0, -EDQUOT, or why nobody knows: the account may have booked, or not. */
static int ask(int account_number, int transfer, long amount)
{
    struct booking b = {transfer, amount};
    struct fibril_message *m, *receipt;
    char name[32];

    snprintf(name, sizeof(name), "account %d", account_number);
    int rc = fibril_message_of(BOOK, &b, sizeof(b), &m);
    if (rc == 0) {
        rc = fibril_actor_call(fibril_actor_whereis(name), m, fibril_after(10 * MS), &receipt);
    }
    if (rc == 0) {
        fibril_message_free(receipt);
    }
    return rc;
}

/* Asks until there is an answer. Asking again is harmless. */
static int ask_until_known(int account_number, int transfer, long amount)
{
    for (;;) {
        int rc = ask(account_number, transfer, amount);
        if (rc == 0 || rc == -EDQUOT || rc == -ECANCELED || rc == -ENOMEM) {
            return rc;
        }
        rc = fibril_sleep(1 * MS);
        if (rc < 0) {
            return rc;
        }
    }
}

static int carry_out(int transfer)
{
    struct transfer *t = &disk.journal[transfer];

    int rc = ask_until_known(t->from, transfer, -t->amount);
    if (rc == 0) {
        rc = ask_until_known(t->to, transfer, t->amount);
    }
    if (rc == 0 || rc == -EDQUOT) {
        t->state = rc == 0 ? DONE : REFUSED;
        disk.finished++;
        rc = 0;
    }
    return rc;
}

static int teller(void *arg)
{
    int rc = 0;

    for (int i = (int)(intptr_t)arg; i < TRANSFERS && rc == 0; i += TELLERS) {
        if (disk.journal[i].state == WAITING) {
            rc = carry_out(i);
        }
    }
    return rc;
}

/* ---- What happens to it ---------------------------------------------------------------------- */

static void name_of_somebody(char *name, size_t size)
{
    long who = random_below(ACCOUNTS + TELLERS);

    if (who < ACCOUNTS) {
        snprintf(name, size, "account %ld", who);
    } else {
        snprintf(name, size, "teller %ld", who - ACCOUNTS);
    }
}

static int killer(void *arg)
{
    char name[32];
    int rc = 0;

    (void)arg;
    while (kills < KILLS && disk.finished < TRANSFERS && rc == 0) {
        rc = fibril_sleep(random_below(3 * MS));
        name_of_somebody(name, sizeof(name));
        uint64_t victim = fibril_actor_whereis(name);
        if (rc == 0 && victim) {
            rc = fibril_actor_exit(victim, FIBRIL_EXIT_KILL);
            kills++;
        }
    }
    return rc;
}

/* Returns 0 if no money was lost or made. */
static int audit(void)
{
    long total = 0, under_way = 0;

    for (int a = 0; a < ACCOUNTS; a++) {
        total += disk.balance[a];
    }
    for (int i = 0; i < TRANSFERS; i++) {
        const struct transfer *t = &disk.journal[i];
        bool taken = disk.booked[t->from][i], given = disk.booked[t->to][i];
        under_way += taken && !given ? t->amount : 0;
        if ((given && !taken) || (t->state == DONE && !given) || (t->state == REFUSED && taken)) {
            fprintf(stderr, "bank: transfer %d is not what the journal says\n", i);
            return -EPROTO;
        }
    }
    if (total + under_way != (long)ACCOUNTS * OPENING_BALANCE) {
        fprintf(stderr, "bank: %ld in the accounts and %ld under way\n", total, under_way);
        return -EPROTO;
    }
    return 0;
}

static int auditor(void *arg)
{
    int rc = 0;

    (void)arg;
    while (disk.finished < TRANSFERS && rc == 0) {
        rc = fibril_sleep(MS / 2);
        rc = rc < 0 ? rc : audit();
    }
    return rc;
}

/* ---- The bank -------------------------------------------------------------------------------- */

static void open_accounts(void)
{
    memset(&disk, 0, sizeof(disk));
    for (int a = 0; a < ACCOUNTS; a++) {
        disk.balance[a] = OPENING_BALANCE;
    }
    for (int i = 0; i < TRANSFERS; i++) {
        int from = (int)random_below(ACCOUNTS), next = (int)random_below(ACCOUNTS - 1);
        disk.journal[i] = (struct transfer){.from = from,
                                            .to = (from + 1 + next) % ACCOUNTS,
                                            .amount = 1 + random_below(OPENING_BALANCE)};
    }
}

static int hire(uint64_t *ret_bank)
{
    struct fibril_child_spec staff[ACCOUNTS + TELLERS];
    char names[ACCOUNTS + TELLERS][32];
    const struct fibril_supervisor_spec bank = {.strategy = FIBRIL_ONE_FOR_ONE,
                                                .intensity = UINT_MAX,
                                                .children = staff,
                                                .n_children = ACCOUNTS + TELLERS};

    for (int i = 0; i < ACCOUNTS + TELLERS; i++) {
        bool is_account = i < ACCOUNTS;
        int number = is_account ? i : i - ACCOUNTS;
        snprintf(names[i], sizeof(names[i]), is_account ? "account %d" : "teller %d", number);
        staff[i] = (struct fibril_child_spec){.id = names[i],
                                              .fn = is_account ? account : teller,
                                              .arg = (void *)(intptr_t)number,
                                              .restart = is_account ? FIBRIL_RESTART_PERMANENT
                                                                    : FIBRIL_RESTART_TRANSIENT,
                                              .opts.name = names[i]};
    }
    return fibril_supervisor_start(&bank, NULL, ret_bank);
}

static int close_down(uint64_t bank)
{
    struct fibril_message *down;
    uint64_t ref;

    int rc = fibril_actor_monitor(bank, &ref);
    if (rc == 0) {
        rc = fibril_actor_exit(bank, FIBRIL_EXIT_SHUTDOWN);
    }
    if (rc == 0) {
        rc = fibril_actor_receive_tag(FIBRIL_TAG_DOWN, FIBRIL_FOREVER, &down);
    }
    if (rc == 0) {
        fibril_message_free(down);
    }
    return rc;
}

static int a_day(void *arg)
{
    struct fibril_scope *scope;
    uint64_t bank;

    (void)arg;
    open_accounts();
    int rc = hire(&bank);
    if (rc == 0 && (rc = fibril_scope_open(&scope)) == 0) {
        rc = fibril_scope_spawn(scope, killer, NULL, NULL);
        if (rc == 0) {
            rc = fibril_scope_spawn(scope, auditor, NULL, NULL);
        }
        int ended = fibril_scope_close(scope, fibril_after(3600 * 1000 * MS));
        rc = rc < 0 ? rc : ended;
    }
    if (rc == 0) {
        rc = close_down(bank);
    }
    return rc < 0 ? rc : audit();
}

static void count(const struct fibril_actor_report *report)
{
    crashes += report->trouble == FIBRIL_TROUBLE_CRASH;
}

static int run(unsigned long seed)
{
    struct fibril_opts opts = {.poller = "sim", .seed = seed};
    int refused = 0;

    chance = seed;
    kills = crashes = 0;
    int rc = fibril_run(&opts, a_day, NULL);
    for (int i = 0; i < TRANSFERS; i++) {
        refused += disk.journal[i].state == REFUSED;
    }
    printf("seed %lu: %d transfers, %d of them refused, %llu killed, %llu reported: %s\n", seed,
           disk.finished, refused, (unsigned long long)kills, (unsigned long long)crashes,
           rc < 0 ? strerror(-rc) : "the total is right");
    return rc;
}

static bool number(const char *text, unsigned long *ret_number)
{
    char *end;

    errno = 0;
    *ret_number = strtoul(text, &end, 10);
    if (errno || end == text || *end || *text == '-') {
        fprintf(stderr, "bank: a seed and how many: not a number: %s\n", text);
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    unsigned long seed = 1, seeds = 20;
    int failed = 0;

    if ((argc > 1 && !number(argv[1], &seed)) || (argc > 2 && !number(argv[2], &seeds))) {
        return 2;
    }
    fibril_actor_on_trouble(count);
    for (unsigned long i = 0; i < seeds; i++) {
        failed += run(seed + i) < 0;
    }
    return failed > 0;
}
