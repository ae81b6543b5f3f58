/* The load generator of `make bench`: one thread with epoll holds all WebSockets and posts all events.
 *
 * Reads commands from stdin, one on a line, and answers each with one line of JSON:
 *
 *   set NAME TEXT                     a template or an option, see below; \r and \n are escapes
 *   open SOCKETS PER_USER WINDOW      connect, WINDOW handshakes at once; after `drop`, reconnect all and resume
 *   post REQUESTS SECONDS LANES SIZE RATE   SIZE events in a request, to the users in turn, on LANES connections.
 *                                     Ends after REQUESTS or SECONDS. Sends RATE requests a second, even if earlier
 *                                     events have not arrived. With RATE 0, the next request of a lane is sent when
 *                                     the last one is answered and all its events have arrived.
 *   idle SECONDS                      only answer pings
 *   drop                              reset all sockets, but remember the position of each
 *   redial                            close the connections for requests, after a restart of the server
 *   close                             reset all sockets and forget them
 *
 * Every event carries a mark, ~user.number.lane.time~, which a server must pass on. The generator checks each frame:
 * it must be for the socket's user and have that user's next number. If a server loses, repeats, reorders or misroutes
 * an event, the answer has it in `wrong` or `missing`.
 *
 * Templates: `upgrade` is the handshake, `hello` a text that is sent after it. A request is `head`, its length,
 * `prefix`, SIZE times `entry` with `between` between them, and `suffix`; with `each` set, every entry is a request of
 * its own, and its `head` may have %u. In templates %u is the user, %m the mark, %i a number that no other event has,
 * %p the socket's position.
 * Options: `port`; `posts`, the port for requests; `greeting`, if a socket counts as open only after a message that
 * begins with this text; `resume`, if events missed while disconnected are expected; `ping` and `pong`, for protocols
 * with pings of their own; `refused`, a text that no answer may contain; `patience`, seconds without progress after
 * which a command gives up.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LANES = 256, SPACE = 8 << 20, READ = 256 << 10 }; /* bytes */
enum state { SHUT, UPGRADING, GREETING, OPEN };

typedef struct { /* one WebSocket */
    int fd;
    enum state state;
    uint32_t user, kept;  /* number of bytes of an unfinished frame or head, */
    char *rest;           /* and the bytes */
    uint64_t next;        /* number of the event that must come next */
    char position[48];    /* to resume from */
} Peer;

typedef struct { /* one connection that posts */
    int fd;
    uint32_t answers, deliveries; /* expected for its last request */
    uint32_t turn;                /* events so far */
    size_t kept;
    char *rest;
} Lane;

static const char *NAMES[] = {"upgrade", "hello", "head", "prefix", "entry", "between", "suffix", "each", "port",
                              "greeting", "resume", "ping", "pong", "refused", "patience", "posts"};
enum { UPGRADE, HELLO, HEAD, PREFIX, ENTRY, BETWEEN, SUFFIX, EACH, PORT, GREETS, RESUME, PING, PONG, REFUSED, PATIENCE, POSTS, OPTIONS };
static char *option[OPTIONS];

static Peer *peers;
static Lane lanes[LANES];
static uint64_t *sent;               /* events of each user so far */
static uint32_t *tabs;               /* open sockets of each user */
static uint32_t peer_count, per_user, user_count, open_count, lane_count;
static uint64_t events, deliveries, due, wrong, lost, refused, pings, reads, identity, progress;
static uint32_t *late;               /* latency of each delivery, in units of 100 ns */
static size_t late_count, late_space;
static char trouble[200], *body, *request, *input;
static int poller;

static uint64_t now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void fail(const char *what, const char *detail, int length) {
    if (!trouble[0]) snprintf(trouble, sizeof trouble, "%s: %.*s", what, length < 120 ? length : 120, detail);
}

static void die(const char *what) { perror(what); exit(1); }

static int is_set(int name) { return option[name][0] != '\0'; }

/* Templates and requests */

static char *expand(char *to, const char *template, uint32_t user, const char *mark, const char *position) {
    for (const char *c = template; *c; c++) {
        if (*c != '%') *to++ = *c;
        else if (*++c == 'u') to += sprintf(to, "%u", user);
        else if (*c == 'm') to = stpcpy(to, mark);
        else if (*c == 'i') to += sprintf(to, "%llu", (unsigned long long)identity);
        else if (*c == 'p') to = stpcpy(to, position);
        else { *to++ = '%'; c--; }
    }
    return to;
}

static void write_all(int fd, const char *bytes, size_t size) { /* blocks while the server does not read */
    while (size) {
        ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);
        if (n < 0) die("post");
        bytes += n, size -= n;
    }
}

static char *with_head(char *to, uint32_t user, const char *content, size_t size) {
    to = expand(to, option[HEAD], user, "", "");
    to += sprintf(to, "%zu\r\n\r\n", size);
    return (char *)mempcpy(to, content, size);
}

/* Each lane has its own users, because a server may handle requests of two connections in any order. */
static void post(uint32_t place, uint32_t count, uint32_t size, uint64_t at) {
    Lane *lane = &lanes[place];
    char mark[80], *end = stpcpy(body, option[PREFIX]), *out = request;
    for (uint32_t i = 0; i < size; i++) {
        uint32_t user = place + count * (lane->turn++ % (user_count / count));
        snprintf(mark, sizeof mark, "~%u.%llu.%u.%llu~", user, (unsigned long long)++sent[user], place,
                 (unsigned long long)at);
        identity++;
        lane->deliveries += tabs[user], due += tabs[user];
        if (is_set(EACH)) {
            end = expand(body, option[ENTRY], user, mark, "");
            out = with_head(out, user, body, end - body);
        } else {
            if (i) end = stpcpy(end, option[BETWEEN]);
            end = expand(end, option[ENTRY], user, mark, "");
        }
    }
    if (!is_set(EACH)) {
        end = stpcpy(end, option[SUFFIX]);
        out = with_head(request, 0, body, end - body);
    }
    events += size;
    lane->answers += is_set(EACH) ? size : 1;
    write_all(lane->fd, request, out - request);
}

/* Received bytes */

static void note_latency(uint64_t at) {
    if (late_count == late_space && !(late = realloc(late, (late_space = 2 * late_space + 65536) * sizeof *late)))
        die("memory");
    late[late_count++] = (now(CLOCK_MONOTONIC) - at) / 100;
}

static void remember_position(Peer *peer, const char *key, const char *text, size_t size) {
    const char *found = memmem(text, size, key, strlen(key));
    if (!found) return;
    found += strlen(key);
    const char *end = memchr(found, '"', text + size - found);
    if (end && end - found < (long)sizeof peer->position)
        *(char *)mempcpy(peer->position, found, end - found) = '\0';
}

static void send_frame(Peer *peer, int opcode, const char *text, size_t size) { /* up to 125 bytes; the mask is zero */
    char frame[160] = {(char)(0x80 | opcode), (char)(0x80 | size)};
    if (size > 125) fail("too long", text, size);
    else memcpy(frame + 6, text, size), send(peer->fd, frame, 6 + size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int begins_with(const char *text, size_t size, int name) {
    size_t length = strlen(option[name]);
    return size >= length && !memcmp(text, option[name], length);
}

static void take_text(Peer *peer, char *text, size_t size) {
    char *mark = memchr(text, '~', size);
    if (!mark) {
        if (peer->state == GREETING && begins_with(text, size, GREETS)) peer->state = OPEN, open_count++;
        if (is_set(PING) && size == strlen(option[PING]) && begins_with(text, size, PING)) {
            pings++;
            if (is_set(PONG)) send_frame(peer, 1, option[PONG], strlen(option[PONG]));
        }
        if (is_set(RESUME) && !peer->position[0]) remember_position(peer, "\"last_event_id\":\"", text, size);
        return;
    }
    uint32_t user = strtoul(mark + 1, &mark, 10);
    uint64_t number = strtoull(mark + 1, &mark, 10);
    uint32_t lane = strtoul(mark + 1, &mark, 10);
    uint64_t at = strtoull(mark + 1, &mark, 10);
    if (user != peer->user || number != peer->next || *mark != '~') {
        char note[200];
        int length = snprintf(note, sizeof note, "number %llu instead of %llu, user %u instead of %u",
                              (unsigned long long)number, (unsigned long long)peer->next, user, peer->user);
        wrong++, fail("wrong event", note, length);
    }
    peer->next = number + 1;
    deliveries++;
    if (lane < LANES && lanes[lane].deliveries) lanes[lane].deliveries--;
    if (is_set(RESUME)) remember_position(peer, "\"id\":\"", text, size);
    note_latency(at);
}

static char *take_frames(Peer *peer, char *at, char *end) { /* returns the beginning of the unfinished frame */
    while (end - at >= 2) {
        size_t size = at[1] & 0x7f, head = 2;
        if (size == 126) head = 4, size = (uint8_t)at[2] << 8 | (uint8_t)at[3];
        else if (size == 127) fail("frame too large", at, 2);
        if ((size_t)(end - at) < head || (size_t)(end - at) < head + size) break;
        int opcode = at[0] & 0x0f;
        if (opcode == 1) take_text(peer, at + head, size);
        else if (opcode == 9) pings++, send_frame(peer, 10, at + head, size);
        else if (opcode == 8) lost++, fail("closed by the server", at + head + 2, size - 2);
        else wrong++, fail("unexpected frame", at + head, size);
        at += head + size;
    }
    return at;
}

static char *take_handshake(Peer *peer, char *at, char *end) {
    char *rest = memmem(at, end - at, "\r\n\r\n", 4);
    if (!rest) return at;
    if (memcmp(at, "HTTP/1.1 101", 12) || !memmem(at, rest - at, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 28))
        wrong++, fail("handshake", at, end - at);
    peer->state = is_set(GREETS) ? GREETING : OPEN;
    open_count += peer->state == OPEN;
    if (is_set(HELLO)) send_frame(peer, 1, option[HELLO], strlen(option[HELLO]));
    return take_frames(peer, rest + 4, end);
}

static char *end_of_answer(char *at, char *end) { /* NULL if it is not complete */
    char *rest = memmem(at, end - at, "\r\n\r\n", 4);
    if (!rest) return NULL;
    *rest = '\0';
    char *length = strcasestr(at, "\r\ncontent-length:");
    *rest = '\r';
    if (length) rest += 4 + strtoul(length + 17, NULL, 10);
    else if ((rest = memmem(rest, end - rest, "\r\n0\r\n\r\n", 7))) rest += 7; /* chunked */
    return rest && rest <= end ? rest : NULL;
}

static char *take_answers(Lane *lane, char *at, char *end) {
    for (char *rest; (rest = end_of_answer(at, end)); at = rest) {
        int is_refused = is_set(REFUSED) && memmem(at, rest - at, option[REFUSED], strlen(option[REFUSED]));
        if (at[9] != '2' || is_refused) refused++, fail("refused", at, rest - at);
        lane->answers--;
    }
    return at;
}

static void read_from(int fd, Peer *peer, Lane *lane) {
    size_t kept = peer ? peer->kept : lane->kept;
    char **rest = peer ? &peer->rest : &lane->rest;
    memcpy(input, *rest, kept);
    ssize_t n = recv(fd, input + kept, READ, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        lost++, fail("closed by the server", peer ? "a socket" : "a lane", 8);
        epoll_ctl(poller, EPOLL_CTL_DEL, fd, NULL);
        return;
    }
    reads++;
    char *end = input + kept + n, *at;
    if (lane) at = take_answers(lane, input, end);
    else at = peer->state == UPGRADING ? take_handshake(peer, input, end) : take_frames(peer, input, end);
    kept = end - at;
    if (kept && !(*rest = realloc(*rest, kept))) die("memory");
    if (!kept) free(*rest), *rest = NULL; /* idle connections keep no buffer */
    else memcpy(*rest, at, kept);
    if (peer) peer->kept = kept;
    else lane->kept = kept;
    progress = now(CLOCK_MONOTONIC);
}

static void pump(uint64_t until) { /* handle received bytes; wait for some until this time */
    struct epoll_event ready[256];
    uint64_t at = now(CLOCK_MONOTONIC), wait = until > at ? until - at : 0;
    struct timespec timeout = {wait / 1000000000, wait % 1000000000};
    int count = epoll_pwait2(poller, ready, 256, &timeout, NULL);
    for (int i = 0; i < count; i++) {
        uint32_t place = ready[i].data.u64;
        if (ready[i].data.u64 >> 32) read_from(lanes[place].fd, NULL, &lanes[place]);
        else read_from(peers[place].fd, &peers[place], NULL);
    }
}

static int is_stalled(void) {
    if (now(CLOCK_MONOTONIC) - progress < atof(option[PATIENCE]) * 1e9) return 0;
    fail("no progress", "", 0);
    return 1;
}

/* Commands */

static int dial(int port, uint64_t tag) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(option[port]))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    return fd;
}

static void hang_up(int fd) { /* with a reset, so that no port stays in TIME_WAIT */
    struct linger at_once = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}

static void drop(void) {
    for (uint32_t i = 0; i < peer_count; i++) {
        if (peers[i].state != SHUT) hang_up(peers[i].fd);
        free(peers[i].rest);
        peers[i].rest = NULL, peers[i].kept = 0, peers[i].state = SHUT;
    }
    memset(tabs, 0, user_count * sizeof *tabs);
    open_count = 0;
}

static void forget(void) {
    drop();
    free(peers), free(sent), free(tabs);
    peers = NULL, sent = NULL, tabs = NULL;
    peer_count = user_count = 0;
    for (int i = 0; i < LANES; i++) lanes[i].turn = 0;
}

static void connect_peer(uint32_t place) {
    Peer *peer = &peers[place];
    peer->fd = dial(PORT, place);
    peer->state = UPGRADING;
    char *end = expand(request, option[UPGRADE], peer->user, "", peer->position);
    write_all(peer->fd, request, end - request);
}

static void open_all(uint32_t count, uint32_t each, uint32_t window) {
    uint32_t first = peer_count;
    if (open_count < peer_count) first = 0; /* after `drop` */
    else if (count) {
        per_user = each, peer_count += count, user_count = peer_count / per_user;
        peers = realloc(peers, peer_count * sizeof *peers);
        sent = realloc(sent, user_count * sizeof *sent), tabs = realloc(tabs, user_count * sizeof *tabs);
        if (!peers || !sent || !tabs) die("memory");
        for (uint32_t i = first; i < peer_count; i++) {
            peers[i] = (Peer){.user = i / per_user, .next = 1};
            if (i % per_user == 0) sent[i / per_user] = 0, tabs[i / per_user] = 0;
        }
    }
    uint64_t last = progress, seen = open_count; /* pings do not count */
    for (uint32_t i = first; open_count < peer_count && !is_stalled() && !lost && !wrong;) {
        if (open_count > seen) seen = open_count, last = now(CLOCK_MONOTONIC);
        else if (now(CLOCK_MONOTONIC) - last > 1e9 * atof(option[PATIENCE])) { fail("no handshake ends", "", 0); break; }
        for (; i < peer_count && i - open_count < window; i++) {
            if (is_set(RESUME)) due += sent[peers[i].user] + 1 - peers[i].next;
            else peers[i].next = sent[peers[i].user] + 1;
            tabs[peers[i].user]++;
            connect_peer(i);
        }
        pump(now(CLOCK_MONOTONIC) + 1000000000);
    }
    while (deliveries < due && !is_stalled() && !lost) pump(now(CLOCK_MONOTONIC) + 1000000000);
}

static void post_all(uint64_t most, double seconds, uint32_t count, uint32_t size, double rate) {
    uint64_t start = now(CLOCK_MONOTONIC), end = start + seconds * 1e9, done = 0, at, next;
    while (lane_count < count) lanes[lane_count] = (Lane){.fd = dial(POSTS, 1ull << 32 | lane_count)}, lane_count++;
    while (done < most && (at = now(CLOCK_MONOTONIC)) < end && !is_stalled() && !lost && !wrong) {
        next = at + 1000000000;
        for (uint32_t i = 0; i < count && done < most; i++) {
            uint64_t planned = rate > 0 ? start + done / rate * 1e9 : at;
            if (planned > at) { next = planned; break; }
            if (lanes[i].answers || (rate == 0 && lanes[i].deliveries)) continue;
            post(i, count, size, rate > 0 ? planned : now(CLOCK_MONOTONIC)), done++;
        }
        pump(next);
    }
    for (uint32_t busy = 1; busy && !is_stalled() && !lost && !wrong;) {
        busy = deliveries < due;
        for (uint32_t i = 0; i < lane_count; i++) busy += lanes[i].answers;
        if (busy) pump(now(CLOCK_MONOTONIC) + 1000000000);
    }
}

static void set(char *line) {
    char *text = strchr(line, ' '), *to;
    if (!text) die("set");
    *text++ = '\0';
    for (int i = 0; i < OPTIONS; i++)
        if (!strcmp(NAMES[i], line)) {
            option[i] = to = strdup(text);
            for (char *c = text; *c; c++) *to++ = *c != '\\' ? *c : *++c == 'r' ? '\r' : *c == 'n' ? '\n' : *c;
            *to = '\0';
            return;
        }
    fail("unknown option", line, strlen(line));
}

static int by_size(const void *a, const void *b) {
    return (*(const uint32_t *)a > *(const uint32_t *)b) - (*(const uint32_t *)a < *(const uint32_t *)b);
}

static double percentile(double part) { /* in microseconds */
    size_t place = late_count * part;
    return late_count ? late[place < late_count ? place : late_count - 1] / 10.0 : 0;
}

static void answer(double seconds, double cpu) {
    uint64_t missing = 0;
    for (uint32_t i = 0; i < peer_count; i++)
        if (peers[i].state != SHUT && peers[i].next != sent[peers[i].user] + 1) missing++;
    qsort(late, late_count, sizeof *late, by_size);
    for (char *c = trouble; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ' || (unsigned char)*c > '~') *c = '\'';
    printf("{\"events\":%llu,\"deliveries\":%llu,\"due\":%llu,\"wrong\":%llu,\"missing\":%llu,\"lost\":%llu,"
           "\"refused\":%llu,\"open\":%u,\"pings\":%llu,\"reads\":%llu,\"seconds\":%.6f,\"load_cpu\":%.6f,"
           "\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f,\"trouble\":\"%s\"}\n",
           (unsigned long long)events, (unsigned long long)deliveries, (unsigned long long)due,
           (unsigned long long)wrong, (unsigned long long)missing, (unsigned long long)lost,
           (unsigned long long)refused, open_count, (unsigned long long)pings, (unsigned long long)reads, seconds, cpu,
           percentile(0.5), percentile(0.99), percentile(1), trouble);
    fflush(stdout);
}

static void obey(char *line) {
    uint32_t a, b, c;
    unsigned long long most;
    double seconds, rate;
    uint64_t start = now(CLOCK_MONOTONIC), used = now(CLOCK_PROCESS_CPUTIME_ID);
    events = deliveries = due = wrong = lost = refused = pings = reads = late_count = 0;
    trouble[0] = '\0', progress = start;
    if (!strncmp(line, "set ", 4)) set(line + 4);
    else if (sscanf(line, "open %u %u %u", &a, &b, &c) == 3) open_all(a, b, c);
    else if (sscanf(line, "post %llu %lf %u %u %lf", &most, &seconds, &a, &b, &rate) == 5)
        post_all(most, seconds, a, b, rate);
    else if (sscanf(line, "idle %lf", &seconds) == 1)
        while (now(CLOCK_MONOTONIC) < start + seconds * 1e9) pump(start + seconds * 1e9);
    else if (!strcmp(line, "drop")) drop();
    else if (!strcmp(line, "redial"))
        for (; lane_count; lane_count--) hang_up(lanes[lane_count - 1].fd);
    else if (!strcmp(line, "close")) forget();
    else fail("unknown command", line, strlen(line));
    answer((now(CLOCK_MONOTONIC) - start) / 1e9, (now(CLOCK_PROCESS_CPUTIME_ID) - used) / 1e9);
}

int main(void) {
    static char line[65536];
    struct rlimit most;
    getrlimit(RLIMIT_NOFILE, &most);
    most.rlim_cur = most.rlim_max;
    setrlimit(RLIMIT_NOFILE, &most);
    for (int i = 0; i < OPTIONS; i++) option[i] = "";
    option[PATIENCE] = "20";
    if ((poller = epoll_create1(0)) < 0) die("epoll_create1");
    body = malloc(SPACE), request = malloc(SPACE), input = malloc(SPACE);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        obey(line);
    }
    return 0;
}
