"""The provider that does not exist, over HTTP: who may ask, what it takes, and that its books hold."""

import pytest
from embedded_kit import eventually
from provider_kit import Provider

PROGRAM = (
    'OPENQASM 3.0;\ninclude "stdgates.inc";\ninput float[64] angle_0;\nbit[2] c;\nqubit[3] q;\n'
    "sx q[0];\nrz(angle_0) q[0];\nsx q[0];\ncx q[0], q[1];\nc[0] = measure q[0];\nc[1] = measure q[1];\n"
)


def submission(token, **fields):
    return {
        "token": token,
        "programs": [PROGRAM],
        "parameters": ["angle_0"],
        "bindings": [[0.5], [1.5]],
        "shots": [100, 50],
        **fields,
    }


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    limits = ["--max-shots", 1_000, "--max-points", 4, "--max-operations", 50]
    with Provider(tmp_path_factory.mktemp("provider"), "--qubits", 3, *limits) as running:
        yield running


def submitted(provider, token, **fields):
    return provider.ask("POST", "/v1/jobs", submission(token, **fields))


def ended(provider, name):
    def look():
        job = provider.ask("GET", f"/v1/jobs/{name}")[1]["job"]
        return job if job["status"] in ("done", "failed", "cancelled") else None

    return eventually(look, seconds=60)


def test_a_job_runs_on_the_noisy_device_and_is_billed_by_its_prices(provider):
    status, told, _ = submitted(provider, "a.0")
    job = ended(provider, told["job"]["id"])
    results = provider.ask("GET", f"/v1/jobs/{job['id']}/result")[1]["results"]
    assert (status, job["status"]) == (201, "done")
    assert [[sum(run.values()) for run in row] for row in results[0]] == [[100, 50]] * 2
    assert job["bill"]["cost"] == pytest.approx(0.01 + 300 * 0.0001)
    assert job["calibration"]["begin"] == job["calibration"]["end"]
    assert job["bill"]["backend_seconds"] > 0


def test_a_token_that_comes_again_is_the_same_job_and_is_not_billed_again(provider):
    name = submitted(provider, "b.0")[1]["job"]["id"]
    status, told, _ = submitted(provider, "b.0")
    assert (status, told["job"]["id"]) == (200, name)
    status, told, _ = submitted(provider, "b.0", shots=[7])
    assert (status, told["error"]["code"], told["job"]["id"]) == (409, "token_conflict", name)
    assert provider.billings()["b"] == 1
    assert provider.ask("GET", "/v1/jobs?token=b.0")[1]["job"]["id"] == name


def test_a_closed_token_takes_no_job_and_one_that_has_a_job_is_not_closed(provider):
    name = submitted(provider, "c.0")[1]["job"]["id"]
    assert provider.ask("POST", "/v1/tokens/c.0/close")[1]["job"]["id"] == name
    assert provider.ask("POST", "/v1/tokens/c.1/close")[1] == {"closed": True, "job": None}
    status, told, _ = submitted(provider, "c.1")
    assert (status, told["error"]["code"]) == (410, "token_closed")
    assert provider.billings()["c"] == 1


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"shots": [1_001]}, 422, "too_many_shots"),
        ({"bindings": [[0.1]] * 5}, 422, "too_many_points"),
        ({"programs": [PROGRAM.replace("qubit[3]", "qubit[4]")]}, 422, "too_many_qubits"),
        ({"programs": [PROGRAM.replace("sx q[0];", "sx q[0];\n" * 60, 1)]}, 422, "too_many_operations"),
        ({"programs": [PROGRAM.replace("sx q[0];", "h q[0];")]}, 422, "not_native"),
        ({"programs": [PROGRAM.replace("cx q[0], q[1]", "cx q[0], q[2]")]}, 422, "not_coupled"),
        ({"programs": ["qubit[2] q;"]}, 400, "invalid_program"),
        ({"programs": ['OPENQASM 3.0;\ninclude "/etc/passwd";\n']}, 400, "invalid_program"),
        ({"shots": [True]}, 400, "malformed_request"),
        ({"bindings": [["1"]]}, 400, "malformed_request"),
        ({"bindings": [[0.1, 0.2]]}, 400, "malformed_request"),
        ({"more": 1}, 400, "malformed_request"),
        ({"token": "x" * 200}, 400, "malformed_request"),
    ],
    ids=str,
)
def test_what_the_device_cannot_take_is_refused_with_its_code_and_not_billed(provider, fields, status, code):
    before = provider.ledger()
    found, told, _ = submitted(provider, **{"token": "d.0", **fields})
    assert (found, told["error"]["code"]) == (status, code)
    assert provider.ledger() == before


def test_nobody_is_served_without_a_credential_and_accounts_are_no_admins(provider):
    assert provider.ask("GET", "/v1/device", secret=None)[0] == 401
    assert provider.ask("GET", "/admin/ledger")[0] == 401
    assert provider.ask("GET", "/v1/device", secret="admin")[0] == 401
    assert (provider.directory / "credential").stat().st_mode & 0o077 == 0


def test_a_waiting_job_can_be_cancelled_its_bill_is_returned_and_its_token_is_free(provider):
    provider.plan("slow", "e.0", seconds=1.0)
    submitted(provider, "e.0")
    name = submitted(provider, "f.0")[1]["job"]["id"]
    status, told, _ = provider.ask("POST", f"/v1/jobs/{name}/cancel")
    assert (status, told["job"]["status"], told["job"]["bill"]["cost"]) == (200, "cancelled", 0.0)
    assert provider.billings()["f"] == 0
    status, told, _ = submitted(provider, "f.0")
    assert (status, told["job"]["id"] != name) == (201, True)
    assert provider.billings()["f"] == 1
    assert provider.ask("POST", f"/v1/jobs/{ended(provider, told['job']['id'])['id']}/cancel")[0] == 409


def test_quotas_are_429_with_a_retry_after_and_credits_end(tmp_path):
    words = ["--in-flight", 1, "--credits", 0.05, "--latency-seconds", 0.3]
    with Provider(tmp_path, "--qubits", 3, *words) as provider:
        name = submitted(provider, "a.0")[1]["job"]["id"]
        status, told, headers = submitted(provider, "b.0")
        assert (status, told["error"]["code"], headers["Retry-After"]) == (429, "jobs_in_flight", "1")
        ended(provider, name)
        status, told, _ = submitted(provider, "b.0")
        assert (status, told["error"]["code"]) == (402, "credits_exhausted")
        assert provider.billings() == {"a": 1}


def test_a_rate_is_kept_and_tells_when_to_come_again(tmp_path):
    with Provider(tmp_path, "--qubits", 3, "--rate-per-second", 0.5, "--burst", 2) as provider:
        found = [submitted(provider, f"{k}.0") for k in range(3)]
        assert [status for status, _, _ in found] == [201, 201, 429]
        assert found[2][1]["error"]["code"] == "rate_limited"
        assert found[2][2]["Retry-After"] in ("1", "2")


def test_calibrations_drift_and_the_old_ones_are_kept(tmp_path):
    with Provider(tmp_path, "--qubits", 3, "--drift-seconds", 0.5) as provider:

        def name():
            return provider.ask("GET", "/v1/device")[1]["calibration"]["id"]

        first = name()
        eventually(lambda: name() != first)
        assert provider.ask("GET", f"/v1/calibrations/{first}")[1]["qubits"] == 3
        assert provider.ask("GET", f"/v1/calibrations/{'0' * 64}")[0] == 404


def test_sigkill_forgets_no_bill_writes_none_twice_and_what_waited_runs(tmp_path):
    with Provider(tmp_path, "--qubits", 3, "--latency-seconds", 0.2) as provider:
        for number in range(2):
            assert submitted(provider, f"{number}.0")[0] == 201
            provider.ask("POST", f"/v1/tokens/closed-{number}/close")
            provider.kill()
            provider.start()
        assert provider.billings() == {str(number): 1 for number in range(2)}
        for number in range(2):
            assert submitted(provider, f"{number}.0")[0] == 200
            assert submitted(provider, f"closed-{number}")[0] == 410
            job = provider.ask("GET", f"/v1/jobs?token={number}.0")[1]["job"]
            assert ended(provider, job["id"])["status"] == "done"
        assert provider.billings() == {str(number): 1 for number in range(2)}


def test_the_ledger_can_be_neither_changed_nor_shortened(provider):
    import sqlite3

    submitted(provider, "z.0")
    with sqlite3.connect(provider.directory / "books.sqlite") as books:
        for statement in ("UPDATE ledger SET cost = 0", "DELETE FROM ledger"):
            with pytest.raises(sqlite3.IntegrityError, match="written"):
                books.execute(statement)
    books.close()
