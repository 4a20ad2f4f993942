"""The main job as a user runs it: embedded, then on Kafka with workers that join and leave."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

RUN = pathlib.Path(__file__).resolve().parents[2] / "examples" / "h2_dissociation.toml"

pytestmark = pytest.mark.alone


def run(*command, cwd):
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    answer, report = run("shotbus", "run", str(RUN), "--json", cwd=folder)
    return folder, answer, report


def test_the_exact_curve_is_within_chemical_accuracy_of_diagonalisation(embedded):
    _, answer, report = embedded
    exact = np.array(answer["exact"]["arrays"]["minimum"])
    reference = np.array(answer["diagonalisation"]["arrays"]["values"]).ravel()
    assert exact.size == reference.size == 40
    assert np.abs(exact - reference).max() < 1.6e-3
    assert re.search(r"Equilibrium: 0\.73\d+ Å, -1\.137\d+ Ha", report)
    assert "largest deviation" in report


def test_the_sampled_curve_agrees_within_its_own_errors(embedded):
    _, answer, _ = embedded
    arrays = answer["shots"]["arrays"]
    reference = np.array(answer["diagonalisation"]["arrays"]["values"]).ravel()
    sigma = (np.array(arrays["minimum"]) - reference) / np.array(arrays["stderr"])
    assert np.all(np.array(arrays["stderr"]) > 0)
    assert np.abs(sigma).max() < 5


def test_the_picture_is_written(embedded):
    folder, _, _ = embedded
    assert (folder / "h2_dissociation.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_run_is_served_from_the_cache_and_says_so(embedded):
    folder, first, _ = embedded
    second, report = run("shotbus", "run", str(RUN), "--json", cwd=folder)
    assert "120 of 120 shards were served from the cache" in report
    for sweep in first:
        assert second[sweep]["from_cache"] == second[sweep]["shards"] == 40
        assert second[sweep]["arrays"] == first[sweep]["arrays"]


def test_kafka_gives_the_same_answer_while_a_worker_joins_and_another_leaves(
    embedded, kafka_address, redis_url, tmp_path
):
    _, expected, _ = embedded
    url = f"kafka://{kafka_address}?store={redis_url}"
    answer, report = run(
        "shotbus.deploy.cluster", "--url", url, "--", "run", str(RUN), "--json", cwd=tmp_path
    )
    for sweep in expected:
        assert answer[sweep]["failed"] == answer[sweep]["from_cache"] == 0
        assert answer[sweep]["shots"] == expected[sweep]["shots"]
        assert answer[sweep]["arrays"] == expected[sweep]["arrays"]
    assert "a third worker has joined" in report
    assert "the first worker has left" in report
    shares = {name: int(jobs) for name, jobs in re.findall(r"worker (aer-\d) did (\d+) jobs", report)}
    assert shares["aer-2"] > 0
    # Nothing is lost and nothing runs twice, although partitions of work change hands twice.
    assert sum(shares.values()) == 80


def test_one_line_of_configuration_moves_it_to_the_vector_pool(tmp_path):
    (tmp_path / "shotbus.toml").write_text('[routing]\ndefault = "vector"\n', encoding="utf-8")
    answer, report = run("shotbus", "run", str(RUN), "--json", cwd=tmp_path)
    exact = np.array(answer["exact"]["arrays"]["minimum"])
    reference = np.array(answer["diagonalisation"]["arrays"]["values"]).ravel()
    assert np.abs(exact - reference).max() < 1e-9
    arrays = answer["shots"]["arrays"]
    assert np.abs((np.array(arrays["minimum"]) - reference) / np.array(arrays["stderr"])).max() < 5
    assert "largest deviation" in report
