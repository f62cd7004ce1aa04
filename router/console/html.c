#include "router/console/html.h"

#include "core/check.h"

void html_escape(struct text *out, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&':
            text_add(out, "&amp;");
            break;
        case '<':
            text_add(out, "&lt;");
            break;
        case '>':
            text_add(out, "&gt;");
            break;
        case '"':
            text_add(out, "&quot;");
            break;
        case '\'':
            text_add(out, "&#39;");
            break;
        default:
            text_add_n(out, text, 1);
        }
    }
}

void html_cell(struct text *out, const char *text)
{
    text_add(out, "<td>");
    html_escape(out, text);
    text_add(out, "</td>");
}

void html_number(struct text *out, uint64_t number)
{
    text_addf(out, "<td class=n>%llu</td>", (unsigned long long)number);
}

void html_add_bytes(struct text *out, double bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    unsigned unit = 0;

    while (bytes >= 1024 && unit + 1 < COUNT_OF(units)) {
        bytes /= 1024;
        unit++;
    }
    text_addf(out, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

void html_bytes(struct text *out, uint64_t bytes)
{
    text_add(out, "<td class=n>");
    html_add_bytes(out, (double)bytes);
    text_add(out, "</td>");
}

void html_add_microseconds(struct text *out, double us)
{
    if (us < 1e3)
        text_addf(out, "%.0f &micro;s", us);
    else if (us < 1e6)
        text_addf(out, us < 1e4 ? "%.1f ms" : "%.0f ms", us / 1e3);
    else
        text_addf(out, "%.1f s", us / 1e6);
}

void html_add_seconds(struct text *out, uint64_t seconds)
{
    unsigned long long s = seconds;

    if (s < 60)
        text_addf(out, "%llu s", s);
    else if (s < 3600)
        text_addf(out, "%llu min %llu s", s / 60, s % 60);
    else if (s < 86400)
        text_addf(out, "%llu h %llu min", s / 3600, s / 60 % 60);
    else
        text_addf(out, "%llu d %llu h", s / 86400, s / 3600 % 24);
}
