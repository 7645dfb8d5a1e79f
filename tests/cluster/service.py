"""As much of a service manager as the shipped unit needs: it starts, watches and restarts what the unit says.

Runs inside a lab as the unit's user. Usage: service.py UNIT PYTHON SITE WATCHDOG_SECONDS; tells on standard output
what it does, one line each. Ends at SIGTERM as systemd would end the service.
"""

from __future__ import annotations

import configparser
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

INSTALLED, SITE_FILE = "/opt/slurm-reserve/bin/slurm-reserve", "/etc/slurm-reserve/site.yaml"


class Service:
    """One service, read from its unit."""

    def __init__(self, unit: Path, python: str, site: str, watchdog: float) -> None:
        read = configparser.ConfigParser(interpolation=None, strict=True)
        read.optionxform = str  # type: ignore[assignment,method-assign]  # keys are told apart by case
        read.read(unit)
        self.keys = read["Service"]
        self.python, self.site, self.watchdog = python, site, watchdog
        self.is_stopping = False
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.path = Path(tempfile.mkdtemp()) / "notify"
        self.socket.bind(str(self.path))
        signal.signal(signal.SIGTERM, self._stop)

    def argv(self, key: str, main: int = 0) -> list[str]:
        """The command of the unit, with the places of this test put in for those of an installation."""
        words = shlex.split(self.keys[key].replace("$MAINPID", str(main)))
        if words[0] == INSTALLED:
            words[0:1] = [self.python, "-m", "slurm_reserve"]
        return [self.site if word == SITE_FILE else word for word in words]

    def _stop(self, number: int, frame: object) -> None:
        self.is_stopping = True

    def run(self) -> None:
        """Until it is told to stop: start, watch, clean up, start again."""
        assert self.keys["Type"] == "notify"
        while True:
            environment = os.environ | {"NOTIFY_SOCKET": str(self.path)}
            environment["WATCHDOG_USEC"] = str(int(self.watchdog * 1_000_000))
            main = subprocess.Popen(self.argv("ExecStart"), env=environment)
            say(f"started {main.pid}")
            self._watch(main)
            say(f"ended with {main.returncode}")
            done = subprocess.run(self.argv("ExecStopPost"), capture_output=True, text=True, check=False)
            say(f"cleaned up with {done.returncode}: {done.stdout.strip()} {done.stderr.strip()[-3000:]}")
            if self.is_stopping or self.keys["Restart"] != "always":
                return
            time.sleep(float(self.keys["RestartSec"]))

    def _watch(self, main: subprocess.Popen[bytes]) -> None:
        heard = time.monotonic()
        while main.poll() is None:
            self.socket.settimeout(0.1)
            try:
                said = self.socket.recv(4096).decode()
                heard = time.monotonic()
                if "READY=1" in said:
                    say("ready")
            except TimeoutError:
                pass
            if self.is_stopping and main.poll() is None:
                main.send_signal(signal.SIGTERM)
                main.wait(float(self.keys["TimeoutStopSec"]))
            elif time.monotonic() - heard > self.watchdog:
                say("the watchdog bites")
                main.send_signal(signal.SIGABRT)
                main.send_signal(signal.SIGCONT)
                main.wait(30)


def say(text: str) -> None:
    """One line, at once."""
    sys.stdout.write(text.replace("\n", " | ") + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    Service(Path(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])).run()
