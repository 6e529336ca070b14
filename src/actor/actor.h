/* SPDX-License-Identifier: MIT */
/*
 * The record of an actor, and what the files of this floor share.
 *
 * An actor belongs to one loop, and only that loop touches its record: whatever other OS threads
 * want of it travels in a post to the loop (fibril_embed_post_to), which is the lock-free,
 * intrusive, many-to-one queue of all its mailboxes. Within a loop sending is a list append. So
 * there are no locks, no message is seen half, and a control signal is just a post that does not go
 * through the mailbox.
 *
 * Records lie in a table that is never given back, so that a number (generation and index) can be
 * looked up from anywhere at any time; what may be read from elsewhere is atomic: the id, the loop
 * and the figures that bound the mailbox. A number whose generation is over finds a record with
 * another id, and the message is a dead letter.
 *
 * Rejected: a lock-free queue per mailbox (every local message would pay for atomic instructions,
 * and the loop must be woken through its inbox anyway); reference counts on actors (each copy of a
 * number would be an operation that can be forgotten).
 */
#ifndef FIBRIL_ACTOR_ACTOR_H
#define FIBRIL_ACTOR_ACTOR_H

#include <fibril/actor.h>
#include <fibril/embed.h>

#include "base/compiler.h"
#include "base/list.h"

#include <stdatomic.h>

/* ---- messages ---- */

enum fibril__msg_kind { /* the first are enum fibril_message_kind */
                        FIBRIL__MSG_REPLY = 4,
                        FIBRIL__MSG_REFUSAL, /* its tag is the error, negated */
                        FIBRIL__MSG_STREAM,  /* one of a stream of replies */
                        FIBRIL__MSG_STREAM_END,
                        FIBRIL__MSG_OWN,           /* a state machine's, to itself */
                        FIBRIL__MSG_STREAM_CLOSE,  /* only on the way to another process */
                        FIBRIL__MSG_STREAM_BROKEN, /* the same; its tag is the error, negated */
                        FIBRIL__MSG_AWAY = 0x80,   /* with the kind: in a remote record's mailbox */
};

enum fibril__msg_flags {
    FIBRIL__MSG_IN_BOND = 1u << 0, /* lies in a struct fibril__bond, and is freed with it */
    FIBRIL__MSG_SMALL = 1u << 1,   /* of the sizes that loops keep some of */
    FIBRIL__MSG_USUAL = 1u << 2,
    FIBRIL__MSG_PACKED = 1u << 3, /* ready to go to another process, with `packing` */
    FIBRIL__MSG_OPENS = 1u << 4,  /* a call that opens a stream */
};

/* 96 bytes; the data follow. */
struct fibril_message {
    uint64_t tag;
    size_t size;
    const struct fibril_message_type *type;
    struct fibril_from from; /* calls: who waits; streams: which */
    uint64_t to;             /* routing */
    union {
        struct {
            struct fibril_message *next, *prev; /* in a mailbox; next: in any other list */
        };
        struct fibril_post post; /* on its way to another loop */
    };
    uint8_t kind, flags;
    uint32_t since_ms; /* in the mailbox, by fibril__mail_clock */
    union {
        struct fibril_wire *packing; /* PACKED: what encode wrote; NULL: the bytes */
        uint64_t reserved;
    };
};
_Static_assert(sizeof(struct fibril_message) == 96, "data would not be aligned");

/* ---- bonds: links, monitors, and calls to other loops ---- */

enum fibril__bond_kind { FIBRIL__LINK, FIBRIL__MONITOR, FIBRIL__CALL, FIBRIL__STREAM };

enum fibril__bond_news {
    FIBRIL__NEWS_MADE, /* to the side that was asked: take your half */
    FIBRIL__NEWS_OVER, /* the other side has ended the bond: unlink, demonitor */
    FIBRIL__NEWS_DIED, /* the other side has died */
};

/* One side of a bond: touched by the loop of its actor only. */
struct fibril__half {
    struct fibril__link link; /* in the actor's list, while live */
    struct fibril__actor *owner;
    struct fibril_post post; /* what this side tells the other: at most one thing at a time */
    int reason;
    uint8_t side, live, news;
};

/* What ties two actors; side 0 asked for it. Each side has a reference until it has ended its half
 * and that news has arrived. When both are over the same memory becomes the signal's message, so
 * that no signal can want for memory. */
struct fibril__bond {
    union {
        struct fibril__half half[2];
        struct {
            struct fibril_message message;
            struct fibril_signal signal;
        };
    };
    uint64_t id[2];
    uint64_t ref;
    _Atomic uint8_t refs; /* release when given up, acquire by the last */
    uint8_t kind;
    uint8_t number[2]; /* of the loops */
};

/* ---- actors ---- */

enum fibril__actor_flags {
    FIBRIL__A_TRAPS = 1u << 0,
    FIBRIL__A_EXITING = 1u << 1,       /* told to end, for `reason` */
    FIBRIL__A_ATTACHED = 1u << 2,      /* a fibril that became an actor */
    FIBRIL__A_AWAKE_ON_MAIL = 1u << 3, /* waits at its spot for mail */
    FIBRIL__A_TWINS = 1u << 4,         /* may be linked twice to the same actor */
    FIBRIL__A_TREE = 1u << 5,          /* a supervisor that has not begun: its tree waits */
    FIBRIL__A_PASSIVE = 1u << 6,       /* has no fibril of its own: see passive.c */
    FIBRIL__A_IDLE = 1u << 7,          /* passive, and nobody serves it */
};

/* In `overflow`, above the policy: the record stands for an actor of another process. */
enum { FIBRIL__REMOTE = 0x80 };

/* What few actors need. */
struct fibril__actor_extra;

struct fibril__actor {
    struct fibril_spot spot; /* first: where it waits for mail or a reply */
    _Atomic uint64_t id; /* 0: free. Release when it begins, so that what is read after it is there
                          */
    struct fibril *fibril; /* NULL: has not begun */
    struct fibril_embed_node node;
    struct fibril_message *first, *last; /* the mailbox, doubly linked */
    struct fibril_message *urgent;       /* the last of a ring of signals; NULL: none */
    _Atomic size_t bytes;                /* in the mailbox; written by its loop only */
    _Atomic uint32_t len;
    _Atomic uint32_t flying; /* messages admitted and on their way from elsewhere; never reset */
    uint32_t len_max;
    int call_result;     /* how the call ends without a reply; 0: not yet */
    uint32_t generation; /* of the present or last id */
    uint32_t index;      /* in the table, for ever */
    size_t bytes_max;
    struct fibril__list bonds;
    struct fibril__list callers; /* of this loop, waiting for its reply: by `calling` */
    struct fibril__link calling;
    uint64_t awaiting;            /* the call that this one waits in; 0: none */
    struct fibril_message *reply; /* to it */
    union {
        fibril_fn *fn;
        struct fibril__actor *next_free;
    };
    void *arg;
    const void *site;
    struct fibril__actor_extra *extra;
    uint64_t last_tag, received;
    int reason; /* EXITING: why */
    uint8_t flags, overflow;
    uint8_t number;         /* of its loop; readable as the id is */
    _Atomic uint8_t listed; /* the registry has, or is about to have, something of it */
};
_Static_assert(sizeof(struct fibril__actor) == 232, "a million of them are kept");

/* The calling fibril's actor, NULL if it is none. */
struct fibril__actor *fibril__actor_self(void);
/* The same, made if need be; NULL: no memory, or no fibril. */
struct fibril__actor *fibril__actor_attach(void);

/* The record that `actor` names, if it has not ended and belongs to the calling loop; else NULL. */
struct fibril__actor *fibril__actor_here(uint64_t actor);

/* The record that `actor` names, with the number of its loop; NULL if it has ended. Any OS thread:
 * it may end, and the record name another, at any time. */
struct fibril__actor *fibril__actor_find(uint64_t actor, unsigned *ret_number);

/* The record with the index of `actor`, whoever it names by now; there always is one. */
struct fibril__actor *fibril__actor_slot(uint64_t actor);

/* Whether a stands for an actor of another process (remote.h). Any OS thread. */
static inline bool fibril__is_remote(const struct fibril__actor *a)
{
    return __atomic_load_n(&a->overflow, __ATOMIC_RELAXED) & FIBRIL__REMOTE;
}

/* ---- table.c: records, and what each loop keeps ---- */

enum { FIBRIL__ACTORS_CHUNK = 1024 /* records that the table grows by */ };

struct fibril__keeper;

enum { FIBRIL__SPARES = 2 }; /* small messages, and those of the usual size */

/* What a loop has of this floor. By number of the loop; touched by that loop only, but for the
 * atomic figures. */
struct fibril__actors {
    struct fibril__keeper *keeper; /* keeps the timers; when it ends, so does the rest. NULL: there
                                      is none of the below */
    struct fibril_message *spares[FIBRIL__SPARES];
    unsigned spare_count[FIBRIL__SPARES];
    unsigned spare_least[FIBRIL__SPARES]; /* since they were last trimmed */
    int64_t trim_ns;                      /* when they will be next; FIBRIL_FOREVER: no need */
    struct fibril__actor *free;
    unsigned free_count;
    _Atomic uint32_t alive;
    int64_t reported_ns; /* when dead letters and drops were last reported */
    uint64_t reported_letters, reported_drops;
    uint64_t refs; /* numbers given to calls, monitors and timers; never reset */
    _Atomic uint64_t spawned, ended, crashed, dead_letters, dropped, late_replies;
};

/* That of the calling loop, if it is ready for actors; else NULL. */
extern _Thread_local struct fibril__actors *fibril__actors_ready
    __attribute__((tls_model("initial-exec")));

/* Of the calling loop; NULL outside loops. */
struct fibril__actors *fibril__actors_unready(void);
static inline struct fibril__actors *fibril__actors_here(void)
{
    struct fibril__actors *part = fibril__actors_ready;
    return LIKELY(part) ? part : fibril__actors_unready();
}
struct fibril__actors *fibril__actors_of(unsigned number);
/* The same, ready for actors. 0, -ENOMEM, -EPERM. */
int fibril__actors_open(struct fibril__actors **ret_part);

/* Adds to a figure of the calling loop, or of the OS threads without one. */
#define FIBRIL__TALLY(field) fibril__tally(offsetof(struct fibril__actors, field))
void fibril__tally(size_t offset);

/* Takes a record for an actor of loop `number`, with a number of its own and all else empty. NULL:
 * no memory. Any OS thread. */
struct fibril__actor *fibril__actor_take(unsigned number);
/* Gives it back; its number finds nobody from now on. */
void fibril__actor_give(struct fibril__actor *a);
/* The loop is about to end: what it keeps is freed. */
void fibril__actors_close(struct fibril__actors *part);

/* In the child of a fork: there is no actor but self, which may be NULL. */
void fibril__table_forked(struct fibril__actor *self);

/* ---- forked.c ---- */

/* See sched/hooks.h. */
void fibril__actors_forked(void);
/* Has it called where an OS thread without a loop forks. */
void fibril__actors_watch_forks(void);

/* ---- message.c ---- */

/* Frees spares that have not been needed since the last time, and says when to look again. */
void fibril__spares_trim(struct fibril__actors *part, int64_t now_ns);
/* Frees all of them. */
void fibril__spares_drop(struct fibril__actors *part);
/* Sends m through the loop's inbox; false: there is no such loop. */
bool fibril__message_post(unsigned number, struct fibril_message *m);

/* ---- mailbox.c ---- */

/* The milliseconds that messages are dated by, set now and then while somebody observes; 0: nobody
 * does. */
extern uint32_t fibril__mail_clock;

/* Sets the bounds. 0 or -EINVAL. */
int fibril__mailbox_bound(struct fibril__actor *a, const struct fibril_mailbox *mailbox);
/* Whether m fits. Any OS thread. */
bool fibril__mailbox_has_room(const struct fibril__actor *a, size_t size);
/* Appends, wakes. On the actor's loop. */
void fibril__mailbox_put(struct fibril__actor *a, struct fibril_message *m);
/* Puts a signal before all messages. */
void fibril__mailbox_put_urgent(struct fibril__actor *a, struct fibril_message *m);
/* Drops the oldest messages until m fits. */
void fibril__mailbox_make_room(struct fibril__actor *a, size_t size);
/* Takes m out. */
void fibril__mailbox_remove(struct fibril__actor *a, struct fibril_message *m);
/* Takes out the signal with this ref; returns whether there was one. */
bool fibril__mailbox_take_back(struct fibril__actor *a, uint64_t ref);
/* Takes what fibril_actor_receive would; NULL: nothing, or the actor has been told to end. */
struct fibril_message *fibril__mailbox_take(struct fibril__actor *a);
/* The same of fibril_actor_receive_match, but for those that have been told to end. */
struct fibril_message *fibril__mailbox_choose(struct fibril__actor *a, fibril_message_match *match,
                                              void *arg);
/* Waits until something has come. */
int fibril__mailbox_wait(struct fibril__actor *a, int64_t deadline_ns);
/* A message of this size waits elsewhere, and counts all the same; it does no more. */
void fibril__mailbox_count(struct fibril__actor *a, size_t size);
void fibril__mailbox_uncount(struct fibril__actor *a, size_t size);
/* The actor has ended: all that waits become dead letters. */
void fibril__mailbox_empty(struct fibril__actor *a);

/* ---- send.c ---- */

struct fibril__parked; /* a sender that waits for room */

/* A deadline for those who must not park. */
#define FIBRIL__NEVER_PARK INT64_MIN

/* As fibril_actor_send, with a kind. */
int fibril__actor_send_as(uint64_t actor, struct fibril_message *m, uint8_t kind,
                          int64_t deadline_ns);
/* The same, but waits where there is no room whatever the policy. */
int fibril__actor_send_patiently(uint64_t actor, struct fibril_message *m, uint8_t kind,
                                 int64_t deadline_ns);
/* There may be room: lets waiting senders in. */
void fibril__senders_admit(struct fibril__actor *a);
/* Nobody will receive any more. */
void fibril__senders_release(struct fibril__actor *a);
/* m, sent with a kind, has reached the loop of a, or nobody (a NULL). */
void fibril__message_arrive(struct fibril__actor *a, struct fibril_message *m);

/* ---- signal.c ---- */

int fibril__bond_new(uint8_t kind, struct fibril__bond **ret_bond);
void fibril__bond_free(struct fibril__bond *b);
struct fibril__bond *fibril__bond_of(struct fibril__half *h);
/* Ties a, of this loop, to `actor`, which may be anywhere or nowhere. */
void fibril__bond_tie(struct fibril__bond *b, struct fibril__actor *a, uint64_t actor);
/* The same to one that only this loop can know yet, so that nothing can be on its way. */
void fibril__bond_tie_new(struct fibril__bond *b, struct fibril__actor *a,
                          struct fibril__actor *child);
/* a takes its half of b, which is for it. */
void fibril__bond_take(struct fibril__bond *b, struct fibril__actor *a);
/* Ends a's half, and tells the other side. */
void fibril__bond_end(struct fibril__half *h, uint8_t news, int reason);
/* The bond that a asked for under this ref; NULL: none. */
struct fibril__half *fibril__bond_find(struct fibril__actor *a, uint64_t ref);
/* As fibril_actor_exit, from that actor. */
int fibril__actor_exit_from(uint64_t from, uint64_t actor, int reason);
/* The bond by which another asked a under its ref, for a call or a stream; NULL: none. */
struct fibril__half *fibril__bond_asked(struct fibril__actor *a, struct fibril_from from);
/* Gives a an exit signal. `memory` is a bond that becomes its message, or NULL; it is used up. */
void fibril__actor_signal(struct fibril__actor *a, uint64_t from, int reason, bool kill,
                          struct fibril__bond *memory);

/* Makes a bond that is over, or was none, the message of a signal to a. */
void fibril__signal_put(struct fibril__actor *a, struct fibril__bond *b, uint64_t tag,
                        uint64_t from, uint64_t ref, int reason);

/* ---- call.c ---- */

/* A call in parts, for those who have told `actor` otherwise whom to reply to: what they tell it;
 * the wait, which may be repeated after its deadline; the end, which stores the reply if there is
 * one and then returns 0, else rc. */
struct fibril_from fibril__call_expect(struct fibril__actor *a);
/* Before a message is sent that asks for the reply: has the end of an actor elsewhere end the call.
 * 0, -ENOMEM, -ESRCH. */
int fibril__call_tie(struct fibril__actor *a, uint64_t actor);
/* It could not be sent. */
void fibril__call_give_up(struct fibril__actor *a);
int fibril__call_await(struct fibril__actor *a, uint64_t actor, int64_t deadline_ns);
int fibril__call_close(struct fibril__actor *a, int rc, struct fibril_message **ret_reply);
void fibril__call_arrive(struct fibril__actor *a, struct fibril_message *m);
/* The actor that a calls has ended. */
void fibril__call_fail(struct fibril__actor *a, uint64_t ref, int error);
/* A reply of a stream has come, and is admitted. */
void fibril__stream_put(struct fibril__actor *a, struct fibril_message *m);
/* a has ended, without closing its streams. */
void fibril__streams_release(struct fibril__actor *a);
void fibril__streams_forked(struct fibril__actor *a);
/* Numbers calls, monitors and streams of the process: none is used twice. */
uint64_t fibril__ref_new(void);

/* ---- life.c ---- */

/* The actor of the calling fibril ends. */
void fibril__actor_die(struct fibril__actor *a, int result);

/* f, the calling fibril or one that has not begun, acts as a from now on. */
void fibril__actor_move_in(struct fibril__actor *a, struct fibril *f);

/* fibril_actor_spawn of a passive actor: its `fn` is for reports only. */
int fibril__passive_spawn(fibril_fn *fn, void *arg, const struct fibril_actor_opts *opts,
                          uint64_t *ret_actor);

/* ---- passive.c ---- */

/* Called on the loop of a passive actor when it has begun, and when there is something to be done
 * for it that nobody does: has some fibril of the loop enter it, soon. Must not park. To be set
 * before the first is spawned. */
extern void (*fibril__passive_ready)(struct fibril__actor *a);
/* The same, if nobody has been called yet. */
void fibril__passive_rouse(struct fibril__actor *a);
/* Writes what a runs, for the observer. On its loop, between two fibrils. NULL: by its code. */
extern void (*fibril__passive_name)(const struct fibril__actor *a, char *text, size_t size);
/* The calling fibril acts as the actor from now on: it may receive, call, link. If the actor has
 * been told to end the fibril is cancelled. */
void fibril__passive_enter(struct fibril__actor *a);
/* No more. Returns false, and it still does, if there is something to be done. */
bool fibril__passive_leave(struct fibril__actor *a);

/* ---- log.c ---- */

/* Writes what is written when nobody has asked for reports. */
void fibril__log_print(const struct fibril_actor_report *r);
void fibril__dead_letter(uint64_t to, struct fibril_message *m);
void fibril__message_dropped(uint64_t to, struct fibril_message *m);
void fibril__log_crash(const struct fibril__actor *a, int reason);
void fibril__log_handler(const struct fibril__actor *a, const char *id, int reason,
                         const char *state);
void fibril__log_gave_up(const struct fibril__actor *a, uint64_t restarts);

/* ---- registry.c ---- */

/* The actor has ended: its name and its memberships go. */
void fibril__registry_forget(uint64_t actor);
/* Copies the name of an actor, "" for none. */
void fibril__registry_name(const struct fibril__actor *a, char *text, size_t size);
/* In the child of a fork: nobody has a name or a topic; `text` is what self's (may be NULL) was. */
void fibril__registry_forked(struct fibril__actor *self, char *text, size_t size);

/* Under which members.c finds a topic. */
uint64_t fibril__topic_hash(const char *topic);
enum { FIBRIL__LABEL_BYTES_MAX = 255 };

/* ---- members.c ---- */

/* The members of the topic have changed: collects whom to tell, under the registry's lock, and
 * tells them, without it. */
void fibril__members_changed(uint64_t hash, const char *topic, struct fibril__list *signals);
void fibril__members_tell(struct fibril__list *signals);
/* In the child of a fork: nobody monitors a topic. */
void fibril__members_forked(void);
/* The actor has ended: its monitors of topics go. */
void fibril__members_forget(uint64_t actor);

/* ---- timer.c ---- */

int fibril__keeper_start(struct fibril__actors *part);
/* part->trim_ns has come nearer. */
void fibril__keeper_hurry(struct fibril__actors *part);

/* ---- extra.c ---- */

enum { FIBRIL__MARKS = 4, FIBRIL__FRAMES = 16, FIBRIL__FAIL_TEXT = 160 };

/* How far a pair of match and arg has looked. */
struct fibril__mark {
    fibril_message_match *match;
    void *arg;
    struct fibril_message *last; /* the last one looked at; NULL: none */
    uint64_t used;               /* the larger the later */
};

/* What fibril_actor_fail noted. */
struct fibril__failure {
    char text[FIBRIL__FAIL_TEXT];
    void *frames[FIBRIL__FRAMES];
    int frame_count;
};

struct fibril__actor_extra {
    struct fibril__list parked; /* senders that wait for room */
    uint32_t parked_since_sweep, parked_left;
    struct fibril__list streams;
    struct fibril__mark marks[FIBRIL__MARKS];
    uint64_t mark_turn;
    struct fibril__failure *failure;
    struct fibril__remote *remote; /* of a record that stands for an actor elsewhere */
    void (*describe)(void *arg, char *text, size_t size);
    void *describe_arg;
};

/* Returns a's extra part, made if need be; NULL: no memory. */
struct fibril__actor_extra *fibril__actor_extra(struct fibril__actor *a);
void fibril__actor_extra_free(struct fibril__actor *a);

#endif
