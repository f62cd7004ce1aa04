/* router/top.h - `pgrouter top`: the console's picture of a running process, live in a
 * terminal, or once as text.
 */
#ifndef ROUTER_TOP_H
#define ROUTER_TOP_H

/* `argv` begins with "top". The program's exit status. */
int top_run(int argc, char **argv);

#endif
