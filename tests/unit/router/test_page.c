/* The page for people, of a picture made by hand. */
#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "router/console/page.h"
#include "tests/lib/picture.h"

static struct picture picture;
static struct text page;

static void make(void)
{
    text_init(&page, 1 << 20);
    picture_make(&picture);
}

static void clear(void)
{
    text_clear(&page);
}

TestSuite(page, .init = make, .fini = clear, .timeout = 10);

static void print(void)
{
    text_clear(&page);
    page_add(&picture.overview, &page);
    cr_assert_not(page.overflowed);
}

static void expect(const char *wanted)
{
    cr_expect_not_null(strstr(text_get(&page), wanted), "the page does not say: %s",
                       wanted);
}

static void expect_not(const char *unwanted)
{
    cr_expect_null(strstr(text_get(&page), unwanted), "the page says: %s", unwanted);
}

/* Every element that is opened is closed, but for those of HTML that may stay open. */
static void expect_balance(const char *element)
{
    char opening[32], closing[32];
    int depth = 0;

    snprintf(opening, sizeof opening, "<%s", element);
    snprintf(closing, sizeof closing, "</%s>", element);
    for (const char *at = text_get(&page); (at = strchr(at, '<')) != NULL; at++) {
        if (strncmp(at, opening, strlen(opening)) == 0 &&
            !isalnum((unsigned char)at[strlen(opening)]))
            depth++;
        depth -= strncmp(at, closing, strlen(closing)) == 0;
        cr_assert(depth == 0 || depth == 1, "<%s>", element);
    }
    cr_expect_eq(depth, 0, "<%s>", element);
}

Test(page, is_whole_html_that_loads_nothing_from_elsewhere)
{
    static const char *const elements[] = {
        "html",    "head", "title", "body", "main", "section", "article", "h1",   "h2",
        "h3",      "h4",   "p",     "ul",   "li",   "dl",      "table",   "tr",   "td",
        "article", "div",  "svg",   "a",    "b",    "span",    "script",  "small"};

    print();
    cr_expect_eq(strncmp(text_get(&page), "<!doctype html>", 15), 0);
    for (size_t i = 0; i < COUNT_OF(elements); i++)
        expect_balance(elements[i]);
    expect("src=/dashboard.js");
    expect("href=/dashboard.css");
    expect_not("://");
    expect_not("url(");
    expect_not("style=");
    expect_not("onclick");
}

Test(page, shows_the_process)
{
    print();
    expect("up 1 d 2 h");
    expect("82 of 1000 clients, 4 waiting for a place");
    expect(PGROUTER_VERSION);
    picture.overview.hides_version = true;
    events_note(&picture.events, LOG_LEVEL_INFO, "runs version=" PGROUTER_VERSION);
    print();
    expect_not(PGROUTER_VERSION);
}

Test(page, is_kept_as_things_are_or_not)
{
    print();
    expect("<noscript><meta http-equiv=refresh content=10></noscript>");
    picture.overview.refresh_s = 0;
    print();
    expect_not("http-equiv");
    expect_not("<script");
}

Test(page, shows_a_cluster)
{
    print();
    expect("<h3>main <span class=\"badge good\">in order</span></h3>");
    expect("The primary is <b>n1</b> since 1 min 0 s, timeline 3.");
    expect_not("held since");
    picture.report.report.primary = "";
    picture.report.report.why_no_primary = "two nodes claim to be it";
    print();
    expect("<span class=\"badge bad\">no primary</span>");
    expect("<p>two nodes claim to be it.</p>");
    expect_not("role=alert");
    picture.report.report.alarm = "n3 is writable";
    print();
    expect("<span class=\"badge bad\">alarm</span>");
    expect("<p class=bad role=alert>n3 is writable.</p>");
    picture.report.report.has_rivals = true;
    picture.report.report.is_paused = true;
    print();
    expect("<span class=\"badge bad\">two primaries</span>");
    expect("Patroni is paused");
}

Test(page, shows_the_nodes_and_the_primary_first)
{
    const char *first, *second;

    picture.reports[0].node.role = NODE_REPLICA;
    picture.reports[0].node.is_up = false;
    picture.reports[0].node.n_addresses = 0;
    picture.reports[0].checked_at_ms = 0;
    picture.reports[0].node.timeline = 0;
    picture.reports[1].node.role = NODE_PRIMARY;
    picture.reports[1].checked_at_ms = 40500;
    print();
    first = strstr(text_get(&page), "<li class=\"node primary is-up\"><h4>n2</h4>");
    second = strstr(text_get(&page), "<li class=\"node replica is-down\"><h4>n1</h4>");
    cr_assert_not_null(first);
    cr_assert_not_null(second);
    cr_expect_lt(first, second);
    expect("<p>replica, <b class=bad>down</b></p>");
    expect("<dt>Address</dt><dd>not resolved</dd><dt>Timeline</dt><dd>not known</dd>");
    expect("<dt>Last check</dt><dd>never</dd>");
    expect("<dd>200 running primary (12 ms, 60 s ago)</dd>");
    expect("<dt>Address</dt><dd>127.0.0.1:5434</dd><dt>Timeline</dt><dd>3</dd>"
           "<dt>Lag</dt><dd>3.0 MB</dd><dt>Sessions</dt><dd>29</dd>");
}

Test(page, says_what_is_wrong_with_a_node)
{
    picture.reports[0].node.is_leaving = true;
    picture.reports[1].node.is_draining = true;
    picture.reports[2].node.is_lagging = true;
    print();
    expect("primary, <b class=warn>leaving</b>");
    expect("replica, <b class=warn>draining</b>");
    expect("replica, <b class=warn>lagging</b>");
}

Test(page, shows_a_hold)
{
    picture.report.present =
        (struct switchover){.cause = HOLD_BY_HOOK, .held_ms = 99000, .sign = "<from> n1"};
    picture.report.report.present = &picture.report.present;
    print();
    expect("<span class=\"badge warn\">clients are held</span>");
    expect("Clients are held since 1.5 s (hook): &lt;from&gt; n1.");
}

Test(page, shows_the_last_switchovers)
{
    print();
    expect("None since the start.");
    picture.report.last[0] = (struct switchover){.outcome = SWITCHOVER_CHANGED,
                                                 .began_at_s = 60,
                                                 .held_ms = 1000,
                                                 .gone_ms = 1500,
                                                 .proven_ms = 2700,
                                                 .ended_ms = 3000,
                                                 .from = "n1",
                                                 .to = "n<2",
                                                 .sign = "SWITCHOVER by alice",
                                                 .n_held = 12,
                                                 .n_lost = 3,
                                                 .longest_wait_ms = 1700};
    picture.report.n_last = 1;
    print();
    expect("<time>1970-01-01 00:01:00</time></td><td>main</td>"
           "<td>n1 &rarr; n&lt;2</td><td>changed</td>");
    expect("<rect class=before width=25.0 height=8></rect>"
           "<rect class=after x=25.0 width=75.0 height=8>");
    expect("<td class=n>-</td><td class=n>500 ms</td><td class=n>1700 ms</td>"
           "<td class=n>-</td><td class=n>12</td><td class=n>1.7 s</td><td class=n>0</td>"
           "<td class=n>3</td><td class=n>0</td><td>SWITCHOVER by alice</td>");
}

Test(page, shows_a_pool_and_its_bar)
{
    struct database_config database = {.name = picture_text("app"), .pool_size = 10};

    picture.config.databases = &database;
    picture.config.n_databases = 1;
    picture.pool.n_clients = 31;
    list_append(&picture.sums.pools, &(struct pool_sum){.database = "pgbouncer"}.in_list);
    print();
    expect("<th scope=row>app <span class=soft>alice</span></th><td>transaction</td>"
           "<td class=n>25</td><td class=\"n warn\">6</td>");
    expect("<rect class=idle width=80.0 height=8></rect>"
           "<rect class=used width=50.0 height=8></rect>");
    expect("5 in use, 8 open, of 10");
    expect("<td class=\"n warn\">1.5 ms</td><td class=n>701</td><td class=n>702</td>"
           "<td>pool_size</td>");
    expect_not("scope=row>pgbouncer");
}

Test(page, draws_what_has_been)
{
    struct history_sample sample = {{0}, {0}};

    for (unsigned i = 1; i <= 3; i++) {
        sample.values[SERIES_transactions] += 50;
        history_note(&picture.history, i * 5000, &sample);
    }
    print();
    expect("<th scope=row>Transactions</th><td class=n>10/s</td>");
    expect("<path d=\"M178.0 0.0L179.0 0.0L180.0 0.0\"></path></svg>"
           "<span class=of>most 10/s</span>");
}

Test(page, shows_events_the_last_first)
{
    char text[32];

    for (unsigned i = 0; i < EVENTS_KEPT + 5; i++) {
        snprintf(text, sizeof text, "event<%u>", i);
        events_note(&picture.events, i % 2 ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, text);
    }
    print();
    expect("<td class=info>event&lt;68&gt;</td></tr>\n<tr>");
    expect("<td class=bad>event&lt;67&gt;</td>");
    expect("event&lt;49&gt;");
    expect_not("event&lt;48&gt;");
}

Test(page, shows_each_listener_and_where_it_leads)
{
    picture.settings[1].check_uri = picture_text("/sync");
    print();
    expect("<h3>rw</h3><p>*:5000 leads to primary of main.</p>");
    expect("<h3>ro</h3><p>*:5001 leads to /sync of main.</p>");
    picture.settings[1].to = NULL;
    picture.shown[1].n_servers = 0;
    picture.settings[1].role = ROLE_DEFAULT;
    picture.settings[1].check_uri = picture_text("");
    print();
    expect(" leads to what each line says of [databases].");
}

Test(page, has_haproxys_rows_in_haproxys_colours)
{
    picture.servers[0][1].serves = false;
    picture.servers[0][2].report.node.is_draining = true;
    print();
    expect("<tr class=frontend><th scope=row>FRONTEND</th>");
    expect("<tr class=active_up><th scope=row>n1</th>");
    expect("<tr class=active_down><th scope=row>n2</th>");
    expect("<tr class=active_draining><th scope=row>n3</th>");
    expect("<tr class=backend><th scope=row>BACKEND</th>");
    expect("<td>200 running primary</td>");
}

Test(page, has_forms_for_those_who_may_act)
{
    struct cluster_config cluster = {.name = picture_text("main")};

    print();
    expect_not("<form");
    expect_not("href=/admin");
    picture.overview.has_admin = true;
    print();
    expect("<a href=/admin>Log in to act</a>");
    expect_not("<form");
    picture.config.clusters = &cluster;
    picture.config.n_clusters = 1;
    picture.overview.token = "0123";
    picture.overview.last_act = "drain <n2> by alice";
    print();
    expect_not("href=/admin");
    expect("<p role=status>Last: drain &lt;n2&gt; by alice.</p>");
    expect("<legend>A node </legend><input type=hidden name=csrf value=0123>");
    expect("<option>main/n1</option><option>main/n2</option>");
    expect("<option value=\"app\"></option>");
    expect("<legend>Another primary of main</legend>");
    expect("<option>n2</option><option>n3</option></select>");
    cluster.is_implicit = true;
    print();
    expect_not("Another primary");
}

Test(page, shows_each_thread)
{
    print();
    expect("<th scope=row>control</th><td class=n>-</td><td class=n>-</td>"
           "<td class=n>1.9</td>");
    expect("<th scope=row>worker-0</th><td class=n>61</td><td class=n>0</td>"
           "<td class=n>0.0</td>");
    expect("<th scope=row>worker-1</th><td class=n>67</td><td class=n>71</td>"
           "<td class=n>7.3</td>");
    expect_not("worker-2");
}

Test(page, takes_no_markup_from_names_and_answers)
{
    static const char evil[] = "<script>alert(\"x\")</script>&";

    picture.settings[0].name = picture_text(evil);
    picture.settings[1].check_uri = picture_text(evil);
    picture.binds[0].host = picture_text(evil);
    picture.cluster_config.name = picture_text(evil);
    picture.report.report.name = evil;
    picture.report.report.primary = "";
    picture.report.report.why_no_primary = picture.report.report.alarm = evil;
    picture.pool.database = picture.pool.user = evil;
    strcpy(picture.pool.why, evil);
    strcpy(picture.reports[0].node.name, evil);
    strcpy(picture.reports[0].said, evil);
    strcpy(picture.servers[0][0].report.node.name, evil);
    strcpy(picture.servers[0][0].report.said, evil);
    events_note(&picture.events, LOG_LEVEL_INFO, evil);
    picture.overview.refresh_s = 0;
    print();
    expect_not("<script");
    expect("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;");
}

Test(page, has_sections_one_by_one)
{
    char whole[64];

    print();
    for (unsigned i = 0; i < PAGE_SECTIONS; i++) {
        struct text section;

        text_init(&section, 1 << 20);
        page_add_section(&picture.overview, i, &section);
        snprintf(whole, sizeof whole, "<section id=%s>", page_section_id(i));
        expect(whole);
        expect(text_get(&section));
        text_clear(&section);
    }
}
