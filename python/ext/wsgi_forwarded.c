/* SPDX-License-Identifier: MIT */
/*
 * Whom to believe about the client behind a proxy. A list X-Forwarded-For grows at its right end,
 * one entry a proxy, and its left end is whatever the client wrote. So it is read from the right,
 * as long as the entries are proxies of ours; the first that is not is the client.
 */
#include "wsgi.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

struct net {
    unsigned char bytes[16]; /* IPv4 as ::ffff:a.b.c.d */
    unsigned bits;           /* of the prefix, of 128 */
};

struct fibril__wsgi_nets {
    bool all, local; /* "*"; "unix" */
    unsigned count;
    struct net nets[];
};

static bool parse_address(const char *text, unsigned char bytes[16], bool *ret_four)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    *ret_four = inet_pton(AF_INET, text, bytes + 12) == 1;
    if (*ret_four) {
        memcpy(bytes, mapped, sizeof(mapped));
        return true;
    }
    return inet_pton(AF_INET6, text, bytes) == 1;
}

static bool parse_net(char *text, struct net *net)
{
    char *slash = strchr(text, '/');
    bool four;
    if (slash) {
        *slash = '\0';
    }
    if (!parse_address(text, net->bytes, &four)) {
        return false;
    }
    unsigned most = four ? 32 : 128;
    unsigned long bits = most;
    if (slash) {
        char *end;
        bits = strtoul(slash + 1, &end, 10);
        if (end == slash + 1 || *end || bits > most) {
            return false;
        }
    }
    net->bits = (unsigned)bits + (four ? 96 : 0);
    return true;
}

static bool add(struct fibril__wsgi_nets *nets, char *word)
{
    if (strcmp(word, "*") == 0) {
        nets->all = true;
    } else if (strcmp(word, "unix") == 0) {
        nets->local = true;
    } else if (parse_net(word, &nets->nets[nets->count])) {
        nets->count++;
    } else {
        return false;
    }
    return true;
}

struct fibril__wsgi_nets *fibril__wsgi_nets_new(const char *text)
{
    size_t len = strlen(text), most = len / 2 + 1;
    struct fibril__wsgi_nets *nets = PyMem_Calloc(1, sizeof(*nets) + most * sizeof(struct net));
    char *copy = PyMem_Malloc(len + 1), *rest = copy;
    bool fine = nets && copy;
    if (!fine) {
        PyErr_NoMemory();
    } else {
        memcpy(copy, text, len + 1);
    }
    for (char *word; fine && (word = strsep(&rest, ", ")) != NULL;) {
        if (*word && !add(nets, word)) {
            PyErr_Format(PyExc_ValueError, "'%s' is neither an address nor a network", word);
            fine = false;
        }
    }
    PyMem_Free(copy);
    if (!fine) {
        PyMem_Free(nets);
        return NULL;
    }
    return nets;
}

void fibril__wsgi_nets_free(struct fibril__wsgi_nets *nets)
{
    PyMem_Free(nets);
}

static bool matches(const struct net *net, const unsigned char bytes[16])
{
    unsigned whole = net->bits / 8, rest = net->bits % 8;
    if (memcmp(net->bytes, bytes, whole) != 0) {
        return false;
    }
    return rest == 0 || ((net->bytes[whole] ^ bytes[whole]) >> (8 - rest)) == 0;
}

bool fibril__wsgi_nets_have(const struct fibril__wsgi_nets *nets, const char *address)
{
    unsigned char bytes[16];
    bool four;
    if (!nets) {
        return false;
    }
    if (nets->all || !*address) {
        return nets->all || nets->local;
    }
    if (!parse_address(address, bytes, &four)) {
        return false;
    }
    for (unsigned i = 0; i < nets->count; i++) {
        if (matches(&nets->nets[i], bytes)) {
            return true;
        }
    }
    return false;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* One entry, without the port and the brackets that it may have. */
static bool take_entry(const char *from, size_t len, char *ret_address, size_t size)
{
    for (; len > 0 && is_blank(*from); from++) {
        len--;
    }
    while (len > 0 && is_blank(from[len - 1])) {
        len--;
    }
    const char *colon = memchr(from, ':', len);
    if (len > 0 && *from == '[') {
        const char *bracket = memchr(from, ']', len);
        if (!bracket) {
            return false;
        }
        from++;
        len = (size_t)(bracket - from);
    } else if (colon) {
        size_t host = (size_t)(colon - from);
        len = memchr(colon + 1, ':', len - host - 1) ? len : host;
    }
    unsigned char bytes[16];
    bool four;
    if (len == 0 || len >= size) {
        return false;
    }
    memcpy(ret_address, from, len);
    ret_address[len] = '\0';
    return parse_address(ret_address, bytes, &four);
}

bool fibril__wsgi_forwarded_for(const struct fibril__wsgi_nets *nets, const char *list,
                                char *ret_address, size_t size)
{
    size_t end = strlen(list);
    bool found = false;
    char entry[64];
    for (;;) {
        size_t begin = end;
        while (begin > 0 && list[begin - 1] != ',') {
            begin--;
        }
        if (!take_entry(list + begin, end - begin, entry, sizeof(entry)) || strlen(entry) >= size) {
            return found; /* what a proxy of ours said up to here still holds */
        }
        memcpy(ret_address, entry, strlen(entry) + 1);
        found = true;
        if (begin == 0 || !fibril__wsgi_nets_have(nets, entry)) {
            return true;
        }
        end = begin - 1;
    }
}
