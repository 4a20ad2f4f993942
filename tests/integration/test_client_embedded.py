"""Clients on a real embedded broker: everything a caller can do, with real circuits on Aer."""

import asyncio
import dataclasses
import datetime as dt
import time

import numpy as np
import pennylane as qml
import pytest
from embedded_kit import BELL, ROTATED, Broker, eventually, records
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.quantum_info import SparsePauliOp

from shotbus import AsyncClient, Client, JobFailedError, JobTimeoutError, RefusedError, ShotbusError
from shotbus.broker.config import Config, PoolConfig
from shotbus.broker.tracing import parse_traceparent
from shotbus.producers.plan import JobPlan, SweepPlan
from shotbus.producers.sweep import prepare_sweep, submit_sweep
from shotbus.producers.wishes import Wishes
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.ids import circuit_id
from shotbus.schemas.pub import PauliSums, ProblemStatement


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("broker") / "data", "aer", "noop", "classical") as broker:
        yield broker


@pytest.fixture(scope="module")
def client(broker):
    with Client(broker.url) as client:
        yield client


@pytest.fixture
def paused(client):
    """The noop pool takes no work during the test."""

    async def control(verb):
        await client._client.control_pool(verb, "noop")

    client._loop.run(control("pause"))
    yield
    client._loop.run(control("resume"))


def test_text_gives_counts(client):
    result = client.submit(BELL, shots=200, seed=1).result(60)
    assert result.outcome == "succeeded"
    assert set(result.counts()) <= {"00", "11"}
    assert sum(result.counts().values()) == result.shots == 200
    assert result.executed_on.startswith("aer")


def test_qasm2_text_is_taken_too(client):
    text = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\ncreg c[1];\nx q[0];\nmeasure q[0] -> c[0];\n'
    assert client.submit(text, shots=10).result(60).counts() == {"1": 10}


def test_a_quantum_circuit_keeps_qiskits_order_of_parameters(client):
    """With eleven elements the text's names sort otherwise than Qiskit's."""
    angles = ParameterVector("θ", 12)
    circuit = QuantumCircuit(12)
    for number, angle in enumerate(angles):
        circuit.rx(angle, number)
    circuit.measure_all()
    rows = np.pi * np.eye(12)[[2, 10, 11]]
    result = client.submit(circuit, rows, shots=5, seed=1).result(60)
    assert [result.counts(row) for row in range(3)] == [{f"{1 << bit:012b}": 5} for bit in (2, 10, 11)]
    named = client.submit(circuit, {angles: rows[0]}, shots=5, seed=1).result(60)
    assert named.counts() == result.counts(0)


def test_bindings_by_parameter_name_and_object(client):
    a, b = Parameter("a b"), Parameter("β")
    circuit = QuantumCircuit(2)
    circuit.rx(a, 0)
    circuit.rx(b, 1)
    circuit.measure_all()
    by_object = client.submit(circuit, {a: 0.0, b: np.pi}, shots=5).result(60)
    by_name = client.submit(circuit, {"a b": [0.0, np.pi], "β": 0.0}, shots=5).result(60)
    assert by_object.counts() == {"10": 5}
    assert [by_name.counts(row) for row in range(2)] == [{"00": 5}, {"01": 5}]


def test_a_pennylane_tape_gives_counts(client):
    tape = qml.tape.QuantumScript([qml.Hadamard(0), qml.CNOT([0, 1])], [qml.counts()])
    assert set(client.submit(tape, shots=50).result(60).counts()) <= {"00", "11"}


def test_expectation_values_are_exact_without_shots_and_have_errors_with_them(client):
    circuit = QuantumCircuit(2)
    circuit.ry(Parameter("t"), 0)
    observables = [SparsePauliOp.from_list([("IZ", 1.0), ("ZI", 2.0)]), "IX"]
    angles = np.linspace(0, np.pi, 3)[:, None]
    exact = client.submit(circuit, angles, observables=observables).result(60)
    expected = np.stack([np.cos(angles[:, 0]) + 2, np.sin(angles[:, 0])], axis=1)
    np.testing.assert_allclose(exact.evs, expected, atol=1e-12)
    assert (exact.stds == 0).all()
    noisy = client.submit(circuit, angles, observables=observables, shots=400, seed=3).result(60)
    assert noisy.stds[1, 0] > 0
    assert (abs(noisy.evs - expected) <= 6 * noisy.stds + 1e-12).all()
    asked = client.submit(circuit, angles, observables=observables, precision=0.05, seed=4).result(60)
    assert asked.shots >= 3 * 400


def test_data_is_qiskits_databin(client):
    data = client.submit(BELL, shots=64, seed=1).result(60).data
    assert data.c.num_shots == 64
    assert data.c.num_bits == 2
    assert data.shape == (1,)


def test_the_wrong_kind_of_answer_is_refused_with_a_hint(client):
    result = client.submit(BELL, shots=10).result(60)
    with pytest.raises(ShotbusError, match="use counts"):
        _ = result.evs


def test_a_sweep_is_reduced_and_can_be_iterated(client):
    points = {"a": np.linspace(0, np.pi, 7), "b": 0.0}
    sweep = client.sweep(ROTATED, points, observables=["IZ"], reduce="expectation", chunk=2, seed=4)
    shards = sorted(sweep, key=lambda result: result.metadata["shard_index"])
    assert [result.points for result in shards] == [2, 2, 2, 1]
    reduction = sweep.result(60)
    assert (reduction.done, reduction.failed, reduction.points) == (4, 0, 7)
    np.testing.assert_allclose(
        np.concatenate([one.evs for one in shards])[:, 0], np.cos(points["a"]), atol=1e-12
    )
    assert sweep.partial().final


def test_cutting_a_seeded_sweep_does_not_change_its_counts(client):
    points = {"a": np.linspace(0, 3, 6), "b": 1.0}
    whole = client.submit(ROTATED, points, shots=50, seed=9).result(60)
    parts = list(client.sweep(ROTATED, points, shots=50, seed=9, chunk=2))
    parts.sort(key=lambda result: result.metadata["shard_index"])
    assert [part.counts(row) for part in parts for row in range(2)] == [whole.counts(row) for row in range(6)]


async def test_a_reduction_that_only_the_reducer_knows_to_be_wrong_is_refused_and_nobody_waits(broker):
    """Another language's client, or another version's, may declare what ours would not."""
    job = JobPlan(BELL, None, None, 1, None, 0, np.zeros(1), "noop")
    async with AsyncClient(broker.url) as client:
        ready = await prepare_sweep(client, SweepPlan("s", (job,), "collect"), Wishes(principal="p"))
        fields = decode(ready.declaration.value, "sweep_command")[1] | {"reduce": "averge"}
        declared = ready.declaration._replace(value=encode("sweep_command", fields))
        sweep = await submit_sweep(client.session, dataclasses.replace(ready, declaration=declared))
        with pytest.raises(RefusedError) as caught:
            await sweep.result(60)
    assert caught.value.problems[0].path == "$.reduce"


def test_the_same_key_and_payload_is_the_same_job_even_when_it_is_finished(client, broker):
    first = client.submit(BELL, shots=20, idempotency_key="same")
    answer = first.result(60)
    again = client.submit(BELL, shots=20, idempotency_key="same")
    assert again.job_id == first.job_id
    assert again.result(60).counts() == answer.counts()
    with Client(broker.url) as other:
        assert other.submit(BELL, shots=20, idempotency_key="same").result(60).counts() == answer.counts()
    results = [record for record in records(broker.url, "results") if record.key == first.job_id.encode()]
    assert len({record.value for record in results if len(record.value) > 300}) == 1


def test_another_payload_under_the_key_is_refused(client):
    client.submit(BELL, shots=20, idempotency_key="taken").result(60)
    with pytest.raises(RefusedError) as caught:
        client.submit(BELL, shots=21, idempotency_key="taken").result(60)
    assert [problem.code for problem in caught.value.problems] == ["SB-1106"]
    assert caught.value.retry_after == 0


def test_whoever_reuses_a_key_does_not_disturb_its_owner(client, broker, paused):
    owner = client.submit(BELL, shots=20, backend="noop", idempotency_key="mine")
    with Client(broker.url) as other:
        with pytest.raises(RefusedError):
            other.submit(BELL, shots=21, backend="noop", idempotency_key="mine").result(60)
        follower = other.job(owner.job_id)
        assert follower.status() == "QUEUED"
    assert not owner.done()


def test_keys_of_other_tenants_and_sessions_are_other_jobs(client):
    ids = {
        client.submit(BELL, shots=1, backend="noop", idempotency_key="k", **more).job_id
        for more in ({}, {"tenant": "other"}, {"session": "s"})
    }
    assert len(ids) == 3


def test_a_seeded_job_is_served_from_the_cache_the_second_time_and_says_so(client):
    first = client.submit(ROTATED, [0.3, 0.4], shots=30, seed=5).result(60)

    def from_cache():
        again = client.submit(ROTATED, [0.3, 0.4], shots=30, seed=5).result(60)
        return again if again.outcome == "served_from_cache" else None

    again = eventually(from_cache)
    assert again.counts() == first.counts()
    assert again.shots == 0
    assert (
        client.submit(ROTATED, [0.3, 0.4], shots=30, seed=5, tenant="other").result(60).outcome == "succeeded"
    )


def test_unseeded_jobs_are_not_served_from_the_cache(client):
    outcomes = {client.submit(ROTATED, [1.0, 1.0], shots=30).result(60).outcome for _ in range(4)}
    assert outcomes == {"succeeded"}


def test_a_job_is_found_by_its_id_from_another_client(client, broker):
    job = client.submit(BELL, shots=20)
    with Client(broker.url) as other:
        handle = other.job(job.job_id)
        assert handle.result(60).counts() == job.result(60).counts()
        assert eventually(lambda: handle.status() == "DONE")


def test_a_job_is_found_by_its_id_without_the_store(client, broker):
    job = client.submit(BELL, shots=20)
    counts = job.result(60).counts()
    with Client(broker.url) as other:

        async def clear():
            await other._client.session.store.clear()

        other._loop.run(clear())
        assert other.job(job.job_id).result(60).counts() == counts


def test_an_unknown_and_a_malformed_id_are_not_found(client):
    for job_id in ("0" * 32, "nonsense", "../../etc/passwd"):
        with pytest.raises(ShotbusError) as caught:
            client.job(job_id).result(20)
        assert caught.value.problems[0].code == "SB-4001"


def test_cancel_ends_a_waiting_job_and_follows_from_any_client(client, broker, paused):
    job = client.submit(BELL, shots=20, backend="noop")
    with Client(broker.url) as other:
        other.cancel(job.job_id)
    with pytest.raises(JobFailedError) as caught:
        job.result(30)
    assert caught.value.outcome == "cancelled"
    assert caught.value.problems[0].code == "SB-4002"
    with pytest.raises(JobFailedError):
        client.job(job.job_id).result(30)


def test_another_tenant_cannot_cancel(client, paused):
    job = client.submit(BELL, shots=20, backend="noop")
    client.cancel(job.job_id, tenant="stranger")
    with pytest.raises(JobTimeoutError):
        job.result(1.0)
    client.cancel(job.job_id)
    with pytest.raises(JobFailedError):
        job.result(30)


def test_a_job_that_waits_past_its_deadline_expires(client, paused):
    job = client.submit(BELL, shots=20, backend="noop", deadline=0.5)
    with pytest.raises(JobFailedError) as caught:
        job.result(30)
    assert caught.value.outcome == "expired"
    assert caught.value.problems[0].code == "SB-4003"


def test_a_job_is_not_begun_before_its_time(client):
    begin = time.time() + 1.0
    job = client.submit(BELL, shots=1, backend="noop", not_before=dt.datetime.fromtimestamp(begin, dt.UTC))
    assert job.details()["sub_status"] in {"SUBMITTED", "SCHEDULED", ""}
    job.result(30)
    assert time.time() >= begin


def test_a_timeout_says_how_to_come_back(client, paused):
    job = client.submit(BELL, shots=20, backend="noop")
    with pytest.raises(JobTimeoutError) as caught:
        job.result(0.2)
    assert job.job_id in caught.value.problems[0].hint
    assert job.status() == "QUEUED"


def test_a_pool_that_only_the_client_knows_is_refused_by_the_dispatcher(broker):
    config = Config()
    config = dataclasses.replace(config, pools=config.pools | {"ghost": PoolConfig()})
    with Client(broker.url, config=config) as client:
        job = client.submit(BELL, shots=1, backend="ghost")
        with pytest.raises(RefusedError) as caught:
            job.result(30)
    (problem,) = caught.value.problems
    assert (problem.code, problem.path, problem.actual) == ("SB-1102", "$.backend", "ghost")
    assert "aer" in problem.limit


def test_a_refused_id_may_be_accepted_later(broker, client):
    config = dataclasses.replace(Config(), pools=Config().pools | {"ghost": PoolConfig()})
    with Client(broker.url, config=config) as other, pytest.raises(RefusedError):
        other.submit(BELL, shots=1, backend="ghost", idempotency_key="later").result(30)
    assert (
        client.submit(BELL, shots=1, backend="noop", idempotency_key="later").result(30).outcome
        == "succeeded"
    )


def test_a_problem_is_answered_by_the_classical_solver(client):
    problem = ProblemStatement.hamiltonian(PauliSums.from_terms([[("ZZ", 1.0), ("XI", 0.5)]]))
    result = client.submit(BELL, problem=problem, backend="classical").result(60)
    assert result.evs[0, 0] == pytest.approx(-np.sqrt(1.25))


def test_a_sampling_job_with_a_problem_is_sampled(client):
    problem = ProblemStatement.ising(np.zeros(2), np.array([[0, 1]]), -np.ones(1))
    told = client.submit(ROTATED, {"a": 0.0, "b": np.pi}, shots=100, problem=problem).result(60)
    assert told.counts() == {"10": 100}
    assert told.executed_on.startswith("aer")
    solved = client.submit(ROTATED, {"a": 0, "b": 0}, problem=problem, backend="classical").result(60)
    assert solved.evs.tolist() == [[-1.0]]


def test_the_same_job_is_answered_by_a_simulator_and_judged_by_a_solver(client):
    problem = ProblemStatement.hamiltonian(PauliSums.from_terms([[("ZZ", 1.0), ("IZ", 0.25)]]))
    asked = {"observables": [("ZZ", 1.0), ("IZ", 0.25)], "problem": problem, "reduce": "minimum"}
    points = {"a": [0.0, np.pi, np.pi], "b": [0.0, 0.0, np.pi]}
    found, exact = (client.sweep(ROTATED, points, backend=pool, **asked) for pool in ("aer", "classical"))
    assert found.result(60).arrays["values"] == pytest.approx([1.25, -1.25, 0.75])
    assert exact.result(60).arrays["values"].tolist() == [-1.25] * 3
    assert exact.result(60).arrays["minimum"] == pytest.approx(found.result(60).arrays["minimum"])


def test_two_problems_of_one_circuit_are_two_answers_in_the_cache(client):
    def solve(weight):
        problem = ProblemStatement.hamiltonian(PauliSums.from_terms([[("ZZ", weight)]]))
        return client.submit(BELL, problem=problem, backend="classical").result(60)

    assert [solve(weight).evs[0, 0] for weight in (3.0, 5.0)] == [-3.0, -5.0]
    assert eventually(lambda: solve(3.0).outcome == "served_from_cache")
    assert solve(3.0).evs[0, 0] == -3.0


def test_provenance_and_metadata_tell_how_to_run_it_again(client):
    result = client.submit(BELL, shots=20, experiment="exp", intent="test").result(60)
    assert result.provenance["seed"] == result.seed
    assert result.provenance["request_topic"].endswith("requests.experiment")
    assert {"client-prepare", "submit-ack", "deliver"} <= set(result.metadata["timings"])
    assert result.metadata["experiment"] == "exp"
    repeated = client.submit(BELL, shots=20, seed=result.seed).result(60)
    assert repeated.counts() == result.counts()


def declared(broker, text):
    """Family and version of a circuit's records, in their order."""
    name = circuit_id(text)
    found = [decode(one.value, "circuit")[1] for one in records(broker.url, "circuits")]
    return [(one["family"], one["family_version"]) for one in found if one["circuit_id"] == name]


def test_a_circuit_is_published_with_its_declared_family_and_not_without_it_afterwards(broker):
    text = BELL + "// of a family\n"
    with Client(broker.url) as client:
        for options in (
            {"family": "bell", "family_version": "2"},
            {},
            {"family": "bell", "family_version": "2"},
        ):
            client.submit(text, shots=1, backend="noop", **options).result(60)
        assert declared(broker, text) == [("bell", "2")]
        client.submit(text, shots=1, backend="noop", family="bell", family_version="3").result(60)
        assert declared(broker, text)[-1] == ("bell", "3")


def test_a_sweeps_circuits_carry_each_jobs_own_family_or_the_sweeps(broker):
    texts = [BELL + f"// {number}\n" for number in range(2)]
    plain = JobPlan(texts[0], None, None, 1, None, 0, np.zeros(1), "noop")
    own = dataclasses.replace(plain, circuit=texts[1], family="own", family_version="1")
    with Client(broker.url) as client:
        plan = SweepPlan("s", (plain, plain, own), "collect")
        client.submit_plan(plan, family="all", family_version="9").result(60)
    assert [declared(broker, text) for text in texts] == [[("all", "9")], [("own", "1")]]


def test_a_callers_trace_goes_on_to_the_result(client, broker):
    caller = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    job = client.submit(BELL, shots=1, backend="noop", traceparent=caller)
    job.result(30)
    (result,) = [record for record in records(broker.url, "results") if record.key == job.job_id.encode()]
    context = parse_traceparent(dict(result.headers)["traceparent"].decode())
    assert context.trace_id == "ab" * 16
    assert context.span_id != "cd" * 8


async def test_the_async_client_does_the_same(broker):
    async with AsyncClient(broker.url) as client:
        jobs = await asyncio.gather(*(client.submit(BELL, shots=n + 1, backend="noop") for n in range(50)))
        results = await asyncio.gather(*jobs)
        assert {result.outcome for result in results} == {"succeeded"}
        sweep = await client.sweep(ROTATED, np.zeros((4, 2)), shots=5, chunk=1, backend="noop")
        assert [result.points async for result in sweep] == [1, 1, 1, 1]


def test_a_client_without_address_has_a_broker_of_its_own_and_leaves_nothing_behind():
    with Client() as client:
        directory = client._client.session.address.directory
        assert client.submit(BELL, shots=1, backend="noop").result(60).outcome == "succeeded"
    assert not directory.exists()


def test_a_broker_that_a_client_starts_has_the_clients_configuration():
    pools = Config().pools | {"mine": PoolConfig(adapter="noop", kind="none")}
    with Client(config=dataclasses.replace(Config(), pools=pools)) as client:
        result = client.submit(BELL, shots=1, backend="mine").result(60)
    assert (result.outcome, result.provenance["pool"]) == ("succeeded", "mine")


async def test_a_client_that_cannot_start_leaves_nothing_behind(tmp_path):
    (tmp_path / "shotbus.toml").write_text("")
    (tmp_path / "data").write_text("in the way")
    before = set(asyncio.all_tasks())
    with pytest.raises(ShotbusError) as caught:
        async with AsyncClient(f"sqlite:///{tmp_path}/data"):
            pass
    assert caught.value.problems[0].code == "SB-2004"
    assert set(asyncio.all_tasks()) == before
