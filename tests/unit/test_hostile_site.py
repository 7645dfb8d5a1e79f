"""A site file, or an option, made to do harm: one clear error and the documented exit status, soon; no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from slurm_reserve import yamlfile
from slurm_reserve.cli import main as entry

TOP = "cluster: lab\nlending: {partitions: [preempt]}\n"
ONE = TOP + "reservations:\n  physics:\n    owner: {users: [alice]}\n    nodes: n[1-2]\n"
LAUGHS = "a: &a [x, x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
BINARY = b"cluster: \xff\xfe\n"

# what the file holds, what the error says
FILES: list[tuple[str | bytes, str]] = [
    (LAUGHS, "b.0: is an alias; write the value out"),
    (TOP + "defaults: &d\n  lend: {}\nreservations:\n  <<: *d\n", "has a key that is no plain word; write key: value"),
    ("a: &a\n  b: *a\n", "a.b: is an alias"),  # within itself
    ("a: " + "[" * 20_000, "is nested too deeply"),
    ("a: " + "{b: " * 20_000, "is nested too deeply"),
    ("".join(" " * n + "a:\n" for n in range(600)), "is nested too deeply"),
    (TOP.replace("lab", "l" * 200_000), "cluster: 'llll"),
    (ONE.replace("alice", "a" * 200_000), "owner.users: 'aaaa"),
    (ONE.replace("physics", "p" * 900), "is no name that Slurm takes"),
    (TOP.replace("]}", "], max_evictions_per_hour: 0x" + "f" * 100_000 + "}"), "is no number that"),
    (TOP.replace("]}", "], max_evictions_per_hour: 0b" + "1" * 100_000 + "}"), "is no number that"),
    (TOP.replace("]}", "], max_evictions_per_hour: " + "9" * 100_000 + "}"), "is no number that"),
    (ONE + "daemon: {poll: " + "9" * 100 + "s}\n", "daemon.poll: '999"),
    (ONE + "mode: !!python/object/apply:os.system ['touch PWNED']\n", "mode: has the tag tag:yaml.org,2002:python"),
    (ONE + "mode: !!python/name:os.system\n", "mode: has the tag"),
    (ONE + "mode: !!binary aGVsbG8=\n", "mode: has the tag"),
    (ONE + "mode: !!set {a, b}\n", "mode: has the tag"),
    (ONE + "mode: !local x\n", "mode: has the tag !local"),
    (ONE + "daemon: {state_dir: !!str [a]}\n", "daemon.state_dir"),
    (ONE + "cluster: other\n", "cluster: is given twice, first at line 1; keep one of them"),
    (ONE + "--- \ncluster: two\n", "is no YAML: but found another document"),
    (BINARY, "is not UTF-8 (byte 9); save it as UTF-8"),
    (ONE.encode("utf-16"), "is not UTF-8 (byte 0)"),
    (ONE + "mode: a\0b\n", "is no YAML: holds the character 0; remove it"),
    (ONE + "mode: a\u202eb\n", "mode: "),  # turns the direction of writing on a terminal
    (ONE + 'mode: "\\e[2J\\r\\n"\n', "mode: "),
    (ONE.replace("n[1-2]", "n[1-1000000000]"), "names 1000000000 nodes; at most"),
    (ONE.replace("n[1-2]", "'r[1-1000]n[1-1000]'"), "names 1000000 nodes; at most"),
    (ONE.replace("n[1-2]", "'n[1-999999999999]'"), "names 999999999999 nodes; at most"),
    (ONE.replace("n[1-2]", "'n[1-9999999999999]'"), "is no range of numbers"),
    (ONE.replace("n[1-2]", "'" + "x[1-9]" * 40 + "'"), "at most"),
    (ONE.replace("n[1-2]", str([f"{a}[1-60000]" for a in "abcdefgh" * 500])), "names 240000000 nodes"),
    (ONE.replace("n[1-2]", "'n" + "[" * 5000 + "'"), "brackets that do not match"),
]  # fmt: skip


def told(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, float]:
    """Exit status, standard error and seconds of work of a command, run as its entry point runs it."""
    begun, before = time.process_time(), sys.argv
    sys.argv = ["slurm-reserve", *words]
    try:
        with pytest.raises(SystemExit) as end:
            entry.main()
    finally:
        sys.argv = before
    return int(end.value.code or 0), capfd.readouterr().err, time.process_time() - begun


def is_clear(status: int, said: str, seconds: float, words: str) -> None:
    assert status == 3
    assert words in said
    assert said.startswith("error: ")
    assert "Traceback" not in said
    assert said.replace("\n", "").isprintable()
    assert len(said) < 12_000
    assert seconds < 1


@pytest.mark.parametrize(("text", "words"), FILES, ids=lambda part: repr(part[:30]) if len(part) > 30 else repr(part))
def test_a_hostile_file_is_refused_in_so_many_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str | bytes, words: str
) -> None:
    site = tmp_path / "site.yaml"
    site.write_bytes(text if isinstance(text, bytes) else text.encode())
    is_clear(*told(capfd, "--site", str(site), "list"), words)
    assert [each.name for each in tmp_path.iterdir()] == ["site.yaml"]


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def huge(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(100 << 20)
    return path


def unreadable(path: Path) -> Path:
    path.symlink_to(path)
    return path


PLACES: list[tuple[Callable[[Path], Path], str]] = [
    (fifo, "is no plain file; give the path of a YAML file"),
    (folder, "cannot be read: Is a directory; check path and rights"),
    (huge, f"is larger than {yamlfile.MOST_BYTES} bytes"),
    (unreadable, "cannot be read: Too many levels of symbolic links"),
    (lambda _: Path("/dev/zero"), "is no plain file"),
    (lambda _: Path("/dev/null"), "is no plain file"),
    (lambda path: path, "cannot be read: No such file or directory; check path and rights"),
    (lambda path: path / "below", "cannot be read: No such file or directory"),
]


@pytest.mark.parametrize(("make", "words"), PLACES)
def test_what_is_no_plain_file_is_refused_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], make: Callable[[Path], Path], words: str
) -> None:
    is_clear(*told(capfd, "--site", str(make(tmp_path / "site.yaml")), "list"), words)


def test_a_pipe_among_the_declarations_is_named_and_not_waited_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "site.yaml").write_text(ONE)
    (tmp_path / "reservations.d").mkdir()
    os.mkfifo(tmp_path / "reservations.d" / "bio.yaml")
    is_clear(*told(capfd, "--site", str(tmp_path / "site.yaml"), "list"), "bio.yaml: is no file; move it away")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--nodes", "n[1-1000000000]", "--user", "bob"], "names 1000000000 nodes; at most"),
        (["--nodes", "r[1-1000]n[1-1000]", "--user", "bob"], "names 1000000 nodes; at most"),
        (["--nodes", "n3", "--user", "a\nb"], "is no name"),
        (["--nodes", "n3", "--user", "$(id)"], "is no name"),
        (["--nodes", "n3", "--user", "bob", "--notice", "9" * 500 + "s"], "notice"),
        (["--nodes", "$(touch PWNED)", "--user", "bob"], "is no list of nodes"),
    ],
)
def test_a_hostile_option_is_refused_in_so_many_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    (tmp_path / "site.yaml").write_text(ONE)
    is_clear(*told(capfd, "--site", str(tmp_path / "site.yaml"), "create", "bio", *options), words)
    assert not list(tmp_path.glob("reservations.d/*.yaml"))


@pytest.mark.parametrize("nodes", ["n[1-1000000000]", "r[1-1000]n[1-1000]"])
def test_an_order_for_a_million_nodes_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str], nodes: str) -> None:
    (tmp_path / "site.yaml").write_text(ONE)
    status, said, seconds = told(capfd, "--site", str(tmp_path / "site.yaml"), "reclaim", "physics", "--nodes", nodes)
    assert (status, "at most 65536 are taken" in said) == (1, True)
    assert seconds < 2


def test_the_command_itself_says_it_without_a_traceback(tmp_path: Path) -> None:
    """Once as a process of its own, memory limited: a bomb that went off would not fit."""
    (tmp_path / "site.yaml").write_text(LAUGHS)
    argv = [sys.executable, "-m", "slurm_reserve", "--site", str(tmp_path / "site.yaml"), "check"]
    done = subprocess.run(
        ["prlimit", f"--as={1 << 30}", *argv], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 3
    assert "is an alias" in done.stderr
    assert "Traceback" not in done.stderr
