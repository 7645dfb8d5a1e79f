"""What a lab's configuration says, without running one."""

from __future__ import annotations

from pathlib import Path

import pytest
from slurm_reserve.lab import LabError, LabSpec, NodeSpec, UserSpec, accounting, conf, files, nodes, requirements
from slurm_reserve.lab.requirements import Missing
from slurm_reserve.lab.spec import from_json, to_json


def settings(spec: LabSpec) -> dict[str, str]:
    """Give the keys of slurm.conf that stand once."""
    lines = conf.slurm_conf(spec, "host").splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith(("NodeName", "PartitionName")))


def lines(spec: LabSpec, key: str) -> list[str]:
    return [line for line in conf.slurm_conf(spec, "host").splitlines() if line.startswith(f"{key}=")]


def test_the_default_is_four_nodes_and_preemption_by_tier() -> None:
    found = settings(LabSpec())
    assert (found["PreemptType"], found["PreemptMode"], found["KillWait"]) == ("preempt/partition_prio", "REQUEUE", "5")
    assert found["DefMemPerCPU"] == "1000"
    assert "SchedulerParameters" not in found
    assert [line.split()[0] for line in lines(LabSpec(), "NodeName")] == [f"NodeName=n{i}" for i in (1, 2, 3, 4)]
    assert [line.split()[0] for line in lines(LabSpec(), "PartitionName")] == [
        "PartitionName=main",
        "PartitionName=preempt",
    ]


def test_each_node_has_a_port_of_its_own() -> None:
    ports = [line.split("Port=")[1].split()[0] for line in lines(LabSpec(nodes=9), "NodeName")]
    assert len(set(ports)) == 9


def test_threads_share_cores() -> None:
    (line,) = lines(LabSpec(nodes=(NodeSpec("big", cpus=8, memory_mb=100, threads_per_core=2),)), "NodeName")
    assert "CPUs=8 Sockets=1 CoresPerSocket=4 ThreadsPerCore=2 RealMemory=100" in line


def test_later_lines_replace_earlier_ones_whatever_their_case() -> None:
    found = settings(LabSpec(slurm_conf=("killwait=9", "MinJobAge=", "Epilog=/bin/true", "# a remark", "")))
    assert found["killwait"] == "9"
    assert "KillWait" not in found
    assert "MinJobAge" not in found
    assert found["Epilog"] == "/bin/true"


def test_partitions_and_nodes_are_replaced_by_name() -> None:
    base = ["PartitionName=main Nodes=ALL", "PartitionName=preempt Nodes=ALL"]
    assert conf.merge(base, ["PartitionName=main Nodes=n1", "PartitionName=new Nodes=n2"]) == [
        "PartitionName=main Nodes=n1",
        "PartitionName=preempt Nodes=ALL",
        "PartitionName=new Nodes=n2",
    ]


@pytest.mark.parametrize(
    ("line", "restart"),
    [("KillWait=3", False), ("SchedulerParameters=x", False), ("jobsubmitplugins=lua", True), ("NodeName=n9", True)],
)
def test_only_some_changes_need_a_restart(line: str, restart: bool) -> None:
    assert conf.needs_restart([line]) is restart


def test_gres_without_devices() -> None:
    spec = LabSpec(nodes=(NodeSpec("n1", gres="gpu:a100:2,fpga:3"), NodeSpec("n2")))
    assert settings(spec)["GresTypes"] == "fpga,gpu"
    devices = "/run/slurm-lab/devices/n1/gpu0-0,/run/slurm-lab/devices/n1/gpu0-1"
    assert conf.gres_conf(spec).splitlines() == [
        "AutoDetect=off",
        f"NodeName=n1 Name=gpu Type=a100 Count=2 File={devices}",
        "NodeName=n1 Name=fpga Count=3",
    ]
    assert set(devices.split(",")) <= {file.path for file in files.files(spec, "host")}


def test_users_have_their_own_numbers_and_share_groups() -> None:
    spec = LabSpec(users=(UserSpec("ann", groups=("physics",)), UserSpec("ben", groups=("physics", "staff"))))
    uids = [spec.uid(user.name) for user in spec.all_users]
    assert len({0, *uids}) == len(uids) + 1
    group = files.group(spec).splitlines()
    assert [line.split(":")[3] for line in group if line.startswith(("physics", "staff"))] == ["ann,ben", "ben"]
    assert [line.split(":")[3] for line in group if line.startswith(("slurm", "ann:"))] == ["reserve", ""]
    gids = [line.split(":")[2] for line in group]
    assert len(set(gids)) == len(gids)


def test_accounts_come_before_their_users_and_extra_commands_last() -> None:
    commands = accounting.commands(LabSpec(sacctmgr=("add qos high",)))
    assert commands[:2] == ["add cluster lab qos=normal defaultqos=normal", "add account general,physics,service"]
    assert "modify user reserve set adminlevel=Operator" in commands
    assert commands[-1] == "add qos high"


def test_a_spec_survives_being_written_down() -> None:
    spec = LabSpec(
        nodes=(NodeSpec("n1", features=("a", "b")), *nodes(2)),
        users=(UserSpec("ann", ("g",), ("x", "y"), "Operator"),),
        slurm_conf=("A=b",),
        conf_files={"job_submit.lua": "return 0"},
    )
    assert from_json(to_json(spec)) == spec
    assert from_json(to_json(LabSpec())) == LabSpec()


def test_files_beside_slurm_conf() -> None:
    spec = LabSpec(conf_files={"job_submit.lua": "return 0"})
    assert ("/run/slurm-lab/conf/job_submit.lua", "return 0") in [
        (file.path, file.text) for file in files.files(spec, "host")
    ]


def test_what_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(requirements, "SBIN", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    packages = {each.what: each.package for each in requirements.missing(accounting=True)}
    assert packages["munged"] == "munge"
    assert packages["mariadbd"] == "mariadb-server"
    assert "newuidmap" not in packages
    with pytest.raises(LabError, match="slurmctld: not on PATH; install Debian's slurmctld"):
        requirements.ensure_possible(accounting=False)


@pytest.mark.parametrize(
    ("text", "enough"),
    [
        ("", False),
        ("ann:100000:65536\n", True),
        ("ann:100000:1000\n", False),
        ("1234:5:65536\n", True),
        ("x:1:65536\n", False),
    ],
)
def test_subordinate_ids_are_looked_for_by_name_and_by_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, enough: bool
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    monkeypatch.setattr("os.getuid", lambda: 1234)
    path = tmp_path / "subuid"
    path.write_text(text)
    found = requirements.missing_ids(path)
    assert (found is None) is enough
    assert found is None or isinstance(found, Missing)
