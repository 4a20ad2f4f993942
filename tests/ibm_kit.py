"""A service that speaks Qiskit Runtime's REST interface, with a backend of the SDK's own behind it.

What the real service's client asks for, a real HTTP server answers here: accounts' tokens, backends, jobs with
tags, their results in the SDK's own schema, sessions. It keeps a ledger of the jobs that it took, and does
wrong on command.
"""

import base64
import datetime as dt
import json
import re
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from shotbus.broker.clock import SystemClock
from shotbus.workers.adapters.ibm import IbmService
from shotbus.workers.adapters.ibm_settings import IbmSettings
from shotbus.workers.providers.adapter import Patience, ProviderAdapter

BACKEND = "ibm_manila"
CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/1:2::"
OPEN = ("Queued", "Running")


def now():
    return dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")


class FakeIbm:
    """The service; a context manager. ``faults`` strike submissions, one each, in order."""

    def __init__(self):
        from qiskit_ibm_runtime.fake_provider import FakeManilaV2

        self.device, self.jobs, self.sessions = FakeManilaV2(), {}, []
        self.faults, self.fail, self.wrong_shots, self.online = [], "", False, True
        #: While set, jobs stay queued; jobs are listed, but nothing is told of how they ran.
        self.hold, self.mute = False, False
        self.running = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):  # noqa: N802 (the base class's name)
                outer.answer(self)

            do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 (the base class's names)

            def log_message(self, *_):
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def clear(self):
        self.faults, self.fail, self.wrong_shots, self.online, self.hold = [], "", False, True, False
        self.mute = False

    def taken(self, token):
        return [job for job in self.jobs.values() if token in job["tags"]]

    # --- HTTP ---

    def answer(self, handler):
        path = urlsplit(handler.path)
        raw = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        found = self.route(handler.command, path.path, parse_qs(path.query), raw)
        if found is None:
            # As if the line were cut: the request has been heard, its answer is not.
            handler.close_connection = True
            handler.connection.close()
            return
        status, document, *headers = found
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        handler.send_response(status)
        for name, value in [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            *headers,
        ]:
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def route(self, verb, path, query, raw):
        if path == "/identity/token":
            return 200, access()
        if path == "/api/v1/jobs" and verb == "POST":
            return self.create(json.loads(raw))
        if path == "/api/v1/jobs":
            return self.listed(query)
        if path == "/api/v1/instances/usage":
            return 200, {"usage_limit_reached": False, "usage_remaining_seconds": 600}
        if path.startswith("/api/v1/sessions"):
            self.sessions.append((verb, path))
            return 200, {"id": "session-1", "backend_name": BACKEND}
        if found := re.fullmatch(r"/api/v1/backends/?([^/]*)/?(\w*)", path):
            return self.about_backend(*found.groups())
        if found := re.fullmatch(r"/api/v1/jobs/([^/]+)/?(\w*)", path):
            return self.about_job(verb, *found.groups())
        return 404, {"errors": [{"message": path}]}

    def about_backend(self, name, what):
        if not name:
            status = {"name": "online" if self.online else "offline"}
            return 200, {"devices": [{"name": BACKEND, "status": status, "qubits": 5, "queue_length": 0}]}
        if what == "configuration":
            return 200, {**snapshot(self.device, "conf"), "backend_name": BACKEND}
        if what == "properties":
            return 200, snapshot(self.device, "props")
        return 200, {
            "state": self.online,
            "status": "active" if self.online else "maintenance",
            "length_queue": 0,
        }

    # --- jobs ---

    def create(self, asked):
        fault = self.faults.pop(0) if self.faults else ""
        if fault in ("400", "401", "403", "429"):
            return int(fault), {"errors": [{"message": "no", "code": 1}]}, ("Retry-After", "0")
        if fault == "500 and not taken":
            return 500, {"errors": [{"message": "no"}]}
        name = f"job-{uuid.uuid4().hex[:12]}"
        self.jobs[name] = {
            "id": name,
            "tags": asked.get("tags", []),
            "params": asked["params"],
            "session_id": asked.get("session_id"),
            "status": "Queued",
            "created": now(),
            "running": None,
            "finished": None,
        }
        if fault == "500":
            return 500, {"errors": [{"message": "taken all the same"}]}
        return None if fault == "lost" else (200, {"id": name, "backend": BACKEND})

    def listed(self, query):
        tags = set(query.get("tags", []))
        found = [self.told(job) for job in list(self.jobs.values()) if tags <= set(job["tags"])]
        found = found if query.get("sort") == ["ASC"] else found[::-1]
        offset, limit = (
            int(query.get(name, [default])[0]) for name, default in (("offset", "0"), ("limit", "20"))
        )
        return 200, {
            "jobs": found[offset : offset + limit],
            "count": len(found),
            "limit": limit,
            "offset": offset,
        }

    def told(self, job):
        state = {"status": job["status"]}
        if job["status"] == "Failed":
            state |= {"reason": "no luck", "reasonCode": int(job["code"])}
        known = {
            "id": job["id"],
            "tags": job["tags"],
            "created": job["created"],
            "session_id": job["session_id"],
        }
        return {
            **known,
            "backend": BACKEND,
            "program": {"id": "executor"},
            "state": state,
            "status": job["status"],
        }

    def about_job(self, verb, name, what):
        job = self.jobs.get(name)
        if job is None:
            return 404, {"errors": [{"message": "no such job"}]}
        if what == "cancel":
            if job["status"] not in OPEN:
                return 409, {"errors": [{"message": "too late"}]}
            job["status"] = "Cancelled"
            return 204, b""
        if job["status"] == "Queued" and not self.hold:
            self.run(job)
        if what == "results":
            return 200, job.get("result", b"")
        if what == "metrics" and self.mute:
            return 400, {"errors": [{"message": "not now"}]}
        if what == "metrics":
            times = {when: job[when] for when in ("created", "running", "finished")}
            return 200, {"timestamps": times, "usage": {"status": "done", "qpu_charge_time_seconds": 2.5}}
        return 200, self.told(job)

    def run(self, job):
        with self.running:
            if job["status"] != "Queued":
                return
            job["running"] = now()
            if not self.fail:
                job["result"] = executed(self.device, job["params"], fewer=self.wrong_shots)
            job["finished"], job["code"] = now(), self.fail
            job["status"] = "Failed" if self.fail else "Completed"


def executed(device, params, *, fewer):
    """Run a program as the service does, its result in the service's own schema."""
    from ibm_quantum_schemas.executor.version_2_0 import ParamsModel
    from ibm_quantum_schemas.executor.version_2_0 import models as schema
    from qiskit_ibm_runtime.fake_provider.executor.run_quantum_program import run_quantum_program
    from qiskit_ibm_runtime.options_models.simulator import SimulatorOptions
    from qiskit_ibm_runtime.quantum_program.converters import quantum_program_from_2_0

    asked = ParamsModel.model_validate(params)
    program = quantum_program_from_2_0(asked)[0]
    if fewer:
        program.shots -= 1
    ran = run_quantum_program(device, program, SimulatorOptions(seed_simulator=11, angle_decimals=15))
    items = [
        {"results": {name: schema.CompressedTensorModel.from_numpy(value) for name, value in one.items()}}
        | {"metadata": {}}
        for one in ran
    ]
    data = [schema.QuantumProgramResultItemModel(**item) for item in items]
    told = schema.QuantumProgramResultModel(
        data=data,
        metadata={"chunk_timing": []},
        passthrough_data=asked.quantum_program.passthrough_data,
        semantic_role=asked.quantum_program.semantic_role,
    )
    return told.model_dump_json().encode()


def access():
    """Return an access token as the client reads it: when it was made and when it ends are inside."""
    made = int(time.time())
    parts = ({"alg": "none"}, {"iat": made, "exp": made + 3600}, {})
    token = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
    )
    known = {"access_token": token, "refresh_token": "r", "token_type": "Bearer"}
    return {**known, "expires_in": 3600, "expiration": made + 3600}


def snapshot(device, kind):
    """Return what the service once said of the device, as the SDK brings it along."""
    return json.loads((Path(device.dirname) / f"{kind}_manila.json").read_text())


def adapter(server, monkeypatch, tmp_path, **more):
    """The adapter as a pool has it, with its account at ``server``."""
    secret = tmp_path / "key"
    secret.write_text("not-a-real-key")
    monkeypatch.setenv("IAM_URL", server.url)
    # The SDK's own switch for hosts that may not search the account's instances.
    monkeypatch.setenv("QISKIT_FUNCTIONS_EXPERIMENTAL", "1")
    settings = IbmSettings(
        backend=BACKEND,
        credentials=f"file:{secret}",
        instance=CRN,
        url=f"{server.url}/api/v1",
        device_seconds=0.0,
        patience=Patience(0.01, 30.0),
        **more,
    )
    clock = SystemClock()
    return ProviderAdapter(IbmService(settings, clock), settings.patience, clock)
