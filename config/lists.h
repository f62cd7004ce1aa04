/* config/lists.h - values that are lists: nodes, names, addresses. Pure; any thread.
 *
 * Entries are separated by commas, with blanks around them as one likes; at most
 * LISTS_MAX of them. On anything but VALUE_OK the list is untouched and `why` says which
 * entry was wrong and what was expected. On VALUE_OK the list is the caller's.
 */
#ifndef CONFIG_LISTS_H
#define CONFIG_LISTS_H

#include "config/config.h"
#include "config/value.h"

#define LISTS_MAX 256
/* "name=host:port:patroniport, ...": at least one; name and patroniport may be left out.
 * A name left out is the host up to its first dot; the whole host if that is a number
 * or the short one is taken; with its port if that is taken too. */
enum value_result lists_parse_nodes(const char *text, struct node_list *list,
                                    struct text *why) MUST_CHECK;
/* One node for each host, all with that port; IPv6 addresses with or without brackets. */
enum value_result lists_make_nodes(const struct name_list *hosts, uint16_t port,
                                   struct node_list *list, struct text *why) MUST_CHECK;
void lists_clear_nodes(struct node_list *list);
bool lists_equal_nodes(const struct node_list *a, const struct node_list *b);

/* "host:port, https://host:port, ...", or nothing. */
enum value_result lists_parse_stores(const char *text, struct store_list *list,
                                     struct text *why) MUST_CHECK;
void lists_clear_stores(struct store_list *list);
bool lists_equal_stores(const struct store_list *a, const struct store_list *b);

/* "name, ...", or nothing. */
enum value_result lists_parse_names(const char *text, struct name_list *list,
                                    struct text *why) MUST_CHECK;
void lists_clear_names(struct name_list *list);
bool lists_equal_names(const struct name_list *a, const struct name_list *b);

/* What endpoint_parse() takes: at least one. */
enum value_result lists_parse_endpoints(const char *text, struct endpoint_list *list,
                                        struct text *why) MUST_CHECK;
/* One of them. On false `*why` says what was expected, NULL = out of memory. */
bool lists_parse_endpoint(const char *entry, struct endpoint *endpoint,
                          const char **why) MUST_CHECK;
void lists_clear_endpoints(struct endpoint_list *list);
bool lists_equal_endpoints(const struct endpoint_list *a, const struct endpoint_list *b);

/* What network_parse() takes, or nothing. */
enum value_result lists_parse_networks(const char *text, struct network_list *list,
                                       struct text *why) MUST_CHECK;
void lists_clear_networks(struct network_list *list);
bool lists_equal_networks(const struct network_list *a, const struct network_list *b);

/* Takes the next entry off `*rest`, in place and without the blanks around it; NULL when
 * there is none left. A text of blanks has no entry. */
char *lists_next_entry(char **rest);
/* One entry of nodes, which is taken apart in place; the name stays NULL when left out.
 * On false `*why` says what was expected, NULL = out of memory. */
bool lists_parse_node(char *entry, struct node_config *node, const char **why) MUST_CHECK;
void lists_clear_node(struct node_config *node);

/* May somebody be called so? Letters, digits and . _ - */
bool lists_is_name(const char *text);
/* The same host, by name or number? */
bool lists_is_same_host(const char *a, const char *b);

#endif
