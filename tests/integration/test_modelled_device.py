"""Routing by what workers say of their backends: an ideal pool, a modelled device, one whose GPU is not there."""

import json

import pytest
from cli_kit import invoke, said, told
from embedded_kit import BELL, Broker, eventually

CONFIG = """
[pools.ideal]
adapter = "aer"
slots = 1
[pools.device]
adapter = "aer"
slots = 1
max_qubits = 5
options = { device_model = "generic", qubits = 5, seed = 7, drift_seconds = 100000 }
[pools.gpu]
adapter = "aer"
slots = 1
options = { device = "GPU" }
[pools.restless]
adapter = "aer"
slots = 1
options = { device_model = "generic", qubits = 2, drift_seconds = 0.001 }
[[routing.rules]]
name = "calibrated"
when = { tags = ["calibrated"] }
where = { fidelity = "0.9..1", t1_us = "50..", calibration_age_seconds = "..100000" }
then = { pools = ["ideal", "device"] }
[[routing.rules]]
name = "out of reach"
when = { tags = ["fresh"] }
where = { fidelity = "0.99999..", calibration_age_seconds = "..100000" }
then = { pools = ["device"], fallback = ["ideal"] }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("device")
    (folder / "data").mkdir()
    for place in (folder, folder / "data"):
        (place / "shotbus.toml").write_text(CONFIG)
    (folder / "bell.qasm").write_text(BELL)
    with Broker(folder / "data", "ideal", "device", "gpu", "restless"):
        eventually(lambda: pools(folder)["gpu"]["reason"], seconds=60)
        # The dispatcher hears of the device a moment after it advertises itself.
        eventually(lambda: on_device(submitted(folder, "--tag", "calibrated")[1]), seconds=60)
        yield folder


def on_device(result):
    return result["executed_on"] == "generic_backend_5q"


def at(folder, *words, **options):
    return told(folder, *words, "--data", "data", **options)


def pools(folder):
    return {row["pool"]: row for row in at(folder, "pools", "list")["pools"]}


def submitted(folder, *words):
    job = at(folder, "submit", "bell.qasm", "--shots", "2000", *words)["job_id"]
    return job, at(folder, "result", job)


def candidates(folder, job):
    trail = eventually(lambda: trail_of(at(folder, "why", job)["events"]))
    return {step["pool"]: step for step in trail if step["step"] == "candidate"}


def trail_of(events):
    return next((event["terms"]["trail"] for event in events if "trail" in event["terms"]), None)


def test_a_job_goes_to_the_pool_whose_advertised_numbers_fit_and_why_shows_them(folder):
    job, result = submitted(folder, "--tag", "calibrated")
    assert on_device(result)
    found = candidates(folder, job)
    assert "fidelity: unknown, not 0.9..1" in "; ".join(found["ideal"]["rejected"])
    device, backend = found["device"], pools(folder)["device"]["backend"]
    assert device["rejected"] == []
    assert (device["fidelity"], device["t1_us"]) == (backend["fidelity"], backend["t1_us"])
    assert 0 <= device["calibration_age_seconds"] < 100_000
    text = said(folder, "why", job, "--data", "data")
    assert f"fidelity {device['fidelity']}" in text


def test_the_answer_is_noisy_and_names_its_calibration(folder):
    _, result = submitted(folder, "--tag", "calibrated")
    provenance = result["provenance"]
    assert provenance["calibration_id"] == pools(folder)["device"]["backend"]["calibration_id"]
    assert (provenance["model"]["seed"], provenance["device"]) == (7, "CPU")


def test_a_device_that_is_not_good_enough_is_passed_over_with_its_number(folder):
    job, result = submitted(folder, "--tag", "fresh")
    assert result["executed_on"] == "aer_simulator"
    rejected = "; ".join(candidates(folder, job)["device"]["rejected"])
    assert f"fidelity: {pools(folder)['device']['backend']['fidelity']:.6g}"[:16] in rejected


def test_answers_of_a_device_that_is_calibrated_under_every_run_do_not_count(folder):
    job, result = submitted(folder, "--backend", "restless", "--fallback", "ideal")
    assert result["executed_on"] == "aer_simulator"
    events = eventually(lambda: ended(at(folder, "why", job)["events"]))
    told = json.dumps(events)
    assert "UNSTABLE" in told
    assert [event["pool"] for event in events if event["cause"] == "start"] == ["restless"] * 2 + ["ideal"]


def ended(events):
    return events if events[-1]["state"] == "DONE" else None


def test_a_gpu_that_is_not_there_makes_its_pool_unhealthy_with_the_reason(folder):
    row = pools(folder)["gpu"]
    assert (row["state"], row["workers"]) == ("unhealthy", 1)
    assert row["reason"] == "asked for a GPU, but this host's Aer has only CPU"
    text = said(folder, "pools", "list", "--wide", "--data", "data")
    assert "gpu: asked for a GPU" in text
    assert pools(folder)["device"]["backend"]["calibration_id"][:12] in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_job_for_it_waits_and_is_never_run_elsewhere_in_silence(folder):
    job = at(folder, "submit", "bell.qasm", "--backend", "gpu", "--shots", "5")["job_id"]
    waiting = eventually(lambda: (found := at(folder, "why", job))["status"] == "QUEUED" and found)
    assert (waiting["pool"], waiting["outcome"]) == ("gpu", "")
    assert pools(folder)["gpu"]["waiting"] == 1
    at(folder, "cancel", job)


def test_wrong_options_are_refused_at_the_start_of_a_worker_and_by_doctor(tmp_path):
    (tmp_path / "shotbus.toml").write_text(CONFIG.replace('device = "GPU"', 'device = "TPU", speed = 9'))
    code, _, err = invoke(tmp_path, "worker", "--pool", "gpu", "--data", "data", "--json")
    places = {(one["code"], one["path"]) for one in json.loads(err)["errors"]}
    assert code == 2
    assert places == {("SB-2002", "$.pools.gpu.options.device"), ("SB-2001", "$.pools.gpu.options.speed")}
    code, out, _ = invoke(tmp_path, "doctor", "--json")
    failed = [check for check in json.loads(out)["checks"] if check[1] == "failed"]
    assert code != 0
    assert [name for name, _, _ in failed] == ["pool gpu"]
    assert "$.pools.gpu.options.speed" in failed[0][2]
