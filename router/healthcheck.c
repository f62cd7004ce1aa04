#include "router/healthcheck.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#define PATIENCE_MS 2000L
#define URL_MAX 512

const char *healthcheck_host_of(const struct endpoint *endpoint)
{
    if (endpoint->host == NULL || strcmp(endpoint->host, "*") == 0 ||
        strcmp(endpoint->host, "0.0.0.0") == 0)
        return "127.0.0.1";
    return strcmp(endpoint->host, "::") == 0 ? "::1" : endpoint->host;
}

static void print_url(const struct endpoint *endpoint, const char *path,
                      char url[URL_MAX])
{
    const char *host = healthcheck_host_of(endpoint);
    bool is_v6 = strchr(host, ':') != NULL;

    if (endpoint->path != NULL)
        snprintf(url, URL_MAX, "http://localhost%s", path);
    else
        snprintf(url, URL_MAX, "http://%s%s%s:%u%s", is_v6 ? "[" : "", host,
                 is_v6 ? "]" : "", (unsigned)endpoint->port, path);
}

static size_t drop(const char *bytes, size_t size, size_t n, void *unused)
{
    (void)bytes;
    (void)unused;
    return size * n;
}

/* NULL, or what is wrong. `only_connects`: nothing is said over the connection. */
static const char *ask(const struct endpoint *endpoint, bool only_connects,
                       char url[URL_MAX])
{
    CURL *curl = curl_easy_init();
    CURLcode result;
    long status = 0;

    print_url(endpoint, only_connects ? "" : "/healthz", url);
    if (curl == NULL)
        return "out of memory";
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, PATIENCE_MS);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, drop);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECT_ONLY, only_connects ? 1L : 0L);
    if (endpoint->path != NULL)
        (void)curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, endpoint->path);
    result = curl_easy_perform(curl);
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(curl);
    if (result != CURLE_OK)
        return curl_easy_strerror(result);
    return only_connects || status == 200 ? NULL : "the answer is not 200";
}

bool healthcheck_run(const struct config *config)
{
    bool has_stats = config->stats.bind.n > 0;
    const struct endpoint *endpoint =
        has_stats ? &config->stats.bind.items[0] : &config->listeners[0].bind.items[0];
    char url[URL_MAX];
    const char *why = ask(endpoint, !has_stats, url);

    if (why != NULL)
        fprintf(stderr, "pgrouter: %s%s: %s\n", url,
                endpoint->path == NULL ? "" : endpoint->path, why);
    return why == NULL;
}
