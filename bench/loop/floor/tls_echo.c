/* The floor of the TLS rows: an epoll server with OpenSSL that sends back what it reads.
 *
 * One thread, level-triggered. All records that have come are decrypted into one buffer, up to its
 * size, and go back together; while the rest of an answer waits for room in the socket, nothing
 * more is read from that connection.
 *
 * Usage: tls_echo CERTIFICATE_AND_KEY.pem */

#include "listening.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

struct connection {
    int socket;
    SSL *tls;
    /* What is watched for now. */
    unsigned events;
    /* The rest of an answer: `unsent` bytes from `start` on. */
    char *rest;
    size_t start, unsent;
};

enum progress { ALIVE, ENDED };

static char buffer[BUFFER_BYTES];

static void fail_in_openssl(const char *what)
{
    fprintf(stderr, "%s: ", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void end(struct connection *connection)
{
    SSL_free(connection->tls);
    close(connection->socket);
    free(connection->rest);
    free(connection);
}

static void wait_for(int poller, struct connection *connection, unsigned events)
{
    if (events != connection->events)
        watch(poller, EPOLL_CTL_MOD, connection->socket, events, connection);
    connection->events = events;
}

/* After a call that did not do everything: wait for what it lacked, or say that all is over. */
static enum progress wait_or_end(int poller, struct connection *connection, int status)
{
    switch (SSL_get_error(connection->tls, status)) {
    case SSL_ERROR_WANT_READ:
        wait_for(poller, connection, EPOLLIN);
        return ALIVE;
    case SSL_ERROR_WANT_WRITE:
        wait_for(poller, connection, EPOLLOUT);
        return ALIVE;
    default:
        ERR_clear_error();
        return ENDED;
    }
}

/* Encrypt and send; what the socket does not take stays in `rest`. */
static enum progress send_all(int poller, struct connection *connection, char *bytes, size_t count)
{
    while (count > 0) {
        size_t sent = 0;
        int status = SSL_write_ex(connection->tls, bytes, count, &sent);
        if (status <= 0) {
            if (connection->rest == NULL) {
                connection->rest = malloc(BUFFER_BYTES);
                if (connection->rest == NULL)
                    fail("malloc");
                memcpy(connection->rest, bytes, count);
                bytes = connection->rest;
            }
            connection->start = bytes - connection->rest;
            connection->unsent = count;
            return wait_or_end(poller, connection, status);
        }
        bytes += sent;
        count -= sent;
    }
    free(connection->rest);
    connection->rest = NULL;
    connection->unsent = 0;
    wait_for(poller, connection, EPOLLIN);
    return ALIVE;
}

static enum progress echo(int poller, struct connection *connection)
{
    for (;;) {
        size_t held = 0, count = 0;
        int status = 1;
        while (held < sizeof buffer && status > 0) {
            status = SSL_read_ex(connection->tls, buffer + held, sizeof buffer - held, &count);
            if (status > 0)
                held += count;
        }
        int error = status > 0 ? SSL_ERROR_NONE : SSL_get_error(connection->tls, status);
        if (error != SSL_ERROR_NONE && error != SSL_ERROR_WANT_READ) {
            ERR_clear_error();
            return ENDED;
        }
        if (send_all(poller, connection, buffer, held) == ENDED)
            return ENDED;
        if (error == SSL_ERROR_WANT_READ || connection->unsent > 0)
            return ALIVE;
    }
}

static enum progress proceed(int poller, struct connection *connection)
{
    if (!SSL_is_init_finished(connection->tls)) {
        int status = SSL_accept(connection->tls);
        if (status <= 0)
            return wait_or_end(poller, connection, status);
        wait_for(poller, connection, EPOLLIN);
    }
    if (connection->unsent > 0) {
        char *rest = connection->rest + connection->start;
        if (send_all(poller, connection, rest, connection->unsent) == ENDED)
            return ENDED;
        if (connection->unsent > 0)
            return ALIVE;
    }
    return echo(poller, connection);
}

static void take_connections(int poller, int listener, SSL_CTX *context)
{
    int accepted;
    while ((accepted = accept_one(listener)) >= 0) {
        struct connection *connection = calloc(1, sizeof *connection);
        if (connection == NULL)
            fail("calloc");
        connection->socket = accepted;
        connection->tls = SSL_new(context);
        if (connection->tls == NULL || !SSL_set_fd(connection->tls, accepted))
            fail_in_openssl("SSL_new");
        SSL_set_accept_state(connection->tls);
        connection->events = EPOLLIN;
        watch(poller, EPOLL_CTL_ADD, accepted, EPOLLIN, connection);
    }
}

static SSL_CTX *make_context(const char *certificate)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL || SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, certificate, SSL_FILETYPE_PEM) != 1)
        fail_in_openssl(certificate);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, BUFFER_BYTES);
    return context;
}

int main(int count, char **words)
{
    struct epoll_event events[EVENTS_MAX];
    if (count != 2) {
        fprintf(stderr, "usage: %s CERTIFICATE_AND_KEY.pem\n", words[0]);
        return 2;
    }
    SSL_CTX *context = make_context(words[1]);
    int poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0)
        fail("epoll_create1");
    int listener = listen_and_tell();
    watch(poller, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS_MAX, -1);
        for (int at = 0; at < ready; at++) {
            struct connection *connection = events[at].data.ptr;
            if (connection == NULL)
                take_connections(poller, listener, context);
            else if (proceed(poller, connection) == ENDED)
                end(connection);
        }
    }
}
