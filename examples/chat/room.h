/* SPDX-License-Identifier: MIT */
/* The rooms of the chat: actors under a supervisor, and what they and the users send each other. */
#ifndef CHAT_ROOM_H
#define CHAT_ROOM_H

#include <fibril/supervisor.h>

enum { ROOM_NAME_MAX = 32, WHO_MAX = 32, TEXT_MAX = 1000 };

enum { ROOM_SAY = 1, ROOM_ENTER, ROOM_LINE };

/* ROOM_SAY. */
struct said {
    char who[WHO_MAX + 1];
    char text[TEXT_MAX + 1];
};

/* What outlives a room that is killed: its name, and how far its lines are counted. */
struct room {
    char name[ROOM_NAME_MAX + 1], topic[ROOM_NAME_MAX + 8];
    unsigned long lines, kills;
    struct room *next;
};

/* All rooms, the newest first. */
extern struct room *rooms;

/* Starts the supervisor of the rooms. MAY PARK. 0 or -errno. */
int rooms_start(void);

/* Finds the room, or opens it: with that name, of letters, digits and hyphens (else -EINVAL). MAY
 * PARK. */
int room_open(const char *name, struct room **ret_room);

/* Returns the actor that is the room at present, 0 while it is being started again. */
uint64_t room_actor(const struct room *r);

/* Who is in it: they get its lines as messages ROOM_LINE, whose data are JSON with a NUL. */
size_t room_users(const struct room *r);

/* Kills it, wherever it waits. */
int room_kill(struct room *r);

#endif
