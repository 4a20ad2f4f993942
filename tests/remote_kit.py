"""A pool at the provider that does not exist: its configuration, and what became of its jobs."""

CONFIG = """
[pools.qpu]
adapter = "remote"
kind = "hardware"
slots = {slots}
prefetch = 1
bundle_jobs = 1
max_qubits = 5
seconds_per_point = 0.05
lease_seconds = {lease}
[pools.qpu.price]
per_task = 0.01
per_shot = 0.0001
[pools.qpu.options]
url = "{url}"
device = "fake_qpu"
credentials = "{credentials}"
poll_seconds = 0.02
submit_seconds = 1.0
device_seconds = 0.2
[pools.qpu.breaker]
min_calls = 1000
[retry]
base = 0.05
cap = 0.2
"""


def write_config(folder, provider, *, credentials="", slots=1, lease=5):
    """Write the configuration of a broker with a pool at ``provider``; by default its own credential file."""
    folder.mkdir(parents=True, exist_ok=True)
    credentials = credentials or f"file:{provider.directory / 'credential'}"
    text = CONFIG.format(url=provider.url, credentials=credentials, slots=slots, lease=lease)
    (folder / "shotbus.toml").write_text(text)


def ended(job, seconds=90):
    """(outcome, error codes) of a job."""
    from shotbus import JobFailedError

    try:
        return job.result(seconds).outcome, []
    except JobFailedError as error:
        return error.outcome, [problem.code for problem in error.problems]
