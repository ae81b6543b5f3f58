/* The floor of `make bench`: a server that does little more than the system calls, one `send` for each frame.
 *
 * A WebSocket of user N opens with GET /N. A POST has lines `N TEXT`; the server sends each text to all sockets of that
 * user in one frame. It checks nothing and keeps no history. Its handshake answers only the load generator's key.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SPACE = 8 << 20, USERS = 1 << 16, FILES = 1 << 16 };
static const char UPGRADED[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static const char TAKEN[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
static struct { int *fds, count; } users[USERS];
static struct { int user; char *rest; size_t kept; } connections[FILES]; /* user -1: a connection that posts */
static char *input;

static void attach(int fd, int user) {
    connections[fd].user = user;
    users[user].fds = realloc(users[user].fds, (users[user].count + 1) * sizeof(int));
    users[user].fds[users[user].count++] = fd;
}

static void detach(int fd) {
    int user = connections[fd].user;
    for (int i = 0; user >= 0 && i < users[user].count; i++)
        if (users[user].fds[i] == fd) users[user].fds[i] = users[user].fds[--users[user].count];
    free(connections[fd].rest);
    connections[fd].rest = NULL, connections[fd].kept = 0;
    close(fd);
}

static void deliver(int user, const char *text, size_t size) {
    char frame[65536] = {(char)0x81, (char)size}, *at = frame + 2;
    if (size > 125) frame[1] = 126, frame[2] = size >> 8, frame[3] = size, at += 2;
    memcpy(at, text, size);
    for (int i = 0; i < users[user].count; i++)
        if (send(users[user].fds[i], frame, at + size - frame, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) perror("send");
}

static void deliver_all(char *at, char *end) {
    while (at < end) {
        char *text, *line = memchr(at, '\n', end - at);
        if (!line) line = end;
        int user = strtol(at, &text, 10);
        deliver(user, text + 1, line - text - 1);
        at = line + 1;
    }
}

static void take(int fd) {
    size_t kept = connections[fd].kept;
    memcpy(input, connections[fd].rest, kept);
    ssize_t n = recv(fd, input + kept, SPACE - kept - 1, MSG_DONTWAIT);
    if (n <= 0) { detach(fd); return; }
    char *at = input, *end = input + kept + n, *rest;
    *end = '\0';
    if (connections[fd].user >= 0) return; /* a pong */
    while ((rest = memmem(at, end - at, "\r\n\r\n", 4))) {
        rest += 4;
        if (at[0] == 'G') {
            attach(fd, strtol(at + 5, NULL, 10));
            send(fd, UPGRADED, sizeof UPGRADED - 1, MSG_NOSIGNAL);
            return;
        }
        size_t size = strtoul(strcasestr(at, "content-length:") + 15, NULL, 10);
        if (end < rest + size) break;
        deliver_all(rest, rest + size);
        send(fd, TAKEN, sizeof TAKEN - 1, MSG_NOSIGNAL);
        at = rest + size;
    }
    connections[fd].kept = end - at;
    connections[fd].rest = realloc(connections[fd].rest, end - at + 1);
    memcpy(connections[fd].rest, at, end - at);
}

int main(int count, char **arguments) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(count > 1 ? atoi(arguments[1]) : 0)};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct rlimit most;
    getrlimit(RLIMIT_NOFILE, &most);
    most.rlim_cur = most.rlim_max;
    setrlimit(RLIMIT_NOFILE, &most);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), poller = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 4096)) { perror("bind"); return 1; }
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[256];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (input = malloc(SPACE);;) {
        int n = epoll_wait(poller, ready, 256, -1);
        for (int i = 0; i < n; i++) {
            if (ready[i].data.fd != listener) { take(ready[i].data.fd); continue; }
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            if (fd < 0) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            connections[fd].user = -1;
            event.data.fd = fd;
            epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
        }
    }
}
