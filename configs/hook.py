#!/usr/bin/env python3
"""Tells admins what slurm_reserve has to say: by mail, or by a webhook. An example; change it to your liking.

In the site file:

    daemon:
      hook: [/etc/slurm-reserve/hook.py, --mail, slurm-admins@example.org]
      # hook: [/etc/slurm-reserve/hook.py, --post-to, /etc/slurm-reserve/webhook]

The file after --post-to holds the webhook's URL in one line. Whoever knows that may post, so let only the daemon's user
read it. Slack, Mattermost and the like take {"text": ...}.

The event comes as JSON on standard input:

    {"event": "breach", "cluster": "lab", "host": "head", "at": "2030-05-06T12:00:00+00:00", "reservation": "physics",
     "text": "job 9 of alice has waited 61 s for nodes of physics; 47 s are promised", "held_back": 0,
     "data": {"job": "9", "user": "alice", "seconds": 61.0, "bound": 47.0}}

Event, cluster, reservation and text are in the environment as well: SLURM_RESERVE_EVENT, and so on. The events:

    breach           an owner's job waits, or has waited, for longer than was promised
    brake            more evictions than lending.max_evictions_per_hour: nothing is lent until `slurm-reserve resume`
    record           journal or ledger cannot be written: nothing is lent until they can
    lending_stopped  nothing of a reservation is lent, though nobody ordered or declared so
    node_down        a reserved node is down or drained
    unmet            a declared reservation cannot be made
    no_observation   the cluster could not be read for a minute (or five polls): nothing is done
    unsound          a plan was not carried out, for it broke an invariant: please report it

An exit status other than 0 is said in the daemon's log, with what stands on standard error.
"""

from __future__ import annotations

import argparse
import json
import smtplib
import sys
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

PATIENCE = 20.0  # seconds; the daemon ends it after daemon.hook_timeout, 30 s by default


def main() -> None:
    parser = argparse.ArgumentParser(description="Tell admins of an event of slurm_reserve, by mail or webhook.")
    parser.add_argument("--mail", metavar="ADDRESS", action="append", default=[])
    parser.add_argument("--sender", metavar="ADDRESS", default="slurm-reserve")
    parser.add_argument("--smtp", metavar="HOST[:PORT]", default="localhost", help="default: localhost")
    parser.add_argument("--post-to", metavar="FILE", type=Path, help="holds the webhook's URL")
    options = parser.parse_args()
    if not options.mail and options.post_to is None:
        parser.error("say --mail ADDRESS or --post-to FILE")
    event = json.load(sys.stdin)
    if options.mail:
        mail(event, options.mail, options.sender, options.smtp)
    if options.post_to is not None:
        post(event, options.post_to.read_text(encoding="utf-8").strip())


def sentence(event: dict[str, Any]) -> str:
    held_back = event.get("held_back", 0)
    more = f" (and {held_back} more of this kind since the last message)" if held_back else ""
    return f"{event.get('cluster', '')}: {event['text']}{more}"


def mail(event: dict[str, Any], to: list[str], sender: str, smtp: str) -> None:
    # By a mail server: the service may not gain privileges, so programs that set the user or group id do not work.
    message = EmailMessage()
    message["Subject"] = f"slurm_reserve on {event.get('cluster', '')}: {event['event']} {event.get('reservation', '')}"
    message["From"], message["To"] = sender, ", ".join(to)
    message.set_content(f"{sentence(event)}\n\n{json.dumps(event, indent=2)}\n")
    host, _, port = smtp.partition(":")
    with smtplib.SMTP(host, int(port or 25), timeout=PATIENCE) as server:
        server.send_message(message)


def post(event: dict[str, Any], url: str) -> None:
    if not url.startswith(("https://", "http://")):
        sys.exit("the file after --post-to holds no URL that begins with https://")
    body = json.dumps({"text": sentence(event)}).encode()
    request = Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - the scheme is looked at above
    with urlopen(request, timeout=PATIENCE):  # noqa: S310 - as above
        pass


if __name__ == "__main__":
    main()
