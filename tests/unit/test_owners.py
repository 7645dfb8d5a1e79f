"""Who may ask the daemon for what: every list of an owner must hold, and the site decides what owners may order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from slurm_reserve.owners import Asker, is_owner, refusal
from slurm_reserve.site import Owner, OwnerMay

from tests.builders import site, spec

MEMBERS = {"bio": frozenset({"alice", "carol"})}
ALICE, CAROL = Asker("alice", frozenset({"alice", "physics"})), Asker("carol", frozenset({"carol"}))


@pytest.mark.parametrize(
    ("owner", "asker", "is_hers"),
    [
        (Owner(users=frozenset({"alice"})), ALICE, True),
        (Owner(users=frozenset({"alice"})), CAROL, False),
        (Owner(groups=frozenset({"physics"})), ALICE, True),
        (Owner(groups=frozenset({"physics"})), CAROL, False),
        (Owner(accounts=frozenset({"bio"})), CAROL, True),
        (Owner(accounts=frozenset({"chem"})), CAROL, False),
        (Owner(users=frozenset({"alice"}), accounts=frozenset({"bio"})), CAROL, False),
        (Owner(groups=frozenset({"physics"}), accounts=frozenset({"bio"})), CAROL, False),
        (Owner(), ALICE, False),
    ],
)
def test_every_list_that_is_declared_must_have_them(owner: Owner, asker: Asker, is_hers: bool) -> None:
    assert is_owner(replace(spec(), owner=owner), asker, MEMBERS) is is_hers


@pytest.mark.parametrize(
    ("asker", "request_", "said"),
    [
        (ALICE, {"do": "lend", "reservation": "physics"}, ""),
        (ALICE, {"do": "reclaim", "reservation": "physics"}, ""),
        (ALICE, {"do": "status"}, ""),
        (CAROL, {"do": "lend", "reservation": "physics"}, "carol is no owner of a reservation physics"),
        (CAROL, {"do": "status", "reservation": "physics"}, "no owner"),
        (ALICE, {"do": "lend", "reservation": "chemistry"}, "no owner of a reservation chemistry"),
        (ALICE, {"do": "lend", "reservation": ["physics"]}, "no owner"),
        (ALICE, {"do": "lend"}, "no owner"),
        (ALICE, {"do": "pause"}, "that takes root"),
        (ALICE, {"do": "adopt", "reservation": "physics"}, "that takes root"),
        (ALICE, {"do": "restore", "reservation": "physics"}, "that takes root"),
        (ALICE, {"do": "wake"}, "that takes root"),
        (ALICE, {"do": ["lend"], "reservation": "physics"}, "that takes root"),
        (ALICE, {}, "that takes root"),
    ],
)
def test_what_is_not_allowed_is_refused_with_the_reason(asker: Asker, request_: dict[str, object], said: str) -> None:
    why = refusal(site(), asker, MEMBERS, request_)
    assert said in why
    assert bool(said) is bool(why)


def test_the_site_decides_what_owners_may_order() -> None:
    only_lend = site(replace(spec(), owner_may=frozenset({OwnerMay.LEND})))
    assert not refusal(only_lend, ALICE, {}, {"do": "lend", "reservation": "physics"})
    assert "owner_may" in refusal(only_lend, ALICE, {}, {"do": "reclaim", "reservation": "physics"})
