"""The command line as a user meets it: every command in text and JSON, exit codes, signals, resumption."""

import json
import subprocess
import sys

import pytest
from cli_kit import invoke, make_folder, said, told
from embedded_kit import ROTATED, Broker, eventually, records

from shotbus.broker.dispatcher import carrying
from shotbus.schemas.codec import decode


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("broker") / "data", "noop", "aer") as broker:
        yield broker


@pytest.fixture(scope="module")
def folder(broker):
    """A working directory whose configuration points to the broker."""
    return make_folder(broker)


def submitted(folder, *words):
    return told(folder, "submit", "bell.qasm", "--backend", "noop", *words)["job_id"]


# -- jobs --------------------------------------------------------------------------------------------


def test_submit_and_wait_prints_a_histogram_or_json(folder):
    text = said(folder, "submit", "bell.qasm", "--shots", "100", "--seed", "1", "--wait")
    assert "succeeded on aer" in text or "served_from_cache on aer" in text
    assert "█" in text
    data = told(folder, "submit", "bell.qasm", "--shots", "100", "--wait")
    assert sum(data["counts"][0].values()) == 100
    assert data["outcome"] == "succeeded"


def test_submit_reads_standard_input_and_binds_points(folder):
    words = ["submit", "-", "--bind", "a=0,3.141592653589793", "--bind", "b=0", "--shots", "7", "--wait"]
    assert told(folder, *words, text=ROTATED)["counts"] == [{"00": 7}, {"01": 7}]


def test_submit_with_observables_prints_values_and_errors(folder):
    words = ["submit", "rotated.qasm", "--bind", "a=0", "--bind", "b=0", "--observable", "ZZ", "--wait"]
    assert "observable 0: 1.000000000 ± 0" in said(folder, *words)
    assert told(folder, *words)["evs"] == [[1.0]]


def test_submit_without_waiting_prints_the_id_alone_and_says_beside_it_how_to_come_back(folder):
    code, out, err = invoke(folder, "submit", "bell.qasm", "--backend", "noop")
    job = out.removesuffix("\n")
    assert (code, len(job)) == (0, 32)
    assert f"come back with: shotbus result {job}" in err
    assert told(folder, "result", job)["outcome"] == "succeeded"
    assert "succeeded on noop" in said(folder, "result", job)
    assert eventually(lambda: "DONE" in said(folder, "status", job))
    assert told(folder, "status", job)["status"] == "DONE"


def test_what_a_job_is_about_can_be_said_on_the_command_line(broker, folder):
    words = (
        "--family",
        "bell@2",
        "--tag",
        "a",
        "--tag",
        "b",
        "--option",
        "optimization_level=2",
        "--value",
        "3",
    )
    job = submitted(folder, *words, "--not-before", "600")
    (record,) = [one for one in records(broker.url, "requests.experiment") if one.key == job.encode()]
    fields = decode(record.value, "circuit_request")[1]
    assert (fields["family"], fields["family_version"], fields["tags"]) == ("bell", "2", ["a", "b"])
    assert (fields["options"], fields["value"]) == ({"optimization_level": "2"}, 3.0)
    assert told(folder, "cancel", job)["cancelled"]


def test_a_wrong_option_is_told_with_the_rest(folder):
    errors = told(folder, "submit", "bell.qasm", "--option", "method", "--shots", "0", code=2)["errors"]
    assert {one["code"] for one in errors} == {"SB-2002", "SB-1103"}


def test_list_filters_and_pages(folder):
    jobs = [submitted(folder, "--tenant", "lister") for _ in range(3)]
    eventually(lambda: len(told(folder, "list", "--tenant", "lister", "--status", "done")) == 3)
    newest = told(folder, "list", "--tenant", "lister", "--limit", "1")
    older = told(folder, "list", "--tenant", "lister", "--limit", "2", "--offset", "1")
    assert {one["job_id"] for one in newest + older} == set(jobs)
    said(folder, "pools", "pause", "noop")
    submitted(folder, "--tenant", "lister")
    eventually(lambda: len(told(folder, "list", "--tenant", "lister")) == 4)
    done = told(folder, "list", "--tenant", "lister", "--limit", "2", "--offset", "1", "--status", "done")
    said(folder, "pools", "resume", "noop")
    assert [one["status"] for one in done] == ["DONE", "DONE"], "the one that waits takes nobody's place"
    assert told(folder, "list", "--tenant", "nobody") == []
    assert said(folder, "list", "--tenant", "nobody") == "no jobs\n"
    assert "job_id" in said(folder, "list")


def test_watch_tells_every_state_until_the_end(folder):
    job = submitted(folder, "--shots", "3")
    lines = said(folder, "watch", job).splitlines()
    assert lines[-1].startswith("DONE")
    found, out, _ = invoke(folder, "watch", job, "--json")
    assert found == 0
    assert json.loads(out.splitlines()[-1])["status"] == "DONE"


def test_watch_follows_a_job_that_is_cancelled_meanwhile(folder):
    said(folder, "pools", "pause", "noop")
    job = submitted(folder)
    command = [sys.executable, "-m", "shotbus", "watch", job]
    watching = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert watching.stdout.readline().startswith("QUEUED")
    assert told(folder, "cancel", job) == {
        "job_id": job,
        "cancelled": True,
        "cancelling": False,
        "outcome": "cancelled",
    }
    assert watching.stdout.readline().startswith("CANCELLED")
    assert watching.wait(timeout=30) == 0
    watching.stdout.close()
    said(folder, "pools", "resume", "noop")


def test_a_cancelled_job_ends_the_command_with_1(folder):
    said(folder, "pools", "pause", "noop")
    job = submitted(folder)
    assert said(folder, "cancel", job) == f"{job} is cancelled\n"
    assert said(folder, "cancel", job) == f"{job} had finished already: cancelled\n"
    assert told(folder, "result", job, code=1)["errors"][0]["code"] == "SB-4002"
    assert "SB-4002" in said(folder, "result", job, code=1)
    said(folder, "pools", "resume", "noop")


def test_a_cancel_of_a_finished_job_says_how_it_ended(folder):
    job = submitted(folder)
    told(folder, "result", job)
    assert told(folder, "cancel", job) == {
        "job_id": job,
        "cancelled": False,
        "cancelling": False,
        "outcome": "succeeded",
    }
    assert said(folder, "cancel", job) == f"{job} had finished already: succeeded\n"
    assert told(folder, "cancel", job, "--tenant", "eve", code=4)["errors"][0]["code"] == "SB-4001"


def test_a_timeout_exits_with_5_and_the_job_goes_on(folder):
    said(folder, "pools", "pause", "noop")
    job = submitted(folder)
    assert told(folder, "result", job, "--timeout", "0.2", code=5)["errors"][0]["code"] == "SB-4006"
    assert told(folder, "watch", job, "--timeout", "0.2", code=5)
    said(folder, "pools", "resume", "noop")
    assert told(folder, "result", job)["outcome"] == "succeeded"


@pytest.mark.parametrize("command", ["status", "result", "watch", "cancel"])
@pytest.mark.parametrize("job", ["0" * 32, "nonsense"])
def test_an_unknown_job_exits_with_4(folder, command, job):
    found, _, err = invoke(folder, command, job, "--json")
    assert found == 4
    assert json.loads(err)["errors"][0]["code"] == "SB-4001"


def test_a_row_that_does_not_exist_exits_with_2(folder):
    job = submitted(folder)
    assert said(folder, "result", job, "--row", "7", code=2).startswith("SB-2002 --row")


# -- sweeps ------------------------------------------------------------------------------------------


def test_a_sweep_from_a_csv_file(folder):
    words = [
        "sweep",
        "submit",
        "rotated.qasm",
        "points.csv",
        "--observable",
        "IZ",
        "--reduce",
        "expectation",
        "--chunk",
        "1",
    ]
    data = told(folder, *words)
    assert (data["final"], data["shards"], data["succeeded"], data["points"]) == (True, 3, 3, 3)
    assert told(folder, "sweep", "status", data["sweep_id"])["done"] == 3
    assert "succeeded" in said(folder, "sweep", "status", data["sweep_id"])


def test_a_sweep_that_is_left_prints_its_id_alone(folder):
    words = ("rotated.qasm", "points.csv", "--backend", "noop", "--no-wait")
    code, out, err = invoke(folder, "sweep", "submit", *words)
    assert (code, len(out.split())) == (0, 1)
    assert f"come back with: shotbus sweep status {out.strip()}" in err


def test_a_sweep_can_be_left_and_cancelled(folder):
    said(folder, "pools", "pause", "noop")
    data = told(
        folder,
        "sweep",
        "submit",
        "rotated.qasm",
        "points.csv",
        "--backend",
        "noop",
        "--chunk",
        "1",
        "--no-wait",
    )
    assert told(folder, "sweep", "cancel", data["sweep_id"])["cancelled"] == 3
    said(folder, "pools", "resume", "noop")
    status = ["sweep", "status", data["sweep_id"], "--json"]
    eventually(lambda: '"failed": 3' in invoke(folder, *status)[1])
    assert invoke(folder, *status)[0] == 1
    assert "had finished already: 0 of 3" in said(folder, "sweep", "cancel", data["sweep_id"])


def test_a_wish_about_many_jobs_is_carried_out_in_steps_and_answered_at_the_end(folder, monkeypatch):
    monkeypatch.setattr(carrying, "STEP", 1)
    (folder / "many.csv").write_text("a,b\n" + "".join(f"0,{n / 7}\n" for n in range(16)))
    said(folder, "pools", "pause", "noop")
    words = ("rotated.qasm", "many.csv", "--backend", "noop", "--chunk", "1", "--no-wait")
    sweep = told(folder, "sweep", "submit", *words)["sweep_id"]
    wish = ("reprioritise", "--sweep", sweep, "--class", "bulk", "--reason", "not today")
    assert told(folder, *wish) == {"changed": 16, "refused": 0, "problems": []}
    assert told(folder, "sweep", "cancel", sweep)["cancelled"] == 16
    said(folder, "pools", "resume", "noop")
    eventually(lambda: '"failed": 16' in invoke(folder, "sweep", "status", sweep, "--json")[1])


@pytest.mark.parametrize("command", ["status", "cancel"])
def test_an_unknown_sweep_exits_with_4(folder, command):
    assert told(folder, "sweep", command, "nothing", code=4)["errors"][0]["code"] == "SB-4007"


@pytest.mark.parametrize("command", ["status", "cancel"])
def test_another_tenant_does_not_know_a_sweep(folder, command):
    words = ["rotated.qasm", "points.csv", "--backend", "noop", "--reduce", "collect"]
    sweep = told(folder, "sweep", "submit", *words)["sweep_id"]
    error = told(folder, "sweep", command, sweep, "--tenant", "eve", code=4)["errors"][0]
    assert error["code"] == "SB-4007"


@pytest.mark.parametrize("content", ["", "a,b\n1\n", "a,b\n1,x\n", "a\n1\n", "a,b,c\n1,2,3\n"])
def test_points_that_are_no_numbers_or_do_not_fit_are_refused(folder, tmp_path, content):
    (tmp_path / "bad.csv").write_text(content)
    found, _, err = invoke(folder, "sweep", "submit", "rotated.qasm", tmp_path / "bad.csv", "--json")
    assert found == 2
    assert json.loads(err)["errors"]


def test_an_unknown_reduction_exits_with_2(folder):
    found = told(folder, "sweep", "submit", "rotated.qasm", "points.csv", "--reduce", "expectatoin", code=2)
    assert found["errors"][0]["hint"] == "did you mean 'expectation'?"


# -- operation ---------------------------------------------------------------------------------------


def test_topics_are_planned_and_applied(folder, tmp_path):
    plan = told(folder, "topics", "plan")
    assert {one["state"] for one in plan} == {"ok"}
    assert "shotbus.results" in said(folder, "topics", "plan")
    fresh = ["--data", tmp_path / "fresh"]
    assert {one["state"] for one in told(tmp_path, "topics", "plan", *fresh)} == {"missing"}
    assert {one["state"] for one in told(tmp_path, "topics", "apply", *fresh)} == {"ok"}
    environ = {"SHOTBUS__BROKER__PARTITIONS": "5"}
    found, out, _ = invoke(tmp_path, "topics", "plan", *fresh, environ=environ)
    assert found == 2
    assert "differs: 2 partitions" in out


def test_doctor_checks_and_prints_where_values_come_from(folder, broker):
    report = told(folder, "doctor")
    checks = {name: (state, detail) for name, state, detail in report["checks"]}
    assert {state for state, _ in checks.values()} == {"ok"}
    assert checks["bus"][1].endswith("broker runs")
    assert report["configuration"] == [["broker.url", repr(broker.url), "shotbus.toml"]]
    assert "broker.url" in said(folder, "doctor")
    assert "limits.max_shots" in said(folder, "doctor", "--all")


def test_the_read_models_can_be_rebuilt(folder):
    job = submitted(folder)
    told(folder, "result", job)
    assert told(folder, "state", "rebuild")["records"] > 0
    assert "read" in said(folder, "state", "rebuild")
    assert told(folder, "status", job)["status"] == "DONE"


@pytest.mark.parametrize(
    "words", [["submit", "bell.qasm"], ["list"], ["doctor"], ["topics", "plan"]], ids=" ".join
)
def test_a_kafka_that_does_not_answer_exits_with_3(folder, words):
    found, out, err = invoke(folder, *words, "--json", "--url", "kafka://127.0.0.1:9?store=memory")
    assert found == 3
    if words != ["doctor"]:
        assert json.loads(err.splitlines()[-1])["errors"][0]["code"] == "SB-2004"
    else:
        assert '"failed"' in out


def test_a_data_directory_that_cannot_be_made_exits_with_3(folder):
    found, _, err = invoke(folder, "list", "--json", "--data", "/proc/nowhere/data")
    assert found == 3
    assert json.loads(err)["errors"][0]["code"] == "SB-2004"


@pytest.mark.parametrize("url", ["sqlite://host/x", "http://x", "nonsense", "kafka://"])
def test_a_url_of_another_form_exits_with_2(folder, url):
    assert told(folder, "list", "--url", url, code=2)["errors"][0]["code"] == "SB-2002"


def test_url_and_data_together_exit_with_2(folder):
    assert invoke(folder, "list", "--url", "sqlite:///x", "--data", "y")[0] == 2
