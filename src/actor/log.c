/* SPDX-License-Identifier: MIT */
/*
 * What goes wrong is said: each crash with what is known of it, dead letters and drops counted and
 * at most once a second. The text is put together on the stack and written in one piece, so reports
 * of several loops do not mix.
 */
#include "actor/actor.h"
#include "actor/remote.h"

#include "base/alloc.h"
#include "base/compiler.h"

#include <errno.h>
#include <execinfo.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { REPORT_INTERVAL_NS = 1000000000, TEXT = 1024, STATE = 256, NAME = 256 };

static void (*_Atomic on_trouble)(const struct fibril_actor_report *report);
static _Atomic uint64_t letters_to;

/* ---- reasons ---- */

const char *fibril_exit_text(int reason)
{
    switch (reason) {
    case FIBRIL_EXIT_NORMAL: return "normal";
    case FIBRIL_EXIT_SHUTDOWN: return "shutdown";
    case FIBRIL_EXIT_KILL: return "kill";
    case FIBRIL_EXIT_KILLED: return "killed";
    case FIBRIL_EXIT_NOPROC: return "no such actor";
    case FIBRIL_EXIT_NOCONNECTION: return "no connection";
    default: break;
    }
    const char *text = reason < 0 ? strerrordesc_np(-reason) : NULL;
    return text ? text : "the program's own";
}

int fibril_actor_fail(int reason, const char *format, ...)
{
    struct fibril__actor *a = fibril__actor_self();
    struct fibril__actor_extra *extra = a ? fibril__actor_extra(a) : NULL;
    if (extra && !extra->failure) {
        extra->failure = fibril__alloc(sizeof *extra->failure);
    }
    if (extra && extra->failure) {
        va_list args;
        va_start(args, format);
        vsnprintf(extra->failure->text, sizeof extra->failure->text, format, args);
        va_end(args);
        extra->failure->frame_count = backtrace(extra->failure->frames, FIBRIL__FRAMES);
    }
    return reason;
}

int fibril_actor_set_describe(void (*describe)(void *arg, char *text, size_t size), void *arg)
{
    struct fibril__actor *a = fibril__actor_attach();
    struct fibril__actor_extra *extra = a ? fibril__actor_extra(a) : NULL;
    if (!extra) {
        return fibril_current() ? -ENOMEM : -EPERM;
    }
    extra->describe = describe;
    extra->describe_arg = arg;
    return 0;
}

/* ---- printing ---- */

static PRINTF(3, 4) void add(char *text, size_t *len, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text + *len, TEXT - *len, format, args);
    va_end(args);
    if (n > 0) {
        *len = *len + (size_t)n < TEXT ? *len + (size_t)n : TEXT - 1;
    }
}

static void describe_crash(const struct fibril_actor_report *r, char *text, size_t *len)
{
    add(text, len, "fibril: actor %llu \"%s\" ended: %s (%d)%s%s%s\n", (unsigned long long)r->actor,
        r->name, fibril_exit_text(r->reason), r->reason, r->told ? ", as it was told" : "",
        *r->text ? ": " : "", r->text);
    add(text, len, "    ran %p(%p), spawned at %p, took %llu messages", (void *)(uintptr_t)r->fn,
        r->arg, r->site, (unsigned long long)r->received);
    if (r->received) {
        add(text, len, ", the last with tag %#llx", (unsigned long long)r->last_tag);
    }
    add(text, len, ", left %zu\n", r->waiting);
    if (*r->state) {
        add(text, len, "    state: %s\n", r->state);
    }
}

/* A full pipe loses the report; there is nobody else to tell. */
static void write_all(const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, text, len);
        if (n <= 0) {
            return;
        }
        text += n;
        len -= (size_t)n;
    }
}

void fibril__log_print(const struct fibril_actor_report *r)
{
    char text[TEXT];
    size_t len = 0;
    switch (r->trouble) {
    case FIBRIL_TROUBLE_CRASH: describe_crash(r, text, &len); break;
    case FIBRIL_TROUBLE_DEAD_LETTERS:
        add(text, &len, "fibril: %llu dead letters, the last to actor %llu\n",
            (unsigned long long)r->count, (unsigned long long)r->actor);
        break;
    case FIBRIL_TROUBLE_DROPS:
        add(text, &len, "fibril: %llu messages dropped by full mailboxes, the last of actor %llu\n",
            (unsigned long long)r->count, (unsigned long long)r->actor);
        break;
    case FIBRIL_TROUBLE_HANDLER:
        add(text, &len, "fibril: bus %llu \"%s\" removes handler \"%s\": %s (%d)\n",
            (unsigned long long)r->actor, r->name, r->text, fibril_exit_text(r->reason), r->reason);
        if (*r->state) {
            add(text, &len, "    state: %s\n", r->state);
        }
        break;
    default:
        add(text, &len, "fibril: supervisor %llu \"%s\" gives up after %llu restarts\n",
            (unsigned long long)r->actor, r->name, (unsigned long long)r->count);
    }
    write_all(text, len);
    if (r->frame_count > 0) {
        backtrace_symbols_fd(r->frames, r->frame_count, STDERR_FILENO);
    }
}

void fibril_actor_on_trouble(void (*fn)(const struct fibril_actor_report *report))
{
    atomic_store(&on_trouble, fn);
}

static void report(const struct fibril_actor_report *r)
{
    void (*fn)(const struct fibril_actor_report *report) = atomic_load(&on_trouble);
    if (fn) {
        fn(r);
    } else {
        fibril__log_print(r);
    }
}

/* ---- crashes ---- */

void fibril__log_crash(const struct fibril__actor *a, int reason)
{
    const struct fibril__actor_extra *extra = a->extra;
    const struct fibril__failure *failure = extra ? extra->failure : NULL;
    char state[STATE] = "", name[NAME] = "";
    FIBRIL__TALLY(crashed);
    if (extra && extra->describe) {
        extra->describe(extra->describe_arg, state, sizeof state);
    }
    fibril__registry_name(a, name, sizeof name);
    report(&(struct fibril_actor_report){
        .trouble = FIBRIL_TROUBLE_CRASH,
        .actor = a->id,
        .name = name,
        .reason = reason,
        .told = a->flags & FIBRIL__A_EXITING,
        .text = failure ? failure->text : "",
        .state = state,
        .fn = a->fn,
        .arg = a->arg,
        .site = a->site,
        .last_tag = a->last_tag,
        .received = a->received,
        .waiting = atomic_load_explicit(&a->len, memory_order_relaxed),
        .frames = failure ? failure->frames : NULL,
        .frame_count = failure ? failure->frame_count : 0,
    });
}

void fibril__log_gave_up(const struct fibril__actor *a, uint64_t restarts)
{
    char name[NAME] = "";
    fibril__registry_name(a, name, sizeof name);
    report(&(struct fibril_actor_report){.trouble = FIBRIL_TROUBLE_GAVE_UP,
                                         .actor = a->id,
                                         .name = name,
                                         .text = "",
                                         .state = "",
                                         .count = restarts});
}

void fibril__log_handler(const struct fibril__actor *a, const char *id, int reason,
                         const char *state)
{
    char name[NAME] = "";
    fibril__registry_name(a, name, sizeof name);
    report(&(struct fibril_actor_report){.trouble = FIBRIL_TROUBLE_HANDLER,
                                         .actor = a->id,
                                         .name = name,
                                         .reason = reason,
                                         .text = id,
                                         .state = state});
}

/* ---- dead letters and drops ---- */

static void report_count(enum fibril_actor_trouble trouble, uint64_t actor, uint64_t count)
{
    report(&(struct fibril_actor_report){
        .trouble = trouble, .actor = actor, .name = "", .text = "", .state = "", .count = count});
}

/* Reports what has come since the last time, if that is long enough ago. OS threads without a loop
 * only count. */
static void report_losses(uint64_t actor)
{
    struct fibril__actors *part = fibril__actors_here();
    int64_t now_ns = part ? fibril_now() : 0;
    if (!part || (part->reported_ns && now_ns - part->reported_ns < REPORT_INTERVAL_NS)) {
        return;
    }
    part->reported_ns = now_ns;
    uint64_t letters = atomic_load_explicit(&part->dead_letters, memory_order_relaxed);
    uint64_t drops = atomic_load_explicit(&part->dropped, memory_order_relaxed);
    uint64_t new_letters = letters - part->reported_letters,
             new_drops = drops - part->reported_drops;
    part->reported_letters = letters;
    part->reported_drops = drops;
    if (new_letters) {
        report_count(FIBRIL_TROUBLE_DEAD_LETTERS, actor, new_letters);
    }
    if (new_drops) {
        report_count(FIBRIL_TROUBLE_DROPS, actor, new_drops);
    }
}

static void free_letter(void *data, size_t size)
{
    (void)size;
    fibril_message_free(((struct fibril_dead_letter *)data)->letter);
}

static const struct fibril_message_type letter_type = {.name = "dead letter",
                                                       .destroy = free_letter};

/* Returns whether somebody has it now. */
static bool forward(uint64_t to, struct fibril_message *m)
{
    uint64_t reader = atomic_load_explicit(&letters_to, memory_order_relaxed);
    struct fibril_message *wrap;
    if (!reader || reader == to || m->tag == FIBRIL_TAG_DEAD_LETTER ||
        !fibril_actor_alive(reader) ||
        fibril_message_new(FIBRIL_TAG_DEAD_LETTER, sizeof(struct fibril_dead_letter), &letter_type,
                           &wrap) != 0) {
        return false;
    }
    *(struct fibril_dead_letter *)fibril_message_data(wrap) =
        (struct fibril_dead_letter){.to = to, .letter = m};
    if (fibril__actor_send_as(reader, wrap, FIBRIL_MESSAGE_PLAIN, FIBRIL__NEVER_PARK) < 0) {
        wrap->type = NULL; /* the letter stays the caller's */
        fibril_message_free(wrap);
        return false;
    }
    return true;
}

void fibril__dead_letter(uint64_t to, struct fibril_message *m)
{
    FIBRIL__TALLY(dead_letters);
    if (m->flags & FIBRIL__MSG_PACKED) {
        fibril__unpack(m);
    }
    report_losses(to);
    if (!forward(to, m)) {
        fibril_message_free(m);
    }
}

void fibril__message_dropped(uint64_t to, struct fibril_message *m)
{
    FIBRIL__TALLY(dropped);
    report_losses(to);
    fibril_message_free(m);
}

void fibril_actor_dead_letters_to(uint64_t actor)
{
    atomic_store_explicit(&letters_to, actor, memory_order_relaxed);
}
