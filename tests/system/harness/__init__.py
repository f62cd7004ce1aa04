"""What the system tests stand on; ../README.md shows how it is used."""
