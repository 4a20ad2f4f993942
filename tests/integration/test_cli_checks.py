"""What ``doctor`` and ``topics`` say about a place, without changing it."""

import json

import pytest
from cli_kit import invoke, told
from embedded_kit import Broker, shotbus


def checks(report):
    return {name: (state, detail) for name, state, detail in report["checks"]}


@pytest.mark.parametrize(
    "words", [["doctor"], ["list"], ["dispatcher"], ["worker", "--pool", "noop"]], ids=" ".join
)
def test_a_kafka_url_without_a_store_exits_with_2_and_says_what_to_add(tmp_path, words):
    (problem,) = told(tmp_path, *words, "--url", "kafka://127.0.0.1:9", code=2)["errors"]
    assert (problem["code"], problem["path"]) == ("SB-2002", "$.broker.url")
    assert "?store=redis://host:port" in problem["hint"]


def test_doctor_says_that_memory_is_no_shared_store(tmp_path):
    url = "kafka://127.0.0.1:9?store=memory"
    found, out, _ = invoke(tmp_path, "doctor", "--json", "--url", url)
    assert found == 3
    state, detail = checks(json.loads(out))["store"]
    assert state == "ok"
    assert "lists and the result cache are each process's own" in detail


@pytest.mark.parametrize("words", [["topics", "plan"], ["doctor"]], ids=" ".join)
def test_what_only_looks_makes_no_data_directory(tmp_path, words):
    told(tmp_path, *words, "--data", "new")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    told(tmp_path, *words, "--data", "empty")
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_plan_says_what_apply_will_create_and_then_that_it_is_there(tmp_path):
    assert {row["state"] for row in told(tmp_path, "topics", "plan", "--data", "D")} == {"missing"}
    assert {row["state"] for row in told(tmp_path, "topics", "apply", "--data", "D")} == {"ok"}
    assert {row["state"] for row in told(tmp_path, "topics", "plan", "--data", "D")} == {"ok"}


@pytest.mark.parametrize("words", [["topics", "plan"], ["list"]], ids=" ".join)
def test_an_unreachable_kafka_is_one_json_document_on_standard_error_and_nothing_else(tmp_path, words):
    url = "kafka://127.0.0.1:9?store=memory"
    code, out, err = shotbus(*words, "--json", "--url", url, cwd=tmp_path)
    assert (code, out) == (3, "")
    assert json.loads(err)["errors"][0]["code"] == "SB-2004"


def test_an_unreachable_kafka_adds_no_line_of_a_library_to_doctors_answer(tmp_path):
    code, out, err = shotbus("doctor", "--json", "--url", "kafka://127.0.0.1:9?store=memory", cwd=tmp_path)
    assert (code, err) == (3, "")
    assert checks(json.loads(out))["bus"][0] == "failed"


@pytest.mark.parametrize(
    ("words", "environ"),
    [
        (["submit", "none.qasm", "--data", "D"], {}),
        (["list", "--url", "nonsense"], {}),
        (["list", "--data", "D"], {"SHOTBUS__NOPE": "1"}),
        (["worker", "--pool", "nowhere", "--data", "D"], {}),
    ],
    ids=["input", "url", "configuration", "role"],
)
def test_a_refusal_is_one_last_line_of_standard_error_and_no_answer(tmp_path, words, environ):
    code, out, err = shotbus(*words, "--json", cwd=tmp_path, environ=environ)
    assert (code, out) == (2, "")
    assert {"code", "path", "hint"} <= json.loads(err.splitlines()[-1])["errors"][0].keys()


def test_an_option_that_does_not_exist_is_refused_in_plain_text_on_standard_error(tmp_path):
    code, out, err = shotbus("list", "--json", "--frobnicate", cwd=tmp_path)
    assert (code, out) == (2, "")
    assert "No such option" in err


def test_an_answer_and_a_ready_line_are_one_json_document_on_standard_output(tmp_path):
    code, out, err = shotbus("list", "--json", "--data", "D", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    assert json.loads(out) == []
    with Broker(tmp_path / "data", "noop") as broker:
        assert broker.ready.keys() == {"ready", "role", "url", "pid", "metrics"}


QPU = """
[pools.qpu]
adapter = "remote"
options = { url = "http://127.0.0.1:9", device = "d" }
"""


@pytest.mark.parametrize(
    "words", [["doctor"], ["worker", "--pool", "qpu"], ["up", "--pool", "qpu"]], ids=" ".join
)
def test_a_qpu_that_is_configured_as_a_simulator_is_refused_before_anything_is_sent_to_it(tmp_path, words):
    (tmp_path / "shotbus.toml").write_text(QPU)
    code, out, err = invoke(tmp_path, *words, "--json", "--data", "D")
    assert code in (2, 3)
    assert "$.pools.qpu.kind" in out + err
    assert "hardware: remote is a QPU" in out + err
    (tmp_path / "shotbus.toml").write_text(QPU + 'kind = "hardwear"\n')
    (problem,) = told(tmp_path, *words, "--data", "D", code=2)["errors"]
    assert (problem["path"], problem["limit"]) == ("$.pools.qpu.kind", "simulator, classical, hardware, none")
