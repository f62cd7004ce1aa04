#include "router/console/order.h"

#include <string.h>
#include <strings.h>

#include "config/unit.h"

#define USAGE "SWITCHOVER [cluster] [TO node] [TIMEOUT seconds]"
/* Longer than any that a hold could last. */
#define DRAIN_MAX_MS 3600000

struct word {
    char text[NODE_NAME_MAX];
    bool is_quoted;
    bool is_bad; /* too long, empty, or its quote has no end */
};

struct words {
    const char *at, *end;
};

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* False when there is none left. */
static bool next_word(struct words *words, struct word *word)
{
    size_t n = 0;
    char quote = '\0';

    *word = (struct word){.is_bad = false};
    while (words->at < words->end && is_blank(*words->at))
        words->at++;
    if (words->at == words->end)
        return false;
    if (*words->at == '"' || *words->at == '\'') {
        quote = *words->at++;
        word->is_quoted = true;
    }
    while (words->at < words->end &&
           (word->is_quoted ? *words->at != quote : !is_blank(*words->at))) {
        if (n + 1 < sizeof word->text)
            word->text[n] = *words->at;
        n++;
        words->at++;
    }
    word->is_bad = n == 0 || n >= sizeof word->text;
    if (word->is_quoted && words->at == words->end)
        word->is_bad = true;
    else if (word->is_quoted)
        words->at++;
    return true;
}

static bool is_keyword(const struct word *word, const char *keyword)
{
    return !word->is_quoted && strcasecmp(word->text, keyword) == 0;
}

static bool is_name(const struct word *word)
{
    return !word->is_bad && !is_keyword(word, "to") && !is_keyword(word, "timeout");
}

/* What follows a keyword; false: `*why` says what is missing. */
static bool read_operand(struct words *words, const struct word *keyword,
                         struct switchover_order *order, const char **why)
{
    struct word word;
    bool has_word = next_word(words, &word);

    if (is_keyword(keyword, "to")) {
        *why = order->to[0] != '\0' ? "TO stands twice; expected " USAGE
                                    : "expected the name of a node behind TO";
        if (order->to[0] != '\0' || !has_word || !is_name(&word))
            return false;
        memcpy(order->to, word.text, sizeof order->to);
        return true;
    }
    *why = order->drain_ms >= 0
               ? "TIMEOUT stands twice; expected " USAGE
               : "expected a duration of at most an hour behind TIMEOUT (2, 500ms, ...)";
    return order->drain_ms < 0 && has_word && !word.is_bad &&
           unit_parse_duration(word.text, &order->drain_ms) &&
           order->drain_ms <= DRAIN_MAX_MS;
}

bool order_read(const char *text, size_t n, struct switchover_order *order,
                const char **why)
{
    struct words words = {text, text + n};
    bool may_be_cluster = true;
    struct word word;

    *order = (struct switchover_order){.drain_ms = -1};
    for (; next_word(&words, &word); may_be_cluster = false) {
        *why = "expected " USAGE;
        if (is_keyword(&word, "to") || is_keyword(&word, "timeout")) {
            if (!read_operand(&words, &word, order, why))
                return false;
        } else if (may_be_cluster && !word.is_bad) {
            memcpy(order->cluster, word.text, sizeof order->cluster);
        } else {
            return false;
        }
    }
    *why = NULL;
    return true;
}

static bool has_word(struct words *words, const char *keyword)
{
    struct word word;

    return next_word(words, &word) && is_keyword(&word, keyword);
}

bool order_read_reset(const char *text, size_t n, struct switchover_order *order,
                      const char **why)
{
    struct words words = {text, text + n};
    struct word word;
    bool is_good;

    *why = NULL;
    if (!has_word(&words, "reset") || !has_word(&words, "cluster"))
        return false;
    is_good = next_word(&words, &word) ? !word.is_bad : true;
    memcpy(order->cluster, word.text, sizeof order->cluster);
    if (is_good && !next_word(&words, &word))
        return true;
    *why = "expected RESET CLUSTER [cluster]";
    return false;
}

bool order_read_name(const char *text, size_t n, char name[NODE_NAME_MAX])
{
    struct words words = {text, text + n};
    struct word word, more;

    name[0] = '\0';
    if (!next_word(&words, &word))
        return true;
    if (word.is_bad || next_word(&words, &more))
        return false;
    memcpy(name, word.text, NODE_NAME_MAX);
    return true;
}
