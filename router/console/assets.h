/* router/console/assets.h - the files of assets/, as the stats port serves them; the
 * table is made when the program is built (assets/embed.py).
 */
#ifndef ROUTER_CONSOLE_ASSETS_H
#define ROUTER_CONSOLE_ASSETS_H

#include <stddef.h>

struct asset {
    const char *path; /* "/dashboard.css" */
    const char *content_type;
    const unsigned char *bytes;
    size_t n;
};

extern const struct asset assets[];
extern const unsigned n_assets;

#endif
