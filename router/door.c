#include "router/door.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/memory.h"

/* Accepted in one go: others wait in the loop too. */
#define ACCEPTS_PER_ITERATION 64
/* A socket that closes lets in no more than this of those who stand in the kernel's line.
 */
#define LINE_MAX_CLIENTS 256

void doors_init(struct doors *doors, struct loop *loop,
                void (*on_client)(void *arg, struct door *door, int fd,
                                  const struct address *peer),
                void (*on_accept_failed)(void *arg, int error), void *arg)
{
    *doors = (struct doors){
        .loop = loop,
        .on_client = on_client,
        .on_accept_failed = on_accept_failed,
        .arg = arg,
    };
    list_init(&doors->open);
    list_init(&doors->shut);
}

static void count_arrival(struct door *door, uint64_t now_ms)
{
    uint64_t second = now_ms / 1000;

    if (second != door->rate_second) {
        door->n_last_second = second == door->rate_second + 1 ? door->n_this_second : 0;
        door->n_this_second = 0;
        door->rate_second = second;
    }
    if (++door->n_this_second > door->n_most_in_a_second)
        door->n_most_in_a_second = door->n_this_second;
}

unsigned door_rate(const struct door *door, uint64_t now_ms)
{
    uint64_t second = now_ms / 1000;

    if (second == door->rate_second)
        return door->n_last_second;
    return second == door->rate_second + 1 ? door->n_this_second : 0;
}

/* False when nobody is there any more, or nobody can be accepted. */
static bool accept_one(struct doorway *doorway)
{
    struct doors *doors = doorway->door->doors;
    struct address peer;
    int fd = socket_accept(doorway->watcher.fd, &peer);

    if (fd >= 0) {
        count_arrival(doorway->door, loop_now_ms(doors->loop));
        doors->on_client(doors->arg, doorway->door, fd, &peer);
        return true;
    }
    if (errno == EINTR || errno == ECONNABORTED)
        return true;
    if (errno != EAGAIN && errno != EWOULDBLOCK)
        doors->on_accept_failed(doors->arg, errno);
    return false;
}

static void on_readable(struct ev_loop *ev, ev_io *watcher, int events)
{
    struct doorway *doorway = CONTAINER_OF(watcher, struct doorway, watcher);

    (void)ev;
    (void)events;
    for (unsigned i = 0; i < ACCEPTS_PER_ITERATION && ev_is_active(watcher); i++)
        if (!accept_one(doorway))
            break;
}

/* ---- one socket ---------------------------------------------------------------------
 */

/* Those whom the kernel has let in already are not turned away; a unix socket's file goes
 * with it. */
static void shut_doorway(struct doors *doors, struct doorway *doorway)
{
    for (unsigned i = 0; i < LINE_MAX_CLIENTS && doorway->door != NULL; i++)
        if (!accept_one(doorway))
            break;
    if (doorway->endpoint.path != NULL)
        unlink(doorway->endpoint.path);
    endpoint_clear(&doorway->endpoint);
    ev_io_stop(doors->loop->ev, &doorway->watcher);
    close(doorway->watcher.fd);
    memory_free(doorway);
}

static void shut_all(struct doors *doors, struct list *doorways)
{
    LIST_EACH_SAFE(item, doorways)
    {
        list_remove(doorways, item);
        shut_doorway(doors, CONTAINER_OF(item, struct doorway, in_door));
    }
}

static struct doorway *new_doorway(int fd, const struct endpoint *endpoint)
{
    struct doorway *doorway = memory_zeroed(sizeof *doorway);

    if (doorway == NULL)
        return NULL;
    doorway->endpoint.port = endpoint->port;
    if (endpoint->host != NULL)
        doorway->endpoint.host = memory_text(endpoint->host);
    if (endpoint->path != NULL)
        doorway->endpoint.path = memory_text(endpoint->path);
    if (doorway->endpoint.host == NULL && doorway->endpoint.path == NULL) {
        memory_free(doorway);
        return NULL;
    }
    ev_io_init(&doorway->watcher, on_readable, fd, EV_READ);
    ev_set_priority(&doorway->watcher, EV_MAXPRI);
    return doorway;
}

static const char *say(const struct endpoint *endpoint)
{
    return endpoint->path != NULL ? endpoint->path : endpoint->host;
}

static void for_each_doorway(struct doors *doors,
                             void (*act)(struct doors *doors, struct doorway *doorway))
{
    LIST_EACH(item, &doors->open)
    {
        struct door *door = CONTAINER_OF(item, struct door, in_doors);

        LIST_EACH_SAFE(way, &door->doorways)
        {
            act(doors, CONTAINER_OF(way, struct doorway, in_door));
        }
    }
}

static void share(struct doors *doors, struct doorway *doorway)
{
    (void)doors;
    socket_share(doorway->watcher.fd, true);
}

static void keep_to_ourselves(struct doors *doors, struct doorway *doorway)
{
    (void)doors;
    socket_share(doorway->watcher.fd, false);
}

static void share_doorways(void *doors, bool shared)
{
    for_each_doorway(doors, shared ? share : keep_to_ourselves);
}

/* unix_socket_group. False with errno: there is no such group, or it may not be given. */
static bool give_to_group(const struct endpoint *endpoint, const char *group)
{
    struct group entry, *found = NULL;
    char strings[16384];

    if (endpoint->path == NULL || *group == '\0')
        return true;
    errno = getgrnam_r(group, &entry, strings, sizeof strings, &found);
    if (found == NULL && errno == 0)
        errno = EINVAL;
    return found != NULL && lchown(endpoint->path, (uid_t)-1, found->gr_gid) == 0;
}

/* Opens the sockets of one endpoint and adds them to `doorways`. */
static bool open_doorways(struct doors *doors, const struct config *config,
                          const struct listener_config *settings,
                          const struct endpoint *endpoint, struct list *doorways,
                          struct text *errors)
{
    int sockets[SOCKETS_PER_ENDPOINT];
    unsigned n = socket_listen_beside(
        endpoint, (int)config->main.listen_backlog, (mode_t)config->main.unix_socket_mode,
        doors->open.n > 0 ? share_doorways : NULL, doors, sockets);

    if (n == 0) {
        text_addf(errors, "[listener %s]: cannot listen on %s:%u: %s\n", settings->name,
                  say(endpoint), endpoint->port, strerror(errno));
        return false;
    }
    if (!give_to_group(endpoint, config->main.unix_socket_group)) {
        text_addf(errors, "unix_socket_group = %s: %s\n", config->main.unix_socket_group,
                  strerror(errno));
        for (unsigned i = 0; i < n; i++)
            close(sockets[i]);
        unlink(endpoint->path);
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        struct doorway *doorway = new_doorway(sockets[i], endpoint);

        if (doorway == NULL) {
            text_add(errors, "out of memory\n");
            while (i < n)
                close(sockets[i++]);
            if (endpoint->path != NULL)
                unlink(endpoint->path);
            return false;
        }
        list_append(doorways, &doorway->in_door);
    }
    return true;
}

/* ---- all of them: first what is new, then the change ---------------------------------
 */

static bool has_doorway(const struct doors *doors, const struct endpoint *endpoint)
{
    LIST_EACH(item, &doors->open)
    {
        const struct door *door = CONTAINER_OF(item, struct door, in_doors);

        LIST_EACH(way, &door->doorways)
        {
            if (endpoint_equal(&CONTAINER_OF(way, struct doorway, in_door)->endpoint,
                               endpoint))
                return true;
        }
    }
    return false;
}

static bool open_what_is_new(struct doors *doors, const struct config *config,
                             struct list *doorways, struct text *errors)
{
    bool ok = true;

    for (size_t i = 0; i < config->n_listeners; i++) {
        const struct listener_config *settings = &config->listeners[i];

        for (size_t j = 0; j < settings->bind.n; j++)
            if (!has_doorway(doors, &settings->bind.items[j]))
                ok = open_doorways(doors, config, settings, &settings->bind.items[j],
                                   doorways, errors) &&
                     ok;
    }
    return ok;
}

static struct door *find_door(const struct list *list, const char *name)
{
    LIST_EACH(item, list)
    {
        struct door *door = CONTAINER_OF(item, struct door, in_doors);

        if (strcmp(door->listener->settings->name, name) == 0)
            return door;
    }
    return NULL;
}

/* A door for each listener, old or new, with the new settings ready. */
struct next_door {
    struct door *door;
    struct listener *listener;
};

static void drop_next(struct next_door *next, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        listener_release(next[i].listener);
        if (next[i].door != NULL && next[i].door->listener == NULL)
            memory_free(next[i].door); /* was made for nothing */
    }
    memory_free(next);
}

static bool has_share(const struct list *list, unsigned share)
{
    LIST_EACH(item, list)
    {
        if (CONTAINER_OF(item, struct door, in_doors)->share == share)
            return true;
    }
    return false;
}

/* `skip`: as many are given to doors that are not in a list yet. */
static unsigned free_share(const struct doors *doors, unsigned skip)
{
    for (unsigned share = 0; share < LOAD_SHARES; share++)
        if (!has_share(&doors->open, share) && !has_share(&doors->shut, share) &&
            skip-- == 0)
            return share;
    return LOAD_SHARES - 1; /* a page's count of sessions is off then, and nothing else */
}

static struct door *new_door(struct doors *doors, unsigned n_new)
{
    struct door *door = memory_zeroed(sizeof *door);

    if (door == NULL)
        return NULL;
    door->doors = doors;
    door->share = free_share(doors, n_new);
    list_init(&door->doorways);
    return door;
}

static struct next_door *prepare_next(struct doors *doors, struct config *config,
                                      struct security *security)
{
    struct next_door *next = memory_zeroed(config->n_listeners * sizeof *next);
    unsigned n_new = 0;

    for (size_t i = 0; next != NULL && i < config->n_listeners; i++) {
        const struct listener_config *settings = &config->listeners[i];

        next[i].listener = listener_new(config, settings);
        next[i].door = find_door(&doors->open, settings->name);
        if (next[i].door == NULL)
            next[i].door = find_door(&doors->shut, settings->name);
        if (next[i].door == NULL)
            next[i].door = new_door(doors, n_new++);
        if (next[i].listener == NULL || next[i].door == NULL) {
            drop_next(next, i + 1);
            return NULL;
        }
        next[i].listener->share = next[i].door->share;
        listener_secure(next[i].listener, security);
    }
    return next;
}

/* Moves the sockets of `endpoint` from wherever they are to the door. */
static void claim(struct door *door, const struct endpoint *endpoint, struct list *from)
{
    LIST_EACH_SAFE(item, from)
    {
        struct doorway *doorway = CONTAINER_OF(item, struct doorway, in_door);

        if (!endpoint_equal(&doorway->endpoint, endpoint))
            continue;
        list_remove(from, item);
        list_append(&door->doorways, item);
        doorway->door = door;
    }
}

/* Every open socket goes into one list; the doors are empty then. */
static void collect_doorways(struct doors *doors, struct list *doorways)
{
    LIST_EACH_SAFE(item, &doors->open)
    {
        struct door *door = CONTAINER_OF(item, struct door, in_doors);

        LIST_EACH_SAFE(way, &door->doorways)
        {
            list_remove(&door->doorways, way);
            list_append(doorways, way);
        }
        list_remove(&doors->open, item);
        list_append(&doors->shut, item);
        door->is_shut = true;
    }
}

static void take_effect(struct doors *doors, const struct config *config,
                        const struct next_door *next, struct list *doorways)
{
    collect_doorways(doors, doorways);
    for (size_t i = 0; i < config->n_listeners; i++) {
        const struct listener_config *settings = &config->listeners[i];
        struct door *door = next[i].door;

        listener_release(door->listener);
        door->listener = listener_hold(next[i].listener);
        door->gate.max = (unsigned)settings->maxconn;
        door->is_shut = false;
        if (link_is_in_list(&door->in_doors))
            list_remove(&doors->shut, &door->in_doors);
        list_append(&doors->open, &door->in_doors);
        for (size_t j = 0; j < settings->bind.n; j++)
            claim(door, &settings->bind.items[j], doorways);
    }
    shut_all(doors, doorways);
}

bool doors_configure(struct doors *doors, struct config *config,
                     struct security *security, struct text *errors)
{
    struct list doorways;
    struct next_door *next;

    list_init(&doorways);
    next = prepare_next(doors, config, security);
    if (next == NULL)
        text_add(errors, "out of memory\n");
    if (next == NULL || !open_what_is_new(doors, config, &doorways, errors)) {
        shut_all(doors, &doorways);
        if (next != NULL)
            drop_next(next, config->n_listeners);
        return false;
    }
    take_effect(doors, config, next, &doorways);
    drop_next(next, config->n_listeners);
    if (!doors->is_paused)
        doors_resume(doors);
    return true;
}

static void stop(struct doors *doors, struct doorway *doorway)
{
    ev_io_stop(doors->loop->ev, &doorway->watcher);
}

static void start(struct doors *doors, struct doorway *doorway)
{
    if (!doorway->door->is_disabled)
        ev_io_start(doors->loop->ev, &doorway->watcher);
}

void doors_pause(struct doors *doors)
{
    doors->is_paused = true;
    for_each_doorway(doors, stop);
}

void doors_resume(struct doors *doors)
{
    doors->is_paused = false;
    for_each_doorway(doors, start);
}

void door_disable(struct door *door)
{
    door->is_disabled = true;
    LIST_EACH(item, &door->doorways)
    {
        stop(door->doors, CONTAINER_OF(item, struct doorway, in_door));
    }
}

void door_enable(struct door *door)
{
    door->is_disabled = false;
    LIST_EACH(item, &door->doorways)
    {
        if (!door->doors->is_paused)
            start(door->doors, CONTAINER_OF(item, struct doorway, in_door));
    }
}

struct door *doors_find(const struct doors *doors, const char *name)
{
    LIST_EACH(item, &doors->open)
    {
        struct door *door = CONTAINER_OF(item, struct door, in_doors);

        if (strcmp(door->listener->settings->name, name) == 0)
            return door;
    }
    return NULL;
}

void doors_shut(struct doors *doors)
{
    struct list doorways;

    list_init(&doorways);
    collect_doorways(doors, &doorways);
    shut_all(doors, &doorways);
}

void doors_clear(struct doors *doors)
{
    doors_shut(doors);
    LIST_EACH_SAFE(item, &doors->shut)
    {
        struct door *door = CONTAINER_OF(item, struct door, in_doors);

        REQUIRE(door->gate.n_present == 0);
        list_remove(&doors->shut, item);
        listener_release(door->listener);
        memory_free(door);
    }
}
