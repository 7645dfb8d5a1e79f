"""What users say of their jobs, nice and comment, read only where the site goes by it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slurm_reserve.slurm.jobs import job_format, parse_jobs
from slurm_reserve.slurm.port import SlurmUnreadableError
from slurm_reserve.slurm.shapes import Terms

from tests.slurm.record import END
from tests.slurm.recordings import recorded

PLAIN = recorded("jobs.requests")


def with_words(*said: tuple[str, str]) -> str:
    """What squeue would have printed, had nice and comment been asked for: for one job after the other."""
    header, *records = PLAIN.split(f"\x1f{END}\n")[:-1]
    words = [("NICE", "COMMENT"), *said, *[("0", "(null)")] * len(records)]
    return "".join(
        f"{record}\x1f{END}\x1d{nice}\x1f{comment}\x1f{END}\n"
        for record, (nice, comment) in zip([header, *records], words, strict=False)
    )


def test_they_are_asked_for_behind_the_account() -> None:
    assert "Comment" not in job_format(END)
    assert job_format(END, words=True) == job_format(END) + f"\x1d,Nice:0\x1f,Comment:0\x1f{END}"


def test_nice_and_comment_are_read() -> None:
    first, second, third, *_ = parse_jobs([with_words(("5", "bid=0.08"), ("-10", "(null)"))], END, Terms(), words=True)
    assert (first.nice, first.comment) == (5, "bid=0.08")
    assert (second.nice, second.comment) == (-10, "")
    assert (third.nice, third.comment) == (0, "")


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=300))
def test_a_comment_changes_nothing_but_itself(comment: str) -> None:
    found = parse_jobs([with_words(("0", comment))], END, Terms(), words=True)
    plain = parse_jobs([PLAIN], END, Terms())
    assert [job.key for job in found] == [job.key for job in plain]
    assert found[1:] == plain[1:]
    assert comment.startswith(found[0].comment)
    assert len(found[0].comment) <= 256


def test_an_answer_without_them_is_unreadable_when_they_were_asked_for_and_the_other_way_round() -> None:
    for text, words in ((PLAIN, True), (with_words(), False), (with_words(("five", "")), True)):
        with pytest.raises(SlurmUnreadableError):
            parse_jobs([text], END, Terms(), words=words)
