"""A real PostgreSQL for every test that asks for one: started once, a fresh migrated database per test."""

import itertools
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, make_url

from facefare.ledger.database import embedded_postgres, make_engine
from facefare.web.migrations import upgrade

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server whose database `pristine` is migrated and never written to."""
    with embedded_postgres(tmp_path_factory.mktemp("postgres") / "data") as url:
        admin = make_engine(url).execution_options(isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE pristine")
        migrated = make_engine(_database(url, "pristine"))
        upgrade(migrated)
        migrated.dispose()
        admin.dispose()
        yield url


def _database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def database_url(postgres_url: str) -> str:
    """URL of a fresh, migrated, empty database."""
    name = f"test_{next(_numbers)}"
    admin = make_engine(postgres_url).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE pristine")
    admin.dispose()
    return _database(postgres_url, name)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url, connections=20)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A connection inside a transaction that is rolled back at the end."""
    with engine.connect() as connection:
        yield connection
