/* Over real sockets on loopback. */
#include "router/door.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/memory.h"
#include "tests/lib/loop_until.h"
#include "tests/lib/peers.h"
#include "tests/lib/turns.h"

static struct loop *loop;
static struct doors doors;
static uint16_t ports[4]; /* that are free */
static char folder[] = "/tmp/unit-door-XXXXXX";

/* The clients that came. */
static struct {
    unsigned n;
    struct door *door; /* of the last */
    struct address peer;
    uint64_t second; /* of the loop */
    bool has_come;
} came;

static void on_client(void *arg, struct door *door, int fd, const struct address *peer)
{
    cr_assert_eq(arg, &came);
    came.n++;
    came.door = door;
    came.peer = *peer;
    came.second = loop_now_ms(loop) / 1000;
    came.has_come = true;
    close(fd);
}

static unsigned n_failed;

static void on_accept_failed(void *arg, int error)
{
    (void)arg;
    n_failed += error != 0;
}

static bool is_among(uint16_t port, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (ports[i] == port)
            return true;
    return false;
}

static void make_doors(void)
{
    loop = loop_new(false);
    doors_init(&doors, loop, on_client, on_accept_failed, &came);
    for (unsigned i = 0; i < COUNT_OF(ports);) {
        struct address address = peers_nobody();

        ports[i] = address_port(&address);
        i += !is_among(ports[i], i);
    }
    (void)!mkdtemp(folder);
}

static void clear_doors(void)
{
    doors_clear(&doors);
    loop_free(loop);
    rmdir(folder);
}

TestSuite(door, .init = make_doors, .fini = clear_doors, .timeout = 20);

/* Listeners are "name bind" or "name bind more settings", each a string. */
static struct config *config_of(const char *const *listeners, size_t n)
{
    struct text ini, errors;
    struct config *config;

    text_init(&ini, 1 << 16);
    text_init(&errors, 1 << 16);
    text_add(&ini, "[cluster main]\nnodes = n1:5432:8008\n");
    for (size_t i = 0; i < n; i++) {
        const char *bind = strchr(listeners[i], ' ');

        text_addf(&ini, "[listener %.*s]\nbind = %s\n", (int)(bind - listeners[i]),
                  listeners[i], bind + 1);
    }
    config = config_load_text("test", text_get(&ini), &errors);
    cr_assert_not_null(config, "%s", text_get(&errors));
    text_clear(&ini);
    text_clear(&errors);
    return config;
}

/* With "PORT0" to "PORT3" in place of the ports that are free, "FOLDER" of the folder. */
static const char *fill_in(const char *pattern)
{
    static char filled[8][256];
    static unsigned next;
    char *to = filled[next++ % 8], *end = to + 255;

    while (*pattern != '\0' && to < end) {
        if (strncmp(pattern, "PORT", 4) == 0) {
            to += snprintf(to, (size_t)(end - to), "%u", ports[pattern[4] - '0']);
            pattern += 5;
        } else if (strncmp(pattern, "FOLDER", 6) == 0) {
            to += snprintf(to, (size_t)(end - to), "%s", folder);
            pattern += 6;
        } else {
            *to++ = *pattern++;
        }
    }
    *to = '\0';
    return filled[(next - 1) % 8];
}

/* Whether the doors could be made so; `errors` is what was said else. */
static bool configure(struct doors *of, const char *const *listeners, size_t n,
                      char errors[1024])
{
    const char *filled[4];
    struct config *config;
    struct text said;
    bool ok;

    for (size_t i = 0; i < n; i++)
        filled[i] = fill_in(listeners[i]);
    config = config_of(filled, n);
    text_init(&said, 1000);
    ok = doors_configure(of, config, NULL, &said);
    snprintf(errors, 1024, "%s", text_get(&said));
    config_release(config);
    text_clear(&said);
    return ok;
}

#define CONFIGURE(...) \
    configure(&doors, (const char *const[]){__VA_ARGS__}, \
              COUNT_OF(((const char *const[]){__VA_ARGS__})), errors)

static char errors[1024];

/* Connects and leaves; true when the connection was let in by a door of this name. */
static bool visit(const char *host, unsigned port, const char *name)
{
    struct address address;
    bool connected, is_his;
    int fd;

    cr_assert(address_parse(host, ports[port], &address));
    fd = socket(address.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    connected = connect(fd, &address.sa, address_length(&address)) == 0;
    if (!connected) {
        close(fd);
        return false;
    }
    came.has_come = false;
    is_his = loop_until(loop, &came.has_come, 2000) &&
             strcmp(came.door->listener->settings->name, name) == 0;
    close(fd);
    return is_his;
}

Test(door, lets_clients_in_where_the_listener_says)
{
    cr_assert(CONFIGURE("rw 127.0.0.1:PORT0, 127.0.0.1:PORT1", "ro *:PORT2"), "%s",
              errors);
    cr_expect(visit("127.0.0.1", 0, "rw"));
    cr_expect(visit("127.0.0.1", 1, "rw"));
    cr_expect(visit("127.0.0.1", 2, "ro"));
    cr_expect(visit("::1", 2, "ro"));
    cr_expect_not(visit("127.0.0.1", 3, "rw"));
    cr_expect_eq(came.n, 4);
}

Test(door, tells_who_came)
{
    struct address address;

    cr_assert(CONFIGURE("rw 127.0.0.1:PORT0"));
    cr_expect(visit("127.0.0.1", 0, "rw"));
    cr_assert(address_parse("127.0.0.1", 0, &address));
    cr_expect(address_same_host(&came.peer, &address));
    cr_expect_neq(address_port(&came.peer), 0);
}

Test(door, a_unix_socket_comes_and_goes_with_its_file)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct stat file;
    int fd;

    cr_assert(CONFIGURE("rw FOLDER/s"), "%s", errors);
    snprintf(name.sun_path, sizeof name.sun_path, "%s/s", folder);
    cr_assert_eq(stat(name.sun_path, &file), 0);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_expect_eq(connect(fd, (struct sockaddr *)&name, sizeof name), 0);
    cr_expect(loop_until(loop, &came.has_come, 2000));
    close(fd);
    cr_assert(CONFIGURE("rw 127.0.0.1:PORT0"), "%s", errors);
    cr_expect_neq(stat(name.sun_path, &file), 0);
}

/* ---- reloading ----------------------------------------------------------------------
 */

Test(door, reloading_adds_and_shuts)
{
    cr_assert(CONFIGURE("a 127.0.0.1:PORT0", "b 127.0.0.1:PORT1"));
    cr_assert(CONFIGURE("b 127.0.0.1:PORT1", "c 127.0.0.1:PORT2"), "%s", errors);
    cr_expect_not(visit("127.0.0.1", 0, "a"));
    cr_expect(visit("127.0.0.1", 1, "b"));
    cr_expect(visit("127.0.0.1", 2, "c"));
}

Test(door, reloading_moves_an_address_to_another_listener)
{
    cr_assert(CONFIGURE("a 127.0.0.1:PORT0", "b 127.0.0.1:PORT1"));
    cr_assert(CONFIGURE("a 127.0.0.1:PORT1", "b 127.0.0.1:PORT0"), "%s", errors);
    cr_expect(visit("127.0.0.1", 0, "b"));
    cr_expect(visit("127.0.0.1", 1, "a"));
}

Test(door, reloading_goes_from_all_addresses_to_one_and_back)
{
    cr_assert(CONFIGURE("a *:PORT0"));
    cr_assert(CONFIGURE("a 127.0.0.1:PORT0"), "%s", errors);
    cr_expect(visit("127.0.0.1", 0, "a"));
    cr_expect_not(visit("::1", 0, "a"));
    cr_assert(CONFIGURE("a *:PORT0"), "%s", errors);
    cr_expect(visit("127.0.0.1", 0, "a"));
    cr_expect(visit("::1", 0, "a"));
}

Test(door, reloading_happens_whole_or_not_at_all)
{
    struct address taken;
    int fd = peers_listen("127.0.0.1", 5, &taken);

    cr_assert(CONFIGURE("a 127.0.0.1:PORT0"));
    ports[3] = address_port(&taken);
    cr_expect_not(CONFIGURE("b 127.0.0.1:PORT1", "c 127.0.0.1:PORT3, FOLDER/no/where"));
    cr_expect_not_null(strstr(errors, "[listener c]: cannot listen on 127.0.0.1:"));
    cr_expect_not_null(strstr(errors, "Address already in use"));
    cr_expect_not_null(strstr(errors, "No such file or directory"), "all errors at once");
    cr_expect(visit("127.0.0.1", 0, "a"), "as before");
    cr_expect_not(visit("127.0.0.1", 1, "b"));
    cr_expect_eq(doors.open.n, 1);
    cr_expect_eq(doors.shut.n, 0);
    close(fd);
    cr_expect(CONFIGURE("b 127.0.0.1:PORT1", "c 127.0.0.1:PORT3"), "%s", errors);
}

Test(door, keeps_its_counts_through_reloads)
{
    struct door *door;

    cr_assert(CONFIGURE("a 127.0.0.1:PORT0\nmaxconn = 5"));
    cr_assert(visit("127.0.0.1", 0, "a"));
    door = came.door;
    cr_expect_eq(door->gate.max, 5);
    door->gate.n_total = 17;
    cr_assert(CONFIGURE("a 127.0.0.1:PORT1\nmaxconn = 7"));
    cr_expect(visit("127.0.0.1", 1, "a"));
    cr_expect_eq(came.door, door);
    cr_expect_eq(door->gate.max, 7);
    cr_expect_eq(door->gate.n_total, 17);
}

Test(door, that_comes_back_is_the_same_while_somebody_is_inside)
{
    struct door *door;

    cr_assert(CONFIGURE("a 127.0.0.1:PORT0"));
    cr_assert(visit("127.0.0.1", 0, "a"));
    door = came.door;
    door->gate.n_present = 1;
    cr_assert(CONFIGURE("b 127.0.0.1:PORT1"));
    cr_expect(door->is_shut);
    cr_assert(CONFIGURE("a 127.0.0.1:PORT0"));
    cr_expect(visit("127.0.0.1", 0, "a"));
    cr_expect_eq(came.door, door);
    door->gate.n_present = 0;
}

Test(door, a_client_keeps_the_settings_it_came_with)
{
    struct listener *kept;

    cr_assert(CONFIGURE("a 127.0.0.1:PORT0\nqueue_timeout = 1s"));
    cr_assert(visit("127.0.0.1", 0, "a"));
    kept = listener_hold(came.door->listener);
    cr_assert(CONFIGURE("a 127.0.0.1:PORT0\nqueue_timeout = 2s"));
    cr_expect_eq(kept->settings->queue_timeout, 1000);
    cr_expect_eq(came.door->listener->settings->queue_timeout, 2000);
    listener_release(kept);
}

/* ---- who else is there ---------------------------------------------------------------
 */

Test(door, a_second_program_is_told_that_the_address_is_in_use)
{
    static const char *const binds[] = {"a 127.0.0.1:PORT0", "a 0.0.0.0:PORT1",
                                        "a *:PORT2", "a [::1]:PORT3", "a FOLDER/s"};

    for (size_t i = 0; i < COUNT_OF(binds); i++) {
        struct doors second;

        doors_init(&second, loop, on_client, on_accept_failed, &came);
        cr_assert(configure(&doors, &binds[i], 1, errors), "%s", errors);
        cr_expect_not(configure(&second, &binds[i], 1, errors), "%s", binds[i]);
        cr_expect_not_null(strstr(errors, "Address already in use"), "%s", errors);
        doors_clear(&second);
    }
}

Test(door, a_second_program_is_told_so_after_a_reload_too)
{
    static const char *const star = "a *:PORT0", *const one = "a 127.0.0.1:PORT0";
    struct doors second;

    doors_init(&second, loop, on_client, on_accept_failed, &came);
    cr_assert(CONFIGURE("a *:PORT0") && CONFIGURE("a 127.0.0.1:PORT0"), "%s", errors);
    cr_expect_not(configure(&second, &one, 1, errors));
    cr_expect_not(configure(&second, &star, 1, errors));
    doors_clear(&second);
}

/* ---- accepting ----------------------------------------------------------------------
 */

/* Connections that nobody has accepted yet. */
static void knock(unsigned n, int *fds)
{
    struct address address;

    cr_assert(address_parse("127.0.0.1", ports[0], &address));
    for (unsigned i = 0; i < n; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        cr_assert_eq(connect(fds[i], &address.sa, address_length(&address)), 0);
    }
}

static void close_all(unsigned n, const int *fds)
{
    for (unsigned i = 0; i < n; i++)
        close(fds[i]);
}

Test(door, lets_in_at_most_so_many_in_one_iteration)
{
    int fds[150];

    cr_assert(CONFIGURE("a 127.0.0.1:PORT0"));
    turn(loop, 1);
    knock(150, fds);
    for (unsigned before = 0; came.n < 150; before = came.n) {
        turn(loop, 1);
        cr_assert_leq(came.n - before, 64);
    }
    close_all(150, fds);
}

Test(door, pauses_and_goes_on)
{
    int fds[3];

    cr_assert(CONFIGURE("a 127.0.0.1:PORT0"));
    doors_pause(&doors);
    knock(3, fds);
    turn(loop, 5);
    cr_expect_eq(came.n, 0, "the kernel keeps them");
    cr_assert(CONFIGURE("a 127.0.0.1:PORT0"));
    turn(loop, 5);
    cr_expect_eq(came.n, 0, "a reload is no reason to go on");
    doors_resume(&doors);
    turn(loop, 5);
    cr_expect_eq(came.n, 3);
    close_all(3, fds);
}

Test(door, that_shuts_turns_nobody_away_whom_the_kernel_has_let_in)
{
    int fds[100];

    cr_assert(CONFIGURE("a 127.0.0.1:PORT0"));
    turn(loop, 1);
    knock(100, fds);
    cr_assert(CONFIGURE("a 127.0.0.1:PORT1"));
    cr_expect_eq(came.n, 100);
    cr_expect_str_eq(came.door->listener->settings->name, "a");
    close_all(100, fds);
}

Test(door, when_all_are_shut_nobody_comes)
{
    cr_assert(CONFIGURE("a 127.0.0.1:PORT0", "b FOLDER/s"));
    doors_shut(&doors);
    cr_expect_not(visit("127.0.0.1", 0, "a"));
    cr_expect_eq(doors.open.n, 0);
    cr_expect_eq(access(fill_in("FOLDER/s"), F_OK), -1);
}

Test(door, is_not_forgotten_while_somebody_is_inside, .signal = SIGABRT)
{
    cr_assert(CONFIGURE("a 127.0.0.1:PORT0"));
    cr_assert(visit("127.0.0.1", 0, "a"));
    came.door->gate.n_present = 1;
    doors_clear(&doors);
}

/* ---- counting -----------------------------------------------------------------------
 */

Test(door, counts_who_came_in_each_second)
{
    unsigned before = 0, now = 0;
    uint64_t second = 0;
    struct door *door;

    cr_assert(CONFIGURE("a 127.0.0.1:PORT0"));
    do { /* over the end of a second, and then once more */
        loop_until(loop, NULL, 20);
        cr_assert(visit("127.0.0.1", 0, "a"));
        if (came.second != second) {
            before = now;
            now = 0;
            second = came.second;
        }
        now++;
    } while (before == 0 || now < 2);
    door = came.door;
    cr_expect_eq(door_rate(door, second * 1000), before, "the last full second");
    cr_expect_eq(door_rate(door, second * 1000 + 999), before);
    cr_expect_eq(door_rate(door, second * 1000 + 1000), 2);
    cr_expect_eq(door_rate(door, second * 1000 + 1999), 2);
    cr_expect_eq(door_rate(door, second * 1000 + 2000), 0);
    cr_expect_eq(door->n_most_in_a_second, before > 2 ? before : 2);
}

static void configure_once(void *unused)
{
    unsigned nth = memory_fail_at;
    struct doors some;
    struct config *config;
    struct text said;
    const char *listener = fill_in("a 127.0.0.1:PORT0, FOLDER/s");
    bool ok;

    (void)unused;
    memory_fail_at = 0;
    config = config_of(&listener, 1);
    doors_init(&some, loop, on_client, on_accept_failed, &came);
    text_init(&said, 1000);
    memory_fail_at = nth;
    ok = doors_configure(&some, config, NULL, &said);
    nth = memory_fail_at;
    memory_fail_at = 0;
    cr_expect_eq(some.open.n, ok ? 1 : 0);
    doors_clear(&some);
    text_clear(&said);
    config_release(config);
    cr_expect_eq(access(fill_in("FOLDER/s"), F_OK), -1);
    memory_fail_at = nth;
}

Test(door, survives_each_allocation_failure)
{
    unsigned nth = 0;

    do {
        memory_fail_at = ++nth;
        configure_once(NULL);
    } while (memory_fail_at == 0);
    memory_fail_at = 0;
    cr_expect_geq(nth, 5);
}
