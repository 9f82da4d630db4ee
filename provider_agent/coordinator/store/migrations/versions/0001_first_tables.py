"""Enrolment codes, providers and client keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "enrollment_tokens",
        sa.Column("ordinal", sa.Integer(), primary_key=True),
        sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("token_id", sa.String(12), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("created_at_s", sa.Integer(), nullable=False),
        sa.Column("expires_at_s", sa.Integer(), nullable=False),
        sa.Column("provider_id", sa.String(40)),
        sa.Column("revoked_at_s", sa.Integer()),
    )
    op.create_index("ix_enrollment_tokens_token_id", "enrollment_tokens", ["token_id"])
    op.create_table(
        "providers",
        sa.Column("ordinal", sa.Integer(), primary_key=True),
        sa.Column("provider_id", sa.String(40), nullable=False, unique=True),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("enrolled_at_s", sa.Integer(), nullable=False),
        sa.Column("revoked_at_s", sa.Integer()),
    )
    op.create_table(
        "client_keys",
        sa.Column("ordinal", sa.Integer(), primary_key=True),
        sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("key_id", sa.String(12), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("created_at_s", sa.Integer(), nullable=False),
        sa.Column("revoked_at_s", sa.Integer()),
    )
    op.create_index("ix_client_keys_key_id", "client_keys", ["key_id"])
    op.create_index(
        "one_key_in_use_per_name",
        "client_keys",
        ["name"],
        unique=True,
        sqlite_where=sa.text("revoked_at_s IS NULL"),
        postgresql_where=sa.text("revoked_at_s IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("client_keys")
    op.drop_table("providers")
    op.drop_table("enrollment_tokens")
