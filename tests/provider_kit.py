"""The provider that does not exist, as a process of its own, and what tests ask of it."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter

import urllib3

from shotbus.workers.adapters.base import load


class Provider:
    """A server on a directory; use it as a context manager. After :meth:`kill` it comes back on its port."""

    def __init__(self, directory, *words):
        self.directory, self.words, self.port = directory, [str(word) for word in words], 0
        self.process = None
        self._http = urllib3.PoolManager(retries=False)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop(signal.SIGTERM)

    def start(self):
        command = [sys.executable, "-m", "shotbus.deploy.provider", "--dir", str(self.directory)]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), *self.words], stdout=subprocess.PIPE, env=dict(os.environ)
        )
        told = json.loads(self.process.stdout.readline())
        self.url, self.port = told["url"], int(told["url"].rpartition(":")[2])
        return self

    def stop(self, number):
        self.process.send_signal(number)
        self.process.wait(30)
        self.process.stdout.close()
        self._http.clear()

    def kill(self):
        """End it as a power cut would."""
        self.stop(signal.SIGKILL)

    def options(self, **more):
        """A pool's options for it."""
        return {
            "url": self.url,
            "device": "fake_qpu",
            "credentials": f"file:{self.directory / 'credential'}",
            "poll_seconds": "0.02",
            "device_seconds": "0",
            **more,
        }

    def adapter(self, **more):
        return load("remote", self.options(**more))

    def ask(self, verb, path, document=None, *, secret="credential"):
        """(status, document, headers) of a request with one of its credentials."""
        given = (self.directory / secret).read_text() if secret else "wrong"
        headers = {"Authorization": f"Bearer {given}"}
        answer = self._http.request(verb, self.url + path, json=document, headers=headers)
        return answer.status, answer.json(), answer.headers

    def fetch(self, path):
        """The bytes of an answer."""
        headers = {"Authorization": f"Bearer {(self.directory / 'credential').read_text()}"}
        return self._http.request("GET", self.url + path, headers=headers).data

    def admin(self, verb, path, document=None):
        status, told, _ = self.ask(verb, f"/admin/{path}", document, secret="admin")
        assert status == 200, told
        return told

    def plan(self, fault, token="", **more):
        self.admin("POST", "faults", {"fault": fault, "token": token, **more})

    def bites(self):
        """How often each planned fault has struck."""
        return {one["fault"]: one["bites"] for one in self.admin("GET", "faults")["faults"]}

    def clear(self):
        self.admin("DELETE", "faults")

    def ledger(self):
        return self.admin("GET", "ledger")["ledger"]

    def billings(self):
        """How many submissions each job was billed for, returned bills taken off. A token is JOB.NUMBER."""
        found = Counter()
        for row in self.ledger():
            found[row["token"].partition(".")[0]] += {"billed": 1, "refunded": -1}[row["kind"]]
        return found
