"""The embedded server: shared, private, stopped when nobody is left, and safe to kill."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from simdist.errors import StoreError
from simdist.store import connect
from simdist.store.embedded import (
    KEEPER_LOCK,
    LOG,
    PID_FILE,
    SOCKET_FILE,
    embedded_server,
)
from simdist.store.keeper import SOCKET, USERS_LOCK
from tests.embedded import in_a_container, keeper_of

pytestmark = pytest.mark.slow

CHILD = """
import sys
from pathlib import Path
from simdist.store import connect
from simdist.store.embedded import embedded_server

with embedded_server(Path(sys.argv[1])) as url:
    connect(url).call("INCR", "visits")
    print(url, flush=True)
    sys.stdin.read()
"""


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it becomes true within a time that is ample on the slowest machine."""
    for _ in range(600):
        if condition():
            return True
        time.sleep(0.05)
    return False


def server_pid(data: Path) -> int:
    return int((data / PID_FILE).read_text())


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def start_user(data: Path) -> subprocess.Popen[str]:
    """Another process that uses the server until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("unix://")
    return process


def can_lock(file: TextIO) -> bool:
    """Whether nobody else has it for himself alone."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


def finish(process: subprocess.Popen[str]) -> None:
    process.communicate()
    assert process.returncode == 0


def test_two_at_once_share_one_server_and_the_last_one_stops_it(tmp_path: Path) -> None:
    first, second = start_user(tmp_path), start_user(tmp_path)
    pid = server_pid(tmp_path)
    finish(first)
    with embedded_server(tmp_path) as url:
        assert server_pid(tmp_path) == pid
        store = connect(url)
        assert store.call("GET", "visits") == b"2"
        store.close()
    assert alive(pid)
    finish(second)
    assert eventually(lambda: not alive(pid))


def test_it_stops_when_its_last_user_is_killed(tmp_path: Path) -> None:
    user = start_user(tmp_path)
    pid = server_pid(tmp_path)
    user.kill()
    user.communicate()
    assert eventually(lambda: not alive(pid))


def test_acknowledged_writes_survive_kill_9_of_the_server(tmp_path: Path) -> None:
    with embedded_server(tmp_path) as url:
        store = connect(url)
        for number in range(1000):
            store.call("SET", f"key {number}", number)
        os.kill(server_pid(tmp_path), signal.SIGKILL)
        with pytest.raises(StoreError, match="run the same command again"):
            for _ in range(100):
                store.call("PING")
        store.close()
    with embedded_server(tmp_path) as url:
        store = connect(url)
        assert store.call("DBSIZE") == 1000
        store.close()


def test_it_stops_when_its_data_folder_is_deleted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with embedded_server(data):
        pid = server_pid(data)
        shutil.rmtree(data)
    assert eventually(lambda: not alive(pid))


def test_a_user_arriving_while_the_last_one_leaves(tmp_path: Path) -> None:
    """Leaving and coming over and over: the server is always there, and stops at the end."""
    for visit in range(1, 16):
        with embedded_server(tmp_path) as url:
            store = connect(url)
            assert store.call("INCR", "visits") == visit
            store.close()
            # Now: the keeper may stop it, and its file be gone, as soon as nobody is here.
            pid = server_pid(tmp_path)
    assert eventually(lambda: not alive(pid))


def test_a_dead_keeper_is_replaced(tmp_path: Path) -> None:
    user = start_user(tmp_path)
    keeper_of(tmp_path).kill()
    pid = server_pid(tmp_path)
    finish(user)
    assert alive(pid)
    finish(start_user(tmp_path))
    assert eventually(lambda: not alive(pid))


def test_the_data_folder_is_private(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with embedded_server(data) as url:
        socket = Path((data / SOCKET_FILE).read_text())
        assert socket.stat().st_mode & 0o777 == 0o700
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        assert data.stat().st_mode & 0o777 == 0o700
        assert psutil.Process(server_pid(data)).net_connections("inet") == []
        assert url == f"unix://{socket}"


def test_in_a_folder_that_others_may_enter_its_files_are_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    # As an earlier version left it.
    (tmp_path / USERS_LOCK).touch(0o644)
    with embedded_server(tmp_path) as url:
        store = connect(url)
        store.call("SET", "secret", 1)
        store.close()
        below = [path for path in tmp_path.rglob("*") if path.name != SOCKET_FILE]
        assert len(below) > 5
        assert [path for path in below if path.stat().st_mode & 0o077] == []


def test_a_data_folder_with_a_long_odd_name(tmp_path: Path) -> None:
    data = tmp_path / ("long " * 20) / 'quo"te' / "ünï"
    with embedded_server(data) as url:
        store = connect(url)
        assert store.call("PING") in (True, b"PONG")
        store.close()


def test_a_data_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match="choose another with SIMDIST_DATA_DIR"),
        embedded_server(tmp_path / "file" / "data"),
    ):
        pass


def test_a_damaged_append_only_file_is_reported_with_the_log(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("not a folder")
    with pytest.raises(StoreError, match=LOG), embedded_server(tmp_path):
        pass
    assert (tmp_path / KEEPER_LOCK).exists()


def test_a_server_that_is_busy_is_stopped_all_the_same(tmp_path: Path) -> None:
    """A script that never ends makes it refuse; who comes next must not wait for ever."""
    with embedded_server(tmp_path / "data") as url:
        store = connect(url)
        store.call("SET", "kept", 1)
        pid = server_pid(tmp_path / "data")
        client = redis.Redis(
            unix_socket_path=url.removeprefix("unix://"),
            socket_timeout=0.5,
            retry=Retry(NoBackoff(), 0),
        )
        store.call("CONFIG", "SET", "busy-reply-threshold", 100)
        with pytest.raises(redis.exceptions.TimeoutError):
            client.eval("while true do end", 0)
        client.close()
        store.close()
    assert eventually(lambda: not alive(pid))
    with embedded_server(tmp_path / "data") as url:
        store = connect(url)
        assert store.call("GET", "kept") == b"1"
        store.close()


@pytest.mark.parametrize("long", [False, True])
def test_a_container_that_shares_the_folder_shares_the_server(
    tmp_path: Path, *, long: bool
) -> None:
    data = tmp_path / ("long " * 25 if long else "short")
    with embedded_server(data) as url:
        store = connect(url)
        pid = server_pid(data)
        program = [sys.executable, "-c", CHILD, str(data)]
        subprocess.run(
            in_a_container(*program), input="", stdout=subprocess.DEVNULL, text=True, check=True
        )
        assert store.call("GET", "visits") == b"1"
        assert server_pid(data) == pid
        store.close()
    assert eventually(lambda: not alive(pid))


def test_whoever_cannot_reach_the_server_does_not_start_a_second_one(tmp_path: Path) -> None:
    """A cleaner has removed its socket, or it runs on another host."""
    with embedded_server(tmp_path) as url:
        store = connect(url)
        pid = server_pid(tmp_path)
        (tmp_path / SOCKET).unlink()
        with (
            pytest.raises(StoreError, match="in use by a server that cannot be reached from here"),
            embedded_server(tmp_path),
        ):
            pass
        # Nor once its keeper is dead.
        keeper_of(tmp_path).kill()
        with pytest.raises(StoreError, match="cannot be reached"), embedded_server(tmp_path):
            pass
        assert server_pid(tmp_path) == pid
        store.close()
    os.kill(pid, signal.SIGTERM)
    assert eventually(lambda: not alive(pid))


def test_a_server_whose_socket_is_gone_is_stopped_all_the_same(tmp_path: Path) -> None:
    with embedded_server(tmp_path):
        pid = server_pid(tmp_path)
        (tmp_path / SOCKET).unlink()
    assert eventually(lambda: not alive(pid))
    finish(start_user(tmp_path))


def test_a_server_that_stands_still_is_killed_and_nobody_waits_for_it_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with embedded_server(tmp_path) as url:
        store = connect(url)
        store.call("SET", "kept", 1)
        store.close()
        pid = server_pid(tmp_path)
        os.kill(pid, signal.SIGSTOP)
    with (tmp_path / USERS_LOCK).open("w") as users:
        assert eventually(lambda: not can_lock(users))
    with embedded_server(tmp_path) as url:
        store = connect(url)
        assert store.call("GET", "kept") == b"1"
        store.close()
    assert f"waiting for the server of {tmp_path} to stop" in caplog.text
    assert not alive(pid)


def test_a_full_disk_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path], check=True)
    try:
        data = tmp_path / "data"
        acknowledged = fill(data)
        assert acknowledged > 100
        # It says so each time, and what is there can be read.
        assert fill(data, "more") < 10
        (tmp_path / "other").unlink()
        with embedded_server(data) as url:
            store = connect(url)
            assert [n for n in range(acknowledged) if not store.call("EXISTS", f"key {n}")] == []
            pid = server_pid(data)
            store.close()
        assert eventually(lambda: not alive(pid))
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def fill(data: Path, name: str = "key") -> int:
    """Write until the disk is full, which is said; returns how many writes were acknowledged."""
    other = data.parent / "other"
    if not other.exists():
        other.write_bytes(bytes(1 << 20))
    done = 0
    with (
        pytest.raises(StoreError, match="the disk is full, make room"),
        embedded_server(data) as url,
    ):
        store = connect(url)
        try:
            while True:
                store.call("SET", f"{name} {done}", os.urandom(10_000))
                done += 1
        finally:
            store.close()
    return done
