"""Why shards of a sweep failed is said with the sweep, on an embedded broker."""

import pytest
from cli_kit import invoke, make_folder, said, told
from embedded_kit import Broker, eventually

CONFIG = """
[pools.qpu]
adapter = "noop"
kind = "hardware"
price.per_task = 5.0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("reasons") / "data"
    place.mkdir(parents=True)
    (place / "shotbus.toml").write_text(CONFIG)
    with Broker(place, "noop") as broker:
        folder = make_folder(broker)
        (folder / "shotbus.toml").write_text(f'[broker]\nurl = "{broker.url}"\n{CONFIG}')
        yield folder


DEAR = (
    "rotated.qasm",
    "points.csv",
    "--backend",
    "qpu",
    "--max-cost",
    "0.01",
    "--chunk",
    "1",
    "--shots",
    "5",
)


@pytest.mark.parametrize("session", [(), ("--session", "s")], ids=["alone", "in a session"])
def test_a_sweep_that_was_refused_says_why_at_once_and_later(folder, session):
    found = told(folder, "sweep", "submit", *DEAR, *session, code=1)
    (reason,) = found["reasons"]
    assert (found["failed"], reason["shards"], reason["outcome"]) == (3, [0, 1, 2], "refused")
    assert reason["problem"]["code"] == "SB-1110"
    later = told(folder, "sweep", "status", found["sweep_id"], *session, code=1)
    assert later["reasons"] == found["reasons"]


def test_the_text_counts_the_shards_of_a_reason(folder):
    code, out, _ = invoke(folder, "sweep", "submit", *DEAR)
    assert code == 1
    assert "  3 x SB-1110 $" in out


PLAIN = (
    "rotated.qasm",
    "points.csv",
    "--backend",
    "noop",
    "--shots",
    "5",
    "--reduce",
    "collect",
    "--chunk",
    "1",
)


@pytest.mark.parametrize("session", [(), ("--session", "s")], ids=["alone", "in a session"])
def test_a_sweep_without_failures_has_no_reasons_and_its_jobs_are_listed(folder, session):
    found = told(folder, "sweep", "submit", *PLAIN, *session)
    assert found["reasons"] == []

    def listed(*words):
        jobs = told(folder, "list", "--sweep", found["sweep_id"], *session, *words)
        return [(job["sweep_id"], job["status"]) for job in jobs]

    eventually(lambda: listed() == [(found["sweep_id"], "DONE")] * 3)
    assert len(listed("--limit", "2")) == 2
    assert len(listed("--offset", "1", "--status", "done")) == 2
    assert listed("--status", "error") == []


def test_a_sweep_that_nobody_knows_cannot_be_listed(folder):
    assert said(folder, "list", "--sweep", "nosuch", code=4).startswith("SB-4007")
    assert "--session goes with --sweep" in said(folder, "list", "--session", "s", code=2)
