/* tests/lib/browser.h - asks an HTTP server in the test's own loop. */
#ifndef TESTS_LIB_BROWSER_H
#define TESTS_LIB_BROWSER_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/loop_until.h"
#include "tests/lib/peers.h"

#define BROWSER_BYTES_MAX (1u << 20)

struct browser {
    int fd;
    char answer[BROWSER_BYTES_MAX]; /* with a zero byte behind it */
    size_t n;
    bool has_ended; /* the server has closed the connection */
};

static inline void browser_open(struct browser *browser, const struct address *address)
{
    browser->n = 0;
    browser->has_ended = false;
    browser->answer[0] = '\0';
    browser->fd = socket(address->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(browser->fd, &address->sa, address_length(address)), 0);
}

static inline void browser_say(struct browser *browser, const char *text)
{
    cr_assert_eq(peers_write(browser->fd, text, strlen(text)), strlen(text));
}

static inline void browser_read(struct browser *browser)
{
    browser->n += peers_read(browser->fd, browser->answer + browser->n,
                             BROWSER_BYTES_MAX - 1 - browser->n, &browser->has_ended);
    browser->answer[browser->n] = '\0';
}

/* Until the server has closed the connection or `limit_ms` are over; whether it has. */
static inline bool browser_wait(struct browser *browser, struct loop *loop,
                                unsigned limit_ms)
{
    for (unsigned ms = 0; ms < limit_ms && !browser->has_ended; ms += 2) {
        loop_until(loop, NULL, 2);
        browser_read(browser);
    }
    return browser->has_ended;
}

static inline void browser_close(struct browser *browser)
{
    close(browser->fd);
}

/* "GET /path": asks and reads the answer; its status. */
static inline int browser_ask(struct browser *browser, struct loop *loop,
                              const struct address *address, const char *what)
{
    browser_open(browser, address);
    browser_say(browser, what);
    browser_say(browser, " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    cr_assert(browser_wait(browser, loop, 5000), "%s: no end: %s", what, browser->answer);
    browser_close(browser);
    cr_assert_eq(strncmp(browser->answer, "HTTP/1.1 ", 9), 0, "%s", browser->answer);
    return atoi(browser->answer + 9);
}

/* What follows the head. */
static inline const char *browser_body(const struct browser *browser)
{
    const char *end = strstr(browser->answer, "\r\n\r\n");

    return end == NULL ? "" : end + 4;
}

#endif
