#include "router/top.h"

#include <getopt.h>
#include <libpq-fe.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "config/config.h"
#include "config/unit.h"
#include "router/top_picture.h"

#ifdef WITH_CURSES
#include <curses.h>
#endif

#define PATIENCE_S "10"
#define INTERVAL_MS 2000
#define INTERVAL_MIN_MS 200
#define INTERVAL_MAX_MS 3600000

static const char help[] =
    "pgrouter top [--once] [--interval S] [HOST:PORT | CONNINFO]: what a running "
    "pgrouter "
    "does, in a\n"
    "terminal. It logs in to the console, on any listener with mode = pool: as libpq "
    "does, with\n"
    "PGUSER, PGPASSWORD, ~/.pgpass. Without an address: PGHOST and PGPORT, else "
    "127.0.0.1:6432.\n"
    "\n"
    "      --once        print one picture as text, and end\n"
    "      --interval S  seconds between two pictures (2)\n"
    "\n"
    "Keys: q ends, p stands still, s sorts the pools by another column, h shows the "
    "keys. "
    "Where the\n"
    "terminal can do nothing (TERM=dumb, a pipe) pictures follow each other.\n";

struct top {
    PGconn *connection;
    PGresult *tables[TOP_TABLES], *before[TOP_TABLES];
    double at_s, before_s; /* of the monotonic clock */
    int64_t interval_ms;
    enum top_order order;
    bool has_tables, has_before;
    bool is_once, is_still, shows_help;
    struct top_picture picture;
};

/* ---- the console --------------------------------------------------------------------
 */

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* "host:port" or "[v6]:port"; false: it is a connection string. */
static bool split_address(const char *text, char host[256], char port[16])
{
    const char *colon = strrchr(text, ':');
    size_t n = colon == NULL ? 0 : (size_t)(colon - text);

    if (colon == NULL || strchr(text, '=') != NULL || strchr(text, '/') != NULL ||
        strlen(colon + 1) >= 16 || n >= 256)
        return false;
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    memcpy(host, text, n);
    host[n] = '\0';
    strcpy(port, colon + 1);
    return true;
}

/* A connection string need not name the database. */
static bool names_database(const char *conninfo)
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    bool has_it = options == NULL; /* then it is wrong, which libpq tells */

    for (PQconninfoOption *option = options; option != NULL && option->keyword != NULL;
         option++)
        if (strcmp(option->keyword, "dbname") == 0 && option->val != NULL)
            has_it = true;
    PQconninfoFree(options);
    return has_it;
}

/* Of two databases the later counts, and the first alone may be a connection string. */
static PGconn *connect_by(const char *conninfo)
{
    const char *names[] = {"dbname", "connect_timeout", "fallback_application_name",
                           "dbname", NULL};
    const char *values[] = {conninfo, PATIENCE_S, "pgrouter top",
                            names_database(conninfo) ? NULL : CONFIG_POOL_LISTENER, NULL};

    return PQconnectdbParams(names, values, 1);
}

static PGconn *connect_to(const char *to)
{
    char host[256] = "127.0.0.1", port[16] = "6432";
    const char *names[] = {
        "connect_timeout", "fallback_application_name", "dbname", "host", "port", NULL};
    const char *values[] = {PATIENCE_S, "pgrouter top", CONFIG_POOL_LISTENER,
                            host,       port,           NULL};

    if (to != NULL && !split_address(to, host, port))
        return connect_by(to);
    if (to == NULL && getenv("PGHOST") != NULL)
        values[3] = NULL;
    if (to == NULL && getenv("PGPORT") != NULL)
        values[4] = NULL;
    return PQconnectdbParams(names, values, 0);
}

static void clear_tables(PGresult **tables)
{
    for (unsigned i = 0; i < TOP_TABLES; i++) {
        PQclear(tables[i]);
        tables[i] = NULL;
    }
}

/* False: the console does not answer, or refuses: see the connection's message. */
static bool ask(struct top *top)
{
    PGresult *tables[TOP_TABLES] = {NULL};

    for (unsigned i = 0; i < TOP_TABLES; i++) {
        tables[i] = PQexec(top->connection, top_commands[i]);
        if (PQresultStatus(tables[i]) != PGRES_TUPLES_OK) {
            clear_tables(tables);
            return false;
        }
    }
    clear_tables(top->before);
    memcpy(top->before, top->tables, sizeof top->before);
    memcpy(top->tables, tables, sizeof top->tables);
    top->before_s = top->at_s;
    top->at_s = now_s();
    top->has_before = top->has_tables;
    top->has_tables = true;
    return true;
}

static void draw(struct top *top)
{
    top_picture_make(&top->picture, top->tables, top->has_before ? top->before : NULL,
                     top->at_s - top->before_s, top->order);
}

/* ---- as text ------------------------------------------------------------------------
 */

static void print_picture(const struct top *top)
{
    for (size_t i = 0; i < top->picture.n; i++) {
        const char *text = top->picture.lines[i].text;
        size_t n = strlen(text);

        while (n > 0 && text[n - 1] == ' ')
            n--;
        printf("%.*s\n", (int)n, text);
    }
    fflush(stdout);
}

static int run_plainly(struct top *top)
{
    for (;;) {
        if (!ask(top)) {
            fprintf(stderr, "pgrouter: %s", PQerrorMessage(top->connection));
            return 1;
        }
        draw(top);
        print_picture(top);
        if (top->is_once)
            return ferror(stdout) != 0;
        putchar('\n');
        usleep((useconds_t)(top->interval_ms % 1000 * 1000));
        sleep((unsigned)(top->interval_ms / 1000));
    }
}

/* ---- in a terminal ------------------------------------------------------------------
 */

#ifdef WITH_CURSES

static const char keys[] = "q end   p stand still   s sort the pools   + - interval   "
                           "h hide this";

static void begin_colours(void)
{
    if (!has_colors())
        return;
    start_color();
    use_default_colors();
    init_pair(LOOK_GOOD, COLOR_GREEN, -1);
    init_pair(LOOK_WARN, COLOR_YELLOW, -1);
    init_pair(LOOK_BAD, COLOR_RED, -1);
}

static chtype attributes_of(enum top_look look)
{
    if (look == LOOK_TITLE)
        return A_BOLD;
    return look == LOOK_PLAIN || !has_colors() ? A_NORMAL : (chtype)COLOR_PAIR(look);
}

static void show_line(int row, enum top_look look, const char *text)
{
    attrset((int)attributes_of(look));
    mvaddnstr(row, 0, text, COLS);
    attrset(A_NORMAL);
}

static void show(const struct top *top, const char *trouble)
{
    char status[200];
    int row = 0;

    snprintf(status, sizeof status, "every %.1f s, pools by %s%s; h for help",
             (double)top->interval_ms / 1e3, top_order_names[top->order],
             top->is_still ? ", standing still" : "");
    erase();
    for (size_t i = 0; i < top->picture.n && row < LINES - 1; i++)
        show_line(row++, top->picture.lines[i].look, top->picture.lines[i].text);
    if (*trouble != '\0')
        show_line(LINES - 1, LOOK_BAD, trouble);
    else
        show_line(LINES - 1, LOOK_PLAIN, top->shows_help ? keys : status);
    refresh();
}

/* False: it is the end. */
static bool follow_key(struct top *top, int key)
{
    switch (key) {
    case 'q':
        return false;
    case 'p':
    case ' ':
        top->is_still = !top->is_still;
        break;
    case 's':
        top->order = (top->order + 1) % TOP_ORDERS;
        break;
    case 'h':
    case '?':
        top->shows_help = !top->shows_help;
        break;
    case '+':
        if (top->interval_ms * 2 <= INTERVAL_MAX_MS)
            top->interval_ms *= 2;
        break;
    case '-':
        if (top->interval_ms / 2 >= INTERVAL_MIN_MS)
            top->interval_ms /= 2;
        break;
    default:
        break;
    }
    return true;
}

/* Asks, or finds out that nobody is there, and tries again with the next picture. */
static void look(struct top *top, char trouble[200])
{
    *trouble = '\0';
    if (PQstatus(top->connection) != CONNECTION_OK)
        PQreset(top->connection);
    if (PQstatus(top->connection) == CONNECTION_OK && ask(top))
        return;
    snprintf(trouble, 200, "%s", PQerrorMessage(top->connection));
    trouble[strcspn(trouble, "\n")] = '\0';
}

static void watch(struct top *top)
{
    char trouble[200] = "";
    double next_s = 0;
    bool goes_on = true;

    while (goes_on) {
        int wait_ms;

        if (!top->is_still && now_s() >= next_s) {
            look(top, trouble);
            next_s = now_s() + (double)top->interval_ms / 1e3;
        }
        if (top->has_tables)
            draw(top);
        show(top, trouble);
        wait_ms = top->is_still ? 1000 : (int)((next_s - now_s()) * 1e3);
        timeout(wait_ms > 0 ? wait_ms : 0);
        goes_on = follow_key(top, getch());
    }
}

/* False: the terminal can do nothing. */
static bool run_in_terminal(struct top *top)
{
    const char *name = getenv("TERM");
    SCREEN *screen;

    if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO) || name == NULL ||
        strcmp(name, "dumb") == 0)
        return false;
    screen = newterm(NULL, stdout, stdin);
    if (screen == NULL)
        return false;
    cbreak();
    noecho();
    keypad(stdscr, TRUE);
    curs_set(0);
    begin_colours();
    watch(top);
    endwin();
    delscreen(screen);
    return true;
}

#else

static bool run_in_terminal(struct top *top)
{
    (void)top;
    return false;
}

#endif

/* ---- the command line ---------------------------------------------------------------
 */

/* False: `*status` is the program's. */
static bool read_options(struct top *top, int argc, char **argv, int *status)
{
    static const struct option options[] = {
        {"once", no_argument, NULL, '1'},
        {"interval", required_argument, NULL, 'i'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    int option;

    *status = 1;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == '1') {
            top->is_once = true;
        } else if (option == 'h') {
            *status = fputs(help, stdout) < 0;
            return false;
        } else if (option != 'i' || !unit_parse_duration(optarg, &top->interval_ms) ||
                   top->interval_ms < INTERVAL_MIN_MS ||
                   top->interval_ms > INTERVAL_MAX_MS) {
            fputs("Try pgrouter top --help.\n", stderr);
            return false;
        }
    }
    if (argc - optind <= 1)
        return true;
    fputs("pgrouter: one address at most. Try pgrouter top --help.\n", stderr);
    return false;
}

int top_run(int argc, char **argv)
{
    static struct top top = {.interval_ms = INTERVAL_MS};
    int status;

    setlocale(LC_ALL, "");
    setlocale(LC_NUMERIC, "C");
    if (!read_options(&top, argc, argv, &status))
        return status;
    top.connection = connect_to(argv[optind]);
    if (PQstatus(top.connection) != CONNECTION_OK) {
        fprintf(stderr, "pgrouter: %s",
                top.connection == NULL ? "out of memory\n"
                                       : PQerrorMessage(top.connection));
        status = 1;
    } else if (!top.is_once && run_in_terminal(&top)) {
        status = 0;
    } else {
        status = run_plainly(&top);
    }
    clear_tables(top.tables);
    clear_tables(top.before);
    PQfinish(top.connection);
    return status;
}
