/* health/trust.h - TLS towards those who know the roles: etcd and Patroni's REST API.
 *
 * Contexts come from a registry, so a reload that changes none of these settings reads no
 * file; the certificates that the system trusts alone can take tens of milliseconds.
 *
 * Thread: control only.
 */
#ifndef HEALTH_TRUST_H
#define HEALTH_TRUST_H

#include "config/config.h"
#include "core/tls_registry.h"

/* Whether any endpoint of the cluster's etcd is asked by https. */
bool trust_needs_etcd(const struct cluster_config *cluster);
/* For that; held for the caller. NULL, with a sentence in `why`, where the files are bad.
 */
struct tls_context *trust_hold_etcd(struct tls_registry *registry,
                                    const struct cluster_config *cluster,
                                    struct text *why) MUST_CHECK;

/* The same for Patroni's REST API, which is asked by https unless restapi_tls = off. */
bool trust_needs_restapi(const struct cluster_config *cluster);
struct tls_context *trust_hold_restapi(struct tls_registry *registry,
                                       const struct cluster_config *cluster,
                                       struct text *why) MUST_CHECK;

/* Whether the files of etcd's, or of the REST API's, can be read: a line in `errors`
 * where not. What was read stays in the registry until its next look. */
bool trust_check_etcd(struct tls_registry *registry, const struct cluster_config *cluster,
                      struct text *errors) MUST_CHECK;
bool trust_check_restapi(struct tls_registry *registry,
                         const struct cluster_config *cluster,
                         struct text *errors) MUST_CHECK;

#endif
