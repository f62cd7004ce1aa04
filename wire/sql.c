#include "wire/sql.h"

#include <stdint.h>
#include <string.h>

/* The longest of the words that matter. */
#define WORD_MAX 8u
/* Longer tags of dollar quotes exist, but nobody writes them. */
#define TAG_MAX 64u

struct text {
    const char *at;
    const char *end;
};

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (uint8_t)c >= 0x80;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A byte of an identifier behind its first one. */
static bool is_of_word(char c)
{
    return is_letter(c) || is_digit(c) || c == '$';
}

static bool begins(const struct text *text, const char *with)
{
    size_t n = strlen(with);

    return (size_t)(text->end - text->at) >= n && memcmp(text->at, with, n) == 0;
}

static void skip_blanks(struct text *text)
{
    while (text->at < text->end && is_blank(*text->at))
        text->at++;
}

/* ---- words --------------------------------------------------------------------------
 */

/* Reads a word in lower case; "" when it is longer than any that matters. */
static void read_word(struct text *text, char word[WORD_MAX + 1])
{
    size_t n = 0;

    for (; text->at < text->end && is_of_word(*text->at); text->at++, n++)
        if (n < WORD_MAX)
            word[n] = *text->at >= 'A' && *text->at <= 'Z' ? (char)(*text->at | 0x20)
                                                           : *text->at;
    word[n <= WORD_MAX ? n : 0] = '\0';
}

static unsigned flags_of(const char *word)
{
    static const struct {
        char word[WORD_MAX + 1];
        unsigned flags;
    } words[] = {
        {"select", SQL_PLAIN}, {"insert", SQL_PLAIN},      {"update", SQL_PLAIN},
        {"delete", SQL_PLAIN}, {"with", SQL_PLAIN},        {"values", SQL_PLAIN},
        {"table", SQL_PLAIN},  {"merge", SQL_PLAIN},       {"commit", SQL_COMMIT},
        {"end", SQL_COMMIT},   {"rollback", SQL_ROLLBACK}, {"abort", SQL_ROLLBACK},
    };

    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (words[i].word[0] == word[0] && strcmp(words[i].word, word) == 0)
            return words[i].flags;
    return 0;
}

/* ---- reading all of it --------------------------------------------------------------
 */

/* Behind the begin of a comment. False: it has no end. */
static bool skip_comment(struct text *text)
{
    unsigned depth = 1;

    while (text->at < text->end) {
        if (begins(text, "*/")) {
            text->at += 2;
            if (--depth == 0)
                return true;
        } else if (begins(text, "/*")) {
            text->at += 2;
            depth++;
        } else {
            text->at++;
        }
    }
    return false;
}

static void skip_line(struct text *text)
{
    while (text->at < text->end && *text->at != '\n' && *text->at != '\r')
        text->at++;
}

/* Blanks and comments. False: in doubt. */
static bool skip_nothing(struct text *text)
{
    for (;;) {
        skip_blanks(text);
        if (begins(text, "--")) {
            skip_line(text);
        } else if (begins(text, "/*")) {
            text->at += 2;
            if (!skip_comment(text))
                return false;
        } else {
            return true;
        }
    }
}

/* A string, whose first quote is where the text stands. What a backslash does in one that
 * is not written E'' depends on a setting of the session, so that one before a quote is
 * in doubt; so is one behind a byte that may be the half of a character (SJIS, BIG5). */
static bool skip_string(struct text *text, bool escapes)
{
    for (text->at++; text->at < text->end; text->at++) {
        const char *c = text->at;

        if (*c == '\'') {
            text->at++;
            if (text->at == text->end || *text->at != '\'')
                return true;
        } else if (*c == '\\') {
            if ((uint8_t)c[-1] >= 0x80)
                return false;
            if (escapes)
                text->at++;
            else if (c + 1 < text->end && c[1] == '\'')
                return false;
        }
    }
    return false;
}

static bool skip_identifier(struct text *text)
{
    for (text->at++; text->at < text->end; text->at++)
        if (*text->at == '"') {
            text->at++;
            if (text->at == text->end || *text->at != '"')
                return true;
        }
    return false;
}

/* $tag$ ... $tag$, or a parameter, $1. */
static bool skip_dollar(struct text *text)
{
    const char *begin = text->at++, *found;
    size_t n;

    while (text->at < text->end && *text->at != '$' && is_of_word(*text->at))
        text->at++;
    if (text->at - begin > 1 && is_digit(begin[1]))
        return true;
    n = (size_t)(text->at - begin) + 1;
    if (text->at == text->end || *text->at != '$' || n > TAG_MAX)
        return false;
    text->at++;
    found = memmem(text->at, (size_t)(text->end - text->at), begin, n);
    if (found == NULL)
        return false;
    text->at = found + n;
    return true;
}

/* A word, and the string behind it if it says what kind that is. */
static bool skip_word(struct text *text)
{
    const char *begin = text->at;
    bool escapes;

    while (text->at < text->end && is_of_word(*text->at))
        text->at++;
    if (text->at == text->end || *text->at != '\'')
        return true;
    escapes = text->at - begin == 1 && (*begin == 'e' || *begin == 'E');
    return skip_string(text, escapes);
}

/* One token. `*depth` counts parentheses. */
static bool skip_token(struct text *text, int *depth)
{
    char c = *text->at;

    if (c == '\'')
        return skip_string(text, false);
    if (c == '"')
        return skip_identifier(text);
    if (c == '$')
        return skip_dollar(text);
    if (is_letter(c))
        return skip_word(text);
    if (is_digit(c)) {
        while (text->at < text->end && (is_letter(*text->at) || is_digit(*text->at)))
            text->at++;
        return true;
    }
    if (c == '(' || c == '[')
        ++*depth;
    if (c == ')' || c == ']')
        --*depth;
    text->at++;
    return c != '\0' && *depth >= 0;
}

/* Goes to the end of the statement, behind its semicolon. False: in doubt. */
static bool skip_statement(struct text *text)
{
    int depth = 0;

    while (skip_nothing(text)) {
        if (text->at == text->end)
            return depth == 0;
        if (*text->at == ';') {
            text->at++;
            return depth == 0;
        }
        if (!skip_token(text, &depth))
            return false;
    }
    return false;
}

/* Nothing follows but blanks, comments and semicolons. */
static bool is_over(struct text *text)
{
    while (skip_nothing(text)) {
        if (text->at == text->end)
            return true;
        if (*text->at++ != ';')
            return false;
    }
    return false;
}

/* COMMIT [WORK | TRANSACTION] [AND NO CHAIN] */
static bool is_chained(const char *text, size_t n)
{
    static const char word[] = "chain";

    for (size_t i = 0; i + sizeof word - 1 <= n; i++) {
        size_t k = 0;

        while (k < sizeof word - 1 && (text[i + k] | 0x20) == word[k])
            k++;
        if (k == sizeof word - 1)
            return true;
    }
    return false;
}

/* Those of the first word, and of what is seen behind it. */
static unsigned with_end(unsigned flags, struct text rest)
{
    while (rest.at < rest.end && (is_blank(*rest.at) || *rest.at == ';'))
        rest.at++;
    return flags & SQL_COMMIT || (flags & SQL_ROLLBACK && rest.at == rest.end)
               ? flags | SQL_ENDS
               : flags;
}

unsigned sql_read(const char *text, size_t n)
{
    struct text rest = {text, text + n};
    char word[WORD_MAX + 1];
    unsigned flags;

    if (!skip_nothing(&rest))
        return 0;
    read_word(&rest, word);
    flags = flags_of(word);
    if (flags & SQL_COMMIT && is_chained(text, n))
        flags &= ~(unsigned)SQL_COMMIT;
    flags = with_end(flags, rest);
    if (!skip_statement(&rest) || !is_over(&rest))
        return flags & (SQL_PLAIN | SQL_ROLLBACK);
    return flags | SQL_SINGLE;
}

/* ---- a glance -----------------------------------------------------------------------
 */

/* Whether a semicolon is the last thing that is said. */
static bool ends_behind(const char *semicolon, const char *end)
{
    while (++semicolon < end && is_blank(*semicolon))
        ;
    return semicolon >= end;
}

unsigned sql_look(const char *text, size_t n)
{
    struct text rest = {text, text + n};
    const char *semicolon;
    char word[WORD_MAX + 1];
    unsigned flags;

    skip_blanks(&rest);
    read_word(&rest, word);
    flags = flags_of(word);
    semicolon = memchr(text, ';', n);
    if (word[0] == '\0' || flags & SQL_COMMIT ||
        (semicolon != NULL && !ends_behind(semicolon, rest.end)))
        return sql_read(text, n);
    return with_end(flags, rest) | SQL_SINGLE;
}
