"""The same events give the same bytes in every process, whatever the hash seed."""

import os
import subprocess
import sys

SCRIPT = """
import hashlib, sys
sys.path.append(sys.argv[1])
from dispatcher_kit import *
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit

driver = Driver(lambda: Dispatcher(0, 2, config(bundle_jobs=2)))
told = hashlib.sha256()
number = 0
for step in range(120):
    driver.free = {pool: [Credit(f"w{n}", n, 1 + step % 2) for n in range(3)] for pool in POOLS}
    driver.pass_time(0.4)
    events = []
    for _ in range(4):
        number += 1
        wishes = {"tenant": "abc"[number % 3], "priority": CLASSES[number % 4], "sweep_id": f"s{number % 5}"}
        events.append(submitted(request(number, **wishes), offset=number, pool=POOLS[number % 2]))
    if step % 7 == 3:
        events.append(commanded("cancel", f"s{step % 5}", target="sweep", tenant="abc"[step % 3]))
    commands = driver.run(*events)
    answers = [finished(one, ("", "", "TRANSIENT", "CRASHED")[n % 4]) for n, one in enumerate(forwards(commands))]
    commands += driver.run(*answers[::2])
    if step % 11 == 5:
        driver.restart()
    told.update(repr((commands, sorted(driver.ledger.items()))).encode())
print(told.hexdigest())
"""


def told_under(seed, root):
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", SCRIPT, str(root / "tests")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return run.stdout


def test_a_dispatcher_says_the_same_under_every_hash_seed(root):
    assert told_under("1", root) == told_under("4711", root)
