#include "tests/lib/explorer.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"

#define DEPTH_MAX 400
#define CHOICES_MAX 64

static const struct explorer_game *game;

/* ---- where we are -------------------------------------------------------------------
 */

static struct explorer_step path[DEPTH_MAX];
static unsigned depth;

void explorer_fail(const char *what)
{
    for (unsigned i = 0; i < depth; i++)
        fprintf(stderr, "%3u %s %u\n", i, game->names[path[i].kind], path[i].who);
    fprintf(stderr, "does not hold: %s\n", what);
    abort();
}

void explorer_add_step(struct explorer_steps *steps, unsigned kind, unsigned who)
{
    REQUIRE(steps->n < COUNT_OF(steps->steps));
    steps->steps[steps->n++] = (struct explorer_step){kind, who};
}

static struct {
    void *bytes;
    size_t n;
} blocks[16];
static unsigned n_blocks;
static size_t state_bytes;

void explorer_add_block(void *bytes, size_t n)
{
    REQUIRE(n_blocks < COUNT_OF(blocks) && n % 8 == 0);
    blocks[n_blocks].bytes = bytes;
    blocks[n_blocks++].n = n;
    state_bytes += n;
}

static void save(char *state)
{
    for (unsigned i = 0; i < n_blocks; i++) {
        memcpy(state, blocks[i].bytes, blocks[i].n);
        state += blocks[i].n;
    }
}

static void restore(const char *state)
{
    for (unsigned i = 0; i < n_blocks; i++) {
        memcpy(blocks[i].bytes, state, blocks[i].n);
        state += blocks[i].n;
    }
}

/* Stands for a state; 128 bits, so that no two states have the same. */
struct key {
    uint64_t a, b;
};

static bool is_same(struct key one, struct key other)
{
    return one.a == other.a && one.b == other.b;
}

/* Most of the time goes by here; sanitizers would make it many times as long. */
#define UNWATCHED __attribute__((no_sanitize("address", "undefined")))

UNWATCHED static uint64_t mixed(uint64_t word)
{
    word *= 0xff51afd7ed558ccdu;
    return word ^ (word >> 32);
}

/* Four sums side by side, so that the processor need not wait for each. */
UNWATCHED static struct key present_key(void)
{
    uint64_t sums[4] = {1, 2, 3, 4};

    for (unsigned i = 0; i < n_blocks; i++) {
        const uint64_t *words = blocks[i].bytes;
        size_t n = blocks[i].n / 8;

        for (size_t j = 0; j < n; j++)
            sums[j % 4] = mixed(sums[j % 4] ^ words[j]) + j;
    }
    return (struct key){mixed(sums[0] + mixed(sums[1])) ^ sums[2],
                        mixed(sums[2] + mixed(sums[3])) + sums[0]};
}

/* ---- the ways of one step -----------------------------------------------------------
 */

static unsigned choices[CHOICES_MAX], n_options[CHOICES_MAX], n_choices, n_chosen;

unsigned explorer_choose(unsigned n)
{
    if (n_chosen == n_choices) {
        REQUIRE(n_choices < CHOICES_MAX);
        choices[n_choices] = 0;
        n_options[n_choices++] = n;
    }
    REQUIRE(n_options[n_chosen] == n);
    return choices[n_chosen++];
}

/* The next way of the same step; false after the last. */
static bool choose_next(void)
{
    while (n_choices > 0 && choices[n_choices - 1] + 1 == n_options[n_choices - 1])
        n_choices--;
    if (n_choices == 0)
        return false;
    choices[n_choices - 1]++;
    return true;
}

/* Where the ways of the present step have been. */
static struct {
    struct key key;
    unsigned round;
} places[1 << 16];
static unsigned round_of_places, n_places;
static jmp_buf beaten_track;

void explorer_pass(uint64_t locals)
{
    struct key key;
    size_t i;

    if (n_chosen < n_choices)
        return; /* on the way that led to the last choice */
    key = present_key();
    key.a ^= locals;
    for (i = key.a % COUNT_OF(places); places[i].round == round_of_places;
         i = (i + 1) % COUNT_OF(places))
        if (is_same(places[i].key, key))
            longjmp(beaten_track, 1);
    places[i].key = key;
    places[i].round = round_of_places;
    REQUIRE(++n_places < COUNT_OF(places) / 2);
}

/* False: it has led where another way has been. */
static bool take_one_way(const struct explorer_step *step)
{
    n_chosen = 0;
    if (setjmp(beaten_track) != 0)
        return false;
    game->take(step);
    game->check();
    return true;
}

/* ---- all states ---------------------------------------------------------------------
 */

struct known {
    struct key key;
    unsigned number; /* in the order of discovery; 0 = an empty place */
};

static struct known *table;
static size_t table_size;
static unsigned n_states;

static struct known *look_up(struct key key)
{
    size_t i = key.b & (table_size - 1);

    while (table[i].number > 0 && !is_same(table[i].key, key))
        i = (i + 1) & (table_size - 1);
    return &table[i];
}

static void grow_table(void)
{
    struct known *old = table;
    size_t old_size = table_size;

    table_size = old_size == 0 ? 1 << 16 : old_size * 2;
    table = calloc(table_size, sizeof *table);
    REQUIRE(table != NULL);
    for (size_t i = 0; i < old_size; i++)
        if (old[i].number > 0)
            *look_up(old[i].key) = old[i];
    free(old);
}

/* The present state's number; true = it is new. */
static bool find_state(unsigned *number)
{
    struct key key = present_key();
    struct known *known;

    if (2 * (size_t)n_states >= table_size)
        grow_table();
    known = look_up(key);
    if (known->number > 0) {
        *number = known->number;
        return false;
    }
    *known = (struct known){key, ++n_states};
    *number = n_states;
    return true;
}

/* Internal steps, from state to state. */
struct edge {
    unsigned from, to;
};

static struct edge *edges;
static size_t n_edges, edges_size;
static uint64_t n_steps;

static void add_edge(unsigned from, unsigned to)
{
    if (n_edges == edges_size) {
        struct edge *grown;

        edges_size = edges_size == 0 ? 1 << 16 : edges_size * 2;
        grown = realloc(edges, edges_size * sizeof *edges);
        REQUIRE(grown != NULL);
        edges = grown;
    }
    edges[n_edges++] = (struct edge){from, to};
}

/* A state that is to be explored. */
struct fresh {
    struct fresh *next;
    unsigned number;
    struct explorer_step step; /* that led to it */
    char state[];
};

/* Takes a step in all its ways, and puts the new states before `fresh`. */
static struct fresh *follow(const char *state, unsigned number,
                            const struct explorer_step *step, struct fresh *fresh)
{
    n_choices = n_places = 0;
    round_of_places++;
    do {
        unsigned next;

        restore(state);
        if (!take_one_way(step))
            continue;
        n_steps++;
        if (find_state(&next)) {
            struct fresh *found = malloc(sizeof *found + state_bytes);

            REQUIRE(found != NULL);
            *found = (struct fresh){fresh, next, *step};
            save(found->state);
            fresh = found;
        }
        if (game->is_internal(step->kind))
            add_edge(number, next);
    } while (choose_next());
    return fresh;
}

static void explore(unsigned number)
{
    char *state = malloc(state_bytes);
    struct explorer_steps steps = {.n = 0};
    struct fresh *fresh = NULL;

    REQUIRE(depth < DEPTH_MAX - 1 && state != NULL);
    save(state);
    game->list(&steps);
    for (unsigned i = 0; i < steps.n; i++) {
        path[depth++] = steps.steps[i];
        fresh = follow(state, number, &steps.steps[i], fresh);
        depth--;
    }
    free(state);
    while (fresh != NULL) {
        struct fresh *next = fresh->next;

        restore(fresh->state);
        path[depth++] = fresh->step;
        explore(fresh->number);
        depth--;
        free(fresh);
        fresh = next;
    }
}

/* ---- circles ------------------------------------------------------------------------
 */

static int by_end(const void *a, const void *b)
{
    const struct edge *one = a, *other = b;

    return one->to < other->to ? -1 : one->to > other->to;
}

/* Takes away, again and again, the states that no internal step leads out of. What is
 * left is in a circle, or leads into one. */
static bool has_circle(void)
{
    unsigned *n_out = calloc(n_states + 1u, sizeof *n_out), n_ends = 0;
    unsigned *ends = calloc(n_states + 1u, sizeof *ends);
    size_t *first = calloc(n_states + 2u, sizeof *first); /* edge into a state */

    REQUIRE(n_out != NULL && ends != NULL && first != NULL);
    if (n_edges > 0)
        qsort(edges, n_edges, sizeof *edges, by_end);
    for (size_t i = 0; i < n_edges; i++) {
        n_out[edges[i].from]++;
        first[edges[i].to + 1]++;
    }
    for (unsigned i = 1; i < n_states + 2u; i++)
        first[i] += first[i - 1];
    for (unsigned i = 1; i <= n_states; i++)
        if (n_out[i] == 0)
            ends[n_ends++] = i;
    for (unsigned i = 0; i < n_ends; i++)
        for (size_t j = first[ends[i]]; j < first[ends[i] + 1]; j++)
            if (--n_out[edges[j].from] == 0)
                ends[n_ends++] = edges[j].from;
    free(n_out);
    free(ends);
    free(first);
    return n_ends < n_states;
}

void explorer_play(const struct explorer_game *played)
{
    unsigned number;

    game = played;
    game->check();
    (void)find_state(&number);
    explore(number);
    if (has_circle())
        explorer_fail("all comes to an end");
    fprintf(stderr, "%u states, %llu steps\n", n_states, (unsigned long long)n_steps);
    free(table);
    free(edges);
}
