#include "core/tls_registry.h"

#include <sys/stat.h>

#include "core/list.h"
#include "core/memory.h"

#define FILES 4u

/* What tells one state of a file from another; all zero: it is not there. */
struct stamp {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified;
    struct timespec changed;
};

struct entry {
    struct link in_registry;
    struct tls_context *context;
    struct stamp stamps[FILES]; /* as of the last attempt to read them, good or bad */
};

struct tls_registry {
    struct list entries;
};

struct tls_registry *tls_registry_new(void)
{
    struct tls_registry *registry = memory_zeroed(sizeof *registry);

    if (registry != NULL)
        list_init(&registry->entries);
    return registry;
}

static void drop(struct tls_registry *registry, struct entry *entry)
{
    list_remove(&registry->entries, &entry->in_registry);
    tls_context_release(entry->context);
    memory_free(entry);
}

void tls_registry_free(struct tls_registry *registry)
{
    if (registry == NULL)
        return;
    LIST_EACH_SAFE(item, &registry->entries)
    {
        drop(registry, CONTAINER_OF(item, struct entry, in_registry));
    }
    memory_free(registry);
}

static struct stamp stamp_of(const char *path)
{
    struct stat facts;

    if (path == NULL || path[0] == '\0' || stat(path, &facts) != 0)
        return (struct stamp){0};
    return (struct stamp){
        .device = facts.st_dev,
        .inode = facts.st_ino,
        .size = facts.st_size,
        .modified = facts.st_mtim,
        .changed = facts.st_ctim,
    };
}

static bool is_same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool is_same(const struct stamp *a, const struct stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           is_same_time(a->modified, b->modified) && is_same_time(a->changed, b->changed);
}

/* Whether any of the files differs from what it was when it was last read. */
static bool has_changed(const struct tls_settings *settings, struct stamp stamps[FILES])
{
    const char *const paths[FILES] = {settings->cert_file, settings->key_file,
                                      settings->ca_file, settings->crl_file};
    bool is_changed = false;

    for (size_t i = 0; i < FILES; i++) {
        struct stamp stamp = stamp_of(paths[i]);

        is_changed = is_changed || !is_same(&stamp, &stamps[i]);
        stamps[i] = stamp;
    }
    return is_changed;
}

static struct entry *find(const struct tls_registry *registry,
                          const struct tls_settings *settings)
{
    LIST_EACH(item, &registry->entries)
    {
        struct entry *entry = CONTAINER_OF(item, struct entry, in_registry);

        if (tls_settings_equal(tls_context_settings(entry->context), settings))
            return entry;
    }
    return NULL;
}

static struct entry *add(struct tls_registry *registry,
                         const struct tls_settings *settings, struct text *why)
{
    struct entry *entry = memory_zeroed(sizeof *entry);

    if (entry == NULL) {
        text_add(why, "out of memory");
        return NULL;
    }
    /* Before they are read: what changes meanwhile shows at the next look. */
    (void)has_changed(settings, entry->stamps);
    entry->context = tls_context_new(settings, why);
    if (entry->context == NULL) {
        memory_free(entry);
        return NULL;
    }
    list_append(&registry->entries, &entry->in_registry);
    return entry;
}

struct tls_context *tls_registry_hold(struct tls_registry *registry,
                                      const struct tls_settings *settings,
                                      struct text *why)
{
    struct entry *entry = find(registry, settings);

    if (entry == NULL)
        entry = add(registry, settings, why);
    return entry != NULL ? tls_context_hold(entry->context) : NULL;
}

static bool read_anew(struct entry *entry, struct text *why)
{
    struct tls_context *context =
        tls_context_new(tls_context_settings(entry->context), why);

    if (context == NULL) {
        text_add(why, "\n");
        return false;
    }
    tls_context_release(entry->context);
    entry->context = context;
    return true;
}

bool tls_registry_look(struct tls_registry *registry, struct text *why)
{
    bool is_any_new = false;

    LIST_EACH_SAFE(item, &registry->entries)
    {
        struct entry *entry = CONTAINER_OF(item, struct entry, in_registry);

        if (!tls_context_is_shared(entry->context))
            drop(registry, entry);
        else if (has_changed(tls_context_settings(entry->context), entry->stamps))
            is_any_new = read_anew(entry, why) || is_any_new;
    }
    return is_any_new;
}
