#include "router/listener.h"

#include "core/memory.h"

struct listener *listener_new(struct config *config,
                              const struct listener_config *settings)
{
    struct listener *listener = memory_zeroed(sizeof *listener);
    const struct main_config *main = &config->main;

    if (listener == NULL)
        return NULL;
    listener->references = 1;
    listener->config = config_hold(config);
    listener->settings = settings;
    listener->tcp = (struct tcp_settings){
        .keepalive = main->tcp_keepalive,
        .keepidle_s = (int)(main->tcp_keepidle + 999) / 1000,
        .keepintvl_s = (int)(main->tcp_keepintvl + 999) / 1000,
        .keepcnt = (int)main->tcp_keepcnt,
    };
    return listener;
}

void listener_secure(struct listener *listener, struct security *security)
{
    listener->security = security_hold(security);
}

struct listener *listener_hold(struct listener *listener)
{
    atomic_fetch_add_explicit(&listener->references, 1, memory_order_relaxed);
    return listener;
}

void listener_release(struct listener *listener)
{
    if (listener == NULL ||
        atomic_fetch_sub_explicit(&listener->references, 1, memory_order_acq_rel) > 1)
        return;
    config_release(listener->config);
    security_release(listener->security);
    memory_free(listener);
}
