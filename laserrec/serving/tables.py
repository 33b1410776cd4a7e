"""The tables of the service's database. Migrations make them; a test compares the two."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table

Number = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself in a column of exactly this type."""

metadata = MetaData()

events = Table(
    "events",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("user_id", String, nullable=False),
    Column("item_id", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("time", BigInteger, nullable=False, comment="microseconds since 1970"),
    Column("event_id", String, unique=True, comment="the sender's own; a second event of the same id is not kept"),
    Column("recommendation_id", String),
    Index("events_of_user", "user_id", "time", "number"),
    Index("events_of_recommendation", "recommendation_id"),
)

items = Table(
    "items",
    metadata,
    Column("item_id", String, primary_key=True),
    Column("attributes", JSON, nullable=False),
    Column("hidden", Boolean, nullable=False),
    Column("available_until", BigInteger, comment="microseconds since 1970"),
    Column("deleted", Boolean, nullable=False),
    Column("change", BigInteger, nullable=False, unique=True, comment="rises with every change, in the order of commits"),
)

counters = Table(
    "counters",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

recommendations = Table(
    "recommendations",
    metadata,
    Column("recommendation_id", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("time", BigInteger, nullable=False, comment="microseconds since 1970"),
    Column("items", JSON, nullable=False, comment="ids, best first"),
)

keys = Table(
    "keys",
    metadata,
    Column("key_id", String, primary_key=True),
    Column("hash", String, nullable=False, comment="SHA-256 of the secret part, in hexadecimal"),
    Column("scope", String, nullable=False),
    Column("created", BigInteger, nullable=False, comment="microseconds since 1970"),
)
