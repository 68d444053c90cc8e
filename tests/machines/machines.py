"""Machines: each has a network, processes, a host name and a folder of Ray's of its own.

All of them are on this machine, with its kernel, its cores and its disk; what they say to each
other goes through `tests.machines.links`. Needs root.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import ROOT
from tests.machines.links import mac
from tests.servers import eventually

NETWORK = "10.77.0"
DELAY_MS, LOSS, SEED = 20.0, 0.01, 2026
# What the first process of a machine does: its own files where machines would meet in this one's,
# and then it waits for whatever lost its parent.
BOOT = """
mount --make-rprivate /
mkdir -p /tmp/ray && mount --bind {folder}/ray /tmp/ray
mount --bind {folder}/../hosts /etc/hosts
mount -t sysfs sysfs /sys
hostname {name}
sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
ip link set lo up
touch {folder}/up
while :; do sleep 1 || :; done
"""


@dataclass(frozen=True)
class Network:
    """The wires; see `tests.machines.links`."""

    process: subprocess.Popen[str]

    def tell(self, *command: object) -> list[int]:
        """Give a command; returns how many frames were forwarded, lost, and cut so far."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(*command, file=self.process.stdin, flush=True)
        return [int(count) for count in self.process.stdout.readline().split()]

    @contextmanager
    def partition(self, number: int) -> Iterator[None]:
        """Machine `number` and the others do not hear from each other."""
        self.tell("cut", number)
        try:
            yield
        finally:
            self.tell("mend", number)


@dataclass
class Machine:
    """One of them.

    Attributes:
        environment: variables of all that runs on it.
        ahead: what its clock is ahead of the others', as `faketime` takes it ("+1h"); "": nothing.
    """

    number: int
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ahead: str = ""

    @property
    def name(self) -> str:
        return f"machine-{self.number}"

    @property
    def device(self) -> str:
        return f"sdm{self.number}"

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number}"

    def boot(self) -> None:
        """Start it: its network is there, and nothing else runs."""
        (self.folder / "ray").mkdir(parents=True, exist_ok=True)
        (self.folder / "up").unlink(missing_ok=True)
        script = BOOT.format(folder=shlex.quote(str(self.folder)), name=self.name)
        spaces = ["--net", "--mount", "--uts", "--pid", "--ipc", "--fork", "--mount-proc"]
        self._first = subprocess.Popen(
            ["unshare", *spaces, "--kill-child", "sh", "-euc", script],
            stderr=subprocess.DEVNULL,  # it complains of being killed
        )
        eventually((self.folder / "up").exists)
        # One knows its first process, which is 1 to itself, only from outside.
        [self._init] = psutil.Process(self._first.pid).children()
        run("ip", "link", "set", self.device, "netns", str(self._init.pid))
        self.run("ip", "link", "set", self.device, "address", mac(self.number), "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", self.device)

    def kill(self) -> None:
        """Kill all that runs on it. Cut its wire before, or the others hear of it at once."""
        self.run("sh", "-c", "kill -9 -1")

    def remove(self) -> None:
        """Let there be nothing left of it."""
        with suppress(psutil.NoSuchProcess):
            self._init.kill()
        self._first.wait()

    def command(self, *command: str) -> list[str]:
        """What runs a command on it."""
        spaces = ["--net", "--mount", "--uts", "--pid", "--ipc"]
        clock = ["faketime", "-f", self.ahead] if self.ahead else []
        said = [f"{name}={value}" for name, value in self.environment.items()]
        enter = ["nsenter", "--target", str(self._init.pid), *spaces, f"--wd={ROOT}", "--"]
        return [*enter, "env", *said, *clock, *command]

    def run(self, *command: str) -> str:
        """Run a command on it; returns what it prints."""
        return run(*self.command(*command))

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command on it, with options of `Popen`."""
        return subprocess.Popen(self.command(*command), text=True, **options)

    def processes(self, name: str) -> list[psutil.Process]:
        """Its processes whose command lines have this in them."""
        return [one for one in self._init_and_all() if name in " ".join(one.cmdline())]

    def _init_and_all(self) -> Iterator[psutil.Process]:
        mine = _space(self._init.pid)
        for process in psutil.process_iter():
            try:
                if _space(process.pid) == mine:
                    process.cmdline()
                    yield process
            except (OSError, psutil.Error):
                continue


def _space(pid: int) -> Path:
    """Where a process has its number."""
    return Path(f"/proc/{pid}/ns/pid").readlink()


def run(*command: str) -> str:
    """Run a command; returns what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@contextmanager
def network(
    count: int, *, delay_ms: float = DELAY_MS, loss: float = LOSS, seed: int = SEED
) -> Iterator[Network]:
    """Wires between so many machines and the tester, who has the address 10.77.0.254."""
    devices = [f"sdm{number}" for number in range(count + 1)]
    said = [str(value) for value in (delay_ms, loss, seed)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.machines.links", *said, *devices],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        run("ip", "link", "set", devices[0], "address", mac(0), "up")
        run("ip", "address", "add", f"{NETWORK}.254/24", "dev", devices[0])
        yield Network(process)
    finally:
        process.communicate(timeout=60)


@contextmanager
def machines(
    folder: Path, count: int = 3, *, environment: Mapping[str, str] | None = None
) -> Iterator[Sequence[Machine]]:
    """So many machines that have just been started."""
    made = [
        Machine(number, folder / f"machine-{number}", environment or {})
        for number in range(1, count + 1)
    ]
    lines = [f"{one.address} {one.name}\n" for one in made]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(lines))
    with ExitStack() as stack:
        for machine in made:
            machine.boot()
            stack.callback(machine.remove)
        yield made
