/* SPDX-License-Identifier: MIT */
/*
 * A room numbers what is said in it, keeps the last lines for those who come in, and publishes each
 * line to the users, who are members of its topic. When it is killed its supervisor starts it
 * again: the last lines are lost, the users stay, and the numbers go on.
 */
#include "room.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT = 20, JSON_MAX = 6 * (TEXT_MAX + WHO_MAX) + 64 };

struct room *rooms;
static uint64_t supervisor;

/* ---- JSON ------------------------------------------------------------------------------------ */

struct text {
    char bytes[JSON_MAX];
    size_t len;
};

/* There is room: JSON_MAX is what it can become if every character is escaped. */
static void put(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct text *t, const char *format, ...)
{
    va_list values;

    va_start(values, format);
    t->len += (size_t)vsnprintf(t->bytes + t->len, sizeof(t->bytes) - t->len, format, values);
    va_end(values);
}

static void put_string(struct text *t, const char *s)
{
    put(t, "\"");
    for (; *s; s++) {
        bool escaped = *s == '"' || *s == '\\', control = (unsigned char)*s < ' ';
        put(t, control ? "\\u%04x" : escaped ? "\\%c" : "%c", *s);
    }
    put(t, "\"");
}

static struct fibril_message *line_of(unsigned long number, const struct said *said)
{
    struct text json = {.len = 0};
    struct fibril_message *m;

    put(&json, "{\"n\": %lu, \"who\": ", number);
    put_string(&json, said->who);
    put(&json, ", \"text\": ");
    put_string(&json, said->text);
    put(&json, "}");
    return fibril_message_of(ROOM_LINE, json.bytes, json.len + 1, &m) == 0 ? m : NULL;
}

/* ---- one room -------------------------------------------------------------------------------- */

struct memory {
    struct fibril_message *last[KEPT];
    size_t count;
};

static void keep(struct memory *memory, struct fibril_message *line)
{
    struct fibril_message **place = &memory->last[memory->count++ % KEPT];

    fibril_message_free(*place);
    *place = line;
}

static int say(struct room *r, struct memory *memory, const struct said *said)
{
    struct fibril_message *line = line_of(r->lines + 1, said);

    if (!line) {
        return -ENOMEM;
    }
    r->lines++;
    fibril_topic_publish(r->topic, line, FIBRIL_FOREVER);
    keep(memory, line);
    return 0;
}

static int welcome(struct memory *memory, uint64_t user)
{
    size_t first = memory->count > KEPT ? memory->count - KEPT : 0;
    struct fibril_message *copy;
    int rc = 0;

    for (size_t i = first; i < memory->count && rc == 0; i++) {
        rc = fibril_message_copy(memory->last[i % KEPT], &copy);
        if (rc == 0 && (rc = fibril_actor_send(user, copy, FIBRIL_FOREVER)) < 0) {
            fibril_message_free(copy);
        }
    }
    return rc;
}

static int handle(struct room *r, struct memory *memory, struct fibril_message *m)
{
    int rc = 0;

    if (fibril_message_tag(m) == ROOM_SAY) {
        rc = say(r, memory, fibril_message_data(m));
    } else if (fibril_message_tag(m) == ROOM_ENTER) {
        rc = welcome(memory, *(uint64_t *)fibril_message_data(m));
    }
    fibril_message_free(m);
    return rc;
}

static int room(void *arg)
{
    struct room *r = arg;
    struct memory memory = {.count = 0};
    struct fibril_message *m;

    int rc = fibril_actor_register(fibril_actor_self(), r->topic);
    while (rc == 0 && (rc = fibril_actor_receive(FIBRIL_FOREVER, &m)) == 0) {
        rc = handle(r, &memory, m);
    }
    for (size_t i = 0; i < KEPT; i++) {
        fibril_message_free(memory.last[i]);
    }
    return rc;
}

/* ---- all of them ----------------------------------------------------------------------------- */

int rooms_start(void)
{
    static const struct fibril_child_spec child = {.fn = room};
    const struct fibril_supervisor_spec spec = {
        .strategy = FIBRIL_SIMPLE, .intensity = UINT_MAX, .children = &child, .n_children = 1};
    return fibril_supervisor_start(&spec, NULL, &supervisor);
}

static bool is_name(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";
    size_t len = strlen(name);

    return len > 0 && len <= ROOM_NAME_MAX && strspn(name, allowed) == len;
}

static struct room *find(const char *name)
{
    struct room *r = rooms;

    while (r && strcmp(r->name, name) != 0) {
        r = r->next;
    }
    return r;
}

int room_open(const char *name, struct room **ret_room)
{
    *ret_room = find(name);
    if (*ret_room || !is_name(name)) {
        return *ret_room ? 0 : -EINVAL;
    }
    struct room *r = calloc(1, sizeof(*r));
    if (!r) {
        return -ENOMEM;
    }
    snprintf(r->name, sizeof(r->name), "%s", name);
    snprintf(r->topic, sizeof(r->topic), "room %s", name);
    r->next = rooms; /* before anybody else runs, so that nobody opens it twice */
    rooms = *ret_room = r;
    return fibril_supervisor_add(supervisor, NULL, r, FIBRIL_FOREVER, NULL);
}

uint64_t room_actor(const struct room *r)
{
    return fibril_actor_whereis(r->topic);
}

size_t room_users(const struct room *r)
{
    return fibril_topic_members(r->topic, NULL, 0);
}

int room_kill(struct room *r)
{
    r->kills++;
    return fibril_actor_exit(room_actor(r), FIBRIL_EXIT_KILL);
}
