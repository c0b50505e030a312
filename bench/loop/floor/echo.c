/* The floor of the echo rows: a bare epoll server that sends back what it reads.
 *
 * One thread, level-triggered. While the rest of an answer waits for room in the socket, nothing
 * more is read from that connection. */

#include "listening.h"

struct connection {
    int socket;
    /* The rest of an answer: `unsent` bytes from `start` on. */
    char *rest;
    size_t start, unsent;
};

static char buffer[BUFFER_BYTES];

static void end(struct connection *connection)
{
    close(connection->socket);
    free(connection->rest);
    free(connection);
}

/* Send what can be sent; return how much, or -1 at the end of the connection. */
static ssize_t send_some(int socket, const char *bytes, size_t count)
{
    ssize_t sent = send(socket, bytes, count, MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN ? 0 : -1;
    return sent;
}

static void keep_rest(int poller, struct connection *connection, const char *bytes, size_t count)
{
    connection->rest = malloc(count);
    if (connection->rest == NULL)
        fail("malloc");
    memcpy(connection->rest, bytes, count);
    connection->start = 0;
    connection->unsent = count;
    watch(poller, EPOLL_CTL_MOD, connection->socket, EPOLLOUT, connection);
}

static void send_rest(int poller, struct connection *connection)
{
    ssize_t sent =
        send_some(connection->socket, connection->rest + connection->start, connection->unsent);
    if (sent < 0) {
        end(connection);
        return;
    }
    connection->start += sent;
    connection->unsent -= sent;
    if (connection->unsent == 0) {
        free(connection->rest);
        connection->rest = NULL;
        watch(poller, EPOLL_CTL_MOD, connection->socket, EPOLLIN, connection);
    }
}

static void echo(int poller, struct connection *connection)
{
    ssize_t count = recv(connection->socket, buffer, sizeof buffer, 0);
    if (count < 0 && errno == EAGAIN)
        return;
    ssize_t sent = count <= 0 ? -1 : send_some(connection->socket, buffer, count);
    if (sent < 0)
        end(connection);
    else if (sent < count)
        keep_rest(poller, connection, buffer + sent, count - sent);
}

static void take_connections(int poller, int listener)
{
    int accepted;
    while ((accepted = accept_one(listener)) >= 0) {
        struct connection *connection = calloc(1, sizeof *connection);
        if (connection == NULL)
            fail("calloc");
        connection->socket = accepted;
        watch(poller, EPOLL_CTL_ADD, accepted, EPOLLIN, connection);
    }
}

int main(void)
{
    struct epoll_event events[EVENTS_MAX];
    int poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0)
        fail("epoll_create1");
    int listener = listen_and_tell();
    watch(poller, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS_MAX, -1);
        for (int at = 0; at < count; at++) {
            struct connection *connection = events[at].data.ptr;
            if (connection == NULL)
                take_connections(poller, listener);
            else if (connection->unsent > 0)
                send_rest(poller, connection);
            else
                echo(poller, connection);
        }
    }
}
