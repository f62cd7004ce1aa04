#!/bin/bash
# post_bootstrap.sh CONNINFO: roles and the application's database, in a new cluster. May be run again:
# what is there already is kept, and passwords become those of the environment.
#
#   POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB          the application's
#   SUPERUSER_USERNAME, SUPERUSER_PASSWORD                 Patroni's superuser, if set
#   REPLICATION_USERNAME, REPLICATION_PASSWORD             Patroni's replication, if set
#
# The latter two are called PATRONI_... where somebody runs it by hand in the container.
#
# psql takes the values from the environment and quotes them itself: none stands on a command line or in
# the text of a statement that a log may show.
set -euo pipefail

export POSTGRES_USER=${POSTGRES_USER:-postgres}
export POSTGRES_PASSWORD=${POSTGRES_PASSWORD:-}
export POSTGRES_DB=${POSTGRES_DB:-$POSTGRES_USER}
export REPLICATION_USERNAME=${REPLICATION_USERNAME-${PATRONI_REPLICATION_USERNAME:-}}
export REPLICATION_PASSWORD=${REPLICATION_PASSWORD:-${PATRONI_REPLICATION_PASSWORD:-}}
export SUPERUSER_USERNAME=${SUPERUSER_USERNAME-${PATRONI_SUPERUSER_USERNAME:-}}
export SUPERUSER_PASSWORD=${SUPERUSER_PASSWORD:-${PATRONI_SUPERUSER_PASSWORD:-}}

psql -X -q --no-password -v ON_ERROR_STOP=1 -d "${1:?a connection string}" <<'END'
SET log_statement = none;
SET log_min_duration_statement = -1;
SET log_min_error_statement = panic;
SET pg_stat_statements.track_utility = off;
SET password_encryption = 'scram-sha-256';
SET client_min_messages = warning;

\set superuser `printenv SUPERUSER_USERNAME`
\set superuser_password `printenv SUPERUSER_PASSWORD`
\set replication `printenv REPLICATION_USERNAME`
\set replication_password `printenv REPLICATION_PASSWORD`
\set application `printenv POSTGRES_USER`
\set application_password `printenv POSTGRES_PASSWORD`
\set database `printenv POSTGRES_DB`

SELECT format('CREATE ROLE %I LOGIN', name)
  FROM (VALUES (:'application'), (:'replication'), (:'superuser')) AS wanted (name)
  WHERE name <> '' AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name::name)
  GROUP BY name
\gexec
SELECT format('ALTER ROLE %I LOGIN %s', name, attribute)
  FROM (VALUES (:'replication', 'REPLICATION'), (:'superuser', 'SUPERUSER')) AS wanted (name, attribute)
  WHERE name <> ''
\gexec
SELECT format('ALTER ROLE %I PASSWORD %L', name, password)
  FROM (VALUES (:'application', :'application_password'), (:'replication', :'replication_password'),
    (:'superuser', :'superuser_password')) AS wanted (name, password)
  WHERE name <> '' AND password <> ''
\gexec
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'application')
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = :'database')
\gexec
END
