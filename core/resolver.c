/* core/resolver.c - names to addresses, by c-ares inside the loop.
 *
 *   watch --\                    .-- again (its TTL has run out, or a watcher asked)
 *   watch ---- name -- look_up() -- on_answer() -- tell() -- on_change of each watch
 *
 * A name belongs to the resolver and lives while it has watches, is being told of, or has
 * a question under way (c-ares cannot take back a single one). Answers may come from
 * within ares_getaddrinfo() (hosts file), so watchers are told after the iteration.
 */
#include "core/resolver.h"

#include <ares.h>
#include <string.h>
#include <sys/stat.h>

#include "core/memory.h"

#define QUERY_TIMEOUT_MS 1000
#define QUERY_TRIES 2
#define DNS_PORT 53

/* One of c-ares' sockets. */
struct query_socket {
    struct link in_resolver;
    struct resolver *resolver;
    ev_io watcher;
};

struct resolver {
    struct loop *loop;
    const char *servers_file;
    uint16_t servers_port;
    struct stat servers_stat; /* of the file as the channel has read it */
    ares_channel channel;     /* NULL until the first look-up */
    ev_timer timeout;         /* c-ares' next one */
    struct list sockets;
    struct list names;
    uint64_t min_ttl_ms, max_ttl_ms;
};

struct name {
    struct link in_resolver;
    struct resolver *resolver;
    char *host;
    struct list watches;
    struct address addresses[RESOLVER_ADDRESSES_MAX];
    size_t n_addresses;
    const char *error; /* of the first look-up, a constant; NULL once it has succeeded */
    unsigned version;  /* of the addresses; 0 = nothing is known yet */
    bool is_numeric;   /* is never looked up */
    bool is_asking;    /* c-ares has its question */
    bool is_telling;   /* tell() runs */
    uint64_t answered_at_ms;
    uint64_t retry_ms; /* wait before the next look-up after a failed one */
    ev_timer again;
    struct deferred telling;
};

struct resolver_watch {
    struct link in_name;
    struct name *name;
    unsigned told; /* the version that the watcher knows */
    void (*on_change)(void *arg, const struct address *addresses, size_t n,
                      const char *error);
    void *arg;
};

static void look_up(struct name *name);

/* ---- c-ares in the loop ---- */

static void arm_timeout(struct resolver *resolver)
{
    struct timeval buffer, *wait = NULL;

    if (resolver->channel != NULL)
        wait = ares_timeout(resolver->channel, NULL, &buffer);
    ev_timer_stop(resolver->loop->ev, &resolver->timeout);
    if (wait == NULL)
        return;
    ev_timer_set(&resolver->timeout, (double)wait->tv_sec + (double)wait->tv_usec / 1e6,
                 0.);
    ev_timer_start(resolver->loop->ev, &resolver->timeout);
}

static void on_timeout(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct resolver *resolver = CONTAINER_OF(timer, struct resolver, timeout);

    (void)ev;
    (void)events;
    ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    arm_timeout(resolver);
}

static void on_socket(struct ev_loop *ev, ev_io *watcher, int events)
{
    struct resolver *resolver =
        CONTAINER_OF(watcher, struct query_socket, watcher)->resolver;
    int fd = watcher->fd; /* the watcher may be gone after the call */

    (void)ev;
    ares_process_fd(resolver->channel, events & EV_READ ? fd : ARES_SOCKET_BAD,
                    events & EV_WRITE ? fd : ARES_SOCKET_BAD);
    arm_timeout(resolver);
}

static struct query_socket *find_socket(struct resolver *resolver, int fd)
{
    LIST_EACH(item, &resolver->sockets)
    {
        struct query_socket *found = CONTAINER_OF(item, struct query_socket, in_resolver);

        if (found->watcher.fd == fd)
            return found;
    }
    return NULL;
}

/* What c-ares wants to know of a socket of its own; neither = it is about to close it.
 * Without memory the socket stays unwatched and its query times out. */
static void on_socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct resolver *resolver = arg;
    struct query_socket *query = find_socket(resolver, fd);

    if (query != NULL)
        ev_io_stop(resolver->loop->ev, &query->watcher);
    if (!readable && !writable) {
        if (query != NULL) {
            list_remove(&resolver->sockets, &query->in_resolver);
            memory_free(query);
        }
        return;
    }
    if (query == NULL) {
        query = memory_zeroed(sizeof *query);
        if (query == NULL)
            return;
        query->resolver = resolver;
        list_append(&resolver->sockets, &query->in_resolver);
    }
    ev_io_init(&query->watcher, on_socket, fd,
               (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));
    ev_io_start(resolver->loop->ev, &query->watcher);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Makes the channel, anew when the list of name servers has changed since. Questions
 * under way on the old one are asked again, see on_answer(). */
static bool renew_channel(struct resolver *resolver)
{
    struct ares_options options = {
        .timeout = QUERY_TIMEOUT_MS,
        .tries = QUERY_TRIES,
        .udp_port = resolver->servers_port,
        .tcp_port = resolver->servers_port,
        .sock_state_cb = on_socket_state,
        .sock_state_cb_data = resolver,
        .resolvconf_path = (char *)(uintptr_t)resolver->servers_file,
    };
    int given = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_UDP_PORT |
                ARES_OPT_TCP_PORT | ARES_OPT_SOCK_STATE_CB | ARES_OPT_RESOLVCONF;
    struct stat now = {0};
    ares_channel old = resolver->channel;

#ifdef ARES_OPT_QUERY_CACHE
    given |= ARES_OPT_QUERY_CACHE; /* with a lifetime of 0: the TTL is our business */
#endif
    if (stat(resolver->servers_file, &now) != 0)
        now = (struct stat){0};
    if (old != NULL && same_file(&now, &resolver->servers_stat))
        return true;
    resolver->channel = NULL;
    if (old != NULL)
        ares_destroy(old);
    if (ares_init_options(&resolver->channel, &options, given) != ARES_SUCCESS) {
        resolver->channel = NULL;
        arm_timeout(resolver);
        return false;
    }
    resolver->servers_stat = now;
    return true;
}

/* ---- names ---- */

static void name_free(struct name *name)
{
    struct resolver *resolver = name->resolver;

    ev_timer_stop(resolver->loop->ev, &name->again);
    loop_undefer(resolver->loop, &name->telling);
    if (link_is_in_list(&name->in_resolver))
        list_remove(&resolver->names, &name->in_resolver);
    memory_free(name->host);
    memory_free(name);
}

static void free_when_unused(struct name *name)
{
    if (name->watches.n == 0 && !name->is_asking && !name->is_telling)
        name_free(name);
}

static struct resolver_watch *next_to_tell(const struct name *name)
{
    LIST_EACH(item, &name->watches)
    {
        struct resolver_watch *watch = CONTAINER_OF(item, struct resolver_watch, in_name);

        if (watch->told != name->version)
            return watch;
    }
    return NULL;
}

/* A watcher may end its own watch or others, add some, and ask for a refresh. */
static void tell(struct deferred *deferred)
{
    struct name *name = CONTAINER_OF(deferred, struct name, telling);
    struct resolver_watch *watch;

    name->is_telling = true;
    while ((watch = next_to_tell(name)) != NULL) {
        struct address addresses[RESOLVER_ADDRESSES_MAX];
        size_t n = name->n_addresses;

        memcpy(addresses, name->addresses, sizeof addresses);
        watch->told = name->version;
        watch->on_change(watch->arg, addresses, n, n == 0 ? name->error : NULL);
    }
    name->is_telling = false;
    free_when_unused(name);
}

static void on_again(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev;
    (void)events;
    look_up(CONTAINER_OF(timer, struct name, again));
}

static void look_up_after(struct name *name, uint64_t wait_ms)
{
    struct ev_loop *ev = name->resolver->loop->ev;

    ev_timer_stop(ev, &name->again);
    ev_timer_set(&name->again, (double)wait_ms / 1e3, 0.);
    ev_timer_start(ev, &name->again);
}

static bool holds(const struct address *addresses, size_t n, const struct address *one)
{
    for (size_t i = 0; i < n; i++)
        if (addresses[i].sa.sa_family == one->sa.sa_family &&
            address_same_host(&addresses[i], one))
            return true;
    return false;
}

/* Servers hand out the addresses of a name in turns: another order is no change. */
static bool same_set(const struct name *name, const struct address *addresses, size_t n)
{
    if (n != name->n_addresses)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!holds(name->addresses, n, &addresses[i]))
            return false;
    return true;
}

static void on_found(struct name *name, const struct address *addresses, size_t n)
{
    if (name->version != 0 && same_set(name, addresses, n))
        return;
    memcpy(name->addresses, addresses, n * sizeof *addresses);
    name->n_addresses = n;
    name->error = NULL;
    name->version++;
    loop_defer(name->resolver->loop, &name->telling);
}

static void on_failed(struct name *name, const char *error)
{
    const struct resolver *resolver = name->resolver;
    uint64_t wait_ms = name->retry_ms;

    if (wait_ms < resolver->min_ttl_ms)
        wait_ms = resolver->min_ttl_ms;
    if (wait_ms > resolver->max_ttl_ms)
        wait_ms = resolver->max_ttl_ms;
    name->retry_ms = wait_ms * 2;
    name->answered_at_ms = loop_now_ms(resolver->loop);
    look_up_after(name, wait_ms);
    if (name->version == 0) {
        name->error = error;
        name->version = 1;
        loop_defer(resolver->loop, &name->telling);
    }
}

/* The addresses of an answer, each once; `*ttl_ms` is the shortest of its records'. */
static size_t read_answer(const struct ares_addrinfo *answer,
                          struct address addresses[RESOLVER_ADDRESSES_MAX],
                          uint64_t *ttl_ms)
{
    size_t n = 0;
    int ttl_s = INT32_MAX;

    for (const struct ares_addrinfo_cname *alias = answer->cnames; alias != NULL;
         alias = alias->next)
        ttl_s = alias->ttl < ttl_s ? alias->ttl : ttl_s;
    for (const struct ares_addrinfo_node *node = answer->nodes; node != NULL;
         node = node->ai_next) {
        struct address one = {0};

        if (n == RESOLVER_ADDRESSES_MAX || node->ai_addrlen > sizeof one ||
            (node->ai_family != AF_INET && node->ai_family != AF_INET6))
            continue;
        memcpy(&one, node->ai_addr, node->ai_addrlen);
        address_set_port(&one, 0);
        ttl_s = node->ai_ttl < ttl_s ? node->ai_ttl : ttl_s;
        if (!holds(addresses, n, &one))
            addresses[n++] = one;
    }
    *ttl_ms = ttl_s < 0 ? 0 : (uint64_t)ttl_s * 1000;
    return n;
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *answer)
{
    struct name *name = arg;
    const struct resolver *resolver = name->resolver;
    struct address addresses[RESOLVER_ADDRESSES_MAX];
    uint64_t ttl_ms;
    size_t n = 0;

    (void)timeouts;
    name->is_asking = false;
    if (status == ARES_SUCCESS)
        n = read_answer(answer, addresses, &ttl_ms);
    if (answer != NULL)
        ares_freeaddrinfo(answer);

    if (name->watches.n == 0) {
        free_when_unused(name);
    } else if (status == ARES_EDESTRUCTION) {
        look_up_after(name, 0); /* the channel was replaced: ask the new one */
    } else if (n == 0) {
        on_failed(name, ares_strerror(status == ARES_SUCCESS ? ARES_ENODATA : status));
    } else {
        if (ttl_ms < resolver->min_ttl_ms)
            ttl_ms = resolver->min_ttl_ms;
        if (ttl_ms > resolver->max_ttl_ms)
            ttl_ms = resolver->max_ttl_ms;
        name->retry_ms = 0;
        name->answered_at_ms = loop_now_ms(resolver->loop);
        look_up_after(name, ttl_ms);
        on_found(name, addresses, n);
    }
}

static void look_up(struct name *name)
{
    struct resolver *resolver = name->resolver;
    const struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC,
                                              .ai_socktype = SOCK_STREAM};

    ev_timer_stop(resolver->loop->ev, &name->again);
    if (!renew_channel(resolver)) {
        on_failed(name, "the list of name servers cannot be read");
        return;
    }
    name->is_asking = true;
    ares_getaddrinfo(resolver->channel, name->host, NULL, &hints, on_answer, name);
    arm_timeout(resolver);
}

static struct name *find_name(const struct resolver *resolver, const char *host)
{
    LIST_EACH(item, &resolver->names)
    {
        struct name *name = CONTAINER_OF(item, struct name, in_resolver);

        if (strcmp(name->host, host) == 0)
            return name;
    }
    return NULL;
}

static struct name *name_new(struct resolver *resolver, const char *host)
{
    struct name *name = memory_zeroed(sizeof *name);

    if (name == NULL)
        return NULL;
    name->resolver = resolver;
    list_init(&name->watches);
    ev_timer_init(&name->again, on_again, 0., 0.);
    name->telling.run = tell;
    name->host = memory_text(host);
    if (name->host == NULL) {
        name_free(name);
        return NULL;
    }
    list_append(&resolver->names, &name->in_resolver);
    if (address_parse(host, 0, &name->addresses[0])) {
        name->is_numeric = true;
        name->n_addresses = 1;
        name->version = 1;
    }
    return name;
}

/* ---- what others call ---- */

struct resolver *resolver_new(struct loop *loop)
{
    struct resolver *resolver;

    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
        return NULL;
    resolver = memory_zeroed(sizeof *resolver);
    if (resolver == NULL) {
        ares_library_cleanup();
        return NULL;
    }
    resolver->loop = loop;
    resolver->servers_file = "/etc/resolv.conf";
    resolver->servers_port = DNS_PORT;
    resolver->min_ttl_ms = 1000;
    resolver->max_ttl_ms = 15000;
    list_init(&resolver->sockets);
    list_init(&resolver->names);
    ev_timer_init(&resolver->timeout, on_timeout, 0., 0.);
    return resolver;
}

void resolver_free(struct resolver *resolver)
{
    ares_channel channel;

    if (resolver == NULL)
        return;
    channel = resolver->channel;
    resolver->channel = NULL;
    if (channel != NULL)
        ares_destroy(channel); /* names that only their question kept alive go here */
    REQUIRE(resolver->names.n == 0);
    ev_timer_stop(resolver->loop->ev, &resolver->timeout);
    memory_free(resolver);
    ares_library_cleanup();
}

void resolver_set_ttl(struct resolver *resolver, uint64_t min_ms, uint64_t max_ms)
{
    resolver->min_ttl_ms = min_ms;
    resolver->max_ttl_ms = max_ms < min_ms ? min_ms : max_ms;
    LIST_EACH(item, &resolver->names)
    {
        struct name *name = CONTAINER_OF(item, struct name, in_resolver);
        double rest_s = ev_timer_remaining(resolver->loop->ev, &name->again);

        if (ev_is_active(&name->again) && rest_s * 1e3 > (double)resolver->max_ttl_ms)
            look_up_after(name, resolver->max_ttl_ms);
    }
}

void resolver_set_servers(struct resolver *resolver, const char *path, uint16_t port)
{
    resolver->servers_file = path;
    resolver->servers_port = port;
    memset(&resolver->servers_stat, 0xff, sizeof resolver->servers_stat);
}

struct resolver_watch *resolver_watch(struct resolver *resolver, const char *host,
                                      void (*on_change)(void *arg,
                                                        const struct address *addresses,
                                                        size_t n, const char *error),
                                      void *arg)
{
    struct resolver_watch *watch = memory_zeroed(sizeof *watch);
    struct name *name = find_name(resolver, host);

    if (watch == NULL)
        return NULL;
    if (name == NULL)
        name = name_new(resolver, host);
    if (name == NULL) {
        memory_free(watch);
        return NULL;
    }
    watch->name = name;
    watch->on_change = on_change;
    watch->arg = arg;
    list_append(&name->watches, &watch->in_name);
    if (name->version != 0)
        loop_defer(resolver->loop, &name->telling);
    if (!name->is_numeric && !name->is_asking && !ev_is_active(&name->again))
        look_up(name);
    return watch;
}

void resolver_unwatch(struct resolver_watch *watch)
{
    struct name *name;

    if (watch == NULL)
        return;
    name = watch->name;
    list_remove(&name->watches, &watch->in_name);
    memory_free(watch);
    if (name->watches.n == 0)
        ev_timer_stop(name->resolver->loop->ev, &name->again);
    free_when_unused(name);
}

void resolver_refresh(struct resolver_watch *watch)
{
    struct name *name = watch->name;
    const struct resolver *resolver = name->resolver;
    uint64_t since_ms = loop_now_ms(resolver->loop) - name->answered_at_ms;

    if (name->is_numeric || name->is_asking)
        return;
    if (since_ms >= resolver->min_ttl_ms)
        look_up(name);
    else if (ev_timer_remaining(resolver->loop->ev, &name->again) * 1e3 >
             (double)(resolver->min_ttl_ms - since_ms))
        look_up_after(name, resolver->min_ttl_ms - since_ms);
}

void resolver_count(const struct resolver *resolver, unsigned *n_names,
                    unsigned *n_asking)
{
    *n_names = *n_asking = 0;
    LIST_EACH(item, &resolver->names)
    {
        const struct name *name = CONTAINER_OF(item, struct name, in_resolver);

        *n_names += !name->is_numeric;
        *n_asking += name->is_asking;
    }
}
