"""Where a study lives, and who notices that a worker has died. Imports no torch: workers start in a second.

A file is SQLite with a write-ahead log (the default), a URL a PostgreSQL or MySQL server, ``grpc://host:port`` our
``tune-server`` in front of one of them. Why SQLite and not Optuna's journal file: what a worker killed by ``kill -9`` was
writing, SQLite rolls back at the next opening, and the kernel drops its locks. A journal cut in the middle of a line raises
at every later read (``tests/zoo/test_tuning_crash.py`` cuts one), its lock is a symbolic link that outlives its owner and
stops all others for 30 s, and it has no heartbeat. SQLite needs a local disk; machines that share a study share a server.

Workers write a heartbeat into the database's own table, by the database's own clock. Two gaps of Optuna's are closed here:

- A worker killed between making its trial and its first heartbeat is never missed. Its clock starts when somebody looks
  (``start_clocks``).
- Behind the gRPC proxy there is no heartbeat. Ours travels as a trial attribute of one name (``proxied_heartbeat``), which
  the server writes into the heartbeat table instead; the server looks for stale trials itself.
"""

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.storages import BaseStorage, GrpcStorageProxy, RDBStorage, get_storage, run_grpc_proxy_server

from sb3_lecture.zoo import tuning_orphans
from sb3_lecture.zoo.errors import UserError, first_line

#: seconds between two heartbeats, and without one until a trial counts as lost; a compiled loop may block both for a while
HEARTBEAT, GRACE = 10, 60
CONNECT_SECONDS = 10
#: SQLite waits so long for another writer
BUSY_SECONDS = 60
_HEARTBEAT_KEY = "sb3_lecture:heartbeat"
#: scheme → SQLAlchemy's name with the driver of the extra "tuning", and the driver's package
_DRIVERS = {"postgresql": ("postgresql+psycopg", "psycopg"), "mysql": ("mysql+pymysql", "pymysql")}
_INSTALL = "pip install 'sb3-lecture[tuning]'"


class HeartbeatStorage(RDBStorage):
    """Optuna's database storage; see the module's text. Arguments are RDBStorage's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        weakref.finalize(self, self.engine.dispose)  # Optuna leaves its connections open

    def record_heartbeat(self, trial_id: int) -> None:
        """Say that the trial's worker lives; a database that is busy for a moment gets the next beat."""
        with contextlib.suppress(optuna.exceptions.StorageInternalError):
            super().record_heartbeat(trial_id)

    def start_clocks(self) -> None:
        """Give running trials without a heartbeat their first: their worker was killed before it, or is about to."""
        silent = sqlalchemy.text(
            "SELECT trial_id FROM trials WHERE state = 'RUNNING' AND trial_id NOT IN (SELECT trial_id FROM trial_heartbeats)"
        )
        with self.engine.connect() as connection:
            ids = connection.execute(silent).scalars().all()
        for trial_id in ids:
            self.record_heartbeat(trial_id)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Write an attribute; that of a proxied worker's heartbeat becomes one."""
        if key == _HEARTBEAT_KEY:
            self.record_heartbeat(trial_id)
        else:
            super().set_trial_system_attr(trial_id, key, value)


@contextlib.contextmanager
def proxied_heartbeat(storage: BaseStorage, study_name: str, number: int, seconds: float) -> Iterator[None]:
    """Beat for a trial behind the gRPC proxy, for which Optuna does not; other storages' trials have Optuna's own heartbeat.

    :param storage: where the study is
    :param study_name: the study
    :param number: the trial's number
    :param seconds: between two heartbeats
    """
    if not isinstance(storage, GrpcStorageProxy):
        yield
        return
    import grpc

    trial_id = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(study_name), number)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(seconds):
            with contextlib.suppress(grpc.RpcError):  # a server that is gone for a moment gets the next beat
                storage.set_trial_system_attr(trial_id, _HEARTBEAT_KEY, 0)

    thread = threading.Thread(target=beat, daemon=True)
    storage.set_trial_system_attr(trial_id, _HEARTBEAT_KEY, 0)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def is_proxy(where: str) -> bool:
    """Whether somebody else looks after stale trials."""
    return where.startswith("grpc://")


def is_file(where: str) -> bool:
    """Whether the study is an SQLite file."""
    return "://" not in where


def open_storage(where: str, heartbeat: int = HEARTBEAT, grace: int = GRACE) -> BaseStorage:
    """Open a storage; a file is made where there is none.

    :param where: a file, ``postgresql://user@host/database``, ``mysql://…`` or ``grpc://host:port``
    :param heartbeat: seconds between two heartbeats
    :param grace: seconds without a heartbeat until a trial counts as lost
    :raises UserError: if it cannot be opened
    """
    if is_proxy(where):
        return _open_proxy(where)
    timings = {"heartbeat_interval": heartbeat, "grace_period": grace}
    try:
        if is_file(where):
            Path(where).parent.mkdir(parents=True, exist_ok=True)
            open(f"{where}.lock", "a").close()  # a lock that cannot be made would be waited for
            with file_lock(where):  # two that make the tables at once hinder each other
                return _open_file(Path(where), **timings)
        return _open_server(where, **timings)
    except (sqlalchemy.exc.SQLAlchemyError, OSError, ValueError, RuntimeError) as error:
        raise UserError(f"cannot open the study storage {hide_password(where)}: {_reason(error)}") from error


def file_lock(where: str) -> FileLock:
    """The lock beside a study's file; the kernel drops it when its holder dies."""
    return FileLock(f"{where}.lock", timeout=BUSY_SECONDS)


def _open_file(path: Path, **timings: int) -> HeartbeatStorage:
    url = sqlalchemy.URL.create("sqlite", database=str(path))
    storage = HeartbeatStorage(_text(url), {"connect_args": {"timeout": BUSY_SECONDS}}, **timings)  # type: ignore[arg-type]
    with storage.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")  # kept in the file; a commit waits for the disk once, not thrice
    return storage


def _text(url: sqlalchemy.URL) -> str:
    """A URL as Optuna takes it: text, in which it fills in ``{SCHEMA_VERSION}``."""
    text = url.render_as_string(hide_password=False)
    if sqlalchemy.make_url(text) != url:
        raise ValueError("SQLAlchemy does not read back the name that it writes; give the file a plainer one")
    return text.replace("{", "{{").replace("}", "}}")


def _open_server(where: str, **timings: int) -> HeartbeatStorage:
    scheme = where.partition("://")[0]
    name, package = _DRIVERS.get(scheme, (scheme, scheme))
    if name.split("+")[0] not in _DRIVERS:
        raise UserError(f"--storage {hide_password(where)}: a file, or one of postgresql://, mysql://, grpc://")
    try:
        url = sqlalchemy.make_url(where).set(drivername=name)
        engine_kwargs = {"connect_args": {"connect_timeout": CONNECT_SECONDS}, "pool_pre_ping": True}
        return HeartbeatStorage(_text(url), engine_kwargs, **timings)  # type: ignore[arg-type]
    except ImportError as error:
        raise UserError(f"--storage {scheme}:// needs {package}: {_INSTALL}") from error


def _open_proxy(where: str) -> GrpcStorageProxy:
    try:
        parts = urlsplit(where)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise UserError(f"--storage {where}: write grpc://host:port")
    try:
        storage = GrpcStorageProxy(host=host, port=port)
        storage.wait_server_ready(timeout=CONNECT_SECONDS)
    except ImportError as error:
        raise UserError(f"--storage grpc:// needs grpcio: {_INSTALL}") from error
    except ConnectionError as error:
        raise UserError(f"--storage {where}: no server answers; start one with sb3-lecture tune-server") from error
    return storage


def hide_password(where: str) -> str:
    """A storage's name without its password."""
    try:
        return sqlalchemy.make_url(where).render_as_string(hide_password=True) if not is_file(where) else where
    except (sqlalchemy.exc.SQLAlchemyError, ValueError):
        return where.partition("://")[0] + "://…"


def _reason(error: BaseException) -> str:
    cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig is not None else error
    return first_line(cause)


def serve(where: str, host: str, port: int, watch: Callable[[BaseStorage], None], heartbeat: int, grace: int) -> None:
    """Run Optuna's gRPC proxy in front of a storage until the process ends.

    :param where: a file or a database's URL
    :param host: address to listen on; there is no password: only those you trust may reach it
    :param port: port to listen on
    :param watch: called every ``heartbeat`` seconds with the storage, to requeue lost trials
    :param heartbeat: seconds between two heartbeats
    :param grace: seconds without a heartbeat until a trial counts as lost
    :raises UserError: if the storage or the port cannot be opened
    """
    if is_proxy(where):
        raise UserError(f"--storage {where}: a server stands in front of a file or a database, not of another server")
    storage = open_storage(where, heartbeat, grace)
    stop = threading.Event()

    def look() -> None:
        own = open_storage(where, heartbeat, grace)
        while not stop.wait(heartbeat):
            try:
                watch(own)
            except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError):
                continue  # the database is busy or restarts: next time
            except Exception as error:  # without this thread a lost trial would be waited for until the end of days
                print(f"tune-server: looking for lost trials failed: {first_line(error)}", file=sys.stderr, flush=True)

    threading.Thread(target=look, daemon=True).start()
    # SQLite has no row locks: two calls at once could both take the same waiting trial
    pool = ThreadPoolExecutor(max_workers=1 if is_file(where) else 10)
    try:
        run_grpc_proxy_server(get_storage(storage), host=host, port=port, thread_pool=pool)
    except ImportError as error:
        raise UserError(f"tune-server needs grpcio: {_INSTALL}") from error
    except RuntimeError as error:  # the port is taken, or the host is not ours
        raise UserError(f"cannot listen on {host}:{port}: {first_line(error)}") from error
    finally:
        stop.set()


def serve_dashboard(where: str, port: int) -> None:
    """Run optuna-dashboard on a storage until this process or the one that started it ends.

    :param where: a file or a database's URL
    :param port: port to listen on, on this machine only
    """
    tuning_orphans.end_with_parent()
    import optuna_dashboard

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
        optuna_dashboard.run_server(open_storage(where), host="127.0.0.1", port=port)  # it would list every request
