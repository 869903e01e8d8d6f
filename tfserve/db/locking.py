"""The advisory lock that a server holds on a PostgreSQL database. Needs no Django."""

from __future__ import annotations

LOCK_CLASS = 0x7F5E
"""First half of the lock's key; the second half is a hash of the schema's name."""
SET_KEEPALIVES = "SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
"""The lock of a host that disappears is released within a minute, not after hours."""
