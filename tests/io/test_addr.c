/* SPDX-License-Identifier: MIT */
/*
 * Socket addresses as text, both ways.
 */
#include "io_test.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

static void round_trip(const char *text, const char *expected)
{
    struct fibril_addr a;
    char out[256];
    ASSERT_OK(fibril_addr_parse(text, &a));
    ASSERT_EQ(fibril_addr_format(&a, out, sizeof(out)), (int)strlen(expected));
    ASSERT_STR(out, expected);
}

TEST(addresses_survive_the_round_trip)
{
    round_trip("127.0.0.1:80", "127.0.0.1:80");
    round_trip("0.0.0.0:0", "0.0.0.0:0");
    round_trip("255.255.255.255:65535", "255.255.255.255:65535");
    round_trip("[::1]:8080", "[::1]:8080");
    round_trip("[2001:DB8::0:1]:1", "[2001:db8::1]:1");
    round_trip("*:80", "[::]:80");
    round_trip("[::ffff:10.1.2.3]:7", "10.1.2.3:7");
    round_trip("unix:/tmp/x.sock", "unix:/tmp/x.sock");
    round_trip("unix:relative", "unix:relative");
    round_trip("unix:@name", "unix:@name");
}

TEST(a_zone_names_the_interface)
{
    struct fibril_addr a;
    ASSERT_OK(fibril_addr_parse("[fe80::1%lo]:9", &a));
    ASSERT_NE(((struct sockaddr_in6 *)&a.ss)->sin6_scope_id, 0u);
    round_trip("[fe80::1%lo]:9", "[fe80::1%lo]:9");
}

TEST(wrong_addresses_are_refused_and_change_nothing)
{
    static const char *const wrong[] = {
        "",         "80",         ":80",        "127.0.0.1",  "127.0.0.1:",     "127.0.0.1:65536",
        "1.2.3:80", "1.2.3.4:-1", "1.2.3.4:+1", "1.2.3.4: 1", "1.2.3.4:999999", "localhost:80",
        "[::1]",    "[::1]80",    "::1:80",     "[::1:80",    "[:::1]:80",      "[::1%nosuchif]:1",
        "unix:",    "unix:@",     "[]:1",       "1.2.3.4:1x", "1.2.3.4.5:1",    "*",
    };
    char path[200] = "unix:";
    struct fibril_addr a, before;
    memset(&a, 0x5a, sizeof(a));
    before = a;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        if (fibril_addr_parse(wrong[i], &a) != -EINVAL) {
            test_fail(__FILE__, __LINE__, "\"%s\" was taken", wrong[i]);
        }
    }
    memset(path + 5, 'p', 108); /* one more than fits with its zero byte */
    ASSERT_ERR(fibril_addr_parse(path, &a), -EINVAL);
    ASSERT_MEM(&a, &before, sizeof(a));
    path[5 + 107] = '\0';
    ASSERT_OK(fibril_addr_parse(path, &a));
}

TEST(too_little_room_is_said_and_the_text_ends)
{
    struct fibril_addr a;
    char out[32];
    ASSERT_OK(fibril_addr_parse("127.0.0.1:80", &a));
    for (size_t size = 1; size <= 12; size++) {
        memset(out, 'x', sizeof(out));
        ASSERT_ERR(fibril_addr_format(&a, out, size), -ENOSPC);
        ASSERT_LT(strlen(out), size);
    }
    ASSERT_EQ(fibril_addr_format(&a, out, 13), 12);
    ASSERT_ERR(fibril_addr_format(&a, out, 0), -ENOSPC);
    a.ss.ss_family = AF_PACKET;
    ASSERT_ERR(fibril_addr_format(&a, out, sizeof(out)), -EAFNOSUPPORT);
}

IO_TEST(a_socket_pair_has_no_name)
{
    int q[2];
    struct fibril_addr a;
    char out[32];
    io_unix_pair(false, q);
    ASSERT_OK(fibril_addr_local(q[0], &a));
    ASSERT_OK(fibril_addr_format(&a, out, sizeof(out)));
    ASSERT_STR(out, "unix:");
    fibril_close(q[0]);
    fibril_close(q[1]);
    return 0;
}
