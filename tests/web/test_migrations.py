"""The migrations and the tables that the code speaks of are the same."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine

import facefare.payments.card_tables
import facefare.payments.notification_tables
import facefare.payments.operator_tables
import facefare.payments.tables
import facefare.wallet.tables
import facefare.web.pages.tables
from facefare.ledger.tables import metadata
from facefare.web.migrations import upgrade


def test_migrated_tables_are_what_the_code_expects(connection: Connection) -> None:
    assert {facefare.wallet.tables.payer, facefare.payments.tables.intent} <= set(metadata.sorted_tables)
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    differences = [
        difference
        for difference in compare_metadata(context, metadata)
        # Tables of rooms that this test did not import; theirs are compared by their own tests.
        if not (isinstance(difference, tuple) and difference[0] in ("remove_table", "remove_index"))
    ]
    assert differences == []


def test_migrating_twice_changes_nothing(engine: Engine) -> None:
    upgrade(engine)
    upgrade(engine)
