/* The benchmark's upstream: four wires, answers as fast as the kernel takes them, or paced. One thread, epoll.
 *
 * `upstream PORT` prints `ready`. The request's body says what to answer: `tokens=N rate=R` anywhere in it: N tokens,
 * R a second, 0 for all at once. Its path says how: see `wires`.
 *
 * A token is " QQQTTTTT": its number, and the time at which it was sent (microseconds, modulo a minute), both in base
 * 36, so that whoever reads it knows whether one is missing and how long it took. At full speed the time is left 0, and
 * the answer is rendered once. All answers of one run have the same pace.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
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
#define MOST_TOKENS 46656 /* 36 * 36 * 36 */
#define MINUTE 60000000ull

struct wire {
    const char *path;   /* how the request's path ends */
    const char *type;   /* Content-Type, and further headers */
    const char *begin;  /* events before the first token, one a line */
    const char *before, *after; /* what stands around a token in its event */
    const char *end;    /* events after the last; % is the whole text */
    bool sse;
};

#define OPENAI_STAMP "\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1754352000,\"model\":\"m\""

static const struct wire wires[] = {
    {"/chat/completions", "text/event-stream",
     "{" OPENAI_STAMP ",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}",
     "{" OPENAI_STAMP ",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"", "\"},\"finish_reason\":null}]}",
     "{" OPENAI_STAMP ",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n[DONE]", true},
    {"/chatkit", "text/event-stream; charset=utf-8",
     "{\"type\":\"thread.created\",\"thread\":{\"id\":\"thr_1\",\"created_at\":\"2026-11-22T20:44:15.769253\",\"status\":{\"type\":\"active\"},\"metadata\":{},\"items\":{\"data\":[],\"has_more\":false}}}\n"
     "{\"type\":\"stream_options\",\"stream_options\":{\"allow_cancel\":true}}\n"
     "{\"type\":\"thread.item.added\",\"item\":{\"id\":\"msg_baf0ee12\",\"thread_id\":\"thr_1\",\"created_at\":\"2026-11-22T20:44:15.770154\",\"type\":\"assistant_message\",\"content\":[]}}",
     "{\"type\":\"thread.item.updated\",\"item_id\":\"msg_baf0ee12\",\"update\":{\"type\":\"assistant_message.content_part.text_delta\",\"content_index\":0,\"delta\":\"", "\"}}",
     "{\"type\":\"thread.item.done\",\"item\":{\"id\":\"msg_baf0ee12\",\"thread_id\":\"thr_1\",\"created_at\":\"2026-11-22T20:44:15.770154\",\"type\":\"assistant_message\",\"content\":[{\"annotations\":[],\"text\":\"%\",\"type\":\"output_text\"}]}}", true},
    {"/data-stream", "text/plain; charset=utf-8\r\nx-vercel-ai-data-stream: v1",
     "f:{\"messageId\":\"msg-0RylleC8yl5Tr0mA2ip5MwNn\"}",
     "0:\"", "\"",
     "e:{\"finishReason\":\"stop\",\"usage\":{\"promptTokens\":21,\"completionTokens\":4},\"isContinued\":false}\n"
     "d:{\"finishReason\":\"stop\",\"usage\":{\"promptTokens\":21,\"completionTokens\":4}}", false},
    {"/ui-stream", "text/event-stream\r\nx-vercel-ai-ui-message-stream: v1",
     "{\"type\":\"start\"}\n{\"type\":\"start-step\"}\n{\"type\":\"text-start\",\"id\":\"t0\"}",
     "{\"type\":\"text-delta\",\"id\":\"t0\",\"delta\":\"", "\"}",
     "{\"type\":\"text-end\",\"id\":\"t0\"}\n{\"type\":\"finish-step\"}\n{\"type\":\"finish\",\"finishReason\":\"stop\"}\n[DONE]", true},
};
#define WIRES (sizeof wires / sizeof *wires)

struct text {
    char *bytes;
    size_t size, room;
};

struct connection {
    int descriptor;
    struct text in;     /* the request so far */
    struct text out;    /* what is still to be sent of what is rendered here, */
    const char *ready;  /* or of an answer that is rendered once */
    size_t ready_size;
    bool waits;         /* for room in the socket */
    const struct wire *wire;
    int tokens, sent;   /* of a paced answer; tokens is 0 when none is running */
    uint64_t due, period;
    struct text said;   /* its text */
    struct connection *next; /* in the row of paced answers, the next one due first */
};

static int poller;
static struct connection *row_first, *row_last;

static void add(struct text *text, const char *bytes, size_t size) {
    if (text->size + size > text->room) {
        text->room = (text->size + size) * 2 + 256;
        text->bytes = realloc(text->bytes, text->room);
        if (!text->bytes) abort();
    }
    memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static void base36(char *into, int digits, uint64_t number) {
    while (digits--) {
        into[digits] = "0123456789abcdefghijklmnopqrstuvwxyz"[number % 36];
        number /= 36;
    }
}

static void add_token(struct text *text, int number, uint64_t stamp) {
    char token[TOKEN] = " ";
    base36(token + 1, 3, number);
    base36(token + 4, 5, stamp % MINUTE);
    add(text, token, TOKEN);
}

static void add_chunk(struct text *text, const struct text *data) {
    char head[24];
    add(text, head, sprintf(head, "%zx\r\n", data->size));
    add(text, data->bytes, data->size);
    add(text, "\r\n", 2);
}

/* One event of the wire, a chunk of its own, as real servers send it. */
static void add_event(struct text *text, const struct wire *wire, const char *event, size_t size, const struct text *said) {
    static struct text data;
    const char *place = said ? memchr(event, '%', size) : NULL;
    data.size = 0;
    if (wire->sse) add(&data, "data: ", 6);
    if (place) {
        add(&data, event, place - event);
        add(&data, said->bytes, said->size);
        add(&data, place + 1, event + size - place - 1);
    } else {
        add(&data, event, size);
    }
    add(&data, "\n\n", wire->sse ? 2 : 1);
    add_chunk(text, &data);
}

static void add_events(struct text *text, const struct wire *wire, const char *events, const struct text *said) {
    while (*events) {
        size_t size = strcspn(events, "\n");
        add_event(text, wire, events, size, said);
        events += size + (events[size] == '\n');
    }
}

static void add_head(struct text *text, const struct wire *wire) {
    static const char format[] = "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n";
    char head[256];
    add(text, head, snprintf(head, sizeof head, format, wire->type));
    add_events(text, wire, wire->begin, NULL);
}

static void add_token_event(struct text *text, const struct wire *wire, struct text *said, int number, uint64_t stamp) {
    static struct text event;
    event.size = 0;
    add_token(said, number, stamp);
    add(&event, wire->before, strlen(wire->before));
    add(&event, said->bytes + said->size - TOKEN, TOKEN);
    add(&event, wire->after, strlen(wire->after));
    add_event(text, wire, event.bytes, event.size, NULL);
}

static void add_end(struct text *text, const struct wire *wire, const struct text *said) {
    add_events(text, wire, wire->end, said);
    add(text, "0\r\n\r\n", 5);
}

static void render_stream(struct text *text, const struct wire *wire, int tokens) {
    struct text said = {0};
    add_head(text, wire);
    for (int number = 0; number < tokens; number++) add_token_event(text, wire, &said, number, 0);
    add_end(text, wire, &said);
    free(said.bytes);
}

static void render_whole(struct text *text, int tokens) {
    static const char format[] =
        "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1754352000,\"model\":\"m\",\"choices\":[{\"index\":0,"
        "\"message\":{\"role\":\"assistant\",\"content\":\"%.*s\"},\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":21,\"completion_tokens\":%d,\"total_tokens\":%d}}";
    struct text said = {0};
    char head[128];
    for (int number = 0; number < tokens; number++) add_token(&said, number, 0);
    int size = snprintf(NULL, 0, format, (int)said.size, said.bytes, tokens, tokens + 21);
    char *body = malloc(size + 1);
    if (!body) abort();
    sprintf(body, format, (int)said.size, said.bytes, tokens, tokens + 21);
    add(text, head, sprintf(head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", size));
    add(text, body, size);
    free(body);
    free(said.bytes);
}

/* The answer at full speed, rendered when it is first asked for. wire is NULL for a whole JSON answer. */
static const struct text *rendered(const struct wire *wire, int tokens) {
    static struct { const struct wire *wire; int tokens; struct text text; } known[64];
    static int count;
    for (int i = 0; i < count; i++)
        if (known[i].wire == wire && known[i].tokens == tokens) return &known[i].text;
    if (count == 64) abort();
    known[count].wire = wire;
    known[count].tokens = tokens;
    if (wire) render_stream(&known[count].text, wire, tokens);
    else render_whole(&known[count].text, tokens);
    return &known[count++].text;
}

static void watch(struct connection *connection, bool writing) {
    struct epoll_event event = {EPOLLIN | (writing ? EPOLLOUT : 0), {.ptr = connection}};
    epoll_ctl(poller, EPOLL_CTL_MOD, connection->descriptor, &event);
    connection->waits = writing;
}

static void leave_row(struct connection *connection) {
    for (struct connection **place = &row_first, *before = NULL; *place; before = *place, place = &(*place)->next)
        if (*place == connection) {
            *place = connection->next;
            if (row_last == connection) row_last = before;
            return;
        }
}

static void end(struct connection *connection) {
    if (connection->tokens) leave_row(connection);
    close(connection->descriptor);
    free(connection->in.bytes);
    free(connection->out.bytes);
    free(connection->said.bytes);
    free(connection);
}

/* Send what is there. Returns false if the connection is gone. */
static bool flush(struct connection *connection) {
    bool own = !connection->ready;
    const char *bytes = own ? connection->out.bytes : connection->ready;
    size_t size = own ? connection->out.size : connection->ready_size, sent = 0;
    bool full = false;
    while (sent < size) {
        ssize_t taken = send(connection->descriptor, bytes + sent, size - sent, MSG_NOSIGNAL);
        if (taken < 0) {
            if (errno != EAGAIN) return false;
            full = true;
            break;
        }
        sent += taken;
    }
    if (own) {
        if (sent) memmove(connection->out.bytes, connection->out.bytes + sent, size - sent);
        connection->out.size = size - sent;
    } else if (sent < size) {
        connection->ready += sent;
        connection->ready_size -= sent;
    } else {
        connection->ready = NULL;
    }
    if (full != connection->waits) watch(connection, full);
    return true;
}

static void enter_row(struct connection *connection) {
    connection->next = NULL;
    if (row_last) row_last->next = connection;
    else row_first = connection;
    row_last = connection;
}

static bool answer(struct connection *connection, const char *path, size_t path_size) {
    struct text *in = &connection->in;
    const char *said = memmem(in->bytes, in->size, "tokens=", 7);
    int tokens = said ? atoi(said + 7) : 1;
    const char *pace = said ? strstr(said, "rate=") : NULL;
    int rate = pace ? atoi(pace + 5) : 0;
    const struct wire *wire = NULL;
    for (size_t i = 0; i < WIRES && !wire; i++) {
        size_t size = strlen(wires[i].path);
        if (path_size >= size && !memcmp(path + path_size - size, wires[i].path, size)) wire = &wires[i];
    }
    if (!wire) {
        static const char missing[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        add(&connection->out, missing, sizeof missing - 1);
        return flush(connection);
    }
    bool stream = wire != wires || memmem(in->bytes, in->size, "\"stream\":true", 13) || memmem(in->bytes, in->size, "\"stream\": true", 14);
    if (tokens > MOST_TOKENS) tokens = MOST_TOKENS;
    if (!stream || !rate) {
        const struct text *text = rendered(stream ? wire : NULL, tokens);
        connection->ready = text->bytes;
        connection->ready_size = text->size;
        return flush(connection);
    }
    add_head(&connection->out, wire);
    connection->wire = wire;
    connection->tokens = tokens;
    connection->sent = 0;
    connection->said.size = 0;
    connection->period = 1000000 / rate;
    connection->due = now() + connection->period;
    enter_row(connection);
    return flush(connection);
}

/* Returns false if the connection is gone. The body is chunked or has a length; both end somewhere in `in`. */
static bool hear(struct connection *connection) {
    struct text *in = &connection->in;
    char buffer[65536];
    ssize_t size = recv(connection->descriptor, buffer, sizeof buffer, 0);
    if (size <= 0) return size < 0 && errno == EAGAIN;
    add(in, buffer, size);
    add(in, "", 1); /* so that it can be searched as a string */
    in->size--;
    char *body = memmem(in->bytes, in->size, "\r\n\r\n", 4);
    if (!body) return true;
    body += 4;
    size_t there = in->bytes + in->size - body;
    char *length = strcasestr(in->bytes, "\r\ncontent-length:");
    if (length && length < body) {
        if (there < strtoul(length + 17, NULL, 10)) return true;
    } else if (strcasestr(in->bytes, "\r\ntransfer-encoding:")) {
        if (there < 5 || memcmp(in->bytes + in->size - 5, "0\r\n\r\n", 5)) return true;
    }
    char *path = memchr(in->bytes, ' ', in->size);
    path++;
    bool alive = answer(connection, path, strcspn(path, " ?"));
    in->size = 0;
    return alive;
}

static void meet(int listener) {
    int descriptor, yes = 1;
    while ((descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct connection *connection = calloc(1, sizeof *connection);
        if (!connection) abort();
        connection->descriptor = descriptor;
        struct epoll_event event = {EPOLLIN, {.ptr = connection}};
        epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event);
    }
}

/* Send the tokens that are due. Returns the milliseconds until the next one is. */
static int pace(void) {
    uint64_t time = now();
    while (row_first && row_first->due <= time) {
        struct connection *connection = row_first;
        row_first = connection->next;
        if (!row_first) row_last = NULL;
        add_token_event(&connection->out, connection->wire, &connection->said, connection->sent++, now());
        if (connection->sent == connection->tokens) {
            add_end(&connection->out, connection->wire, &connection->said);
            connection->tokens = 0;
        } else {
            connection->due += connection->period;
            enter_row(connection);
        }
        if (!flush(connection)) shutdown(connection->descriptor, SHUT_RDWR); /* epoll will tell */
    }
    return row_first ? (row_first->due - time) / 1000 + 1 : -1; /* a millisecond late costs less than to spin */
}

int main(int count, char **arguments) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons(count > 1 ? atoi(arguments[1]) : 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("upstream");
        return 1;
    }
    poller = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.ptr = NULL}}, events[256];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(poller, events, 256, pace());
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            bool alive = true;
            if (!connection) meet(listener);
            else {
                if (events[i].events & EPOLLOUT) alive = flush(connection);
                if (alive && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) alive = hear(connection);
                if (!alive) end(connection);
            }
        }
    }
}
