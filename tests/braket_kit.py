"""The stand-in for Amazon Braket as a process of its own, and adapters that ask it."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import urllib3
from braket_devices import QPU

from shotbus.workers.adapters.base import load

SECRET = {"Version": 1, "AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "very/secret", "SessionToken": "t0"}


class FakeBraket:
    """A server; use it as a context manager."""

    def __init__(self, directory):
        self.credential = directory / "credential"
        self.credential.write_text(json.dumps(SECRET))
        self._http = urllib3.PoolManager(retries=False)

    def __enter__(self):
        command = [sys.executable, str(Path(__file__).with_name("braket_endpoint.py"))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.url = json.loads(self.process.stdout.readline())["url"]
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
        self._http.clear()

    def options(self, device=QPU, **more):
        """A pool's options for it."""
        return {
            "device": device,
            "region": "eu-north-1",
            "bucket": "results",
            "credentials": f"file:{self.credential}",
            "endpoint": self.url,
            "s3_endpoint": self.url,
            "poll_seconds": "0.02",
            "device_seconds": "0",
            "settle_seconds": "0",
            **more,
        }

    def adapter(self, device=QPU, **more):
        return load("braket", self.options(device, **more))

    def _admin(self, verb, document):
        return self._http.request("POST", f"{self.url}/admin/{verb}", json=document).json()

    def plan(self, fault, token="", **more):
        self._admin("fault", {"fault": fault, "token": token, **more})

    def set(self, **more):
        """Set what it knows: its device's ``status``, and whether tasks are ``held`` in the queue."""
        self._admin("set", more)

    def release(self):
        self._admin("release", {})

    def created(self):
        """How many tasks were created under each token."""
        return Counter(row["token"] for row in self._admin("ledger", {})["ledger"])
