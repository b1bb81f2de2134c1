/* The benchmark's clients: chats over keep-alive connections, each answer checked token by token. One thread, epoll.
 *
 * `load PORT PATH HEADERS BODY AT_ONCE TOKENS SECONDS [ONCE]`: AT_ONCE connections ask BODY again and again for SECONDS;
 * with ONCE each asks once, and SECONDS bounds the whole. HEADERS are whole lines, each with its \r\n, or empty. What
 * the tokens look like is told in upstream.c. Prints one line of JSON, see `report`; times are in milliseconds.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TOKEN 9
#define MINUTE 60000000ull
#define RAMP 1000000ull /* microseconds over which those who ask once begin */
#define PATIENCE 20000000ull
#define LONGEST_LINE (4u << 20)

struct samples {
    float *values;
    size_t count, room;
};

enum body { HEAD, LENGTH, CHUNK_HEAD, CHUNK, CHUNK_END, TRAILER, UNTIL_CLOSE };

struct client {
    int descriptor;
    uint64_t asked, begins;
    bool running, closes; /* closes: the server ends the connection after this answer */
    enum body body;
    size_t left; /* of the body, or of its chunk */
    char *line;  /* the head, or a line of the body, so far */
    size_t size, room;
    bool stream, failed, told, finished, terminated;
    int position; /* characters of the answer so far */
    uint64_t stamp;
};

static struct sockaddr_in address;
static const char *request;
static size_t request_size;
static int poller, tokens;
static bool once;
static uint64_t begun, over;
static struct samples firsts, lags, answers_ms;
static int running; /* clients that wait for an answer */
static long answers, good_tokens, failed, wrong, reconnected;
static char example[400]; /* of what went wrong first */

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static void sample(struct samples *samples, double value) {
    if (samples->count == samples->room) {
        samples->room = samples->room * 2 + 1024;
        samples->values = realloc(samples->values, samples->room * sizeof *samples->values);
        if (!samples->values) abort();
    }
    samples->values[samples->count++] = value;
}

static int digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'z' ? c - 'a' + 10 : -1000000;
}

static void fault(struct client *client, const char *what, const char *seen, size_t size) {
    if (!client->failed && !*example) {
        int used = snprintf(example, sizeof example, "%s: ", what);
        for (size_t i = 0; i < size && used < (int)sizeof example - 1; i++)
            example[used++] = seen[i] < ' ' || seen[i] == '"' || seen[i] == '\\' || seen[i] > '~' ? ' ' : seen[i];
        example[used] = 0;
    }
    client->failed = true;
}

/* Compare the answer's next characters with the tokens that must come. */
static void read_text(struct client *client, const char *text, const char *end) {
    if (text < end && !client->told) {
        client->told = true;
        sample(&firsts, (now() - client->asked) / 1e3);
    }
    for (; text < end; text++, client->position++) {
        int number = client->position / TOKEN, place = client->position % TOKEN;
        static const int powers[] = {0, 1296, 36, 1};
        if (place == 0) {
            client->stamp = 0;
            if (*text != ' ' || number >= tokens) return fault(client, "wrong text", text, end - text);
        } else if (place <= 3) {
            if (digit(*text) != number / powers[place] % 36) return fault(client, "wrong text", text, end - text);
        } else {
            client->stamp = client->stamp * 36 + digit(*text);
            if (place == TOKEN - 1) {
                good_tokens++;
                if (client->stamp) sample(&lags, ((now() + MINUTE - client->stamp) % MINUTE) / 1e3);
            }
        }
    }
}

/* Read a chunk's data or a whole answer: its content, and whether it is the last. */
static void read_json(struct client *client, const char *text, const char *end) {
    if (memmem(text, end - text, "\"error\"", 7)) return fault(client, "error", text, end - text);
    const char *at = text;
    while (at && (at = memmem(at, end - at, "\"content\"", 9))) {
        at += 9;
        while (at < end && (*at == ' ' || *at == ':')) at++;
        if (at < end && *at == '"') {
            const char *close = memchr(at + 1, '"', end - at - 1);
            if (close) read_text(client, at + 1, close);
            at = close;
        }
    }
    if (memmem(text, end - text, "\"stop\"", 6)) client->finished = true;
}

static void read_line(struct client *client, const char *line, const char *end) {
    if (end > line && end[-1] == '\r') end--;
    if (!client->stream || end - line < 5 || memcmp(line, "data:", 5)) return;
    line += 5;
    while (line < end && *line == ' ') line++;
    if (end - line == 6 && !memcmp(line, "[DONE]", 6)) client->terminated = true;
    else read_json(client, line, end);
}

static void keep(struct client *client, const char *bytes, size_t size) {
    if (client->size + size > LONGEST_LINE) abort();
    if (client->size + size + 1 > client->room) {
        client->room = (client->size + size) * 2 + 256;
        client->line = realloc(client->line, client->room);
        if (!client->line) abort();
    }
    memcpy(client->line + client->size, bytes, size);
    client->size += size;
    client->line[client->size] = 0;
}

/* Read part of the body, its transfer coding undone. */
static void read_body(struct client *client, const char *bytes, size_t size) {
    const char *end = bytes + size;
    if (client->stream)
        for (const char *line_end; (line_end = memchr(bytes, '\n', end - bytes)); bytes = line_end + 1) {
            if (client->size) {
                keep(client, bytes, line_end - bytes);
                read_line(client, client->line, client->line + client->size);
                client->size = 0;
            } else {
                read_line(client, bytes, line_end);
            }
        }
    keep(client, bytes, end - bytes);
}

static void ask(struct client *client);

static void drop(struct client *client) {
    if (client->descriptor >= 0) close(client->descriptor);
    client->descriptor = -1;
}

/* The answer has ended, well or not. */
static void finish(struct client *client, bool broken) {
    if (!client->stream && client->size) read_json(client, client->line, client->line + client->size);
    bool whole = client->position == tokens * TOKEN && client->finished && (client->terminated || !client->stream);
    if (broken || client->failed) failed++;
    else if (!whole) wrong++;
    else {
        answers++;
        sample(&answers_ms, (now() - client->asked) / 1e3);
    }
    if (!whole && !broken) fault(client, "not whole", client->line, client->size);
    if (broken) fault(client, "broken off", "", 0);
    client->running = false;
    running--;
    if (broken || client->failed || client->closes) drop(client);
    if (!once && now() < over) ask(client);
}

static void read_head(struct client *client) {
    int status = 0;
    sscanf(client->line, "HTTP/1.%*d %d", &status);
    char *length = strcasestr(client->line, "\r\ncontent-length:");
    client->stream = strcasestr(client->line, "text/event-stream") != NULL;
    if (status != 200) fault(client, "status", client->line, client->size);
    client->closes = strcasestr(client->line, "\r\nconnection: close") != NULL;
    if (strcasestr(client->line, "\r\ntransfer-encoding:")) client->body = CHUNK_HEAD;
    else if (length) client->body = LENGTH, client->left = strtoul(length + 17, NULL, 10);
    else client->body = UNTIL_CLOSE;
    client->size = 0;
}

/* Read what came. Returns how much of it belongs to this answer. */
static void read_bytes(struct client *client, const char *bytes, size_t size) {
    const char *end = bytes + size;
    while (bytes < end && client->running) {
        if (client->body == LENGTH || client->body == CHUNK || client->body == UNTIL_CLOSE) {
            size_t part = end - bytes;
            if (client->body != UNTIL_CLOSE && part > client->left) part = client->left;
            read_body(client, bytes, part);
            bytes += part;
            client->left -= part;
            if (client->body != UNTIL_CLOSE && !client->left) {
                if (client->body == LENGTH) finish(client, false);
                else client->body = CHUNK_END;
            }
            continue;
        }
        /* Here are lines: of the head, of a chunk's head, after a chunk, of the trailer. */
        const char *line_end = memchr(bytes, '\n', end - bytes);
        if (client->body == HEAD) {
            keep(client, bytes, (line_end ? line_end + 1 : end) - bytes);
            if (client->size >= 4 && !memcmp(client->line + client->size - 4, "\r\n\r\n", 4)) read_head(client);
        } else if (client->body == CHUNK_HEAD) {
            /* A chunk's head may be cut: what there is of it is digits, added to `left`. */
            for (const char *at = bytes; at < (line_end ? line_end : end); at++)
                if (*at != '\r') client->left = client->left * 16 + digit(*at | 32);
            if (line_end) client->body = client->left ? CHUNK : TRAILER;
        } else if (line_end && client->body == CHUNK_END) {
            client->body = CHUNK_HEAD;
        } else if (line_end && client->body == TRAILER) {
            finish(client, false);
        }
        bytes = line_end ? line_end + 1 : end;
    }
}

static void hear(struct client *client) {
    static char buffer[1 << 18];
    for (;;) {
        ssize_t size = recv(client->descriptor, buffer, sizeof buffer, 0);
        if (size < 0 && errno == EAGAIN) return;
        if (size <= 0) {
            if (!client->running) return drop(client); /* an idle connection: it is opened anew */
            return finish(client, client->body != UNTIL_CLOSE);
        }
        read_bytes(client, buffer, size);
        if (client->descriptor < 0 || size < (ssize_t)sizeof buffer) return;
    }
}

static void join(struct client *client) {
    int yes = 1;
    client->descriptor = socket(AF_INET, SOCK_STREAM, 0);
    if (client->descriptor < 0 || connect(client->descriptor, (struct sockaddr *)&address, sizeof address)) {
        perror("load");
        exit(1);
    }
    setsockopt(client->descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct epoll_event event = {EPOLLIN, {.ptr = client}};
    epoll_ctl(poller, EPOLL_CTL_ADD, client->descriptor, &event);
    reconnected++;
}

static void ask(struct client *client) {
    if (client->descriptor < 0) join(client);
    client->body = HEAD;
    client->left = client->size = client->position = 0;
    client->stream = client->failed = client->told = client->finished = client->terminated = false;
    client->asked = now();
    client->running = true;
    running++;
    if (send(client->descriptor, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) finish(client, true);
}

static int compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double quantile(struct samples *samples, double share) {
    return samples->count ? samples->values[(size_t)((samples->count - 1) * share)] : -1;
}

static void report(int clients, struct client *all) {
    double seconds = (now() - begun) / 1e6;
    int unfinished = 0;
    struct samples *each[] = {&firsts, &lags, &answers_ms};
    for (int i = 0; i < 3; i++) qsort(each[i]->values, each[i]->count, sizeof(float), compare);
    for (int i = 0; i < clients; i++) unfinished += all[i].running;
    printf("{\"seconds\":%.3f,\"answers\":%ld,\"tokens\":%ld,\"failed\":%ld,\"wrong\":%ld,\"unfinished\":%d,\"connections\":%ld,"
           "\"first_p50\":%.3f,\"first_p99\":%.3f,\"lag_p50\":%.3f,\"lag_p99\":%.3f,\"lag_max\":%.3f,"
           "\"answer_p50\":%.3f,\"answer_p99\":%.3f,\"example\":\"%s\"}\n",
           seconds, answers, good_tokens, failed, wrong, unfinished, reconnected,
           quantile(&firsts, .5), quantile(&firsts, .99), quantile(&lags, .5), quantile(&lags, .99), quantile(&lags, 1),
           quantile(&answers_ms, .5), quantile(&answers_ms, .99), example);
}

int main(int count, char **arguments) {
    if (count < 8) return fprintf(stderr, "see the first lines of load.c\n"), 2;
    int clients = atoi(arguments[5]);
    tokens = atoi(arguments[6]);
    once = count > 8;
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(atoi(arguments[1]));
    request_size = asprintf((char **)&request,
        "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n%s",
        arguments[2], arguments[1], arguments[3], strlen(arguments[4]), arguments[4]);
    poller = epoll_create1(0);
    struct client *all = calloc(clients, sizeof *all);
    begun = now();
    over = begun + (uint64_t)(atof(arguments[7]) * 1e6);
    for (int i = 0; i < clients; i++) {
        all[i].descriptor = -1;
        all[i].begins = begun + (once ? RAMP * i / clients : 0);
    }
    int next = 0;
    /* What runs at the end is awaited, but not for ever. */
    while ((next < clients || running) && now() < over + (once ? 0 : PATIENCE)) {
        while (next < clients && all[next].begins <= now()) ask(&all[next++]);
        struct epoll_event events[256];
        int ready = epoll_wait(poller, events, 256, next < clients ? 1 : 100);
        for (int i = 0; i < ready; i++) hear(events[i].data.ptr);
    }
    report(clients, all);
    return 0;
}
