"""What ``doctor`` and ``topics`` say about a place, without changing it."""

import json

import pytest
from cli_kit import invoke, told


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
