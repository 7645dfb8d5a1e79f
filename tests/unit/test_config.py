"""The site file: what it gives, and that every error names file, line, key, value and remedy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slurm_reserve import declared
from slurm_reserve.config import ConfigError, check_against, load
from slurm_reserve.site import EvictBy, Lending, NodeRequest, Owner, ReservationSpec, Site

from tests.builders import cluster, nodes, site, spec

NOW = datetime(2030, 5, 6, 12, tzinfo=UTC)
TOP = "cluster: lab\nlending: {partitions: [preempt]}\n"
ONE = TOP + "reservations:\n  physics:\n    owner: {users: [alice]}\n    nodes: n[1-2]\n"


def read(folder: Path, text: str) -> Site:
    file = folder / "site.yaml"
    file.write_text(text)
    return load(file, NOW)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return str(caught.value).replace(f"{folder}/", "")


def test_the_shipped_example_loads() -> None:
    example = load(Path(__file__).parents[2] / "configs" / "site.yaml", NOW)
    assert example.reservations[0].reclaim.notice == timedelta(seconds=30)


def test_a_reservation_takes_the_sites_defaults_and_overrides_them(tmp_path: Path) -> None:
    text = ONE + "    reclaim: {notice: 10s, evict_by: slurm}\ndefaults:\n  reclaim: {notice: 30s, signal: SIGUSR1}\n"
    policy = read(tmp_path, text).reservations[0].reclaim
    assert (policy.notice, policy.signal, policy.evict_by) == (timedelta(seconds=10), "USR1", EvictBy.SLURM)


def test_so_many_nodes_of_a_kind(tmp_path: Path) -> None:
    text = (
        TOP + "reservations: {bio: {owner: {accounts: bio}, nodes: {node_count: 2, partition: main, features: a100}}}\n"
    )
    assert read(tmp_path, text).reservations[0].nodes == NodeRequest(2, "main", frozenset({"a100"}))


WRONG = [
    (TOP.replace("lending", "lendign"), "site.yaml:2: lendign: is no key that is known; did you mean lending?"),
    ("lending: {partitions: [p]}\n", "cluster: is missing"),
    (ONE + "    lend: {max_time: 4x}\n", "site.yaml:7: reservations.physics.lend.max_time: '4x': '4x' is no duration"),
    (ONE + "    lend: {after_idle: 90}\n", "90 has no unit: Slurm reads minutes, people seconds; write 90m or 90s"),
    (ONE + "    lend: {keep_idle_nodes: 3}\n", "keep_idle_nodes: '3': is more than the 2 nodes"),
    (ONE + "    reclaim: {signal: USR7}\n", "reclaim.signal: 'USR7': is no signal"),
    (ONE + "    reclaim: {evict_by: demon}\n", "evict_by: 'demon'"),
    (ONE + "    nodes: n3\n", "site.yaml:7: reservations.physics.nodes: is given twice, first at line 6"),
    (ONE + "  physics: {}\n", "site.yaml:7: reservations.physics: is given twice, first at line 4"),
    (ONE.replace("users: [alice]", ""), "owner: has no user, account or group; write users: [alice]"),
    (ONE.replace("alice]", "alice], groups: g"), "has users and groups, which Slurm refuses together"),
    (ONE.replace("n[1-2]", "n[1-99999999]"), "names 99999999 nodes"),
    (ONE.replace("n[1-2]", "7"), "names no nodes"),
    (ONE.replace("physics:", "'a b':"), "is no name that Slurm takes"),
    (ONE.replace("physics:", "physics.lend:"), "ends in .lend"),
    (ONE + "    start: 2030-06-01\n    end: 2030-05-01\n", "end: is not after its start"),
    (ONE + "    end: whenever\n", "end: 'whenever': 'whenever' is no time"),
    (ONE + "  bio: {owner: {users: bob}, nodes: n2}\n", "bio.nodes: shares n2 with physics (site.yaml:4)"),
    ("cluster: lab\nlending: {}\n", "lending: names neither partitions nor qos"),
    ("", "is empty"),
    ("- a\n", "is no mapping"),
    ("a: [\n", "site.yaml:2: is no YAML"),
    ("cluster: &x lab\nlending: *x\n", "lending: is an alias; write the value out"),
    ("a: " + "[" * 5000, "is no YAML"),
    ("a: b\n" * 300_000, "is larger than"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_is_named_with_its_remedy(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    assert len(refused(tmp_path, ONE + "    find: x\n    end: y\n    lend: {z: 1}\n").splitlines()) == 3


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.yaml", NOW)
    (tmp_path / "site.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(tmp_path / "site.yaml", NOW)


def test_nothing_but_a_config_error_ever_comes_of_any_text(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("any") / "site.yaml"

    @settings(max_examples=200, deadline=None)
    @given(st.text(alphabet=st.sampled_from("abn: -[]{}&*!|>'\"#,\n12:<?\t%@")) | st.text())
    def try_it(text: str) -> None:
        file.write_text(ONE + text, errors="surrogatepass")
        try:
            load(file, NOW)
        except ConfigError:
            return

    try_it()


SPECS = [
    spec("physics", "n1", "n2"),
    spec("physics", "n1", notice=timedelta(seconds=90), signal="USR1", enabled=False, max_time=timedelta(hours=4)),
    ReservationSpec("bio", Owner(accounts=frozenset({"a", "b"})), NodeRequest(3, "main", frozenset({"x"}))),
    ReservationSpec("bio", Owner(groups=frozenset({"g"})), NodeRequest(3, "main"), end=NOW + timedelta(days=9)),
]


@pytest.mark.parametrize("wanted", SPECS)
def test_what_the_cli_declares_is_read_back_as_it_was(tmp_path: Path, wanted: ReservationSpec) -> None:
    (tmp_path / "site.yaml").write_text(TOP)
    with declared.declared_lock(tmp_path / "site.yaml"):
        path = declared.write_reservation(tmp_path / "site.yaml", wanted, "root", NOW)
    (found,) = load(tmp_path / "site.yaml", NOW).reservations
    assert found.origin == f"{path}:2"
    assert ReservationSpec(**{k: getattr(found, k) for k in wanted.__slots__} | {"origin": ""}) == wanted
    assert "by: root" in path.read_text()


def test_a_name_in_two_files_is_an_error_that_names_both(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(ONE)
    with declared.declared_lock(tmp_path / "site.yaml"):
        declared.write_reservation(tmp_path / "site.yaml", spec("physics", "n7"), "root", NOW)
    said = refused(tmp_path, ONE)
    assert "declared twice" in said
    assert "physics.yaml" in said


def test_what_the_cluster_does_not_have_is_named(tmp_path: Path) -> None:
    counted = spec("bio", nodes=NodeRequest(1, "nowhere"))
    wrong = site(spec("physics", "n1", "n9"), counted, lending=Lending(frozenset({"cheap"})))
    said = [str(problem) for problem in check_against(wrong, cluster(nodes("n1")))]
    assert len(said) == 3
    assert any("n9" in text and "no such node" in text for text in said)
    assert any("nowhere" in text for text in said)
    assert any("cheap" in text and "main,preempt" in text for text in said)
