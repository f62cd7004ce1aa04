#include "health/pace.h"

#define USER_EVIDENCE_EVERY_MS 1000
#define LINK_EVIDENCE_EVERY_MS 100

static uint64_t fast_ms(const struct pace_settings *settings)
{
    return settings->fast_ms < settings->interval_ms ? settings->fast_ms
                                                     : settings->interval_ms;
}

/* Since when it is so, 0 = it is not. */
static uint64_t since(uint64_t before_ms, bool is_so, uint64_t now_ms)
{
    if (!is_so)
        return 0;
    return before_ms == 0 ? now_ms : before_ms;
}

static void note(struct pace *pace, const struct pace_view *view, uint64_t now_ms)
{
    pace->lacking_since_ms = since(pace->lacking_since_ms, view->lacks_primary, now_ms);
    pace->promoting_since_ms =
        since(pace->promoting_since_ms, view->is_promoting, now_ms);
}

static bool must_be_fast(const struct pace *pace, const struct pace_view *view,
                         uint64_t now_ms)
{
    if (now_ms < pace->fast_until_ms || view->is_promotion_near)
        return true;
    return view->lacks_primary &&
           (view->n_waiting > 0 || now_ms - pace->lacking_since_ms < PACE_NO_PRIMARY_MS);
}

/* To the next round when it must be fast. */
static uint64_t fast_wait_ms(const struct pace *pace,
                             const struct pace_settings *settings, uint64_t now_ms)
{
    uint64_t ms = fast_ms(settings);

    if (pace->promoting_since_ms == 0 || ms <= PACE_LEAST_MS ||
        now_ms - pace->promoting_since_ms >= PACE_PROMOTION_MS)
        return ms;
    return ms / 4 > PACE_LEAST_MS ? ms / 4 : PACE_LEAST_MS;
}

bool pace_begin_round(struct pace *pace, const struct pace_settings *settings,
                      const struct pace_view *view, uint64_t now_ms)
{
    bool is_first = pace->round_at_ms == 0;

    note(pace, view, now_ms);
    pace->round_at_ms = now_ms;
    if (must_be_fast(pace, view, now_ms)) {
        pace->wait_ms = fast_wait_ms(pace, settings, now_ms);
        return true;
    }
    pace->wait_ms = pace->wait_ms == 0 ? settings->interval_ms : pace->wait_ms * 2;
    if (pace->wait_ms > settings->interval_ms)
        pace->wait_ms = settings->interval_ms;
    return is_first || pace->wait_ms < settings->interval_ms;
}

void pace_suspect(struct pace *pace, const struct pace_settings *settings,
                  uint64_t now_ms)
{
    pace->fast_until_ms = now_ms + PACE_FAST_MS;
    pace->wait_ms = fast_ms(settings);
}

void pace_look(struct pace *pace, const struct pace_settings *settings,
               const struct pace_view *view, uint64_t now_ms)
{
    note(pace, view, now_ms);
    if (must_be_fast(pace, view, now_ms))
        pace->wait_ms = fast_wait_ms(pace, settings, now_ms);
}

uint64_t pace_rest_ms(const struct pace *pace, uint64_t now_ms)
{
    uint64_t due_ms = pace->round_at_ms + pace->wait_ms;

    return due_ms > now_ms ? due_ms - now_ms : 0;
}

bool pace_allows(struct pace *pace, enum evidence evidence, uint64_t now_ms)
{
    bool is_users = evidence == EVIDENCE_SHUTTING_DOWN || evidence == EVIDENCE_WANTED;
    uint64_t *last_ms = is_users ? &pace->user_round_at_ms : &pace->link_round_at_ms;
    uint64_t every_ms = is_users ? USER_EVIDENCE_EVERY_MS : LINK_EVIDENCE_EVERY_MS;

    if (*last_ms != 0 && now_ms - *last_ms < every_ms)
        return false;
    *last_ms = now_ms;
    return true;
}

uint64_t pace_spread_ms(const struct pace_settings *settings)
{
    return settings->interval_ms / 10;
}
