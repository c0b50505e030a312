/* What the floor's servers share: a listening socket on the loopback address, and its connections.
 *
 * A server names its port on standard output as {"port": N} and then serves until it is killed. */

#ifndef OFFLOOP_BENCH_LISTENING_H
#define OFFLOOP_BENCH_LISTENING_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* As much as the loops' own servers read at a time. */
#define BUFFER_BYTES (256 * 1024)
#define EVENTS_MAX 256

static inline void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Listen on a free port, say which, and return the socket. */
static inline int listen_and_tell(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0)
        fail("bind");
    if (listen(listener, 128) < 0 || getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        fail("listen");
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

/* Accept one connection that does not block; -1 where none is there. */
static inline int accept_one(int listener)
{
    int one = 1;
    int accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (accepted >= 0 && setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0)
        fail("setsockopt");
    return accepted;
}

/* Watch a socket, or change what is watched for; a null pointer stands for the listener. */
static inline void watch(int poller, int operation, int socket, unsigned events, void *connection)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(poller, operation, socket, &event) < 0)
        fail("epoll_ctl");
}

#endif
