"""configs/hook.py, the hook that sites begin with: it mails, and posts to a webhook."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string, policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from slurm_reserve.alarms import Alarm, Event
from slurm_reserve.hook import message

HOOK = Path(__file__).parents[2] / "configs" / "hook.py"
TOLD = Event(Alarm.BREACH, "job 9 of alice has waited 61 s for nodes of physics", "physics", held_back=2)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    told = json.dumps(message(TOLD, "lab"))
    argv = [sys.executable, str(HOOK), *words]
    return subprocess.run(argv, input=told, capture_output=True, text=True, check=False, timeout=30)


@contextmanager
def webhook(status: int) -> Iterator[tuple[str, list[dict[str, str]]]]:
    heard: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hooks/secret", heard
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def mail_server() -> Iterator[tuple[str, list[str]]]:
    """Takes one message."""
    heard: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener.accept()[0] as client, client.makefile("rwb", buffering=0) as lines:
            lines.write(b"220 here\r\n")
            while line := lines.readline():
                if line.upper().startswith(b"DATA"):
                    lines.write(b"354 go on\r\n")
                    while (line := lines.readline()) != b".\r\n":
                        heard.append(line.decode().rstrip("\r\n"))
                lines.write(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 fine\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}", heard
        thread.join(10)


def test_it_posts_a_sentence_to_the_url_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "webhook"
    with webhook(200) as (url, heard):
        file.write_text(f"{url}\n")
        done = run("--post-to", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert heard == [{"text": f"lab: {TOLD.text} (and 2 more of this kind since the last message)"}]


def test_it_mails(tmp_path: Path) -> None:
    with mail_server() as (address, heard):
        done = run("--mail", "admins@example.org", "--smtp", address)
    assert (done.returncode, done.stderr) == (0, "")
    mail = message_from_string("\n".join(heard), policy=policy.default)
    assert (mail["Subject"], mail["To"]) == ("slurm_reserve on lab: breach physics", "admins@example.org")
    said = mail.get_content()
    assert said.startswith(f"lab: {TOLD.text} (and 2 more of this kind since the last message)\n\n{{")


def test_what_it_cannot_do_it_fails_at(tmp_path: Path) -> None:
    file = tmp_path / "webhook"
    with webhook(500) as (url, _):
        file.write_text(url)
        refused = run("--post-to", str(file))
    assert refused.returncode == 1
    assert "HTTP Error 500" in refused.stderr
    file.write_text("file:///etc/passwd")
    assert "holds no URL" in run("--post-to", str(file)).stderr
    assert run().returncode == 2
