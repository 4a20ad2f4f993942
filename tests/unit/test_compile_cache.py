"""The compile cache on disk: what is damaged, foreign or too much goes, and costs nobody a job."""

import os
import stat
import subprocess
import sys

import pytest

from shotbus.workers.compiled.cache import CompileCache, UnsafeDirectoryError
from shotbus.workers.compiled.entry import Entry, key_of

KEYS = [f"{number:064x}" for number in range(100)]


def entry(number=1, size=100):
    return Entry({"wires": [0, 1], "number": number}, bytes([number]) * size)


def file_of(directory, key=KEYS[0]):
    return directory / f"{key}.qpy"


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "compiled"


def test_what_is_kept_is_found_again_by_another_process_s_cache(directory):
    CompileCache(directory).put(KEYS[0], entry())
    other = CompileCache(directory)
    assert other.get(KEYS[0]) == entry()
    assert other.get(KEYS[1]) is None
    assert not other.counts.damaged


def test_directory_and_entries_are_the_user_s_alone_whatever_the_umask(directory):
    before = os.umask(0)
    try:
        CompileCache(directory).put(KEYS[0], entry())
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(file_of(directory).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
        lambda data: os.urandom(len(data)),
    ],
    ids=["empty", "cut", "longer", "flipped", "foreign"],
)
def test_a_damaged_entry_is_a_miss_that_is_removed_and_counted(directory, damage):
    cache = CompileCache(directory)
    cache.put(KEYS[0], entry())
    path = file_of(directory)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get(KEYS[0]) is None
    assert not path.exists()
    assert cache.take_counts()["damaged"] == 1
    cache.put(KEYS[0], entry())
    assert cache.get(KEYS[0]) == entry()


def test_an_entry_under_another_s_name_is_none(directory):
    cache = CompileCache(directory)
    cache.put(KEYS[0], entry())
    file_of(directory).rename(file_of(directory, KEYS[1]))
    assert cache.get(KEYS[1]) is None
    assert cache.counts.damaged == 1


def test_a_link_that_leads_elsewhere_is_not_followed(directory, tmp_path):
    cache = CompileCache(directory)
    cache.put(KEYS[0], entry())
    elsewhere = tmp_path / "elsewhere"
    file_of(directory).rename(elsewhere)
    file_of(directory).symlink_to(elsewhere)
    assert cache.get(KEYS[0]) is None
    assert elsewhere.exists()


def test_an_entry_that_others_may_write_to_is_not_used(directory):
    cache = CompileCache(directory)
    cache.put(KEYS[0], entry())
    file_of(directory).chmod(0o666)
    assert cache.get(KEYS[0]) is None
    assert cache.counts.damaged == 1


def test_a_directory_that_others_may_write_to_is_refused(directory):
    directory.mkdir(mode=0o700)
    directory.chmod(0o777)
    with pytest.raises(UnsafeDirectoryError):
        CompileCache(directory)


def test_a_cache_without_a_directory_keeps_nothing(tmp_path):
    cache = CompileCache()
    cache.put(KEYS[0], entry())
    assert cache.get(KEYS[0]) is None
    assert not list(tmp_path.iterdir())


def test_a_directory_that_has_gone_costs_entries_and_no_errors(directory):
    cache = CompileCache(directory)
    directory.rmdir()
    cache.put(KEYS[0], entry())
    assert cache.get(KEYS[0]) is None
    assert cache.counts.failed


def sizes(directory):
    return sum(path.stat().st_size for path in directory.glob("*.qpy"))


def test_the_bound_holds_and_what_was_used_longest_ago_goes_first(directory):
    cache = CompileCache(directory, max_bytes=20_000)
    for number in range(60):
        cache.put(KEYS[number], entry(number, 1_000))
        # Times of files are as coarse as the kernel's clock: said, not waited for.
        os.utime(file_of(directory, KEYS[number]), (number, number))
        assert cache.get(KEYS[0]) is not None, "it is used all the time"
        assert sizes(directory) <= 20_000
    assert cache.get(KEYS[1]) is None
    assert cache.get(KEYS[59]) is not None
    assert cache.counts.evicted >= 40


def test_what_is_too_large_for_the_bound_is_not_kept_and_evicts_nothing(directory):
    cache = CompileCache(directory, max_bytes=10_000)
    cache.put(KEYS[0], entry())
    cache.put(KEYS[1], entry(2, 9_999))
    assert cache.get(KEYS[0]) == entry()
    assert cache.get(KEYS[1]) is None


def test_the_temporary_file_of_a_writer_that_was_killed_goes_later(directory):
    cache = CompileCache(directory)
    left, fresh = directory / "x.abc.new", directory / "y.abc.new"
    left.touch()
    fresh.touch()
    os.utime(left, (0, 0))
    cache.put(KEYS[0], entry())
    assert not left.exists()
    assert fresh.exists()


def test_a_disk_that_is_full_leaves_no_half_entry(directory, monkeypatch):
    cache = CompileCache(directory)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shotbus.workers.compiled.cache.os.fdopen", full)
    cache.put(KEYS[0], entry())
    assert cache.counts.failed == 1
    assert not list(directory.iterdir())


HAMMER = """
import sys
from pathlib import Path
from shotbus.workers.compiled.cache import CompileCache
from shotbus.workers.compiled.entry import Entry

cache, wrong = CompileCache(Path(sys.argv[1]), max_bytes=60_000), 0
for turn in range(300):
    number = (turn * 7 + int(sys.argv[2])) % 8
    one = Entry({"number": number}, bytes([number]) * 4_000)
    found = cache.get(f"{number:064x}")
    wrong += found is not None and found != one
    cache.put(f"{number:064x}", one)
print(wrong, cache.counts.damaged, cache.counts.failed)
"""


def test_processes_that_write_and_read_at_once_see_whole_entries_only(directory):
    command = [sys.executable, "-c", HAMMER, str(directory)]
    running = [
        subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, text=True) for seed in range(3)
    ]
    assert [process.communicate(timeout=60)[0].split() for process in running] == [["0", "0", "0"]] * 3
    assert sizes(directory) <= 60_000
    assert not list(directory.glob("*.new"))


def test_everything_that_changes_what_compiling_gives_is_part_of_the_key():
    base = {"topology": "", "options": {"level": 1}, "bare": False, "versions": {"qiskit": "2"}}
    keys = {
        key_of("a", "t", **base),
        key_of("b", "t", **base),
        key_of("a", "u", **base),
        key_of("a", "t", **base | {"topology": "c"}),
        key_of("a", "t", **base | {"options": {"level": 2}}),
        key_of("a", "t", **base | {"bare": True}),
        key_of("a", "t", **base | {"versions": {"qiskit": "3"}}),
    }
    assert len(keys) == 7
    assert key_of("a", "t", **base) in keys
