/* SPDX-License-Identifier: MIT */
/*
 * fibril I/O: calls that look blocking and park only the calling fibril.
 *
 * They take plain descriptors, blocking or not. Each loop keeps a small record per descriptor that
 * it has waited on, so a descriptor that fibrils have used must be closed with fibril_close: that
 * ends all waits on it, in every loop, with -EBADF before the number can be given out again.
 *
 * EINTR never shows. SIGPIPE is never raised (-EPIPE instead). A short count from a read means what
 * it means in POSIX; the *_all calls go on until everything is done. Buffers may lie on a copied
 * stack. Conventions as in fibril.h; all calls here MAY PARK unless said otherwise, and yield when
 * the caller's budget of operations that needed no wait is used up.
 */
#ifndef FIBRIL_IO_H
#define FIBRIL_IO_H

#include <fibril/fibril.h>

#include <netdb.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Any descriptor -------------------------------------------------------------------------- */

/* Waits until fd is ready for one of `events` (POLLIN, POLLOUT, POLLPRI, POLLRDHUP) and returns
 * those that hold, with POLLERR and POLLHUP. -EBADF if fd is closed by fibril_close meanwhile. */
FIBRIL_API int fibril_fd_wait(int fd, short events, int64_t deadline_ns);

/* Reads at most len bytes; 0 is the end of file. */
FIBRIL_API ssize_t fibril_read(int fd, void *buf, size_t len, int64_t deadline_ns);
FIBRIL_API ssize_t fibril_readv(int fd, const struct iovec *iov, int n, int64_t deadline_ns);

/* Write at most len bytes, at least one unless len is 0. */
FIBRIL_API ssize_t fibril_write(int fd, const void *buf, size_t len, int64_t deadline_ns);
FIBRIL_API ssize_t fibril_writev(int fd, const struct iovec *iov, int n, int64_t deadline_ns);

/* Read exactly len bytes: returns len, or -EPIPE when the stream ends before (what came is in buf).
 */
FIBRIL_API ssize_t fibril_read_all(int fd, void *buf, size_t len, int64_t deadline_ns);
/* Write all of it: returns len. After an error, how much went out is unknown. */
FIBRIL_API ssize_t fibril_write_all(int fd, const void *buf, size_t len, int64_t deadline_ns);
/* iov is used up: its entries change. */
FIBRIL_API ssize_t fibril_writev_all(int fd, struct iovec *iov, int n, int64_t deadline_ns);

/* Closes fd. Those who wait on it, on any loop, get -EBADF. Parks only when another loop uses fd.
 * It does so also when cancelled. */
FIBRIL_API int fibril_close(int fd);

/* ---- Files ----------------------------------------------------------------------------------- */
/* By io_uring, or by the offload pool under the epoll poller: a slow disk delays nobody else. */

/* As open(2). */
FIBRIL_API int fibril_open(const char *path, int flags, mode_t mode, int64_t deadline_ns);
/* Opens path below directory dirfd and nowhere else: no "..", absolute path or link leads out of it
 * (openat2 with RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS; -EXDEV). */
FIBRIL_API int fibril_open_beneath(int dirfd, const char *path, int flags, mode_t mode,
                                   int64_t deadline_ns);
FIBRIL_API ssize_t fibril_pread(int fd, void *buf, size_t len, off_t offset, int64_t deadline_ns);
FIBRIL_API ssize_t fibril_pwrite(int fd, const void *buf, size_t len, off_t offset,
                                 int64_t deadline_ns);
FIBRIL_API int fibril_fsync(int fd, int64_t deadline_ns);
FIBRIL_API int fibril_fdatasync(int fd, int64_t deadline_ns);
FIBRIL_API int fibril_fstat(int fd, struct stat *ret_stat);
/* Copies up to len bytes from file in_fd at *offset (advanced) to socket or pipe out_fd; returns
 * how many. */
FIBRIL_API ssize_t fibril_sendfile(int out_fd, int in_fd, off_t *offset, size_t len,
                                   int64_t deadline_ns);

/* Makes a pipe: ret_fds[0] reads, ret_fds[1] writes. Both are non-blocking and close on exec. Never
 * parks. */
FIBRIL_API int fibril_pipe(int ret_fds[2]);

/* ---- Sockets --------------------------------------------------------------------------------- */
/* All that are made here are non-blocking and close on exec. TCP connections have TCP_NODELAY set.
 */

/* Socket addresses are written "127.0.0.1:80", "[::1]:80", "*:80" (any), "unix:/path" or
 * "unix:@abstract". */
struct fibril_addr {
    socklen_t len;
    struct sockaddr_storage ss;
};

/* Parses a numeric address. -EINVAL. Never parks. */
FIBRIL_API int fibril_addr_parse(const char *text, struct fibril_addr *ret_addr);
/* Writes addr as text, always terminated. Returns the length or -ENOSPC, -EAFNOSUPPORT. Never
 * parks. */
FIBRIL_API int fibril_addr_format(const struct fibril_addr *addr, char *ret_text, size_t size);
/* The address that fd is bound to, or that of its peer. Never park. */
FIBRIL_API int fibril_addr_local(int fd, struct fibril_addr *ret_addr);
FIBRIL_API int fibril_addr_peer(int fd, struct fibril_addr *ret_addr);

enum {
    FIBRIL_LISTEN_REUSEPORT = 1u << 0, /* several loops or processes may listen on the same port */
};
/* Makes a listening stream socket. A stale UNIX socket file is replaced only if nobody answers on
 * it. Never parks. */
FIBRIL_API int fibril_listen(const struct fibril_addr *addr, int backlog, unsigned flags);
/* Accepts a connection and returns its descriptor; ret_peer may be NULL. -EMFILE and its kin are
 * returned, not retried. */
FIBRIL_API int fibril_accept(int fd, struct fibril_addr *ret_peer, int64_t deadline_ns);
/* Makes a stream socket connected to addr. */
FIBRIL_API int fibril_connect(const struct fibril_addr *addr, int64_t deadline_ns);
/* Resolves host and connects to the first of its addresses that answers, trying the next family
 * after 250 ms without giving up the one before (RFC 8305). */
FIBRIL_API int fibril_connect_host(const char *host, const char *service, int64_t deadline_ns);
/* Connects the given socket to addr (any family and type). */
FIBRIL_API int fibril_connect_fd(int fd, const struct fibril_addr *addr, int64_t deadline_ns);
FIBRIL_API int fibril_shutdown(int fd, int how); /* SHUT_RD, SHUT_WR, SHUT_RDWR; never parks */

/* As the system calls of these names, with -errno for -1; they never raise SIGPIPE. */
FIBRIL_API ssize_t fibril_recv(int fd, void *buf, size_t len, int flags, int64_t deadline_ns);
FIBRIL_API ssize_t fibril_send(int fd, const void *buf, size_t len, int flags, int64_t deadline_ns);
FIBRIL_API ssize_t fibril_recvmsg(int fd, struct msghdr *msg, int flags, int64_t deadline_ns);
FIBRIL_API ssize_t fibril_sendmsg(int fd, const struct msghdr *msg, int flags, int64_t deadline_ns);

/* Makes a bound datagram socket (addr NULL: unbound, IPv4). Never parks. */
FIBRIL_API int fibril_udp(const struct fibril_addr *addr);
FIBRIL_API ssize_t fibril_recvfrom(int fd, void *buf, size_t len, struct fibril_addr *ret_from,
                                   int64_t deadline_ns);
FIBRIL_API ssize_t fibril_sendto(int fd, const void *buf, size_t len, const struct fibril_addr *to,
                                 int64_t deadline_ns);

/* ---- Buffered reading ------------------------------------------------------------------------ */

struct fibril_reader;
/* Makes a reader of fd with a buffer of `bytes`. It does not own fd. */
FIBRIL_API int fibril_reader_new(int fd, size_t bytes, struct fibril_reader **ret_reader);
FIBRIL_API void fibril_reader_free(struct fibril_reader *r);
/* Reads up to and including the byte string `delim`; *ret_span points into the reader's buffer
 * until the next call. Returns its length, 0 at a clean end of file, -EPIPE if the stream ends
 * inside, -EMSGSIZE if the buffer is full without a delimiter. */
FIBRIL_API ssize_t fibril_read_until(struct fibril_reader *r, const void *delim, size_t delim_len,
                                     const char **ret_span, int64_t deadline_ns);
/* Reads exactly len bytes into buf, buffered ones first; as fibril_read_all. */
FIBRIL_API ssize_t fibril_reader_read_all(struct fibril_reader *r, void *buf, size_t len,
                                          int64_t deadline_ns);

/* ---- Names ----------------------------------------------------------------------------------- */

/* As getaddrinfo(3), hosts file and nsswitch included; the list is freed with freeaddrinfo. Returns
 * 0, or -errno; what getaddrinfo said goes to *ret_gai (an EAI_ code; may be NULL): EAI_NONAME
 * -ENOENT, EAI_AGAIN -EAGAIN, EAI_SYSTEM the error it stands for, others -EIO. */
FIBRIL_API int fibril_resolve(const char *host, const char *service, const struct addrinfo *hints,
                              struct addrinfo **ret_list, int *ret_gai, int64_t deadline_ns);

/* ---- Child processes ----------------------------------------------------- */

struct fibril_process;

struct fibril_process_opts {
    const char *const *argv;                   /* NULL-terminated; argv[0] is looked up in PATH */
    const char *const *envp;                   /* NULL: the caller's */
    const char *cwd;                           /* NULL: the caller's */
    bool pipe_stdin, pipe_stdout, pipe_stderr; /* a pipe each; otherwise inherited */
    bool socket; /* a UNIX stream socket to us, as the child's descriptor 3 */
};
/* Starts a process. An exec failure is returned here (-ENOENT, ...). Never parks beyond that. */
FIBRIL_API int fibril_process_start(const struct fibril_process_opts *opts,
                                    struct fibril_process **ret_process);
FIBRIL_API pid_t fibril_process_pid(const struct fibril_process *p);
/* Our end of the pipe of the child's descriptor 0, 1 or 2, or -1. Owned by p;
 * fibril_process_close_pipe ends it early. */
FIBRIL_API int fibril_process_pipe(const struct fibril_process *p, int which);
FIBRIL_API void fibril_process_close_pipe(struct fibril_process *p, int which);
/* Gives our end of the child's descriptor 3 away, to be closed by the caller; -1 the second time
 * and without the option. Never parks. */
FIBRIL_API int fibril_process_take_socket(struct fibril_process *p);
/* Waits for its end; *ret_status as waitpid(2). May be repeated. */
FIBRIL_API int fibril_process_wait(struct fibril_process *p, int64_t deadline_ns, int *ret_status);
FIBRIL_API int fibril_process_kill(struct fibril_process *p, int signo); /* by pidfd; -ESRCH after
                                                                            its end */
/* Closes the pipes and frees p. A child that still runs is left alone and reaped when it ends. */
FIBRIL_API void fibril_process_free(struct fibril_process *p);

/* ---- Signals ------------------------------------------------------------- */

struct fibril_signals;
/* From now on the signals of `set` are not delivered but queued here (blocked in the calling OS
 * thread and those started later; open before starting loops). Never parks. */
FIBRIL_API int fibril_signals_open(const sigset_t *set, struct fibril_signals **ret_signals);
/* Waits for one of them; *ret_info (may be NULL) says from whom. Returns its number. */
FIBRIL_API int fibril_signals_wait(struct fibril_signals *s, siginfo_t *ret_info,
                                   int64_t deadline_ns);
/* Unblocks them again and frees s. */
FIBRIL_API void fibril_signals_close(struct fibril_signals *s);

#ifdef __cplusplus
}
#endif

#endif
