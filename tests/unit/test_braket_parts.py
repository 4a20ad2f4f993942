"""Braket in words of ours: options, errors by table, capabilities, programs, outcomes as packed arrays."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from braket_devices import QPU, SIMULATOR, capabilities, header, simulator
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from shard_kit import FakeClock

from shotbus.broker.config import Config, PoolConfig, PriceConfig
from shotbus.roles import adapter_problems
from shotbus.schemas.errors import ShotbusError
from shotbus.workers.adapters.base import error_class_of
from shotbus.workers.adapters.braket_answers import STATUSES, read_result, read_task
from shotbus.workers.adapters.braket_api import keys_of
from shotbus.workers.adapters.braket_aws import client_token
from shotbus.workers.adapters.braket_compile import Form, write
from shotbus.workers.adapters.braket_device import calibrated
from shotbus.workers.adapters.braket_errors import (
    BEFORE,
    CATEGORIES,
    CODES,
    cancelled,
    failure,
    partial,
    refusal,
)
from shotbus.workers.adapters.braket_errors import STATUSES as HTTP
from shotbus.workers.adapters.braket_facts import read_facts
from shotbus.workers.adapters.braket_programs import Limits, action_of
from shotbus.workers.adapters.braket_settings import read_settings
from shotbus.workers.adapters.gate_compile import flattened
from shotbus.workers.providers.base import DownError, ImplausibleError, RefusedError
from shotbus.workers.providers.programs import Order, Written
from shotbus.workers.providers.settling import Settling

AWS = {"device": QPU, "bucket": "results", "credentials": "env:AWS_KEYS"}
ARN = "arn:aws:braket:eu-north-1:123456789012:quantum-task/00-11"
#: What the tables say -> the class that the dispatcher acts by.
CLASSES = {
    "SB-1110": "CONSTRAINT",
    "SB-1220": "INVALID",
    "SB-5001": "TRANSIENT",
    "SB-5004": "TIMEOUT",
    "SB-5007": "UNKNOWN_OUTCOME",
    "SB-5008": "BACKEND_DOWN",
    "SB-5009": "THROTTLED",
    "SB-9001": "INTERNAL",
}


# --- options ---


def refused(options):
    with pytest.raises(ShotbusError) as error:
        read_settings(options)
    return {problem.path for problem in error.value.problems}, str(error.value)


def test_a_simulator_of_the_sdk_needs_nothing_and_takes_nothing_of_aws():
    assert read_settings({"device": "braket_sv"}).local
    assert refused({"device": "braket_dm", "bucket": "results", "credentials": "default"})[0] == {
        "$.bucket",
        "$.credentials",
    }
    assert refused({"device": "braket_dm", "max_qubits": "13"})[0] == {"$.max_qubits"}


def test_a_device_at_aws_needs_bucket_region_and_credentials_and_is_told_all_at_once():
    assert refused({"device": SIMULATOR})[0] == {"$.bucket", "$.region", "$.credentials"}
    assert refused({})[0] == {"$.device"}
    assert refused({"device": "arn:aws:s3:::device/x"})[0] == {"$.device"}
    settings = read_settings({**AWS, "prefix": "a/b"})
    assert (settings.region, settings.local, settings.prefix) == ("eu-north-1", False, "a/b")
    assert read_settings({**AWS, "device": SIMULATOR, "region": "us-west-2"}).region == "us-west-2"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("region", "us-east-1"),
        ("region", "here and there"),
        ("bucket", "No Bucket"),
        ("prefix", "/up"),
        ("endpoint", "http://aws.example"),
        ("s3_endpoint", "https://me:s3cr3t@aws.example"),
        ("credentials", "s3cr3t"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_its_place_and_no_secret_repeated(option, value):
    paths, text = refused({**AWS, option: value})
    assert paths == {f"$.{option}"}
    assert "s3cr3t" not in text


def test_boto3_searches_for_credentials_itself_only_where_that_is_asked_for():
    assert read_settings({**AWS, "credentials": "default"}).credentials == ""
    assert keys_of("") == {}
    keys = keys_of('{"AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": null}')
    assert keys == {"aws_access_key_id": "a", "aws_secret_access_key": "b"}


@pytest.mark.parametrize("secret", ["s3cr3t", "[]", "{}", '{"AccessKeyId": 1, "SecretAccessKey": "s3cr3t"}'])
def test_a_credential_of_another_form_is_told_without_being_repeated(secret):
    with pytest.raises(DownError) as error:
        keys_of(secret)
    assert "s3cr3t" not in str(error.value)


def test_a_pool_that_costs_has_to_be_hardware_or_have_a_price():
    options = {**AWS, "device": SIMULATOR, "region": "us-east-1"}
    for pool, wrong in (
        (PoolConfig(adapter="braket", options=options), True),
        (PoolConfig(adapter="braket", options=options, price=PriceConfig(per_task=0.1)), False),
        (PoolConfig(adapter="braket", options=options, kind="hardware"), False),
        (PoolConfig(adapter="braket", options={"device": "braket_sv"}), False),
        (PoolConfig(adapter="braket", options=AWS, price=PriceConfig(per_task=0.1)), True),
    ):
        problems = adapter_problems(Config(pools={"p": pool}), "p")
        assert [problem.path for problem in problems] == (["$.pools.p.kind"] if wrong else [])


def test_a_token_that_braket_takes_is_itself_and_a_longer_one_a_digest_of_it():
    assert client_token("0" * 32 + ".0") == "0" * 32 + ".0"
    assert len(client_token("x" * 65)) == 64
    assert client_token("x" * 65) != client_token("x" * 66)


def test_a_token_is_settled_so_long_after_it_was_first_not_seen():
    clock = FakeClock()
    settling = Settling(120.0, clock)
    assert not settling.is_over("a")
    clock.now += 119
    assert not settling.is_over("a")
    assert not settling.is_over("b")
    clock.now += 2
    assert settling.is_over("a")
    assert not settling.is_over("b")


# --- errors ---


def client_error(code, status, message="", **headers):
    from botocore.exceptions import ClientError

    meta = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": meta}, "CreateQuantumTask"
    )


@pytest.mark.parametrize("code", sorted(CODES))
def test_an_error_code_of_aws_decides_whatever_the_status_is(code):
    told = refusal(client_error(code, 500, "AKIDEXAMPLE"))
    assert told.problem.code == CODES[code]
    assert error_class_of([told.problem]) == CLASSES[CODES[code]]
    assert told.sent
    assert CODES[code] == "SB-1220" or "AKID" not in str(told.problem)


@pytest.mark.parametrize("status", sorted(HTTP))
def test_a_status_that_says_not_accepted_decides_where_the_code_is_unknown(status):
    assert refusal(client_error("NewException", status)).problem.code == HTTP[status]


@pytest.mark.parametrize("status", [0, 200, 302, 408, 409, 425, 500, 502, 503, 504])
def test_whatever_else_is_answered_proves_nothing(status):
    assert error_class_of([refusal(client_error("", status)).problem]) == "UNKNOWN_OUTCOME"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("[line 3] unknown gate", "SB-1220"),
        ("The task exceeds the spending limit of the device", "SB-5008"),
        ("The bucket does not exist", "SB-5008"),
        ("Shots must be at most 1000", "SB-1110"),
        ("The client token was used with other parameters", "SB-5007"),
    ],
)
def test_a_validation_is_about_what_its_message_says(message, code):
    assert refusal(client_error("ValidationException", 400, message)).problem.code == code


def test_what_boto3_raises_before_it_sends_anything_is_known_by_its_name():
    for name, code in BEFORE.items():
        told = refusal(type(name, (Exception,), {})("secret"))
        assert (told.problem.code, told.sent) == (code, False)
    for name in ("ReadTimeoutError", "ConnectionClosedError", "SSLError"):
        told = refusal(type(name, (Exception,), {})("secret"))
        assert (told.problem.code, told.sent) == ("SB-5007", True)
        assert "secret" not in str(told.problem)


def test_the_time_that_throttling_asks_for_is_read():
    assert refusal(client_error("ThrottlingException", 429, **{"retry-after": "7"})).retry_after == "7"


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("", "SB-5001"),
        ("An internal error occurred", "SB-5001"),
        ("Simulation exceeded the time limit", "SB-5004"),
        ("The device was taken offline for maintenance", "SB-5008"),
        ("Access denied to the S3 bucket", "SB-5008"),
        ("Concurrent task quota exceeded", "SB-5009"),
        ("Not supported gate: ccnot", "SB-1220"),
        ("The compiler could not parse the program", "SB-1220"),
    ],
)
def test_a_failed_task_says_why_by_words_of_its_reason(reason, code):
    assert failure(reason).code == code
    assert error_class_of([failure(reason)]) == CLASSES[code]


def test_an_executable_says_why_by_its_category_and_an_end_before_its_time_is_whose_it_is():
    assert [partial({"category": name}).code for name in CATEGORIES] == list(CATEGORIES.values())
    assert partial("anything").code == "SB-5001"
    assert error_class_of([cancelled(by_us=True)]) == "REVOKED"
    assert error_class_of([cancelled(by_us=False)]) == "CANCELLED_BY_PROVIDER"


# --- devices ---


def test_a_device_is_read_with_its_labels_couplings_limits_and_errors():
    facts = read_facts(capabilities(sets=True))
    assert facts.labels == (1, 2, 3, 5, 8)
    assert facts.pairs[:3] == ((0, 1), (1, 0), (1, 2))
    assert facts.limits == Limits(1, 5_000, 12, 1, 20_000)
    assert facts.form == Form((1, 2, 3, 5, 8), measure_all=False, idle=True)
    assert facts.errors[3, 4] == pytest.approx(0.02)
    assert facts.errors[0,] == pytest.approx(0.001)
    assert facts.readouts[4] == pytest.approx(0.03)
    assert facts.times[0] == (pytest.approx(3e-5), pytest.approx(2e-5))
    target = calibrated(QPU, facts).target
    assert sorted(target.operation_names) == ["cz", "measure", "rz", "sx", "x"]
    assert target["cz"][1, 0].error == pytest.approx(0.02)


def test_a_simulator_has_no_couplings_and_every_gate_that_both_know():
    facts = read_facts(simulator())
    assert (facts.pairs, facts.form.labels, facts.limits.executables) == (None, (), 0)
    calibration = calibrated(SIMULATOR, facts)
    assert "h" in calibration.target.operation_names
    assert (calibration.model.qubits, calibration.model.edges()) == (20, [])


def everywhere(**more):
    said = capabilities(sets=True)
    said["paradigm"] |= {"qubitCount": 3, "connectivity": {"fullyConnected": True, "connectivityGraph": {}}}
    said["action"]["braket.ir.openqasm.program"]["supportPhysicalQubits"] = False
    del said["standardized"]
    return said | more


def test_errors_of_a_whole_device_are_those_of_all_its_pairs():
    ionq = {
        "fidelity": {"1Q": {"mean": 0.99}, "2Q": {"mean": 0.95}, "spam": {"mean": 0.9}},
        "timing": {"T1": 10, "T2": 1},
    }
    facts = read_facts(everywhere(provider=ionq))
    assert facts.pairs == ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))
    assert {round(facts.errors[pair], 6) for pair in facts.pairs} == {0.05}
    assert facts.times == ((10.0, 1.0),) * 3
    seconds = {"value": 250.0, "unit": "ms"}
    shares = {
        "T1": seconds,
        "T2": seconds,
        "twoQubitGateFidelity": [{"fidelity": 0.97}],
        "readoutFidelity": [{"fidelity": 0.8}],
    }
    singles = {str(k): {"oneQubitFidelity": [{"fidelity": 0.999, "fidelityType": None}]} for k in (4, 5, 6)}
    facts = read_facts(everywhere(standardized={**shares, "oneQubitProperties": singles}))
    assert facts.labels == (4, 5, 6)
    assert facts.errors[0, 2] == pytest.approx(0.03)
    assert facts.readouts[1] == pytest.approx(0.2)


@pytest.mark.parametrize("lacks", ["rz", "v", "action"])
def test_a_device_that_takes_no_such_programs_is_none_for_us(lacks):
    said = capabilities(sets=True)
    action = said["action"]["braket.ir.openqasm.program"]
    action["supportedOperations"] = [one for one in action["supportedOperations"] if one != lacks]
    if lacks == "action":
        del said["action"]["braket.ir.openqasm.program"]
    with pytest.raises(DownError):
        read_facts(said)


# --- programs ---


def turned(qubits=3):
    """A circuit of two angles on qubits 0 and 2; qubit 2 is read into bits 0 and 3, qubit 1 into bit 1."""
    circuit = QuantumCircuit(qubits, 4)
    circuit.rz(Parameter("angle_0"), 0)
    circuit.rz(Parameter("angle_1") * 2 + 1, 2)
    circuit.rz(0.5, 2)
    circuit.cz(0, 2)
    circuit.sx(2)
    circuit.measure([2, 1, 2], [0, 1, 3])
    return circuit


def test_a_program_is_written_with_its_parameters_and_each_qubit_is_measured_once():
    source = write(flattened(turned()), Form(idle=True))
    assert source.text.splitlines() == [
        "OPENQASM 3.0;",
        "input float angle_0;",
        "input float turn_1;",
        "bit[2] b;",
        "qubit[3] q;",
        "rz(angle_0) q[0];",
        "rz(turn_1) q[2];",
        "rz(0.5) q[2];",
        "cz q[0], q[2];",
        "v q[2];",
        "i q[1];",
        "b[0] = measure q[2];",
        "b[1] = measure q[1];",
    ]
    columns = {"angle_0": np.array([0.1]), "angle_1": np.array([0.25])}
    assert [angle.values(columns).tolist() for angle in source.inputs.values()] == [[0.1], [1.5]]


def test_qubits_are_called_by_their_labels_where_the_device_knows_them_and_all_measured_where_it_asks():
    text = write(flattened(turned()), Form((1, 2, 5), measure_all=True)).text
    assert "qubit[" not in text
    assert text.endswith("cz $1, $5;\nv $5;\nb[0] = measure $5;\nb[1] = measure $2;\nb[2] = measure $1;\n")


def test_a_register_has_only_the_qubits_that_are_used():
    circuit = QuantumCircuit(9, 1)
    circuit.sx(7)
    circuit.measure(7, 0)
    assert "qubit[1] q;\nv q[0];" in write(flattened(circuit), Form()).text


def order_of(rows, shots=(10,), circuits=None):
    circuits = circuits or (turned(),)
    written = Written(circuits, ("",) * len(circuits), (4,) * len(circuits), (("c", 4),), ("a", "b"), {})
    return Order(b"", written, np.arange(2.0 * rows).reshape(rows, 2), shots, {})


def test_one_executable_is_a_program_and_more_are_a_program_set_with_inputs_as_columns():
    limits = Limits(1, 100, 12, 1, 1_000)
    single = action_of(order_of(1), Form(), limits)
    told = json.loads(single.document)
    assert told["braketSchemaHeader"]["name"] == "braket.ir.openqasm.program"
    assert (told["inputs"], single.shots) == ({"angle_0": 0.0, "turn_1": 3.0}, 10)
    several = action_of(order_of(2, (10, 10)), Form(), limits)
    (program,) = json.loads(several.document)["programs"]
    assert program["inputs"] == {"angle_0": [0.0, 2.0, 0.0, 2.0], "turn_1": [3.0, 7.0, 3.0, 7.0]}
    assert several.shots == 40


def test_an_angle_without_a_value_is_the_jobs_own_fault():
    order = order_of(1)
    order.angles[0, 1] = 1.7e308
    with pytest.raises(ShotbusError, match="SB-1220"):
        action_of(order, Form(), Limits())


@pytest.mark.parametrize(
    ("order", "limits", "hint"),
    [
        (order_of(2), Limits(1, 100, 0), "one row a job"),
        (order_of(5, (10, 10)), Limits(1, 100, 4), "at most 2 rows"),
        (order_of(1, (10, 10)), Limits(1, 100, 1), "fewer runs"),
        (order_of(1, (200,)), Limits(1, 100, 9), "shots_per_call"),
        (order_of(4, (100,)), Limits(1, 100, 9, 1, 300), "fewer rows"),
        (order_of(1, (10, 9)), Limits(1, 100, 9), ""),
        (order_of(1, (1,)), Limits(5, 100, 9), ""),
    ],
)
def test_what_a_device_does_not_take_at_once_is_another_pools_with_what_would_help(order, limits, hint):
    with pytest.raises(RefusedError) as error:
        action_of(order, Form(), limits)
    assert error.value.problem.code == "SB-1110"
    assert hint in error.value.problem.hint


# --- answers ---


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
