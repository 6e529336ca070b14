/* SPDX-License-Identifier: MIT */
/*
 * Sockets for the tests of the pollers; see rig.h.
 */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "rig.h"

int rig_listener(struct sockaddr_storage *ret_addr, socklen_t *ret_len)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ASSERT_OK(fd);
    ASSERT_OK(bind(fd, (struct sockaddr *)&in, sizeof(in)));
    ASSERT_OK(listen(fd, 128));
    *ret_len = sizeof(*ret_addr);
    ASSERT_OK(getsockname(fd, (struct sockaddr *)ret_addr, ret_len));
    return fd;
}

void rig_tcp(int ret_fds[2])
{
    struct sockaddr_storage addr;
    socklen_t len;
    int listener = rig_listener(&addr, &len);
    ret_fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_OK(ret_fds[0]);
    ASSERT_OK(connect(ret_fds[0], (struct sockaddr *)&addr, len));
    ASSERT_OK(fcntl(ret_fds[0], F_SETFL, O_NONBLOCK));
    do {
        ret_fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (ret_fds[1] < 0 && errno == EAGAIN);
    ASSERT_OK(ret_fds[1]);
    ASSERT_EQ(close(listener), 0);
}
