/* SPDX-License-Identifier: MIT */
/*
 * fibril actors: a fibril with a mailbox and a number that is never used twice. Actors share
 * nothing: they send each other messages, watch each other end, and are started again by
 * supervisors (supervisor.h). The rules are Erlang's; docs/actors.md lists where they differ.
 *
 *     static int counter(void *arg)
 *     {
 *         long n = 0;
 *         struct fibril_message *m;
 *         while (fibril_actor_receive(FIBRIL_FOREVER, &m) == 0) {
 *             n += *(long *)fibril_message_data(m);
 *             fibril_message_free(m);
 *         }
 *         return 0;
 *     }
 *
 *     fibril_actor_spawn(counter, NULL, NULL, &actor);
 *     fibril_message_new(ADD, sizeof(long), NULL, &m);
 *     *(long *)fibril_message_data(m) = 5;
 *     fibril_actor_send(actor, m, FIBRIL_FOREVER);
 *
 * Conventions as in fibril.h. An actor is named by its number, a uint64_t, which any fibril and OS
 * thread may keep, compare and send to; 0 is nobody. Numbers of actors that have ended are no error
 * to use: messages to them become dead letters. Any fibril that calls what needs a mailbox of its
 * own (receive, call, link, monitor) becomes an actor by that, until it ends.
 */
#ifndef FIBRIL_ACTOR_H
#define FIBRIL_ACTOR_H

#include <fibril/fibril.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Messages -------------------------------------------------------------------------------- */

struct fibril_message;
struct fibril_wire;

/* What is particular to a kind of messages. It must stay in place. */
struct fibril_message_type {
    const char *name; /* for logs; may be NULL */
    /* Releases what the data refer to, on whatever OS thread and loop the message ends, once per
     * message. Must not park. NULL: nothing. */
    void (*destroy)(void *data, size_t size);
    /* Makes the data of a copy good, after its bytes were copied. Returns 0 or -errno. NULL: the
     * bytes are enough if destroy is NULL too, and otherwise there is no copying. */
    int (*copy)(void *data, size_t size);
    /* For actors of other processes, see node.h. Writes what the data are worth there; the other
     * process has a type of the same name, which reads it. Returns 0 or -errno, which the sender
     * gets. Runs on whatever fibril sends, never parks. NULL: the bytes, unless there is destroy.
     */
    int (*encode)(const void *data, size_t size, struct fibril_wire *w);
    /* Makes the message again: fibril_message_new with this tag and type. Must refuse (-EBADMSG)
     * what encode cannot have written. Never parks. NULL: the bytes are the data. */
    int (*decode)(struct fibril_wire *w, uint64_t tag, const struct fibril_message_type *type,
                  struct fibril_message **ret_message);
};

/* Makes a message of `size` bytes under a tag, which is the program's to choose; those with the
 * highest bit set are fibril's own. Its data are undefined, and aligned for anything. type may be
 * NULL. Any OS thread, never parks. -ENOMEM, -EINVAL (over 1 GiB). */
FIBRIL_API int fibril_message_new(uint64_t tag, size_t size, const struct fibril_message_type *type,
                                  struct fibril_message **ret_message);
/* Makes a message whose data are copied from `data`. */
FIBRIL_API int fibril_message_of(uint64_t tag, const void *data, size_t size,
                                 struct fibril_message **ret_message);
/* Makes another one like m. -ENOTSUP if its type does not allow that. */
FIBRIL_API int fibril_message_copy(const struct fibril_message *m,
                                   struct fibril_message **ret_copy);
/* Frees a message that is the caller's. NULL is ignored. */
FIBRIL_API void fibril_message_free(struct fibril_message *m);

/* Returns the tag that the message was made with, or given last. */
FIBRIL_API uint64_t fibril_message_tag(const struct fibril_message *m);
/* Returns how many bytes of data it has. */
FIBRIL_API size_t fibril_message_size(const struct fibril_message *m);
/* Returns its data; they are good as long as the message is the caller's. */
FIBRIL_API void *fibril_message_data(struct fibril_message *m);
FIBRIL_API const void *fibril_message_peek(const struct fibril_message *m);
/* Gives a message that is the caller's another tag, so that it can be sent on. */
FIBRIL_API void fibril_message_set_tag(struct fibril_message *m, uint64_t tag);

enum fibril_message_kind {
    FIBRIL_MESSAGE_PLAIN = 0, /* fibril_actor_send */
    FIBRIL_MESSAGE_CAST,      /* fibril_actor_cast */
    FIBRIL_MESSAGE_CALL,      /* fibril_actor_call, fibril_stream_open: somebody wants a reply */
    FIBRIL_MESSAGE_SIGNAL,    /* FIBRIL_TAG_EXIT, FIBRIL_TAG_DOWN */
};
FIBRIL_API enum fibril_message_kind fibril_message_kind(const struct fibril_message *m);

/* Who wants a reply, and to what. Good until the call is over; may be kept, copied and sent on: any
 * actor may give the reply. */
struct fibril_from {
    uint64_t actor;
    uint64_t ref;
};
/* Returns whom to reply to; all zero for a message that is no call. */
FIBRIL_API struct fibril_from fibril_message_from(const struct fibril_message *m);

/* Tags of signals, whose data are a struct fibril_signal. They come before all other messages. */
#define FIBRIL_TAG_EXIT                                                                            \
    (UINT64_C(1) << 63 | 1)                     /* a linked actor has ended, and exits are trapped \
                                                 */
#define FIBRIL_TAG_DOWN (UINT64_C(1) << 63 | 2) /* a monitored actor has ended */
#define FIBRIL_TAG_DEAD_LETTER (UINT64_C(1) << 63 | 3) /* data: struct fibril_dead_letter */
#define FIBRIL_TAG_MEMBERS (UINT64_C(1) << 63 | 5)     /* of fibril_topic_monitor: `ref` */
#define FIBRIL_TAG_HANDLER_END (UINT64_C(1) << 63 | 4) /* of a bus, see bus.h */

struct fibril_signal {
    uint64_t actor; /* who has ended */
    uint64_t ref;   /* DOWN: what fibril_actor_monitor returned */
    int reason;
};

/* ---- Reasons --------------------------------------------------------------------------------- */

/* Why an actor ended: what its function returned, or what another actor told it. 0 is normal, a
 * negative errno is a failure, positive numbers are the program's own, and these: */
enum fibril_exit {
    FIBRIL_EXIT_NORMAL = 0,
    FIBRIL_EXIT_SHUTDOWN = -10001,     /* in good order, because it was told to */
    FIBRIL_EXIT_KILL = -10002,         /* to be sent: cannot be trapped */
    FIBRIL_EXIT_KILLED = -10003,       /* what those see who watch one that was sent KILL */
    FIBRIL_EXIT_NOPROC = -10004,       /* there was no such actor any more */
    FIBRIL_EXIT_NOCONNECTION = -10005, /* its process has ended, or cannot be reached any more */
};

/* Returns "normal", "shutdown", ..., or the text of the errno; static storage. */
FIBRIL_API const char *fibril_exit_text(int reason);

/* Says why the calling actor is about to fail, for the log, with a backtrace of here; returns
 * reason, so that a function can end with `return fibril_actor_fail(-EIO, "disk %d", n);`. */
FIBRIL_API int fibril_actor_fail(int reason, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- Mailboxes ------------------------------------------------------------------------------- */

/* What happens to a message for a full mailbox. Signals and replies are never counted, and never
 * refused or dropped. */
enum fibril_overflow {
    FIBRIL_OVERFLOW_PARK = 0,    /* the sender parks until it is half empty: back-pressure */
    FIBRIL_OVERFLOW_FAIL,        /* the sender gets -EAGAIN */
    FIBRIL_OVERFLOW_DROP_OLDEST, /* the oldest message waiting is dropped, and counted */
    FIBRIL_OVERFLOW_DROP_NEWEST, /* this message is dropped, and counted; the sender gets 0 */
};

/* The bounds of a mailbox. A mailbox that is empty takes a message of any size. Senders on other
 * OS threads count without a lock, and each may bring one message above the bound. */
struct fibril_mailbox {
    uint32_t messages; /* 0 means 65,536 */
    size_t bytes;      /* of data, in all; 0 means 64 MiB */
    enum fibril_overflow overflow;
};

/* ---- Life ------------------------------------------------------------------------------------ */

/* Options of a spawn; all zero is the default. */
struct fibril_actor_opts {
    const char *name;         /* registered under it (-EEXIST if it is taken); NULL: none */
    enum fibril_stack stack;  /* FIBRIL_STACK_COPIED: less than 600 bytes when idle */
    size_t stack_bytes;       /* own stacks: 0 means the runtime's default */
    struct fibril_loop *loop; /* NULL: the caller's */
    bool least_loaded;        /* on the loop that has the fewest actors, whatever `loop` says */
    bool link;                /* to the caller, from the first */
    bool trap_exits;          /* as if it began with fibril_actor_trap_exits(true) */
    uint64_t *ret_monitor; /* watched by the caller from the first; the ref is stored here, if not
                              NULL */
    struct fibril_mailbox mailbox;
};

/* Starts an actor that runs fn(arg), whose result is the reason of its end. It is a daemon: when
 * its loop ends it is cancelled, and ends with FIBRIL_EXIT_SHUTDOWN. opts and ret_actor may be
 * NULL. Never parks. Any OS thread if opts->loop is given, without link and monitor. -ENOMEM,
 * -EEXIST, -EINVAL. If its fibril cannot be made on another loop it ends with -ENOMEM as its
 * reason. */
FIBRIL_API int fibril_actor_spawn(fibril_fn *fn, void *arg, const struct fibril_actor_opts *opts,
                                  uint64_t *ret_actor);

/* Makes the calling fibril an actor, if it is none, and returns its number; 0: no memory, or no
 * fibril. Never parks. */
FIBRIL_API uint64_t fibril_actor_self(void);

/* Bounds the caller's mailbox; what waits in it stays. Never parks. -EINVAL, -ENOMEM, -EPERM. */
FIBRIL_API int fibril_actor_set_mailbox(const struct fibril_mailbox *mailbox);

/* Returns whether the actor has not ended. Any OS thread; one of another loop may just be ending.
 */
FIBRIL_API bool fibril_actor_alive(uint64_t actor);

/* Sends an exit signal with a reason, as a linked actor's end would (FIBRIL_EXIT_KILL: one that
 * cannot be trapped). The target, unless it traps exits or the reason is normal, is cancelled: its
 * present wait and each later one fails with -ECANCELED, its function returns when it will, and it
 * ends for that reason, whatever the function returned. Overtakes messages. Any OS thread, never
 * parks. 0, also if it has ended; -ENOMEM. */
FIBRIL_API int fibril_actor_exit(uint64_t actor, int reason);

/* Whether exit signals become messages of tag FIBRIL_TAG_EXIT for the caller. Returns what it was.
 */
FIBRIL_API bool fibril_actor_trap_exits(bool trap);

/* Returns whether the calling actor has been told to end, and for which reason (may be NULL). */
FIBRIL_API bool fibril_actor_exiting(int *ret_reason);

/* Links the caller and the actor: when one ends the other gets an exit signal with its reason. A
 * link to nobody gives one at once, with FIBRIL_EXIT_NOPROC. Never parks. 0, -ENOMEM, -EPERM. */
FIBRIL_API int fibril_actor_link(uint64_t actor);
/* Ends the link, from both sides; no exit signal comes through it afterwards. Never parks. */
FIBRIL_API int fibril_actor_unlink(uint64_t actor);

/* Watches the actor: when it ends, or has ended, the caller gets one message FIBRIL_TAG_DOWN with
 * this ref. Monitors of one actor are independent. Never parks. 0, -ENOMEM, -EPERM. */
FIBRIL_API int fibril_actor_monitor(uint64_t actor, uint64_t *ret_ref);
/* Ends it; a DOWN message that waits already is taken back. 0, or -ENOENT. Never parks. */
FIBRIL_API int fibril_actor_demonitor(uint64_t ref);

/* ---- Sending --------------------------------------------------------------------------------- */

/* Puts m into the actor's mailbox. On success m is no longer the caller's; on failure it still is.
 * Messages of one sender to one actor keep their order. To an actor that has ended m becomes a dead
 * letter, with success. MAY PARK, only where the mailbox is full and its policy says so: -ETIMEDOUT
 * and -ECANCELED then mean that m was not delivered; on an OS thread without a loop -EAGAIN. Any OS
 * thread. -EAGAIN (policy), -ENOMEM (nothing is lost: m is the caller's). */
FIBRIL_API int fibril_actor_send(uint64_t actor, struct fibril_message *m, int64_t deadline_ns);
/* The same, for behaviours that tell the two apart (server.h). */
FIBRIL_API int fibril_actor_cast(uint64_t actor, struct fibril_message *m, int64_t deadline_ns);

/* Sends m and waits for the reply. m is taken in every case. MAY PARK. -ETIMEDOUT at the deadline,
 * whatever the actor does: a late reply is dropped, and counted; -ESRCH if there is no such actor,
 * -EPIPE if it ended without a reply, -ECANCELED, and what fibril_actor_refuse said. */
FIBRIL_API int fibril_actor_call(uint64_t actor, struct fibril_message *m, int64_t deadline_ns,
                                 struct fibril_message **ret_reply);
/* Replies to a call. m is taken in every case, and dropped if the call is over. Any OS thread,
 * never parks: replies are not bounded by the caller's mailbox, a call has one at most. */
FIBRIL_API void fibril_actor_reply(struct fibril_from from, struct fibril_message *m);
/* Makes the call fail with `error`, a negative errno. Any OS thread, never parks. Within a loop it
 * needs no memory; elsewhere a call to the caller fails with -EPIPE if there is none to say why.
 * -EINVAL, -ENOMEM: the call waits on. */
FIBRIL_API int fibril_actor_refuse(struct fibril_from from, int error);

/* ---- Receiving ------------------------------------------------------------------------------- */

/* Takes the oldest signal or, if there is none, the oldest message; it is the caller's. MAY PARK,
 * and yields now and then if it need not. -ETIMEDOUT, -ECANCELED: also when the caller has been
 * told to end. */
FIBRIL_API int fibril_actor_receive(int64_t deadline_ns, struct fibril_message **ret_message);

/* Says whether a message is wanted; depends on the message and arg only, and what it says of a
 * message and an arg stays true. Must not park. */
typedef bool fibril_message_match(const struct fibril_message *m, void *arg);

/* Takes the oldest message that match(m, arg) wants; the others stay in their order. What was
 * looked at with the same match and arg before, and not wanted, is not looked at again: each of the
 * last four pairs keeps its mark. -EINVAL: match is NULL. Otherwise as fibril_actor_receive. */
FIBRIL_API int fibril_actor_receive_match(fibril_message_match *match, void *arg,
                                          int64_t deadline_ns, struct fibril_message **ret_message);
/* Takes the oldest message with this tag. */
FIBRIL_API int fibril_actor_receive_tag(uint64_t tag, int64_t deadline_ns,
                                        struct fibril_message **ret_message);

/* Returns how many messages wait for the caller, signals included. */
FIBRIL_API size_t fibril_actor_waiting(void);

/* ---- Streams of replies ---------------------------------------------------------------------- */

/* A call with any number of replies, in order. Each of them is a message in the caller's mailbox
 * and bounded by it, so a fast giver waits for a slow taker. */
struct fibril_stream;

/* Sends m, which is taken in every case, and opens a stream of the replies. MAY PARK. As call. */
FIBRIL_API int fibril_stream_open(uint64_t actor, struct fibril_message *m, int64_t deadline_ns,
                                  struct fibril_stream **ret_stream);
/* Takes the next reply. MAY PARK. -ENODATA after the last one, -EPIPE if the giver ended before it.
 */
FIBRIL_API int fibril_stream_next(struct fibril_stream *s, int64_t deadline_ns,
                                  struct fibril_message **ret_message);
/* Frees s; replies that come later are dropped. NULL is ignored. Never parks. */
FIBRIL_API void fibril_stream_close(struct fibril_stream *s);
/* Gives one more reply, or with m NULL says that there are no more. As fibril_actor_send; and
 * -EPIPE if its opener has ended, or closed it, which is not known of one of another loop: what
 * comes for it is dropped there. */
FIBRIL_API int fibril_stream_give(struct fibril_from from, struct fibril_message *m,
                                  int64_t deadline_ns);

/* ---- Timers ---------------------------------------------------------------------------------- */

/* Sends m to the actor at the deadline, if the caller's loop lives until then; with interval_ns > 0
 * then a copy of it each so many nanoseconds, until the actor ends (those that would have come late
 * are left out). A full mailbox is not waited for: the message is dropped, and counted, as is a
 * copy that there is no memory for. m is taken
 * on success. ret_timer may be NULL: the timer cannot be cancelled then; else it is a number that
 * is not used twice. Never parks. -ENOMEM, -EPERM, -ENOTSUP (an interval of what has no copies). */
FIBRIL_API int fibril_actor_send_at(uint64_t actor, struct fibril_message *m, int64_t deadline_ns,
                                    int64_t interval_ns, uint64_t *ret_timer);
/* Ends a timer of the caller's loop. Returns 0 if it had not sent its last message, else -ENOENT: a
 * message may be waiting then. Never parks. */
FIBRIL_API int fibril_actor_cancel_timer(uint64_t timer);

/* ---- Names and topics ------------------------------------------------------------------------ */

/* Registers the actor under a name, which it loses when it ends. One name an actor. Any OS thread,
 * never parks. -EEXIST: the name is taken, or the actor has one; -ESRCH, -ENOMEM, -EINVAL (empty,
 * or over 255 bytes). */
FIBRIL_API int fibril_actor_register(uint64_t actor, const char *name);
/* Returns who has the name, 0 for nobody. Any OS thread, never parks. */
FIBRIL_API uint64_t fibril_actor_whereis(const char *name);
/* Takes a name away. 0 or -ENOENT. Any OS thread, never parks. */
FIBRIL_API int fibril_actor_unregister(const char *name);

/* A topic is a name of a group of actors; it exists while it has members. An actor that joins twice
 * is in it twice. It leaves all its topics when it ends. Any OS thread, never park. -ESRCH,
 * -ENOENT (was no member), -ENOMEM, -EINVAL. */
FIBRIL_API int fibril_topic_join(const char *topic, uint64_t actor);
FIBRIL_API int fibril_topic_leave(const char *topic, uint64_t actor);
/* Stores up to n members; returns how many there are. Any OS thread, never parks. */
FIBRIL_API size_t fibril_topic_members(const char *topic, uint64_t *ret_actors, size_t n);
/* Monitors a topic: from now on the caller gets a message FIBRIL_TAG_MEMBERS with this ref, a
 * signal, when somebody has joined or left, once until it looks with fibril_topic_look. Never
 * parks. 0, -ENOMEM, -EPERM, -EINVAL. */
FIBRIL_API int fibril_topic_monitor(const char *topic, uint64_t *ret_ref);
/* Stores up to n members of the topic that the caller monitors; ret_n: how many there are. What
 * changes after that is said again. Never parks. -ENOENT, -ENOMEM: it has not looked. */
FIBRIL_API int fibril_topic_look(uint64_t ref, uint64_t *ret_actors, size_t n, size_t *ret_n);
/* Ends it; a message that waits already is taken back. 0, or -ENOENT. Never parks. */
FIBRIL_API int fibril_topic_demonitor(uint64_t ref);
/* Publishes m on a topic: each member gets a copy, as if sent with this deadline. m
 * stays the caller's. Returns how many took it; -ENOTSUP, -ENOMEM. MAY PARK as sending may. */
FIBRIL_API int fibril_topic_publish(const char *topic, const struct fibril_message *m,
                                    int64_t deadline_ns);

/* ---- What goes wrong ------------------------------------------------------------------------- */

/* A message that reached nobody. */
struct fibril_dead_letter {
    uint64_t to;
    struct fibril_message *letter; /* freed with the dead letter; set to NULL by who keeps it */
};

/* From now on the actor gets the dead letters of the process as messages FIBRIL_TAG_DEAD_LETTER, as
 * far as its mailbox has room; 0 ends it. Any OS thread. */
FIBRIL_API void fibril_actor_dead_letters_to(uint64_t actor);

enum fibril_actor_trouble {
    FIBRIL_TROUBLE_CRASH,        /* an actor ended for a reason that is not normal or shutdown */
    FIBRIL_TROUBLE_DEAD_LETTERS, /* `count` of them since the last such report */
    FIBRIL_TROUBLE_DROPS,        /* `count` messages were dropped because mailboxes were full */
    FIBRIL_TROUBLE_GAVE_UP,      /* a supervisor has restarted too often */
    FIBRIL_TROUBLE_HANDLER,      /* a bus has removed a handler that failed: `text` is its id */
};

/* What a log is told. All pointers are good during the call only. */
struct fibril_actor_report {
    enum fibril_actor_trouble trouble;
    uint64_t actor;   /* who crashed, or to whom the last message was */
    const char *name; /* "" for none */
    int reason;
    bool told;         /* the reason came in an exit signal, not from its own function */
    const char *text;  /* of fibril_actor_fail, "" for none */
    const char *state; /* what the behaviour says of its state, "" for nothing */
    fibril_fn *fn;     /* what it ran, with which argument, spawned where */
    void *arg;
    const void *site;
    uint64_t last_tag; /* of the last message that it took; 0: none */
    uint64_t received; /* how many it took */
    size_t waiting;    /* messages that it left */
    uint64_t count;
    void *const *frames; /* backtrace of fibril_actor_fail */
    int frame_count;
};

/* Called for each crash, and for dead letters and drops at most once a second and loop, on the loop
 * of it. Must not park. NULL: a line or more each on standard error. Thread-safe. */
FIBRIL_API void fibril_actor_on_trouble(void (*fn)(const struct fibril_actor_report *report));

/* Says how the log describes the caller's state: describe(arg, text, size) writes a string. */
FIBRIL_API int fibril_actor_set_describe(void (*describe)(void *arg, char *text, size_t size),
                                         void *arg);

/* Sums over all loops, since the process began. */
struct fibril_actor_counts {
    uint64_t spawned, ended, crashed;
    uint64_t dead_letters; /* messages that reached nobody */
    uint64_t dropped;      /* by full mailboxes that drop, and timers */
    uint64_t late_replies;
};
FIBRIL_API void fibril_actor_counts(struct fibril_actor_counts *ret_counts);

/* One actor, as its loop sees it. */
struct fibril_actor_info {
    uint64_t actor;
    char name[64];
    struct fibril *fibril;
    size_t waiting, waiting_bytes, parked_senders, links;
    uint64_t received;
    bool traps_exits, exiting;
};
/* Fills ret_info for an actor of the caller's loop. -ESRCH. Never parks. */
FIBRIL_API int fibril_actor_info(uint64_t actor, struct fibril_actor_info *ret_info);
/* Stores up to n of the actors of the caller's loop, those numbered after `after` in a fixed order;
 * returns how many. Never parks. */
FIBRIL_API size_t fibril_actor_list(uint64_t after, uint64_t *ret_actors, size_t n);

#ifdef __cplusplus
}
#endif

#endif
