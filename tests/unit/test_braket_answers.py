"""What Braket says of tasks and of their results: believed where it fits, outcomes as packed arrays."""

import json
from datetime import UTC, datetime

import pytest
from braket_devices import header
from braket_orders import order_of, turned
from hypothesis import given
from hypothesis import strategies as st

from shotbus.workers.adapters.braket_answers import read_result
from shotbus.workers.adapters.braket_compile import Form, write
from shotbus.workers.adapters.braket_tasks import STATUSES, read_task
from shotbus.workers.adapters.gate_compile import flattened
from shotbus.workers.providers.base import ImplausibleError

ARN = "arn:aws:braket:eu-north-1:123456789012:quantum-task/00-11"


def told_task(**more):
    tags = {"shotbus-token": "t.0", "shotbus-digest": "0" * 64}
    return {"quantumTaskArn": ARN, "status": "QUEUED", "tags": tags, "outputS3Bucket": "b", **more}


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_a_task_is_in_one_of_our_states(status):
    told = told_task(status=status, failureReason="no")
    view = read_task(told, "t.0", by_us=True).view
    assert view.status == STATUSES[status]
    assert (view.failure is None) == (status not in ("FAILED", "CANCELLED"))
    assert (view.id, view.digest) == (ARN, "0" * 64)


@pytest.mark.parametrize(
    "more",
    [
        {"tags": {}},
        {"tags": None},
        {"quantumTaskArn": "x"},
        {"status": "ASLEEP"},
        {"tags": {"shotbus-token": "u.0"}},
    ],
)
def test_a_task_that_is_another_or_none_is_not_believed(more):
    with pytest.raises(ImplausibleError):
        read_task(told_task(**more), "t.0", by_us=False)


def test_what_a_task_waited_is_from_its_creation_to_its_end():
    begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert read_task(told_task(createdAt=begin, endedAt=end), "t.0", by_us=False).view.queue_seconds == 60.0


@pytest.mark.parametrize(
    ("told", "note"),
    [
        ({"position": "3"}, "place 3 in the device's queue"),
        ({"position": ">2000"}, "place >2000 in the device's queue"),
        ({"position": "None"}, ""),
        (None, ""),
    ],
)
def test_the_place_in_the_queue_is_told_while_there_is_one(told, note):
    assert read_task(told_task(queueInfo=told), "t.0", by_us=False).view.note == note
    assert read_task(told_task(queueInfo=told, status="RUNNING"), "t.0", by_us=False).view.note == ""


def result(**more):
    """Four shots: qubit 2 is 1, 1, 0, 1, qubit 1 always 0; the columns are in another order than the bits."""
    action = {"source": write(flattened(turned()), Form()).text}
    return {
        "braketSchemaHeader": header("task_result.gate_model_task_result"),
        "taskMetadata": {"id": ARN},
        "additionalMetadata": {"action": action, "simulatorMetadata": {"executionDuration": 1500}},
        "measurements": [[0, 1], [0, 1], [0, 0], [0, 1]],
        "measuredQubits": [1, 2],
        **more,
    }


def read(document, order=None, objects=None):
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    load = {name: json.dumps(one).encode() for name, one in (objects or {}).items()}.__getitem__
    return read_result(raw, load, ARN, order or order_of(1, (4,)))


def seen(entries):
    return dict(zip(entries.outcomes[:, 0].tolist(), entries.counts.tolist(), strict=True))


def test_outcomes_go_to_the_bits_that_their_qubits_were_measured_for():
    fetched = read(result())
    assert seen(fetched.outcomes[0]) == {0: 1, 0b1001: 3}
    assert fetched.backend_seconds == 1.5
    plain = read(result(additionalMetadata={}, measurements=[[1, 0], [1, 0], [0, 0], [1, 0]]))
    assert seen(plain.outcomes[0]) == {0: 1, 0b1001: 3}
    assert plain.backend_seconds == -1.0


def test_shares_of_outcomes_are_taken_for_counts_if_they_are_whole_numbers_of_shots():
    shares = {"measurements": None, "measurementProbabilities": {"01": 0.75, "00": 0.25}}
    assert seen(read(result(**shares)).outcomes[0]) == {0: 1, 0b1001: 3}
    assert read(result(measurements=None, measurementProbabilities={"01": 0.7, "00": 0.3})).wrong
    assert read(result(measurements=None, measurementProbabilities={"01": 0.75})).wrong


@pytest.mark.parametrize(
    "shares", [{"01": 1.0, "00": 0.25, "11": -1}, {"01": 1.25}, {"01": "1"}, {"0": 1}, {"02": 1}, [1]]
)
def test_shares_that_are_none_are_not_believed(shares):
    assert read(result(measurements=None, measurementProbabilities=shares)).wrong


@pytest.mark.parametrize(
    "document",
    [
        b"junk",
        b"[]",
        result(taskMetadata={"id": "another"}),
        result(braketSchemaHeader=header("task_result.annealing_task_result")),
        result(measurements=[[0, 1]] * 3),
        result(measurements=[[0, 1], [0, 1], [0, 1], [0]]),
        result(measurements=[[0, 2]] * 4),
        result(measurements=[[0, -1]] * 4),
        result(measurements=[[0.5, 1]] * 4),
        result(measurements=[["0", "1"]] * 4),
        result(measurements=[[True, False]] * 4),
        result(measurements=[[0]] * 4),
        result(measurements="0101"),
        result(measurements=None),
        result(measuredQubits=[0, 1]),
        result(measuredQubits=[2, 2]),
    ],
)
def test_a_result_that_does_not_fit_the_request_is_not_believed(document):
    assert read(document).wrong


def test_a_result_of_one_program_is_none_of_many():
    assert read(result(), order_of(2, (4,))).wrong


def program_set(rows=2, **parts):
    """A set's results: everything in one object, executables out of order."""
    one = {"measurements": [[0, 1]] * 4, "measuredQubits": [1, 2]}
    executables = [{"inputsIndex": row, **one} for row in reversed(range(rows))]
    executables[0] |= parts
    return {
        "braketSchemaHeader": header("task_result.program_set_task_result"),
        "taskMetadata": {"id": ARN},
        "programResults": [
            {"executableResults": executables, "source": {"source": write(flattened(turned()), Form()).text}}
        ],
    }


def test_rows_of_a_program_set_come_in_the_order_of_their_inputs_and_runs_are_added_up():
    changed = program_set(rows=4, measurements=[[0, 0]] * 4)
    (entries,) = read(changed, order_of(2, (4, 4))).outcomes
    assert entries.indptr.tolist() == [0, 1, 3]
    assert entries.counts.tolist() == [8, 4, 4]


def test_parts_of_a_program_set_may_lie_in_objects_of_their_own():
    whole = program_set()
    (program,) = whole["programResults"]
    objects = {f"p/0/x/{row}": one for row, one in enumerate(program["executableResults"])}
    objects |= {"p/0/program": program["source"], "meta": whole["taskMetadata"]}
    names = {"executableResults": ["x/0", "x/1"], "source": "program"}
    objects["p/0/results"] = names
    fetched = read(
        {**whole, "programResults": ["p/0/results"], "taskMetadata": "meta"}, order_of(2, (4,)), objects
    )
    assert fetched.wrong == ""
    assert len(fetched.raw) > sum(len(json.dumps(one)) for one in objects.values())


@pytest.mark.parametrize(
    "parts", [{"inputsIndex": 0}, {"inputsIndex": "1"}, {"inputsIndex": 2}, {"measurements": [[0, 1]]}]
)
def test_a_program_set_that_does_not_fit_the_request_is_not_believed(parts):
    assert read(program_set(**parts), order_of(2, (4,))).wrong
    assert read(program_set(rows=3), order_of(2, (4,))).wrong


def test_an_executable_that_failed_is_a_failure_of_its_job():
    broken = program_set(failureMetadata={"category": "COMPILATION", "failureReason": "no such gate"})
    fetched = read(broken, order_of(2, (4,)))
    assert (fetched.failure.code, fetched.outcomes, fetched.wrong) == ("SB-1220", (), "")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(document, path=()):
    """Where something stands in a document."""
    steps = document.items() if isinstance(document, dict) else enumerate(document)
    for step, inner in steps:
        yield (*path, step)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, step))


@given(st.data(), ANYTHING, st.booleans())
def test_whatever_a_result_says_is_believed_or_not_and_nothing_is_raised(data, value, several):
    document = program_set() if several else result()
    *path, last = data.draw(st.sampled_from(list(places(document))))
    inner = document
    for step in path:
        inner = inner[step]
    inner[last] = value
    raw = json.dumps(document).encode()
    fetched = read_result(raw, lambda name: b"{}", ARN, order_of(2 if several else 1, (4,)))
    assert bool(fetched.wrong) + bool(fetched.failure) + bool(fetched.outcomes) == 1
    for entries in fetched.outcomes:
        assert entries.counts.sum() == 4 * (2 if several else 1)
