/* SPDX-License-Identifier: MIT */
/* See pair.h. */
#include "pair.h"

struct joining {
    int fd, rc;
    const struct fibril_node_opts *opts;
    uint64_t node;
};

static int connects(void *arg)
{
    struct fibril_addr addr;
    ASSERT_OK(fibril_addr_parse("unix:@pair", &addr));
    *(int *)arg = fibril_connect(&addr, FIBRIL_FOREVER);
    return 0;
}

void socket_pair(int ret_fds[2])
{
    static int client;
    struct fibril_addr addr;
    struct fibril *f;
    ASSERT_OK(fibril_addr_parse("unix:@pair", &addr));
    int listener = fibril_listen(&addr, 5, 0);
    ASSERT_OK(listener);
    ASSERT_OK(fibril_spawn(connects, &client, NULL, &f));
    ret_fds[0] = fibril_accept(listener, NULL, FIBRIL_FOREVER);
    ASSERT_OK(ret_fds[0]);
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
    ret_fds[1] = client;
    ASSERT_OK(ret_fds[1]);
    ASSERT_OK(fibril_close(listener));
}

static int joins(void *arg)
{
    struct joining *j = arg;
    j->rc = fibril_node_join(j->fd, j->opts, FIBRIL_FOREVER, &j->node);
    return 0;
}

struct pair pair_open(const struct fibril_node_opts *opts)
{
    static struct joining other;
    int fds[2];
    struct fibril *f;
    struct pair p;
    socket_pair(fds);
    other = (struct joining){.fd = fds[1], .opts = opts};
    ASSERT_OK(fibril_spawn(joins, &other, NULL, &f));
    ASSERT_OK(fibril_node_join(fds[0], opts, FIBRIL_FOREVER, &p.here));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
    ASSERT_OK(other.rc);
    p.there = other.node;
    return p;
}

void pair_close(struct pair p)
{
    uint64_t refs[2];
    ASSERT_OK(fibril_actor_monitor(p.here, &refs[0]));
    ASSERT_OK(fibril_actor_monitor(p.there, &refs[1]));
    ASSERT_OK(fibril_node_leave(p.here));
    struct fibril_message *m;
    for (int down = 0; down < 2;) {
        ASSERT_OK(fibril_actor_receive_tag(FIBRIL_TAG_DOWN, fibril_after(MS(20000)), &m));
        const struct fibril_signal *s = fibril_message_data(m);
        down += s->ref == refs[0] || s->ref == refs[1];
        fibril_message_free(m);
    }
}

uint64_t as_remote(struct pair p, uint64_t actor)
{
    uint64_t remote;
    ASSERT_OK(fibril_actor_register(actor, "as remote"));
    ASSERT_OK(fibril_actor_whereis_at(p.here, "as remote", fibril_after(MS(1000)), &remote));
    ASSERT_OK(fibril_actor_unregister("as remote"));
    ASSERT_NE(remote, 0);
    ASSERT_NE(remote, actor);
    return remote;
}
