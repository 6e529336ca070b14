/* SPDX-License-Identifier: MIT */
/*
 * The life of a connection: the greeting, on the fibril of whoever joins; then its actor, which
 * writes, and a fibril that reads. Whichever of the two finds a reason to end notes it, the actor
 * ends the other, then all that is known through the connection, and then itself, for that reason.
 */
#include "actor/node.h"

#include "actor/transport.h"
#include "base/alloc.h"
#include "base/spin.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    FRAME_MAX = 64 << 10, /* that we read */
    REMOTES_MAX = 1 << 20,
    WINDOW_BYTES = 1 << 20,
    WINDOW_BYTES_MIN = 4096,
    TICKS = 3, /* pings while it is silent */
};
#define SECOND_NS INT64_C(1000000000)
#define SILENCE_NS (30 * SECOND_NS)
#define GOODBYE_NS SECOND_NS

static struct fibril__spin lock = {.shared = true}; /* of the list */
static struct fibril__list nodes = {{&nodes.head, &nodes.head}};

void fibril__node_fail(struct fibril__node *node, int reason, const char *format, ...)
{
    if (node->over) {
        return;
    }
    node->over = true;
    node->reason = reason;
    va_list args;
    va_start(args, format);
    vsnprintf(node->text, sizeof node->text, format, args);
    va_end(args);
    for (char *c = node->text; *c; c++) { /* some of it may be the other side's */
        *c = (unsigned char)*c < ' ' || *c == 127 ? '?' : *c;
    }
    fibril__node_wake(node);
}

void fibril__node_wake(struct fibril__node *node)
{
    if (node->actor) {
        fibril_spot_wake(&node->actor->spot);
    }
}

/* ---- forks ---- */

/* In the child: its loops, if any, know of no connection. What another OS thread's loop was about
 * when this one forked is left alone. */
static void forked(void)
{
    for (struct fibril__link *l = nodes.head.next; l != &nodes.head; l = l->next) {
        struct fibril__node *node = CONTAINER_OF(l, struct fibril__node, link);
        if (node->transport->forked) {
            node->transport->forked(node->object);
        }
        node->over = true;
        const struct fibril_loop *loop = fibril_loop_current();
        if (!loop || fibril_embed_number(loop) != node->actor->number) {
            continue;
        }
        for (size_t i = 0; i < node->remotes.n; i++) {
            for (struct fibril__map_node *n = node->remotes.buckets[i]; n; n = n->next) {
                atomic_store(&((struct fibril__remote *)(void *)n)->actor->id, 0);
            }
        }
        atomic_store(&node->actor->id, 0);
    }
    fibril__list_init(&nodes);
    lock.held = 0;
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, forked);
}

static void list(struct fibril__node *node)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    fibril__spin_lock(&lock);
    fibril__list_push(&nodes, &node->link);
    fibril__spin_unlock(&lock);
}

static void unlist(struct fibril__node *node)
{
    fibril__spin_lock(&lock);
    fibril__link_remove(&node->link);
    fibril__spin_unlock(&lock);
}

/* ---- the greeting ---- */

/* Tells this process from others, also from an earlier one with its number. */
static uint64_t boot(void)
{
    static _Atomic uint64_t mine;
    uint64_t none = 0, now = (uint64_t)fibril_now() << 22 ^ (uint64_t)getpid();
    now = (now ^ now >> 31) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    atomic_compare_exchange_strong(&mine, &none, now);
    return atomic_load(&mine);
}

/* Whether it went before or after it had read what we sent is all one. */
static int gone(ssize_t n)
{
    return n == 0 || n == -ECONNRESET ? -EPIPE : (int)n;
}

static int send_all(struct fibril__node *node, const uint8_t *bytes, size_t len,
                    int64_t deadline_ns)
{
    while (len > 0) {
        ssize_t n = node->transport->send(node->object, bytes, len, deadline_ns);
        if (n <= 0) {
            return gone(n);
        }
        bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

static int receive_all(struct fibril__node *node, uint8_t *ret_bytes, size_t len,
                       int64_t deadline_ns)
{
    while (len > 0) {
        ssize_t n = node->transport->receive(node->object, ret_bytes, len, deadline_ns);
        if (n <= 0) {
            return gone(n);
        }
        ret_bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

enum { HELLO_BYTES_MAX = FIBRIL__FRAME_HEAD + 64 + FIBRIL__FRAME_NAME_MAX };

static int say_hello(struct fibril__node *node, const char *name, int64_t deadline_ns)
{
    uint8_t bytes[HELLO_BYTES_MAX];
    struct fibril__frame f = {.type = FIBRIL__FRAME_HELLO,
                              .tag = FIBRIL__FRAME_MAGIC,
                              .number = FIBRIL__FRAME_VERSION,
                              .messages = FRAME_MAX,
                              .bytes = node->window_bytes,
                              .who = {.id = boot(), .window = 1},
                              .reason = (int32_t)getpid(),
                              .name = (const uint8_t *)name,
                              .name_len = name ? (uint8_t)strlen(name) : 0};
    fibril__frame_write(&f, bytes);
    return send_all(node, bytes, fibril__frame_size(&f), deadline_ns);
}

static int hear_hello(struct fibril__node *node, int64_t deadline_ns)
{
    uint8_t bytes[HELLO_BYTES_MAX];
    struct fibril__frame f;
    uint32_t len;
    const char *what;
    int rc = receive_all(node, bytes, FIBRIL__FRAME_HEAD, deadline_ns);
    if (rc < 0) {
        return rc;
    }
    if (fibril__frame_head(bytes, sizeof bytes - FIBRIL__FRAME_HEAD, &len) < 0 ||
        bytes[4] != FIBRIL__FRAME_HELLO) {
        return -EPROTO;
    }
    rc = receive_all(node, bytes + FIBRIL__FRAME_HEAD, len, deadline_ns);
    if (rc < 0) {
        return rc;
    }
    if (fibril__frame_read(bytes, len, &f, &what) < 0 || f.tag != FIBRIL__FRAME_MAGIC) {
        return -EPROTO;
    }
    if (f.number != FIBRIL__FRAME_VERSION) {
        return -EPROTONOSUPPORT;
    }
    if (f.messages < FIBRIL__FRAME_BYTES_MIN || f.bytes < WINDOW_BYTES_MIN) {
        return -EPROTO;
    }
    node->far_frame_max = f.messages < FRAME_MAX ? f.messages : FRAME_MAX;
    node->far_window_bytes = f.bytes;
    node->info.pid = f.reason;
    node->info.boot = f.who.id;
    memcpy(node->info.name, f.name, f.name_len);
    return 0;
}

/* ---- reading ---- */

/* Carries out the whole frames that stand in the buffer; returns how many bytes they were, or
 * -errno. */
static ssize_t carry_out(struct fibril__node *node, const uint8_t *bytes, size_t len)
{
    size_t at = 0;
    while (!node->over && len - at >= FIBRIL__FRAME_HEAD) {
        struct fibril__frame f;
        uint32_t rest;
        const char *what = "its head is none, or it is too long";
        int rc = fibril__frame_head(bytes + at, FRAME_MAX, &rest);
        if (rc == 0 && len - at - FIBRIL__FRAME_HEAD < rest) {
            break;
        }
        rc = rc == 0 ? fibril__frame_read(bytes + at, rest, &f, &what) : rc;
        if (rc < 0) {
            fibril__node_fail(node, -EBADMSG, "bad %s frame: %s", fibril__frame_name(bytes[at + 4]),
                              what);
            return rc;
        }
        at += FIBRIL__FRAME_HEAD + (size_t)rest;
        rc = fibril__in_frame(node, &f);
        if (rc < 0) {
            return rc;
        }
        fibril_embed_spend(); /* others of the loop have their turn */
    }
    return (ssize_t)at;
}

static void read_on(struct fibril__node *node, uint8_t *buffer, size_t room)
{
    size_t len = 0;
    while (!node->over) {
        ssize_t n =
            node->transport->receive(node->object, buffer + len, room - len, FIBRIL_FOREVER);
        if (n == -ECANCELED) { /* the loop ends, and the node's actor is told the same */
            return;
        }
        if (n <= 0) {
            fibril__node_fail(node, FIBRIL_EXIT_NOCONNECTION, "%s",
                              len > 0 ? "the other process is gone in the middle of a frame"
                                      : "the other process is gone");
            return;
        }
        node->heard_ns = fibril_now();
        node->info.bytes_in += (uint64_t)n;
        len += (size_t)n;
        ssize_t used = carry_out(node, buffer, len);
        if (used < 0) {
            return;
        }
        len -= (size_t)used;
        memmove(buffer, buffer + used, len);
    }
}

static int run_reader(void *arg)
{
    struct fibril__node *node = arg;
    size_t room = FIBRIL__FRAME_HEAD + FRAME_MAX;
    uint8_t *buffer = fibril__alloc(room);
    if (buffer) {
        read_on(node, buffer, room);
    } else {
        fibril__node_fail(node, -ENOMEM, "no memory to read");
    }
    fibril__free(buffer);
    return 0;
}

/* ---- writing ---- */

/* Somebody asks for a name over there. */
static int ask(struct fibril__node *node, const struct fibril_message *m)
{
    size_t len = fibril_message_size(m);
    struct fibril__asked *q = fibril__alloc_zero(sizeof *q);
    if (!q) {
        return -ENOMEM;
    }
    q->from = fibril_message_from(m);
    q->number = ++node->numbers;
    fibril__list_push(&node->asked, &q->link);
    fibril__out_control(node, &(struct fibril__frame){.type = FIBRIL__FRAME_WHEREIS,
                                                      .number = q->number,
                                                      .name = fibril_message_peek(m),
                                                      .name_len = (uint8_t)len});
    return 0;
}

#define ASK_WHEREIS (UINT64_C(1) << 63 | 0x6e6f6465) /* a name, without NUL */

static void attend(struct fibril__node *node, struct fibril_message *m)
{
    if (m->kind == FIBRIL_MESSAGE_SIGNAL && m->tag == FIBRIL_TAG_DOWN) {
        const struct fibril_signal *s = fibril_message_data(m);
        struct fibril__export *e = fibril__export_find(node, s->actor);
        fibril__out_reply(node, &(struct fibril__frame){.type = FIBRIL__FRAME_DOWN,
                                                        .to = s->actor,
                                                        .reason = s->reason});
        if (e) {
            fibril__export_end(e);
        }
    } else if (m->kind == FIBRIL_MESSAGE_CALL && m->tag == ASK_WHEREIS) {
        int rc = ask(node, m);
        if (rc < 0) {
            fibril_actor_refuse(m->from, rc);
        }
    } else if (m->kind == FIBRIL_MESSAGE_CALL) {
        fibril_actor_refuse(m->from, -EINVAL);
    }
    fibril_message_free(m);
}

/* What has come for the connection itself. -ECANCELED when it is to end. */
static int attend_mail(struct fibril__node *node)
{
    struct fibril__actor *self = node->actor;
    int rc = 0;
    while (rc == 0 && (self->urgent || self->first)) {
        struct fibril_message *m;
        rc = fibril_actor_receive(FIBRIL_FOREVER, &m);
        if (rc == 0) {
            attend(node, m);
        }
    }
    return rc;
}

static int64_t later(int64_t from_ns, int64_t ns)
{
    return ns >= FIBRIL_FOREVER - from_ns ? FIBRIL_FOREVER : from_ns + ns;
}

/* Writes some of what stands ready. */
static int write_some(struct fibril__node *node, size_t len, int64_t deadline_ns)
{
    struct fibril__buffer *now = &node->out.now;
    ssize_t n = node->transport->send(node->object, now->bytes + now->at, len, deadline_ns);
    if (n <= 0) {
        return n < 0 ? (int)n : -EPIPE;
    }
    now->at += (size_t)n;
    node->spoke_ns = fibril_now();
    node->info.bytes_out += (uint64_t)n;
    return 0;
}

/* Nothing is to be written. Waits for that, and asks after the other side now and then. */
static int wait(struct fibril__node *node)
{
    int64_t tick_ns = later(node->spoke_ns, node->silence_ns / TICKS);
    int64_t end_ns = later(node->heard_ns, node->silence_ns);
    int64_t now_ns = fibril_now();
    if (now_ns >= end_ns) {
        return -ETIMEDOUT;
    }
    if (now_ns >= tick_ns && node->silence_ns != FIBRIL_FOREVER) {
        fibril__out_control(node, &(struct fibril__frame){.type = FIBRIL__FRAME_PING});
        return 0;
    }
    int rc = fibril__mailbox_wait(node->actor, tick_ns < end_ns ? tick_ns : end_ns);
    return rc == -ETIMEDOUT || rc == -ENOMEM ? 0 : rc;
}

/* The other side has hung up. What it had said before is still to be read. */
static void hear_the_rest(struct fibril__node *node)
{
    int64_t deadline_ns = fibril_after(GOODBYE_NS);
    while (!node->over && fibril__mailbox_wait(node->actor, deadline_ns) == 0) {}
}

static void write_on(struct fibril__node *node)
{
    int rc = 0;
    while (rc == 0 && !node->over) {
        rc = attend_mail(node);
        size_t len = rc == 0 ? fibril__out_fill(node) : 0;
        if (rc == 0 && !node->over) {
            rc =
                len > 0 ? write_some(node, len, later(fibril_now(), node->silence_ns)) : wait(node);
        }
    }
    if (rc == -ETIMEDOUT) {
        fibril__node_fail(node, -ETIMEDOUT, "the other process is silent, or does not read");
    } else if (rc < 0 && rc != -ECANCELED) {
        hear_the_rest(node);
        fibril__node_fail(node, FIBRIL_EXIT_NOCONNECTION, "the other process is gone");
    }
}

/* ---- the end ---- */

/* Whether there are messages that wait for credit. */
static bool owes(const struct fibril__node *node)
{
    for (size_t i = 0; i < node->remotes.n; i++) {
        for (struct fibril__map_node *n = node->remotes.buckets[i]; n; n = n->next) {
            if (((struct fibril__remote *)(void *)n)->actor->first) {
                return true;
            }
        }
    }
    return false;
}

/* Writes all that was sent, as far as the other side has room for it. */
static int finish_writing(struct fibril__node *node, int64_t deadline_ns)
{
    int rc = 0;
    while (rc == 0 && !node->over) {
        size_t len = fibril__out_fill(node);
        if (len == 0 && !owes(node)) {
            break;
        }
        if (len > 0) {
            rc = write_some(node, len, deadline_ns);
        } else if (fibril_spot_wait(&node->actor->spot, deadline_ns) < 0) {
            break;
        }
    }
    return rc;
}

/* In good order what waits goes out; in any case the other side is told why, if that needs no
 * wait. */
static void say_goodbye(struct fibril__node *node, int reason)
{
    int64_t deadline_ns = fibril_after(reason == FIBRIL_EXIT_SHUTDOWN ? GOODBYE_NS : 0);
    const char *text = node->over ? node->text : fibril_exit_text(reason);
    int rc = reason == FIBRIL_EXIT_SHUTDOWN ? finish_writing(node, deadline_ns) : 0;
    struct fibril__buffer *now = &node->out.now;
    if (rc == 0 && now->at == now->len) { /* not in the middle of a frame */
        uint8_t bytes[FIBRIL__FRAME_HEAD + 4 + sizeof node->text];
        struct fibril__frame f = {.type = FIBRIL__FRAME_BYE,
                                  .reason = reason,
                                  .data = (const uint8_t *)text,
                                  .data_len = strlen(text)};
        fibril__frame_write(&f, bytes);
        send_all(node, bytes, fibril__frame_size(&f), deadline_ns);
    }
    node->over = true;
}

static void free_node(struct fibril__node *node)
{
    fibril__out_fini(node);
    fibril__in_fini(node);
    for (struct fibril__link *l; (l = fibril__list_pop(&node->asked)) != NULL;) {
        fibril__free(CONTAINER_OF(l, struct fibril__asked, link)); /* the call ends with the node */
    }
    node->transport->close(node->object);
    fibril__free(node);
}

static void forget_all(struct fibril__node *node)
{
    fibril__remote_close(node);
    for (size_t i = 0; i < node->exports.n; i++) {
        while (node->exports.buckets[i]) {
            fibril__export_end((struct fibril__export *)(void *)node->exports.buckets[i]);
        }
    }
    fibril__map_fini(&node->exports);
}

static int reason_of(const struct fibril__node *node, int told)
{
    return node->over ? node->reason : told;
}

static int run_node(void *arg)
{
    struct fibril__node *node = arg;
    struct fibril_spawn_opts opts = {.name = "reader of a node", .daemon = true};
    node->actor = fibril__actor_self();
    node->heard_ns = node->spoke_ns = fibril_now();
    node->numbers = boot() + (node->actor->id << 32);
    list(node);
    int rc = fibril__remote_open(node);
    rc = rc == 0 ? fibril_spawn(run_reader, node, &opts, &node->reader) : rc;
    if (rc < 0) {
        fibril__node_fail(node, rc, "no memory to begin");
    }
    write_on(node);
    int told = FIBRIL_EXIT_SHUTDOWN;
    fibril_actor_exiting(&told);
    int reason = reason_of(node, told);
    fibril_shield_begin();
    say_goodbye(node, reason);
    node->transport->shut(node->object);
    if (node->reader) {
        fibril_join(node->reader, FIBRIL_FOREVER, NULL);
    }
    forget_all(node);
    unlist(node);
    if (node->text[0]) {
        fibril_actor_fail(reason, "%s%s%s", node->info.name, *node->info.name ? ": " : "",
                          node->text);
    }
    free_node(node);
    fibril_shield_end();
    return reason;
}

/* ---- the calls ---- */

static struct fibril__node *make(const struct fibril_transport *transport, void *object,
                                 const struct fibril_node_opts *opts)
{
    struct fibril__node *node = fibril__alloc_zero(sizeof *node);
    if (!node) {
        transport->close(object);
        return NULL;
    }
    node->transport = transport;
    node->object = object;
    node->silence_ns = opts->silence_ns ? opts->silence_ns : SILENCE_NS;
    node->window_bytes = opts->window_bytes ? opts->window_bytes : WINDOW_BYTES;
    node->remotes_max = opts->actors_max ? opts->actors_max : REMOTES_MAX;
    fibril__list_init(&node->out.dirty);
    fibril__list_init(&node->asked);
    return node;
}

/* One that is told to end before it has begun would not free the node: nobody knows it until then.
 */
static void await_begin(uint64_t id)
{
    const struct fibril__actor *a;
    while ((a = fibril__actor_here(id)) != NULL && !((struct fibril__node *)a->arg)->actor) {
        fibril_yield();
    }
}

int fibril_node_join_by(const struct fibril_transport *transport, void *object,
                        const struct fibril_node_opts *opts, int64_t deadline_ns,
                        uint64_t *ret_node)
{
    static const struct fibril_node_opts none;
    opts = opts ? opts : &none;
    bool good = opts->silence_ns >= 0 && (!opts->name || strlen(opts->name) <= 255) &&
                (!opts->window_bytes || opts->window_bytes >= WINDOW_BYTES_MIN);
    if (!fibril_current() || !good) {
        transport->close(object);
        return good ? -EPERM : -EINVAL;
    }
    uint64_t id;
    struct fibril__node *node = make(transport, object, opts);
    if (!node) {
        return -ENOMEM;
    }
    int rc = say_hello(node, opts->name, deadline_ns);
    rc = rc == 0 ? hear_hello(node, deadline_ns) : rc;
    rc = rc == 0 ? fibril_actor_spawn(run_node, node, NULL, &id) : rc;
    if (rc != 0) {
        free_node(node);
        return rc;
    }
    await_begin(id);
    *ret_node = id;
    return 0;
}

int fibril_node_join(int fd, const struct fibril_node_opts *opts, int64_t deadline_ns,
                     uint64_t *ret_node)
{
    void *object = fibril__transport_of(fd);
    return object ? fibril_node_join_by(&fibril__transport_fd, object, opts, deadline_ns, ret_node)
                  : -ENOMEM;
}

int fibril_node_leave(uint64_t node)
{
    return fibril_actor_exit(node, FIBRIL_EXIT_SHUTDOWN);
}

int fibril_actor_whereis_at(uint64_t node, const char *name, int64_t deadline_ns,
                            uint64_t *ret_actor)
{
    size_t len = strlen(name);
    struct fibril_message *m, *reply;
    if (len == 0 || len > FIBRIL__FRAME_NAME_MAX) {
        return -EINVAL;
    }
    int rc = fibril_message_of(ASK_WHEREIS, name, len, &m);
    rc = rc == 0 ? fibril_actor_call(node, m, deadline_ns, &reply) : rc;
    if (rc != 0) {
        return rc;
    }
    memcpy(ret_actor, fibril_message_data(reply), sizeof *ret_actor);
    fibril_message_free(reply);
    return 0;
}

uint64_t fibril_node_of(uint64_t actor)
{
    const struct fibril__actor *a = fibril__actor_here(actor);
    return a && fibril__is_remote(a) ? fibril__remote_of(a)->node->actor->id : 0;
}

int fibril_node_info(uint64_t node, struct fibril_node_info *ret_info)
{
    const struct fibril__actor *a = fibril__actor_here(node);
    if (!a || a->fn != run_node) {
        return -ESRCH;
    }
    const struct fibril__node *n = a->arg;
    *ret_info = n->info;
    ret_info->actors = n->remotes.count;
    ret_info->known = n->exports.count;
    ret_info->held = n->held;
    ret_info->backlog =
        n->out.control.len - n->out.control.at + n->out.replies.len - n->out.replies.at;
    return 0;
}
