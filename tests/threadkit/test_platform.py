"""What the kernel tells about limits, read from files as kernels write them."""

from __future__ import annotations

import pytest

from threadkit._platform import (
    available_bytes,
    cgroup_cpus,
    cgroup_memory,
    open_file_limit,
    pressure,
)

MACHINE = 16 * 2**30
NONE_V1 = 9223372036854771712


@pytest.fixture
def system(tmp_path):
    """Write a system: what /proc says, and files by path below the mount points."""

    def write(cgroup, mounts, files):
        proc = tmp_path / "proc"
        proc.mkdir()
        (proc / "cgroup").write_text("\n".join(cgroup) + "\n")
        lines = [
            f"{30 + i} 23 0:{28 + i} {root} {tmp_path}{point} rw,relatime - {kind} cgroup rw,{opts}"
            for i, (root, point, kind, opts) in enumerate(mounts)
        ]
        (proc / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/root rw\n" + "\n".join(lines))
        for path, text in files.items():
            file = tmp_path / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")
        return proc

    return write


V2 = [("/", "/sys", "cgroup2", "nsdelegate")]


def test_version_2_takes_the_tightest_of_all_ancestors(system):
    proc = system(
        ["0::/a/b/c"],
        V2,
        {
            "/sys/a/memory.max": 3 * 2**30,
            "/sys/a/b/memory.max": 2 * 2**30,
            "/sys/a/b/c/memory.max": "max",
            "/sys/a/b/memory.current": 1000,
            "/sys/a/b/memory.stat": "anon 1\ninactive_file 300\nfile 2",
        },
    )
    group = cgroup_memory(MACHINE, proc)
    assert group is not None
    assert group.limit_bytes == 2 * 2**30
    assert group.folder.name == "b"
    assert group.used_bytes() == 700


def test_version_1_takes_the_tightest_and_drops_the_value_that_means_none(system):
    proc = system(
        ["4:memory:/pod/box", "1:cpu,cpuacct:/pod", "0::/"],
        [("/", "/mem", "cgroup", "memory"), ("/", "/cpu", "cgroup", "cpu,cpuacct")],
        {
            "/mem/memory.limit_in_bytes": NONE_V1,
            "/mem/pod/memory.limit_in_bytes": 2**30,
            "/mem/pod/box/memory.limit_in_bytes": NONE_V1,
            "/mem/pod/memory.usage_in_bytes": 5000,
            "/mem/pod/memory.stat": "cache 9\ntotal_inactive_file 1000",
            "/cpu/pod/cpu.cfs_quota_us": 150000,
            "/cpu/pod/cpu.cfs_period_us": 100000,
        },
    )
    group = cgroup_memory(MACHINE, proc)
    assert group is not None
    assert (group.limit_bytes, group.used_bytes()) == (2**30, 4000)
    assert cgroup_cpus(proc) == 1.5


def test_both_versions_at_once(system):
    proc = system(
        ["4:memory:/", "0::/box"],
        [("/", "/mem", "cgroup", "memory"), ("/", "/unified", "cgroup2", "x")],
        {"/mem/memory.limit_in_bytes": NONE_V1, "/unified/box/cpu.max": "50000 100000"},
    )
    assert cgroup_memory(MACHINE, proc) is None
    assert cgroup_cpus(proc) == 0.5


def test_a_container_that_sees_its_own_group_only(system):
    proc = system(
        ["0::/docker/1234"],
        [("/docker/1234", "/sys", "cgroup2", "x")],
        {"/sys/memory.max": 2**20, "/sys/cpu.max": "max 100000"},
    )
    group = cgroup_memory(MACHINE, proc)
    assert group is not None
    assert group.limit_bytes == 2**20
    assert cgroup_cpus(proc) is None


def test_a_limit_above_the_machine_is_none(system):
    proc = system(["0::/"], V2, {"/sys/memory.max": MACHINE + 1})
    assert cgroup_memory(MACHINE, proc) is None


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert cgroup_memory(MACHINE, tmp_path) is None
    assert cgroup_cpus(tmp_path) is None


def test_a_cpu_quota_of_minus_one_is_none(system):
    proc = system(
        ["1:cpu:/"],
        [("/", "/cpu", "cgroup", "cpu")],
        {"/cpu/cpu.cfs_quota_us": -1, "/cpu/cpu.cfs_period_us": 100000},
    )
    assert cgroup_cpus(proc) is None


def test_pressure_is_a_share(tmp_path):
    (tmp_path / "memory").write_text(
        "some avg10=12.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=99.00 avg60=0 avg300=0 total=0"
    )
    assert pressure("memory", tmp_path) == 0.125
    assert pressure("io", tmp_path) is None


def test_available_memory_is_read_in_bytes(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:    2048 kB\n")
    assert available_bytes(tmp_path / "meminfo") == 2 * 2**20
    assert available_bytes(tmp_path / "nothing") is None
    (tmp_path / "old").write_text("MemTotal: 9 kB\n")
    assert available_bytes(tmp_path / "old") is None


def test_the_limit_of_open_files_is_that_of_the_process():
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert open_file_limit() == soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        assert open_file_limit() == soft - 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
