"""A stand-in for Amazon Braket and S3, as a process of its own: the few calls that the adapter makes of them.

Tasks run on the SDK's own simulator, documents are held against the SDK's own schemas, and a ledger says which
tasks were created. Faults are planned over HTTP. ``python braket_endpoint.py`` prints its address and serves.
"""

import asyncio
import json
import sys
import urllib.parse
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from aiohttp import web
from braket.device_schema.iqm.iqm_device_capabilities_v1 import IqmDeviceCapabilities
from braket.devices import LocalSimulator
from braket.ir.openqasm import Program, ProgramSet
from braket.task_result import GateModelTaskResult, ProgramResult, ProgramSetTaskResult
from braket_devices import QPU, SIMULATOR, capabilities, header, simulator

ACCESS_KEY = "AKIDEXAMPLE"
_PAGE = 2


class Cloud:
    """What the stand-in knows."""

    def __init__(self):
        self.devices = {QPU: capabilities(sets=True), SIMULATOR: simulator()}
        IqmDeviceCapabilities.parse_raw(json.dumps(self.devices[QPU]))
        self.status, self.held = "ONLINE", False
        self.tasks, self.tokens, self.objects, self.faults, self.ledger = {}, {}, {}, [], []
        self.thread, self.running = ThreadPoolExecutor(1), set()

    def bites(self, kind, token):
        """Whether a planned fault of a kind strikes a task."""
        for fault in self.faults:
            if fault["fault"] == kind and token.startswith(fault.get("token", "")) and fault.get("times", 1):
                fault["times"] = fault.get("times", 1) - 1
                return True
        return False

    def create(self, told):
        """Take a task, or return the one that has its token."""
        known = self.tokens.get(told["clientToken"])
        if known is not None:
            if self.tasks[known]["told"] != told:
                return error(400, "ValidationException", "The client token was used with other parameters")
            return web.json_response({"quantumTaskArn": known}, status=201)
        region = "eu-north-1"
        arn = f"arn:aws:braket:{region}:123456789012:quantum-task/{uuid.uuid4()}"
        folder = f"{told['outputS3KeyPrefix']}/{arn.rpartition('/')[2]}"
        self.tasks[arn] = {"told": told, "status": "QUEUED", "folder": folder, "at": now(), "ended": None}
        self.tokens[told["clientToken"]] = arn
        self.ledger.append({"arn": arn, "token": told["tags"]["shotbus-token"], "shots": told["shots"]})
        if not self.held:
            self.start(arn)
        return web.json_response({"quantumTaskArn": arn}, status=201)

    def start(self, arn):
        """Run a task some time."""
        running = asyncio.create_task(self._run(arn))
        self.running.add(running)
        running.add_done_callback(self.running.discard)

    async def _run(self, arn):
        task = self.tasks[arn]
        token = task["told"]["tags"]["shotbus-token"]
        task["status"] = "RUNNING"
        if self.bites("fail", token):
            task |= {"status": "FAILED", "why": "The device was offline for maintenance", "ended": now()}
            return
        made = await asyncio.get_running_loop().run_in_executor(self.thread, results, arn, task["told"])
        self._spoil(made, token)
        bucket = task["told"]["outputS3Bucket"]
        if not self.bites("result_lost", token):
            for name, document in made.items():
                self.objects[f"{bucket}/{task['folder']}/{name}"] = json.dumps(document).encode()
            main = self.objects[f"{bucket}/{task['folder']}/results.json"]
            if b"s3Location" in main:
                placed = json.loads(main) | {"s3Location": [bucket, task["folder"]]}
                self.objects[f"{bucket}/{task['folder']}/results.json"] = json.dumps(placed).encode()
        task |= {"status": "COMPLETED", "ended": now()}

    def _spoil(self, made, token):
        for document in made.values():
            if not document.get("measurements"):
                continue
            if self.bites("wrong_shots", token):
                document["measurements"].pop()
            if self.bites("garbage", token):
                document["measurements"][0] = [7] * len(document["measurements"][0])
            if self.bites("executable", token):
                reason = {"failureReason": "no lock", "retryable": True, "category": "DEVICE"}
                document.clear()
                document |= {"inputsIndex": 0, "failureMetadata": reason}
                document["braketSchemaHeader"] = header("task_result.program_set_executable_failure")

    def shown(self, arn):
        """A task as Braket tells it."""
        task = self.tasks[arn]
        told = task["told"]
        shown = {
            "quantumTaskArn": arn, "status": task["status"], "deviceArn": told["deviceArn"],
            "deviceParameters": "{}", "shots": told["shots"], "outputS3Bucket": told["outputS3Bucket"],
            "outputS3Directory": task["folder"], "createdAt": task["at"], "tags": told["tags"],
        }  # fmt: skip
        if task["status"] == "QUEUED":
            shown["queueInfo"] = {"queue": "QUANTUM_TASKS_QUEUE", "position": "3", "queuePriority": "Normal"}
        more = {"endedAt": task["ended"], "failureReason": task.get("why")}
        return shown | {name: value for name, value in more.items() if value}


def now():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def results(arn, told):
    """The objects that a task leaves in S3, by name: of a set, its parts by themselves."""
    action = json.loads(told["action"])
    if action["braketSchemaHeader"]["name"] == "braket.ir.openqasm.program":
        return {"results.json": _program_result(arn, told, action)}
    programs = ProgramSet.parse_raw(told["action"])
    assert told["shots"] % programs.num_executables == 0
    each = told["shots"] // programs.num_executables
    found, names, counts = {}, [], []
    for number, program in enumerate(programs.programs):
        rows = len(next(iter(program.inputs.values()))) if program.inputs else 1
        parts = [_executable(program, row, each) for row in range(rows)]
        folder = f"programs/{number}"
        found |= {f"{folder}/executables/{row}.json": part for row, part in enumerate(parts)}
        found[f"{folder}/program.json"] = json.loads(program.json())
        found[f"{folder}/results.json"] = {
            "braketSchemaHeader": header("task_result.program_result"),
            # Out of order, as nothing says that they are in any.
            "executableResults": [f"executables/{row}.json" for row in reversed(range(rows))],
            "source": "program.json",
            "additionalMetadata": {},
        }
        ProgramResult.parse_raw(json.dumps(found[f"{folder}/results.json"]))
        names.append(f"{folder}/results.json")
        counts.append({"executables": [{}] * rows})
    found["metadata.json"] = {
        "braketSchemaHeader": header("task_result.program_set_task_metadata"), "id": arn,
        "deviceId": told["deviceArn"], "requestedShots": told["shots"], "successfulShots": told["shots"],
        "programMetadata": counts, "totalFailedExecutables": 0,
    }  # fmt: skip
    found["results.json"] = {
        "braketSchemaHeader": header("task_result.program_set_task_result"),
        "programResults": names,
        "taskMetadata": "metadata.json",
        "s3Location": ["", ""],
    }
    ProgramSetTaskResult.parse_raw(json.dumps(found["results.json"]))
    return found


def _sampled(program, shots):
    result = LocalSimulator("braket_sv").run(program, shots=shots).result()
    return {
        "measurements": result.measurements.astype(int).tolist(),
        "measuredQubits": [int(one) for one in result.measured_qubits],
    }


def _executable(program, row, shots):
    inputs = {name: values[row] for name, values in (program.inputs or {}).items()}
    return {
        "braketSchemaHeader": header("task_result.program_set_executable_result"),
        "inputsIndex": row,
        **_sampled(Program(source=program.source, inputs=inputs), shots),
    }


def _program_result(arn, told, action):
    document = {
        "braketSchemaHeader": header("task_result.gate_model_task_result"),
        "taskMetadata": {
            "braketSchemaHeader": header("task_result.task_metadata"),
            "id": arn,
            "shots": told["shots"],
            "deviceId": told["deviceArn"],
        },
        "additionalMetadata": {
            "action": action,
            "simulatorMetadata": {
                "braketSchemaHeader": header("task_result.simulator_metadata"),
                "executionDuration": 12,
            },
        },
        **_sampled(Program.parse_raw(told["action"]), told["shots"]),
    }
    GateModelTaskResult.parse_raw(json.dumps(document))
    return document


def error(status, code, message, **headers):
    """An error as AWS answers it."""
    return web.json_response(
        {"message": message}, status=status, headers={"x-amzn-ErrorType": code, **headers}
    )


class Endpoint:
    """The calls."""

    def __init__(self, cloud):
        self.cloud = cloud

    async def serve(self, request):
        """Answer whatever comes."""
        path = request.rel_url.raw_path
        if path.startswith("/admin/"):
            return await self._admin(request, path.removeprefix("/admin/"))
        if f"Credential={ACCESS_KEY}/" not in request.headers.get("Authorization", ""):
            return error(403, "UnrecognizedClientException", "The security token is invalid")
        name = urllib.parse.unquote(path.removeprefix("/").partition("/")[2]).removesuffix("/cancel")
        if path == "/quantum-task":
            return await self._create(request)
        if path == "/quantum-tasks":
            return await self._search(request)
        if path.startswith("/quantum-task/"):
            return self._cancel(name) if request.method == "PUT" else self._task(name)
        if path.startswith("/device/"):
            return self._device(request, name)
        return self._object(urllib.parse.unquote(path.removeprefix("/")))

    async def _create(self, request):
        told, cloud = await request.json(), self.cloud
        token = told["tags"]["shotbus-token"]
        if cloud.status != "ONLINE":
            return error(424, "DeviceOfflineException", "The device is off line")
        if cloud.bites("throttle", token):
            return error(429, "ThrottlingException", "Rate exceeded", **{"Retry-After": "7"})
        if cloud.bites("invalid", token):
            return error(400, "ValidationException", "[line 3] unknown gate")
        if cloud.bites("error", token):
            return error(500, "InternalServiceException", "Internal error")
        answer = cloud.create(told)
        if cloud.bites("error_after", token):
            return error(500, "InternalServiceException", "Internal error")
        if cloud.bites("lost_answer", token):
            request.transport.abort()
        return answer

    async def _search(self, request):
        told, cloud = await request.json(), self.cloud
        (device,) = (one["values"][0] for one in told["filters"] if one["name"] == "deviceArn")
        found = [arn for arn, task in cloud.tasks.items() if task["told"]["deviceArn"] == device][::-1]
        found = [arn for arn in found if not cloud.bites("unlisted", cloud.tasks[arn]["told"]["clientToken"])]
        start = int(told.get("nextToken") or 0)
        page = {"quantumTasks": [cloud.shown(arn) for arn in found[start : start + _PAGE]]}
        more = {"nextToken": str(start + _PAGE)} if len(found) > start + _PAGE else {}
        return web.json_response(page | more)

    def _task(self, arn):
        if arn not in self.cloud.tasks:
            return error(404, "ResourceNotFoundException", "No such task")
        return web.json_response(self.cloud.shown(arn))

    def _cancel(self, arn):
        task = self.cloud.tasks[arn]
        if task["status"] != "QUEUED":
            return error(409, "ConflictException", "It cannot be cancelled any more")
        task |= {"status": "CANCELLED", "ended": now()}
        return web.json_response({"quantumTaskArn": arn, "cancellationStatus": "CANCELLING"})

    def _device(self, request, arn):
        said = self.cloud.devices.get(arn)
        if said is None:
            return error(404, "ResourceNotFoundException", "No such device")
        assert "BraketSchemas/" in request.headers["User-Agent"]
        return web.json_response(
            {
                "deviceArn": arn,
                "deviceName": "Line",
                "providerName": "nobody",
                "deviceType": "QPU",
                "deviceStatus": self.cloud.status,
                "deviceCapabilities": json.dumps(said),
            }  # fmt: skip
        )

    def _object(self, key):
        found = self.cloud.objects.get(key)
        if found is None:
            text = "<Error><Code>NoSuchKey</Code><Message>No such key</Message></Error>"
            return web.Response(status=404, text=text, content_type="application/xml")
        return web.Response(body=found)

    async def _admin(self, request, verb):
        cloud, told = self.cloud, await request.json() if request.can_read_body else {}
        if verb == "fault":
            cloud.faults.append(told)
        elif verb == "set":
            vars(cloud).update(told)
        elif verb == "release":
            for arn, task in cloud.tasks.items():
                if task["status"] == "QUEUED":
                    cloud.start(arn)
        return web.json_response({"ledger": cloud.ledger})


async def main():
    """Serve until the end of standard input."""
    app = web.Application(client_max_size=16 << 20)
    app.router.add_route("*", "/{path:.*}", Endpoint(Cloud()).serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(json.dumps({"url": f"http://127.0.0.1:{runner.addresses[0][1]}"}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
