"""What a pool's options say about Amazon Braket: which device, as whom, where results are put. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from shotbus.broker.config import NO_SECRET, Secret
from shotbus.workers.adapters.options import OptionReader
from shotbus.workers.providers.adapter import Patience

#: Simulators of the SDK that run in this process, and the most qubits they are offered for: 256 MiB of state.
LOCAL: Mapping[str, int] = {"braket_sv": 24, "braket_dm": 12}
#: The word that asks for boto3's own search for credentials.
DEFAULT_CHAIN = "default"
_ARN = re.compile(r"arn:aws[a-z-]*:braket:([a-z0-9-]*):([0-9]*):device/[A-Za-z0-9_./-]{1,200}")
_REGION = re.compile(r"[a-z]{2,8}(-[a-z0-9]{1,16}){1,4}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*")
_LONGEST = 86_400.0
_MOST_QUBITS = 100_000
_OF_AWS = (
    "bucket",
    "credentials",
    "device_seconds",
    "endpoint",
    "prefix",
    "region",
    "request_seconds",
    "s3_endpoint",
    "search_hours",
    "settle_seconds",
    "submit_seconds",
)


@dataclass(frozen=True, slots=True)
class BraketSettings:
    """One device of Braket's.

    Attributes:
        device: the name of a local simulator, or an ARN.
        bucket: of S3, where Braket puts results.
        prefix: of their keys.
        region: where tasks are created.
        credentials: a reference to a JSON object as AWS' own ``credential_process`` prints it; empty is
            boto3's own search for credentials.
        endpoint: of Braket, instead of the region's own.
        s3_endpoint: of S3, likewise.
        max_qubits: the widest circuit that is tried; the device's own width has the last word.
        submit_seconds: the longest an answer to a submission may take; later its outcome is unknown.
        request_seconds: the longest a connection, or an answer to a question, may take.
        settle_seconds: how long a task that was accepted may take to be listed.
        search_hours: how far back tasks are searched for a token.
        device_seconds: how long what the device says of itself is remembered.
        patience: how long to wait for jobs.

    """

    device: str
    bucket: str = ""
    prefix: str = "shotbus"
    region: str = ""
    credentials: Secret = NO_SECRET
    endpoint: str = ""
    s3_endpoint: str = ""
    max_qubits: int = 1_000
    submit_seconds: float = 30.0
    request_seconds: float = 10.0
    settle_seconds: float = 120.0
    search_hours: float = 2_160.0
    device_seconds: float = 60.0
    patience: Patience = field(default_factory=lambda: Patience(1.0, 300.0))

    @property
    def local(self) -> bool:
        """Whether the device is a simulator in this process."""
        return self.device in LOCAL


def read_settings(options: Mapping[str, str]) -> BraketSettings:
    """Read a pool's options. Raises ShotbusError (SB-2001, SB-2002) with everything that is wrong."""
    reader = OptionReader(options)
    device = _device(reader)
    local = device in LOCAL
    most = LOCAL.get(device, _MOST_QUBITS)
    settings = BraketSettings(
        device=device,
        bucket=_matched(reader, "bucket", "", _BUCKET, "a bucket's name"),
        prefix=_matched(reader, "prefix", "shotbus", _PREFIX, "words with / in between"),
        region=_region(reader, device),
        credentials=_credentials(reader),
        endpoint=reader.url("endpoint", needed=False),
        s3_endpoint=reader.url("s3_endpoint", needed=False),
        max_qubits=reader.whole("max_qubits", min(1_000, most), 1, most),
        submit_seconds=reader.number("submit_seconds", 30.0, 0.01, _LONGEST),
        request_seconds=reader.number("request_seconds", 10.0, 0.01, _LONGEST),
        settle_seconds=reader.number("settle_seconds", 120.0, 0.0, _LONGEST),
        search_hours=reader.number("search_hours", 2_160.0, 1.0, _LONGEST),
        device_seconds=reader.number("device_seconds", 60.0, 0.0, _LONGEST),
        patience=Patience(
            reader.number("poll_seconds", 0.01 if local else 1.0, 0.001, _LONGEST),
            reader.number("wait_seconds", 300.0, 0.0, _LONGEST),
        ),
    )
    _check(reader, settings)
    reader.close()
    return settings


def _device(reader: OptionReader) -> str:
    device = reader.text("device")
    if device in LOCAL or _ARN.fullmatch(device):
        return device
    limit = f"{', '.join(LOCAL)}, or arn:aws:braket:REGION::device/..."
    reader.refuse("device", limit, device or "nothing", hint="braket_sv needs no account")
    return ""


def _matched(reader: OptionReader, name: str, default: str, form: re.Pattern[str], wanted: str) -> str:
    value = reader.text(name, default)
    if value and not form.fullmatch(value):
        reader.refuse(name, wanted, value)
    return value


def _region(reader: OptionReader, device: str) -> str:
    """Return the ARN's region; simulators of AWS have none in theirs, and may be in any."""
    given = _matched(reader, "region", "", _REGION, "a region's name")
    found = _ARN.fullmatch(device)
    told = found[1] if found else ""
    if given and told and given != told:
        reader.refuse("region", f"{told}, as the device's ARN says", given)
    return told or given


def _credentials(reader: OptionReader) -> Secret:
    return NO_SECRET if reader.text("credentials") == DEFAULT_CHAIN else reader.secret("credentials")


def _check(reader: OptionReader, settings: BraketSettings) -> None:
    """Refuse what an ARN lacks, and what means nothing without one."""
    if settings.local:
        for name in _OF_AWS:
            if reader.given(name):
                reader.refuse(name, "with a device at AWS", f"device {settings.device}")
    elif settings.device:
        if not settings.bucket:
            reader.refuse("bucket", "a bucket's name", "nothing", hint="results are put there")
        if not settings.region:
            reader.refuse("region", "a region's name", "nothing", hint="this device's ARN names none")
        if not reader.given("credentials"):
            hint = "default lets boto3 search for them itself"
            reader.refuse("credentials", "env:NAME, file:/path or default", "nothing", hint=hint)
