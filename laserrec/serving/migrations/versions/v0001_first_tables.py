"""Events, items, recommendations and keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "events",
        sa.Column("number", number, primary_key=True, autoincrement=True),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("item_id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False, comment="microseconds since 1970"),
        sa.Column("event_id", sa.String, unique=True, comment="the sender's own; a second event of the same id is not kept"),
        sa.Column("recommendation_id", sa.String),
    )
    op.create_index("events_of_user", "events", ["user_id", "time", "number"])
    op.create_index("events_of_recommendation", "events", ["recommendation_id"])
    op.create_table(
        "items",
        sa.Column("item_id", sa.String, primary_key=True),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.Column("hidden", sa.Boolean, nullable=False),
        sa.Column("available_until", sa.BigInteger, comment="microseconds since 1970"),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("change", sa.BigInteger, nullable=False, unique=True, comment="rises with every change, in the order of commits"),
    )
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(counters, [{"name": "items", "value": 0}])
    op.create_table(
        "recommendations",
        sa.Column("recommendation_id", sa.String, primary_key=True),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False, comment="microseconds since 1970"),
        sa.Column("items", sa.JSON, nullable=False, comment="ids, best first"),
    )
    op.create_table(
        "keys",
        sa.Column("key_id", sa.String, primary_key=True),
        sa.Column("hash", sa.String, nullable=False, comment="SHA-256 of the secret part, in hexadecimal"),
        sa.Column("scope", sa.String, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False, comment="microseconds since 1970"),
    )
