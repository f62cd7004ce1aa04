#include "router/console/insight.h"

#include <string.h>

static const char *const roles[] = {[ROLE_PRIMARY] = "primary",
                                    [ROLE_REPLICA] = "replica",
                                    [ROLE_READ_ONLY] = "read-only",
                                    [ROLE_ANY] = "any",
                                    [ROLE_DEFAULT] = NULL};
static const char *const times[] = {
#define TIME(name, what) [POOL_TIME_##name] = #name,
#include "pool/times.def"
};
static const char *const sources[] = {
    [ERROR_OF_SERVER] = "server", [ERROR_OF_ROUTER] = "pgrouter"};

/* Codes, then what each class has beyond these. */
#define CLASS_PLACES (ERROR_SOURCE_COUNT * ERROR_CLASS_COUNT)

unsigned insight_places(enum view_name view)
{
    if (view == VIEW_LATENCIES)
        return POOL_TIME_COUNT;
    return view == VIEW_ERRORS ? POOL_ERROR_CODES_MAX + CLASS_PLACES : 0;
}

static void begin(struct row *row, const struct pool_sum *pool, enum view_name view,
                  uint64_t binary, struct text *out)
{
    row_begin(row, view, binary, out);
    row_text(row, pool->database);
    row_text(row, pool->user);
    row_text(row, roles[pool->role]);
}

static bool add_latency(const struct pool_sum *pool, unsigned time, uint64_t binary,
                        struct text *out)
{
    static const double parts[] = {0.5, 0.95, 0.99, 1.};
    const struct histogram_sum *sum = &pool->times->of[time];
    struct row row;

    begin(&row, pool, VIEW_LATENCIES, binary, out);
    row_text(&row, times[time]);
    row_number(&row, (int64_t)sum->n);
    row_number(&row, sum->n == 0 ? 0 : (int64_t)(sum->sum_ns / sum->n / 1000));
    for (unsigned i = 0; i < COUNT_OF(parts); i++)
        row_number(&row, (int64_t)histogram_quantile_us(sum, parts[i]));
    return row_end(&row);
}

static bool add_error(const struct pool_sum *pool, const struct pool_error_code *code,
                      enum error_class class, uint64_t binary, struct text *out)
{
    struct row row;

    begin(&row, pool, VIEW_ERRORS, binary, out);
    row_text(&row, sources[code->source]);
    row_text(&row, error_class_facts[class].code);
    row_text(&row, code->sqlstate[0] == '\0' ? NULL : code->sqlstate);
    row_text(&row, error_class_facts[class].text);
    row_number(&row, (int64_t)code->n);
    return row_end(&row);
}

/* What was counted of a class when there was no place for one more code. */
static struct pool_error_code rest_of(const struct pool_errors *errors,
                                      enum error_source source, enum error_class class)
{
    struct pool_error_code rest = {.source = (uint8_t)source,
                                   .n = errors->by_class[source][class]};

    for (unsigned i = 0; i < POOL_ERROR_CODES_MAX && errors->codes[i].n > 0; i++)
        if (errors->codes[i].source == source &&
            error_class_of(errors->codes[i].sqlstate) == class)
            rest.n -= errors->codes[i].n;
    return rest;
}

static bool add_error_at(const struct pool_sum *pool, unsigned place, uint64_t binary,
                         struct text *out)
{
    const struct pool_errors *errors = pool->errors;
    struct pool_error_code code;
    enum error_class class;

    if (place < POOL_ERROR_CODES_MAX) {
        code = errors->codes[place];
        class = error_class_of(code.sqlstate);
    } else {
        place -= POOL_ERROR_CODES_MAX;
        class = (enum error_class)(place % ERROR_CLASS_COUNT);
        code = rest_of(errors, (enum error_source)(place / ERROR_CLASS_COUNT), class);
    }
    return code.n == 0 || add_error(pool, &code, class, binary, out);
}

bool insight_add_row(const struct pool_sum *pool, enum view_name view, unsigned place,
                     uint64_t binary, struct text *out)
{
    if (pool->times == NULL) /* the console */
        return true;
    return view == VIEW_LATENCIES ? add_latency(pool, place, binary, out)
                                  : add_error_at(pool, place, binary, out);
}
