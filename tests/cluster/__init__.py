"""A real Patroni cluster on this machine; README.md says how it is used."""
