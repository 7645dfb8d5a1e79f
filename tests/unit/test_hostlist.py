"""Host lists."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slurm_reserve.hostlist import HostlistError, expand, fold


@pytest.mark.parametrize(
    ("text", "names"),
    [("", set()), ("n1", {"n1"}), ("n[1-3,5]", {"n1", "n2", "n3", "n5"}), ("n[01-02]", {"n01", "n02"}),
     ("a,b-1.x", {"a", "b-1.x"}), ("r[0-1]n[0-1]", {"r0n0", "r0n1", "r1n0", "r1n1"})],
)  # fmt: skip
def test_lists(text: str, names: set[str]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize(
    "text",
    [
        "n[1",
        "n1]",
        "n[3-1]",
        "n[a]",
        "n[]",
        "@group",
        "n1 n2",
        "n*",
        "n1!n2",
        ",",
        "n[1-9]\n",
        "n[[1]]",
        "n[1-2][3-4]",
        "n[1-3/2]",
        "n&m",
        "n^m",
        "n" + "9" * 5000,
    ],
)
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(HostlistError, match="write"):
        expand(text)


@pytest.mark.parametrize("text", ["n[1-100000000]", "n[1-70000]", "n[1-300]x[1-300]", "n[1-40000],m[1-40000]"])
def test_too_many_names_are_refused_before_they_are_made(text: str) -> None:
    begun = time.process_time()
    with pytest.raises(HostlistError, match="at most"):
        expand(text)
    assert time.process_time() - begun < 0.1


def test_who_needs_more_names_says_so() -> None:
    assert len(expand("n[1-70000]", most=70_000)) == 70_000


@pytest.mark.parametrize(
    ("names", "folded"),
    [("n10,n9,n2,n01", "n[2,9,01,10]"), ("n1,n01", "n[1,01]"), ("r0n1,r0n2,r1n1", "r0n[1-2],r1n1"),
     ("gpu-a10,gpu-a2,b", "b,gpu-a[2,10]"), ("n1,n2,n3,n5", "n[1-3,5]"), ("", "")],
)  # fmt: skip
def test_names_are_folded_as_scontrol_show_hostlistsorted_does(names: str, folded: str) -> None:
    assert fold(name for name in names.split(",") if name) == folded


@pytest.mark.parametrize("name", ["", "a b", "@x", "n[1-2]", "n" + "9" * 5000])
def test_what_is_no_name_is_not_folded(name: str) -> None:
    with pytest.raises(HostlistError, match="is no node's name"):
        fold([name])


@given(st.text(alphabet="n01-9[],.@ !"))
def test_any_text_is_a_list_or_refused(text: str) -> None:
    try:
        assert expand(fold(expand(text))) == expand(text)
    except HostlistError:
        return


NAMES = st.from_regex(r"[a-z]{1,3}[0-9]{1,4}", fullmatch=True)


@given(st.frozensets(NAMES, max_size=30))
def test_names_come_back_as_they_were_folded(names: frozenset[str]) -> None:
    assert expand(fold(names)) == names
