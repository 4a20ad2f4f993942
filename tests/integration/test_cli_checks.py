"""What ``doctor`` and ``topics`` say about a place, without changing it."""

import json

import pytest
from cli_kit import invoke, told
from embedded_kit import shotbus


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
