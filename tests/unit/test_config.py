"""The site file: what it gives, and that every error names file, line, key, value and remedy."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from slurm_reserve import declared, schema
from slurm_reserve.config import ConfigError, check_against, load
from slurm_reserve.site import (
    Defaults,
    EvictBy,
    Find,
    Lending,
    LendPolicy,
    Listen,
    NodeRequest,
    Owner,
    ReservationSpec,
    Site,
)

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


def test_where_metrics_are_served_and_what_is_run_for_events(tmp_path: Path) -> None:
    text = "daemon: {metrics: %s, hook: [/etc/hook, --mail, a b], hook_timeout: 5s, hook_interval: 10m}\n"
    found = read(tmp_path, ONE + text % "127.0.0.1:9841").daemon
    assert (found.metrics, str(found.metrics)) == (Listen("127.0.0.1", 9841), "127.0.0.1:9841")
    assert found.hook == ("/etc/hook", "--mail", "a b")
    assert (found.hook_timeout, found.hook_interval) == (timedelta(seconds=5), timedelta(minutes=10))
    assert str(read(tmp_path, ONE + text % "'[::1]:9841'").daemon.metrics) == "[::1]:9841"


WRONG = [
    (TOP.replace("lending", "lendign"), "site.yaml:2: lendign: is no key that is known; did you mean lending?"),
    ("lending: {partitions: [p]}\n", "cluster: is missing"),
    (ONE + "    lend: {max_time: 4x}\n", "site.yaml:7: reservations.physics.lend.max_time: '4x': '4x' is no duration"),
    (ONE + "    lend: {after_idle: 90}\n", "90 has no unit: Slurm reads minutes, people seconds; write 90m or 90s"),
    (ONE + "    lend: {keep_idle_nodes: 3}\n", "keep_idle_nodes: '3': is more than the 2 nodes"),
    (ONE + "    reclaim: {signal: USR7}\n", "reclaim.signal: 'USR7': is no signal"),
    (ONE + "    reclaim: {signal: KILL}\n", "signal: 'KILL': is no signal that Slurm sends and a job can act on"),
    (ONE + "    reclaim: {evict_by: demon}\n", "evict_by: 'demon': is none of its values; write 'daemon' or 'slurm'"),
    (ONE + "    reclaim: {time: 3s}\n", "reclaim.time: is no key that is known; did you mean notice?"),
    (ONE + "    reclaim: {colour: 3s}\n", "remove it; known here are back_off, back_off_max, evict, evict_by,"),
    (ONE + "    reclaim: {notice: }\n", "reclaim.notice: has no value; write one, or remove the key"),
    (ONE + "    reclaim: {notice: \u00b2}\n", "is no duration"),
    (ONE + "    reclaim: {back_off: 999999w}\n", "is too long; write 3650d at most"),
    (ONE + "daemon: {metrics: 9841}\n", "daemon.metrics: '9841': is no address with a port; write 127.0.0.1:9841, or"),
    (ONE + "daemon: {metrics: 'localhost:9841'}\n", "daemon.metrics: 'localhost:9841': is no address with a port"),
    (ONE + "daemon: {metrics: '127.0.0.1:99999'}\n", "daemon.metrics: '127.0.0.1:99999': is no address with a port"),
    (ONE + "daemon: {metrics: '1.2.3:80'}\n", "daemon.metrics: '1.2.3:80': is no address with a port"),
    (ONE + "daemon: {hook: /etc/hook --mail}\n", "daemon.hook: '/etc/hook --mail': is no list of a program and its"),
    (ONE + "daemon: {hook: [hook.sh]}\n", "daemon.hook: names a program without its whole path; write [/etc/"),
    (ONE + "daemon: {hook: []}\n", "daemon.hook: is no list of a program and its arguments; write [/etc/"),
    (ONE + "    lend: on\n", "lend: 'True': is no mapping of keys to values"),
    (ONE + "    lend: {enabled: maybe}\n", "enabled: 'maybe': is neither on nor off; write on or off"),
    (ONE + "    lend: {keep_idle_nodes: -1}\n", "keep_idle_nodes: '-1': is too small; write 0 or more"),
    (ONE + "    lend: {max_time: 30s}\n", "is less than any job's time limit; write 1m or more"),
    (ONE + "daemon: {poll: 0s}\n", "site.yaml:7: daemon.poll: '0s': is no time at all; write 1s or more"),
    (ONE + "daemon: {state_dir: lib}\n", "depends on where the command is run; write the whole path"),
    (ONE + "daemon: {poll: !!int ''}\n", "site.yaml:7: daemon.poll: cannot be read as int"),
    (ONE + "mode: !!bool x\n", "mode: cannot be read as bool; write a plain value"),
    (ONE + "mode: !!python/object/apply:os.system [ls]\n", "mode: has the tag"),
    (ONE + "mode: a\0b\n", "site.yaml:7: is no YAML: holds the character 0"),
    (ONE.replace("cluster: lab", "cluster: 12"), "site.yaml:1: cluster: '12': is no text; put it in quotes"),
    (ONE.replace("n[1-2]", "{node_count: 0, partition: main}"), "nodes.node_count: '0': is too small; write 1 or more"),
    (ONE.replace("[alice]", "alice bob"), "owner.users: 'alice bob': 'alice bob' is no name; write one such as alice"),
    (ONE.replace("[alice]", "[host$]"), "owner.users: 'host$' is no name; write one such as alice"),
    (ONE + "    end: now+1h\n", "would be another time whenever the file is read; write 2030-05-06T"),
    (ONE + "    end: 9999-12-31\n", "is too far away; write a year from 2000 to 2099"),
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


def test_so_many_problems_are_counted_rather_than_shown(tmp_path: Path) -> None:
    said = refused(tmp_path, TOP + "".join(f"k{n}: 1\n" for n in range(500)))
    assert len(said.splitlines()) == 41
    assert said.endswith("and 460 more problems")


def test_what_only_holds_other_keys_may_be_empty(tmp_path: Path) -> None:
    assert read(tmp_path, TOP + "reservations:\ndefaults:\ndaemon:\nslurm:\n").reservations == ()
    assert read(tmp_path, ONE + "    lend:\n    reclaim:\n").reservations[0].lend == LendPolicy()


@pytest.mark.parametrize("written", ["USR1", "SIGUSR1", "usr1", "10", "'10'"])
def test_a_signal_by_name_or_number(tmp_path: Path, written: str) -> None:
    assert read(tmp_path, ONE + f"    reclaim: {{signal: {written}}}\n").reservations[0].reclaim.signal == "USR1"


def test_unlimited_overrides_the_defaults_time_limit(tmp_path: Path) -> None:
    text = ONE + "    lend: {max_time: unlimited}\n  bio: {owner: {users: bob}, nodes: n3}\n"
    found = read(tmp_path, text + "defaults: {lend: {max_time: 4h}}\n").reservations
    assert [spec.lend.max_time for spec in found] == [timedelta(hours=4), None]  # bio, physics


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.yaml", NOW)
    (tmp_path / "site.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(tmp_path / "site.yaml", NOW)


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "reservations.d").write_text("")
    assert "reservations.d: cannot be read" in refused(tmp_path, ONE).replace(": Not", " Not")
    (tmp_path / "reservations.d").unlink()
    (tmp_path / "reservations.d").symlink_to(tmp_path / "nowhere")
    assert "cannot be read: No such file" in refused(tmp_path, ONE)


def test_a_file_whose_name_is_slightly_wrong_is_not_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "reservations.d"
    folder.mkdir()
    (folder / "README").write_text("not ours")
    (folder / ".hidden.yaml").write_text("[")
    assert read(tmp_path, ONE).reservations
    (folder / "bio.yml").write_text("reservations: {}\n")
    assert "bio.yml: is not read; rename it to end in .yaml" in refused(tmp_path, ONE).replace(f"{folder}/", "")


WORDS = st.sampled_from(
    ["mode", "daemon", "slurm", "defaults", "lend", "reclaim", "poll", "notice", "conf", "nodes", "a"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.text(max_size=6)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4))
TAGS = st.sampled_from(
    ["!!int", "!!bool", "!!float", "!!null", "!!timestamp", "!!binary", "!!set", "!!str", "!x", "!!map"]
)
LIKELY = st.one_of(
    st.dictionaries(WORDS, VALUES, max_size=4).map(lambda value: yaml.safe_dump(value, allow_unicode=True)),
    st.builds(
        lambda key, tag, text: f"{key}: {tag} {text}\n", WORDS, TAGS, st.sampled_from(["", "x", "''", "[a]", ":"])
    ),
)


def test_nothing_but_a_config_error_ever_comes_of_any_text(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("any") / "site.yaml"

    @settings(max_examples=200, deadline=None)
    @given(st.text(alphabet=st.sampled_from("abn: -[]{}&*!|>'\"#,\n12:<?\t%@")) | st.text() | LIKELY)
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


def test_only_what_differs_from_the_sites_defaults_is_declared(tmp_path: Path) -> None:
    usual = "defaults: {find: magnetic, lend: {max_time: 4h}, reclaim: {notice: 30s}}\n"
    (tmp_path / "site.yaml").write_text(TOP + usual)
    defaults = load(tmp_path / "site.yaml", NOW).defaults
    assert defaults.find is Find.MAGNETIC
    usual_one = replace(spec("physics", "n1"), find=defaults.find, lend=defaults.lend, reclaim=defaults.reclaim)
    assert "reclaim:" not in declared.dump_reservation(usual_one, "root", NOW, defaults)
    other_one = spec("physics", "n1")  # as if there were no defaults: no notice, no time limit, find: attach
    with declared.declared_lock(tmp_path / "site.yaml"):
        declared.write_reservation(tmp_path / "site.yaml", other_one, "root", NOW, defaults)
    (found,) = load(tmp_path / "site.yaml", NOW).reservations
    assert (found.find, found.lend, found.reclaim) == (other_one.find, other_one.lend, other_one.reclaim)
    assert Defaults() == replace(Defaults(), lend=found.lend, reclaim=found.reclaim)


def test_what_is_declared_can_be_read_by_the_daemon_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with declared.declared_lock(tmp_path / "site.yaml") as folder:
            path = declared.write_reservation(tmp_path / "site.yaml", spec("physics", "n1"), "root", NOW)
    finally:
        os.umask(before)
    assert [oct(each.stat().st_mode & 0o777) for each in (folder, path)] == ["0o755", "0o644"]


def test_a_link_in_a_files_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("reservations: {physics: {}}\n")
    with declared.declared_lock(tmp_path / "site.yaml") as folder:
        (folder / "physics.yaml").symlink_to(victim)
        (folder / ".physics.yaml.new").symlink_to(victim)
        path = declared.write_reservation(tmp_path / "site.yaml", spec("physics", "n1"), "root", NOW)
    assert not path.is_symlink()
    assert victim.read_text() == "reservations: {physics: {}}\n"
    assert {each.name for each in folder.iterdir()} == {".lock", "physics.yaml"}


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "reservations.d").mkdir()
    (tmp_path / "reservations.d" / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(declared.DeclareError, match="it must belong"), declared.declared_lock(tmp_path / "site.yaml"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_with_other_reservations_in_it_is_left_alone(tmp_path: Path) -> None:
    with declared.declared_lock(tmp_path / "site.yaml") as folder:
        (folder / "physics.yaml").write_text("reservations: {physics: {}, bio: {}}\n")
        with pytest.raises(declared.DeclareError, match="declares bio as well"):
            declared.delete_reservation_file(tmp_path / "site.yaml", "physics")
        with pytest.raises(declared.DeclareError, match="declares bio as well"):
            declared.write_reservation(tmp_path / "site.yaml", spec("physics", "n1"), "root", NOW)
        (folder / "chem.yaml").write_text("reservations: {chem: {}}\n")
        declared.delete_reservation_file(tmp_path / "site.yaml", "chem")
    assert sorted(each.name for each in folder.iterdir()) == [".lock", "physics.yaml"]


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", "", "x.lend", "a\n", "x" * 64])
def test_a_name_never_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"is no name|ends in"):
        declared.file_of(tmp_path / "site.yaml", name)


def test_periods_that_follow_each_other_share_nodes(tmp_path: Path) -> None:
    after = "  bio: {owner: {users: bob}, nodes: n2, start: 2030-06-01}\n"
    assert len(read(tmp_path, ONE + "    end: 2030-06-01\n" + after).reservations) == 2


def test_a_name_in_two_files_is_an_error_that_names_both(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(ONE)
    with declared.declared_lock(tmp_path / "site.yaml"):
        declared.write_reservation(tmp_path / "site.yaml", spec("physics", "n7"), "root", NOW)
    said = refused(tmp_path, ONE)
    assert "declared twice" in said
    assert "physics.yaml" in said


def test_what_the_cluster_does_not_have_is_named(tmp_path: Path) -> None:
    there = cluster(nodes("n1"))
    wrong = site(
        spec("physics", "n1", "n9"),
        spec("bio", nodes=NodeRequest(1, "nowhere")),
        spec("chem", nodes=NodeRequest(1, "main", frozenset({"a100"}))),
        lending=Lending(frozenset({"cheap"}), frozenset({"scavenger"})),
    )
    said = [str(problem) for problem in check_against(wrong, there)]
    assert len(said) == 4
    for name, text in [("n9", "no such node"), ("nowhere", "no such partition"), ("a100", "no node of partition main"),
                       ("cheap", "write one of main, preempt")]:  # fmt: skip
        assert any(name in each and text in each for each in said)
    by_qos = replace(there, qos_preempts={"normal": frozenset()})
    assert any("no such QOS; write one of normal" in str(each) for each in check_against(wrong, by_qos))


def test_the_shipped_example_explains_every_key() -> None:
    written = (Path(__file__).parents[2] / "configs" / "site.yaml").read_text()
    models = [m for m in vars(schema).values() if isinstance(m, type) and issubclass(m, schema.Strict)]
    keys = {key for model in models for key in model.model_fields} - {"requested", "by", "at"}  # written by the CLI
    assert not {key for key in keys if not re.search(rf"\b{key}:", written)}
