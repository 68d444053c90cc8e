"""The wires between the machines: frames come late, some do not come, and a wire can be cut.

    python -m tests.machines.links DELAY_MS LOSS SEED DEVICE ...

Makes a TAP device for each name and says `ready`; then the devices may be moved to the machines.
The first one is the tester's own: its frames are neither late nor lost. Lines on stdin are
commands, each answered by a line: `cut N` (nothing leaves or reaches device N, but for the
tester), `mend N`, `loss SHARE`, `delay MS`, `count` (frames forwarded, lost, and cut). It ends with
stdin. Not all kernels have `netem`, and this shows what was done to which frame.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque
from contextlib import suppress

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
FRAME = 1 << 16
# Of frames that are read from a device before another gets its turn.
BURST = 64
DOWN_SECONDS = 0.01


def mac(number: int) -> str:
    """The hardware address of a device, by which the switch knows where a frame goes."""
    return f"02:00:00:00:00:{number:02x}"


class Switch:
    """Forwards frames between devices."""

    def __init__(self, names: list[str], *, delay: float, loss: float, seed: int) -> None:
        self._devices = [_tap(name) for name in names]
        self._numbers = {device: number for number, device in enumerate(self._devices)}
        self._delay = delay
        self._loss = loss
        self._dice = random.Random(seed)
        self._cut: set[int] = set()
        # When, to which device, what: in order, since all are equally late.
        self._under_way: deque[tuple[float, int, bytes]] = deque()
        self._counts = {"forwarded": 0, "lost": 0, "cut": 0}

    def run(self) -> None:
        """Forward until stdin ends."""
        poll = select.poll()
        for device in [0, *self._devices]:
            poll.register(device, select.POLLIN)
        while True:
            wait = None
            if self._under_way:
                wait = max(0.0, 1e3 * (self._under_way[0][0] - time.monotonic()))
            for device, _ in poll.poll(wait):
                if device == 0:
                    command = sys.stdin.readline()
                    if not command:
                        return
                    print(self._obey(*command.split()), flush=True)
                else:
                    self._read(self._numbers[device])
            self._deliver()

    def _obey(self, command: str, *arguments: str) -> str:
        if command == "cut":
            self._cut.add(int(arguments[0]))
        elif command == "mend":
            self._cut.discard(int(arguments[0]))
        elif command == "loss":
            self._loss = float(arguments[0])
        elif command == "delay":
            self._delay = float(arguments[0]) / 1e3
        return " ".join(map(str, self._counts.values()))

    def _read(self, source: int) -> None:
        for _ in range(BURST):
            try:
                frame = os.read(self._devices[source], FRAME)
            except OSError as error:
                # Nothing left; or the device is not up yet, which poll reports again and again.
                if error.errno == errno.EBADFD:
                    time.sleep(DOWN_SECONDS)
                return
            # The last byte of its destination; what is for all has a bit in the first.
            targets = range(len(self._devices)) if frame[0] & 1 else [frame[5]]
            for target in targets:
                if target != source and target < len(self._devices):
                    self._send(source, target, frame)

    def _send(self, source: int, target: int, frame: bytes) -> None:
        if 0 in (source, target):
            self._write(target, frame)
        elif source in self._cut or target in self._cut:
            self._counts["cut"] += 1
        elif self._dice.random() < self._loss:
            self._counts["lost"] += 1
        else:
            self._under_way.append((time.monotonic() + self._delay, target, frame))

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._under_way and self._under_way[0][0] <= now:
            _, target, frame = self._under_way.popleft()
            # Cut while it was on its way.
            if target in self._cut:
                self._counts["cut"] += 1
            else:
                self._write(target, frame)

    def _write(self, target: int, frame: bytes) -> None:
        # A device that is not up yet, or whose machine is gone.
        with suppress(OSError):
            os.write(self._devices[target], frame)
            self._counts["forwarded"] += 1


def _tap(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


if __name__ == "__main__":
    _, late, share, number, *devices = sys.argv
    switch = Switch(devices, delay=float(late) / 1e3, loss=float(share), seed=int(number))
    print("ready", flush=True)
    switch.run()
