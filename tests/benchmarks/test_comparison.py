"""The parts of the comparison of policies that decide something."""

from __future__ import annotations

import math
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.comparison.measures import COSTS, Run, agreement, costs_of, oracle_of, queue_series
from benchmarks.comparison.recording import Recorder
from benchmarks.comparison.report import Section, page
from benchmarks.comparison.verdicts import Comparison, recommendation
from benchmarks.policies import main
from benchmarks.workloads import WORKLOADS, build, load


def run(mean, p99=1.0, makespan=1.0):
    costs = dict.fromkeys(COSTS, 1.0)
    return Run("x", "w", costs | {"sojourn_mean": mean, "sojourn_p99": p99, "makespan": makespan})


def test_the_oracle_is_the_size_whose_worst_ratio_is_least():
    assert oracle_of({2: run(5.0), 8: run(1.0, p99=3.0), 16: run(1.3, p99=1.2)}) == 16


def test_of_equally_good_sizes_the_oracle_is_the_smallest():
    assert oracle_of({8: run(1.005), 16: run(1.0), 64: run(1.0)}) == 8


def test_rankings_agree_disagree_and_leave_out_ties():
    assert agreement({"a": 1, "b": 2, "c": 3}, {"a": 10, "b": 20, "c": 30}) == (1.0, 3)
    assert agreement({"a": 1, "b": 2}, {"a": 2, "b": 1}) == (-1.0, 1)
    tau, pairs = agreement({"a": 1.0, "b": 1.01}, {"a": 1, "b": 2})
    assert math.isnan(tau)
    assert pairs == 0


def test_costs_count_changes_and_reversals():
    sizes = [(0.0, 2), (1.0, 4), (2.0, 4), (3.0, 3), (4.0, 5)]
    costs = costs_of(waits=[0], sojourns=[1], makespan=1, thread_seconds=9, sizes=sizes)
    assert (costs["changes"], costs["reversals"], costs["peak"]) == (3, 2, 5)


def test_percentiles_are_taken_by_nearest_rank():
    costs = costs_of(
        waits=range(1, 101), sojourns=[5], makespan=1, thread_seconds=1, sizes=[(0.0, 1)]
    )
    assert (costs["wait_p50"], costs["wait_p95"], costs["wait_p99"]) == (50, 95, 99)


def test_a_series_shows_the_queue_and_its_oldest_task():
    points = queue_series([0.0, 0.0, 1.0], [0.0, 2.0, 2.0], [(0.0, 1)], points=2)
    assert points == [(0.0, 1, 1, 0.0), (1.0, 1, 2, 1.0), (2.0, 1, 0, 0.0)]


def test_a_recording_can_be_loaded_as_a_workload(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        recorder = Recorder(pool)
        done = [recorder.submit(pow, 2, n) for n in range(5)]
        failed = recorder.submit(int, "x")
        assert [future.result(5) for future in done] == [1, 2, 4, 8, 16]
        assert isinstance(failed.exception(5), ValueError)
    recorder.save(tmp_path / "mine.csv")
    tasks = load(tmp_path / "mine.csv").tasks
    assert len(tasks.arrivals) == 6
    assert tasks.arrivals[0] == 0.0


def test_json_lines_are_a_workload_too(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text(
        '{"arrival": 3, "duration": 0.5, "cpu_share": 0.2}\n{"arrival": 1, "duration": 2}\n'
    )
    tasks = load(file).tasks
    assert (list(tasks.arrivals), list(tasks.cpu), list(tasks.block)) == (
        [0.0, 2.0],
        [0.0, 0.1],
        [2.0, 0.4],
    )


@pytest.mark.parametrize(
    ("line", "wants"),
    [("1,x,0", "wants numbers"), ("1,-2,0", "duration >= 0"), ("1,1,1.5", "cpu_share 0 to 1")],
)
def test_a_bad_line_is_named(tmp_path, line, wants):
    file = tmp_path / "mine.csv"
    file.write_text(f"arrival,duration,cpu_share\n0,1,0\n{line}\n")
    with pytest.raises(ValueError, match=f"mine.csv, task 2: .*{wants}"):
        load(file)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_is_the_same_for_the_same_seed_and_in_order(name):
    first, again, other = build(name, 1).tasks, build(name, 1).tasks, build(name, 2).tasks
    assert (first.arrivals, first.cpu, first.block) == (again.arrivals, again.cpu, again.block)
    assert list(first.arrivals) == sorted(first.arrivals)
    assert name == "live_room" or first.arrivals != other.arrivals


def test_an_unknown_workload_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="there are: steady_io, burst"):
        build("bursts")


def test_the_command_compares_a_policy_of_ones_own_on_a_file_of_ones_own(
    tmp_path, capsys, monkeypatch
):
    file = tmp_path / "mine.csv"
    rows = "".join(f"{i / 100},0.05,0.1\n" for i in range(200))
    file.write_text(f"arrival,duration,cpu_share\n{rows}")
    (tmp_path / "own_policy.py").write_text(
        "from threadkit.sizing import Fixed\nclass Own(Fixed):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    report, data = tmp_path / "r.html", tmp_path / "r.json"
    code = main(
        [
            f"--workload={file}",
            "--policy=own_policy:Own",
            "--quick",
            f"--report={report}",
            f"--json={data}",
        ]
    )
    out = capsys.readouterr().out
    assert code == 0
    assert 'Use policy="' in out
    text = report.read_text(encoding="utf-8")
    assert text.count("<svg") == 3
    assert "Own" in text
    assert "://" not in text.replace("http://www.w3.org", "")  # stands alone
    assert '"contender": "threadkit:Own"' in data.read_text()


def test_the_default_is_recommended_unless_another_needs_clearly_fewer_threads():
    def comparison(**threads):
        runs = {name: run(1.0) for name in threads}
        regrets = {name: dict.fromkeys(COSTS, 1.0) for name in threads}
        for name, used in threads.items():
            regrets[name]["thread_seconds"] = used
        return Comparison(build("burst"), 8, runs, regrets, regrets)

    assert 'policy="adaptive"' in recommendation([comparison(keep_alive=1.0, adaptive=1.02)])
    assert 'policy="keep_alive"' in recommendation([comparison(keep_alive=0.7, adaptive=1.0)])


def test_a_page_escapes_what_it_shows():
    assert "<b>" not in page("a <b> c", [], [Section("<b>", "<b>", [])])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--only", "nope"], "no workload is named 'nope'; there are: steady_io"),
        (["--contenders", "nope"], "no contender is named 'nope'; there are: peers, adaptive"),
        (["--repeats", "0"], "must be a whole number, at least 1, not 0"),
        (["--cores", "-1"], "must be a whole number, at least 1, not -1"),
        (["--policy", "threadkit"], "--policy wants package.module:Name, not 'threadkit'"),
        (["--policy", "no.such:Policy"], "No module named 'no'"),
        (["--policy", "threadkit:Nope"], "has no attribute 'Nope'"),
        (["--policy", "builtins:dict"], "decide(snapshot), not {}"),
        (["--report", "no/such/folder/page.html"], "there is no such folder"),
        (["--workload", "missing.csv"], "No such file or directory: 'missing.csv'"),
    ],
)
def test_a_wrong_call_ends_with_one_line_and_code_2(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--quick", *arguments])
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.csv", "arrival,duration\n0,abc\n", "task 1: wants numbers for arrival, duration"),
        ("a.csv", "arrival,duration\n0,inf\n", "task 1: wants a finite arrival, duration >= 0"),
        ("a.csv", "arrival,duration\nnan,1\n", "task 1: wants a finite arrival"),
        ("a.csv", "arrival,duration,cpu_share\n0,1,3\n", "cpu_share 0 to 1"),
        ("a.csv", "", "holds no task"),
        ("a.jsonl", "[1, 2]\n", "task 1: wants numbers for arrival"),
        ("a.jsonl", "{", "no JSON in the line '{'"),
    ],
)
def test_a_bad_workload_file_is_refused_by_name_and_line(tmp_path, name, text, complaint):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ValueError, match=re.escape(complaint)) as refused:
        load(file)
    assert str(file) in str(refused.value)


def test_a_workload_saved_by_a_spreadsheet_is_read(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_bytes("\ufeffarrival,duration,cpu_share\r\n0,0.5,\r\n2,1,0.5\r\n".encode())
    assert list(load(file).tasks.block) == [0.5, 0.5]
