"""The provider's HTTP interface, by aiohttp: who asks, what is answered, and what goes wrong on command.

aiohttp, because some faults need the connection itself (an answer that is never sent), which the servers
behind ASGI keep to themselves.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from aiohttp import web

from shotbus.deploy.provider.refusals import RefusalError
from shotbus.deploy.provider.service import Answer, Provider
from shotbus.deploy.provider.submissions import MAX_BODY_BYTES

_ACCOUNT = web.RequestKey("account", str)
_SCHEME = "Bearer "
_ADMIN = "/admin/"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(provider: Provider, credentials: Mapping[str, str], admin: str) -> web.Application:
    """Return the application.

    Args:
        provider: what it serves.
        credentials: account by bearer token.
        admin: the bearer token of whoever may plan faults and read the ledger.

    """

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            request[_ACCOUNT] = _account(request, credentials, admin)
            return await handler(request)
        except RefusalError as refusal:
            return _refused(refusal)

    app = web.Application(middlewares=[guarded], client_max_size=MAX_BODY_BYTES)
    app.add_routes([*_Jobs(provider).routes(), *_Admin(provider).routes()])

    async def working(app: web.Application) -> AsyncIterator[None]:
        del app
        task = asyncio.create_task(provider.serve())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    app.cleanup_ctx.append(working)
    return app


def _account(request: web.Request, credentials: Mapping[str, str], admin: str) -> str:
    header = request.headers.get("Authorization", "")
    # Bytes: comparing texts raises for what is not ASCII.
    given = header.removeprefix(_SCHEME).encode() if header.startswith(_SCHEME) else b""
    if request.path.startswith(_ADMIN):
        if not hmac.compare_digest(given, admin.encode()):
            raise RefusalError("unauthenticated", "not the admin's credential")
        return ""
    for secret, account in credentials.items():
        if hmac.compare_digest(given, secret.encode()):
            return account
    raise RefusalError("unauthenticated", "unknown credential")


def _refused(refusal: RefusalError) -> web.Response:
    wait = {"Retry-After": str(math.ceil(refusal.retry_after))} if refusal.retry_after else {}
    return web.json_response(refusal.document(), status=refusal.status, headers=wait)


def _answered(answer: Answer) -> web.Response:
    return web.json_response(answer.document, status=answer.status)


class _Jobs:
    """What accounts may do."""

    def __init__(self, provider: Provider) -> None:
        self._provider, self._plan = provider, provider.plan

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/jobs", self._submit),
            web.get("/v1/jobs", self._find),
            web.get("/v1/jobs/{job}", self._job),
            web.get("/v1/jobs/{job}/submission", self._submission),
            web.get("/v1/jobs/{job}/result", self._result),
            web.post("/v1/jobs/{job}/cancel", self._cancel),
            web.post("/v1/tokens/{token}/close", self._close),
            web.get("/v1/device", self._device),
            web.get("/v1/calibrations/{calibration}", self._calibration),
        ]

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        account, token = request[_ACCOUNT], _token_of(body)
        if hang := self._plan.bite("hang", token):
            await asyncio.sleep(hang.seconds)
        if throttle := self._plan.bite("throttle", token):
            raise RefusalError("rate_limited", "planned", retry_after=throttle.seconds)
        if self._plan.bite("error", token):
            raise RefusalError("internal", "planned")
        answer = self._provider.submit(account, body, _attempt_of(request))
        if self._plan.bite("error_after", token):
            raise RefusalError("internal", "planned")
        if self._plan.bite("lost_answer", token):
            _hang_up(request)
        if self._plan.bite("garbage", token):
            return web.Response(text="<html>gateway</html>", content_type="text/html")
        other = self._provider.another(account, token)
        if other is not None and self._plan.bite("duplicate_id", token):
            return _answered(Answer(200, {"job": other.document()}))
        return _answered(answer)

    async def _find(self, request: web.Request) -> web.StreamResponse:
        token = request.query.get("token", "")
        self._fail_question(token)
        job = self._provider.find(request[_ACCOUNT], token)
        return web.json_response({"job": job.document()})

    async def _job(self, request: web.Request) -> web.StreamResponse:
        job = self._provider.job(request[_ACCOUNT], request.match_info["job"])
        self._fail_question(job.token)
        return web.json_response({"job": job.document()})

    async def _submission(self, request: web.Request) -> web.StreamResponse:
        """Return a job as it was handed in, byte for byte."""
        job = self._provider.job(request[_ACCOUNT], request.match_info["job"])
        return web.Response(body=job.body, content_type="application/json")

    async def _result(self, request: web.Request) -> web.StreamResponse:
        return _answered(self._provider.result(request[_ACCOUNT], request.match_info["job"]))

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        return _answered(self._provider.cancel(request[_ACCOUNT], request.match_info["job"]))

    async def _close(self, request: web.Request) -> web.StreamResponse:
        token = request.match_info["token"]
        self._fail_question(token)
        return _answered(self._provider.close_token(request[_ACCOUNT], token))

    async def _device(self, request: web.Request) -> web.StreamResponse:
        del request
        return web.json_response(self._provider.describe())

    async def _calibration(self, request: web.Request) -> web.StreamResponse:
        snapshot = self._provider.calibration(request.match_info["calibration"])
        return web.Response(body=snapshot, content_type="application/json")

    def _fail_question(self, token: str) -> None:
        if self._plan.bite("poll_error", token):
            raise RefusalError("internal", "planned")


class _Admin:
    """What the provider's own people may do."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/admin/faults", self._plan),
            web.get("/admin/faults", self._planned),
            web.delete("/admin/faults", self._clear),
            web.post("/admin/recalibrate", self._recalibrate),
            web.post("/admin/offline", self._offline),
            web.get("/admin/ledger", self._ledger),
        ]

    async def _plan(self, request: web.Request) -> web.StreamResponse:
        try:
            self._provider.plan.add(await request.json())
        except ValueError:
            raise RefusalError("malformed_request", "not JSON") from None
        return await self._planned(request)

    async def _planned(self, request: web.Request) -> web.StreamResponse:
        del request
        return web.json_response({"faults": self._provider.plan.told()})

    async def _clear(self, request: web.Request) -> web.StreamResponse:
        self._provider.plan.clear()
        return await self._planned(request)

    async def _recalibrate(self, request: web.Request) -> web.StreamResponse:
        del request
        self._provider.device.recalibrate()
        return web.json_response(self._provider.describe())

    async def _offline(self, request: web.Request) -> web.StreamResponse:
        """Take the device off line for the ``reason`` in the body; an empty one takes it back."""
        self._provider.device.offline = str((await request.json()).get("reason", ""))
        return web.json_response(self._provider.describe())

    async def _ledger(self, request: web.Request) -> web.StreamResponse:
        del request
        return web.json_response({"ledger": self._provider.ledger()})


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _attempt_of(request: web.Request) -> int:
    """Return the account's own number of a submission, 0 for none."""
    told = request.headers.get("X-Client-Attempt", "")
    return int(told) if told.isascii() and told.isdigit() and len(told) <= 9 else 0


def _token_of(body: bytes) -> str:
    """Return a submission's token for the plan of faults; whether it is one is looked at later."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    token = document.get("token", "") if isinstance(document, dict) else ""
    return token if isinstance(token, str) else ""
