"""FileTier and TieredCache: nothing torn, nothing foreign touched, a budget kept, a full disk."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from threadkit import FileTier, StorageFailed, TieredCache, TTLCache
from threadkit._cache import _files, _folder_lock

WAIT = 30


def size_of(folder):
    return sum(path.stat().st_size for path in folder.iterdir() if path.name != _files.LOCK)


def entry_path(folder, key):
    return folder / _files._name_of(key)[0]


# -- a tier ---------------------------------------------------------------------------------


def test_it_keeps_bytes_for_the_next_process(tmp_path):
    FileTier(tmp_path, max_bytes=10_000).put("a", b"audio")
    tier = FileTier(tmp_path, max_bytes=10_000)
    assert (tier.get("a"), tier.get("b")) == (b"audio", None)
    assert ("a" in tier, "b" in tier) == (True, False)
    assert tier.put("a", bytearray(b"new"))
    assert tier.get("a") == b"new"
    assert tier.delete("a")
    assert not tier.delete("a")
    assert tier.get("a") is None
    numbers = tier.statistics()
    assert (numbers.hits, numbers.misses, numbers.writes) == (2, 2, 1)
    assert (numbers.entries, numbers.bytes, numbers.max_bytes) == (0, 0, 10_000)


@pytest.mark.parametrize("key", ["", "a/../b", "nul\0", "\udcff", "你好" * 500, b"", b"a", b"\xff"])
def test_any_text_or_bytes_is_a_key(tmp_path, key):
    tier = FileTier(tmp_path, max_bytes=10_000)
    tier.put(key, b"value")
    assert tier.get(key) == b"value"
    assert [path.parent for path in tmp_path.rglob("*")] == [tmp_path] * 2


def test_text_and_bytes_are_different_keys(tmp_path):
    tier = FileTier(tmp_path, max_bytes=10_000)
    tier.put("a", b"text")
    tier.put(b"a", b"bytes")
    assert (tier.get("a"), tier.get(b"a")) == (b"text", b"bytes")


def test_bad_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="max_bytes"):
        FileTier(tmp_path, max_bytes=0)
    tier = FileTier(tmp_path, max_bytes=100)
    with pytest.raises(TypeError, match="key must be str or bytes"):
        tier.put(5, b"")
    with pytest.raises(TypeError):
        tier.put("a", "text")
    with pytest.raises(TypeError):
        tier.put("a", 5)


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed, match="files: cannot write"):
        FileTier(tmp_path / "file" / "folder", max_bytes=100)


def test_nothing_is_ever_unpickled(tmp_path, monkeypatch):
    # diskcache does, from files anybody may have written
    monkeypatch.setattr("pickle.loads", lambda *_arguments: pytest.fail("unpickled"))
    monkeypatch.setattr("pickle.load", lambda *_arguments: pytest.fail("unpickled"))
    tier = FileTier(tmp_path, max_bytes=10_000)
    tier.put("a", b"\x80\x04cos\nsystem\n")
    assert tier.get("a") == b"\x80\x04cos\nsystem\n"


def test_a_finalizer_that_writes_while_its_thread_takes_or_leaves_the_lock_does_not_wait_for_itself(
    tmp_path, monkeypatch
):
    """The lock file is opened anew for each turn, so a thread would wait for its own lock."""
    tier = FileTier(tmp_path, max_bytes=10_000)
    turns, refused = [], []

    def then_write(function):
        def wrapper(descriptor):
            assert not turns or function is real_unlock, "waits for itself"
            turns.append(descriptor)
            function(descriptor)
            try:  # as a finalizer would that runs here
                tier.put("b", b"2")
            except StorageFailed as exc:
                refused.append(exc)

        return wrapper

    real_lock, real_unlock = _folder_lock._lock, _folder_lock._unlock
    monkeypatch.setattr(_folder_lock, "_lock", then_write(real_lock))
    monkeypatch.setattr(_folder_lock, "_unlock", then_write(real_unlock))
    assert tier.put("a", b"1")
    monkeypatch.undo()
    assert len(refused) == 2
    assert (tier.get("a"), tier.get("b")) == (b"1", None)
    assert tier.put("b", b"2")


def test_the_budget_is_right_after_a_finalizer_wrote_in_the_middle_of_a_write(
    tmp_path, monkeypatch
):
    tier = FileTier(tmp_path, max_bytes=10_000)
    real, written = _files._replace_file, []

    def replace(path, target):
        real(path, target)
        if not written:
            written.append(target)
            tier.put("a", b"longer" * 100)  # as a finalizer would that runs here

    monkeypatch.setattr(_files, "_replace_file", replace)
    tier.put("a", b"short")
    assert tier.get("a") == b"longer" * 100
    assert tier.statistics().bytes == size_of(tmp_path)


# -- the budget -----------------------------------------------------------------------------


def test_the_budget_is_kept_and_the_longest_unread_go_first(tmp_path):
    tier = FileTier(tmp_path, max_bytes=10_000)
    for number in range(8):
        tier.put(str(number), b"x" * 1000)
        os.utime(entry_path(tmp_path, str(number)), (1000 + number, 1000 + number))
    assert tier.get("0")  # reading makes it the youngest
    tier.put("big", b"x" * 4000)
    assert size_of(tmp_path) <= 10_000
    kept = [key for key in [*map(str, range(8)), "big"] if key in tier]
    assert "0" in kept
    assert "big" in kept
    assert "1" not in kept
    assert kept == sorted(kept)
    assert tier.statistics().evicted == 9 - len(kept)


def test_at_no_moment_is_the_budget_exceeded(tmp_path, monkeypatch):
    tier = FileTier(tmp_path, max_bytes=10_000)
    most = []
    real = _files._replace_file

    def replace(path, target):
        most.append(size_of(tmp_path))  # old and new are both there
        return real(path, target)

    monkeypatch.setattr(_files, "_replace_file", replace)
    rnd = random.Random(3)
    for _ in range(300):
        tier.put(str(rnd.randrange(12)), bytes(rnd.randrange(6000)))
    assert max(most) <= 10_000
    assert tier.statistics().bytes == size_of(tmp_path)


def test_a_value_larger_than_the_budget_is_refused_and_takes_the_old_one_along(tmp_path):
    tier = FileTier(tmp_path, max_bytes=1000)
    assert tier.put("a", b"x" * 100)
    assert not tier.put("a", b"x" * 1000)
    assert tier.get("a") is None
    assert tier.statistics().rejected == 1


# -- torn and foreign -------------------------------------------------------------------------


def test_no_cut_and_no_flipped_bit_is_ever_served(tmp_path):
    tier = FileTier(tmp_path, max_bytes=10_000)
    tier.put("a", b"the value")
    path = entry_path(tmp_path, "a")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert tier.get("a") is None, length
        tier.put("a", b"the value")
    for position in range(len(whole) * 8):
        broken = bytearray(whole)
        broken[position // 8] ^= 1 << position % 8
        path.write_bytes(broken)
        assert tier.get("a") is None, position
        if path.exists():  # its beginning is not ours any more: it is left alone
            path.unlink()
        tier.put("a", b"the value")
    path.write_bytes(whole + b"more")
    assert tier.get("a") is None
    assert tier.statistics().torn > len(whole)


def test_an_entry_of_another_key_is_not_served(tmp_path):
    tier = FileTier(tmp_path, max_bytes=10_000)
    tier.put("a", b"of a")
    entry_path(tmp_path, "a").rename(entry_path(tmp_path, "b"))
    assert FileTier(tmp_path, max_bytes=10_000).get("b") is None


def test_foreign_and_unreadable_files_are_left_alone_and_reported(tmp_path, caplog):
    foreign = {
        "notes.txt": b"mine",
        ".hidden": b"mine",
        "x.tmp": b"mine",
        entry_path(tmp_path, "taken").name: b"somebody else's",
    }
    for name, content in foreign.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.tkc").mkdir()
    entry_path(tmp_path, "folder").mkdir()
    tier = FileTier(tmp_path, max_bytes=5000)
    for number in range(20):
        tier.put(str(number), b"x" * 1000)
    assert tier.get("taken") is None
    assert tier.get("folder") is None
    for key in ("taken", "folder"):
        with pytest.raises(StorageFailed, match="in the way"):
            tier.put(key, b"value")
    tier.clear()
    expected = {*foreign, "folder.tkc", entry_path(tmp_path, "folder").name}
    assert set(tier.statistics().foreign) == expected
    assert {path.name for path in tmp_path.iterdir()} == expected | {_files.LOCK}
    assert all((tmp_path / name).read_bytes() == content for name, content in foreign.items())
    assert tier.statistics().unreadable == 1
    assert "cannot read" in caplog.text


def test_what_cannot_be_read_is_a_miss(tmp_path, monkeypatch):
    tier = FileTier(tmp_path, max_bytes=5000)
    tier.put("a", b"value")

    def refuse(_path):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(_files, "_read_file", refuse)
        assert tier.get("a") is None
    assert tier.get("a") == b"value"
    assert tier.statistics().unreadable == 1


def test_temporary_files_of_dead_writers_are_removed(tmp_path):
    left = tmp_path / (entry_path(tmp_path, "a").name + _files.TEMPORARY)
    left.write_bytes(b"half")
    FileTier(tmp_path, max_bytes=5000).put("b", b"value")
    assert not left.exists()


# -- several at once --------------------------------------------------------------------------


def test_threads_share_a_tier(tmp_path):
    tiers = [FileTier(tmp_path, max_bytes=20_000) for _ in range(2)]
    errors = []

    def work(seed):
        rnd = random.Random(seed)
        try:
            for _ in range(100):
                key = str(rnd.randrange(10))
                tier = rnd.choice(tiers)
                if rnd.random() < 0.5:
                    tier.put(key, key.encode() * rnd.randrange(1, 3000))
                else:
                    value = tier.get(key)
                    assert value is None or set(value) == {ord(key)}
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert not errors
    assert size_of(tmp_path) <= 20_000
    for tier in tiers:
        assert tier.statistics().bytes == size_of(tmp_path)
        assert tier.statistics().torn == 0


WRITER = textwrap.dedent(
    """
    import random, sys
    from threadkit import FileTier
    tier = FileTier(sys.argv[1], max_bytes=int(sys.argv[3]))
    rnd = random.Random(int(sys.argv[2]))
    print("ready", flush=True)
    for _ in range(int(sys.argv[4])):
        key = str(rnd.randrange(10))
        value = tier.get(key)
        if value is not None and set(value) != {ord(key)}:
            sys.exit(f"wrong entry for {key}")
        tier.put(key, key.encode() * rnd.randrange(1, 6000))
    if tier.statistics().torn:
        sys.exit("torn")
    """
)


def writer(folder, seed, *, max_bytes=30_000, times=10**9):
    arguments = [str(folder), str(seed), str(max_bytes), str(times)]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout.readline() == b"ready\n", process.stderr.read()
    return process


def check_folder(folder, max_bytes=30_000):
    """What must hold at any moment nobody writes."""
    tier = FileTier(folder, max_bytes=max_bytes)
    numbers = tier.statistics()
    assert numbers.bytes == size_of(folder) <= max_bytes
    for number in range(10):
        value = tier.get(str(number))
        assert value is None or set(value) == {ord(str(number))}
    assert tier.statistics().torn == 0
    assert tier.statistics().foreign == ()


def test_two_processes_share_a_folder(tmp_path):
    writers = [writer(tmp_path, seed, times=150) for seed in (1, 2)]
    for process in writers:
        _, errors = process.communicate(timeout=WAIT)
        assert process.returncode == 0, errors
    check_folder(tmp_path)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is of POSIX")
def test_a_writer_killed_at_a_random_moment_leaves_nothing_torn(tmp_path):
    # 200 times in tests/stress
    kill_writers(tmp_path, 6)


def kill_writers(folder, times):
    rnd = random.Random(7)
    for seed in range(times):
        other = writer(folder, 1000 + seed, times=20)
        process = writer(folder, seed)
        threading.Event().wait(rnd.random() * 0.03)  # the random moment
        process.kill()
        process.communicate()
        _, errors = other.communicate(timeout=WAIT)
        assert other.returncode == 0, errors
        check_folder(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_while_a_thread_writes_can_write(tmp_path):
    tier = FileTier(tmp_path, max_bytes=10_000)
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with tier._turn():
            inside.set()
            assert leave.wait(WAIT)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(WAIT)
    child = os.fork()
    if not child:  # the lock of the thread that is not here any more must not be waited for
        leave_with = 1
        try:
            tier.put("child", b"value")
            leave_with = 0
        finally:
            os._exit(leave_with)
    leave.set()
    thread.join(WAIT)
    assert os.waitpid(child, 0)[1] == 0
    assert tier.get("child") == b"value"


def test_names_of_entries_are_not_kept_in_memory(tmp_path):
    """Python 3.12 keeps every part of every `Path` for ever."""
    tier = FileTier(tmp_path, max_bytes=1000)

    def use(count, first):
        for number in range(first, first + count):
            tier.get(str(number))
            tier.put(str(number), b"value")
            tier.delete(str(number))

    use(50, 0)
    before = sys.getallocatedblocks()
    use(500, 50)
    assert sys.getallocatedblocks() - before < 250


# -- a disk that fails --------------------------------------------------------------------------


def test_a_full_disk_is_one_clear_error_and_what_was_there_is_intact(tmp_path, monkeypatch):
    tier = FileTier(tmp_path, max_bytes=10_000, name="audio")
    tier.put("a", b"old")

    def full(path, data):
        Path(path).write_bytes(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", path)

    with monkeypatch.context() as patch:
        patch.setattr(_files, "_write_file", full)
        with pytest.raises(StorageFailed, match=r"audio: cannot write .*No space left") as caught:
            tier.put("a", b"new")
    assert isinstance(caught.value, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert tier.get("a") == b"old"
    assert [path.suffix for path in tmp_path.iterdir() if path.name != _files.LOCK] == [".tkc"]
    tier.put("a", b"new")
    assert tier.get("a") == b"new"


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 64 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting needs root; the injected full disk is tested above")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_on_a_disk_that_is_really_full_the_memory_tier_goes_on(small_disk, caplog):
    memory = TTLCache(100)
    cache = TieredCache(memory, FileTier(small_disk, max_bytes=10_000_000, name="audio"))
    for number in range(30):
        cache.put(str(number), bytes(8000))
        assert cache.load(f"loaded {number}", lambda _key: b"x" * 100) == b"x" * 100
    assert all(cache.get(str(number)) == bytes(8000) for number in range(30))
    numbers = cache.statistics()
    assert numbers.storage_failures > 10
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) >= 1
    errors = [r.message for r in caplog.records if "going on without files" in r.message]
    assert "No space left on device" in errors[0]
    tier = FileTier(small_disk, max_bytes=10_000_000)
    assert all(tier.get(str(number)) in {None, bytes(8000)} for number in range(30))
    assert tier.statistics().torn == 0
    assert not [path for path in small_disk.iterdir() if path.suffix == ".tmp"]


# -- two tiers --------------------------------------------------------------------------------


def tiered(folder):
    return TieredCache(TTLCache(2, name="memory"), FileTier(folder, max_bytes=100_000))


@pytest.fixture
def cache(tmp_path):
    return tiered(tmp_path)


def test_what_memory_forgot_comes_from_its_file(cache):
    for number in range(5):
        cache.put(str(number), b"%d" % number)
    assert cache.get("0") == b"0"
    assert cache.get("x") is None
    assert "1" in cache
    assert "x" not in cache
    assert cache.load("1", lambda _key: pytest.fail("there is a file")) == b"1"
    numbers = cache.statistics()
    assert (numbers.memory.hits, numbers.files.hits) == (0, 2)
    assert cache.get("1") == b"1"
    assert cache.statistics().memory.hits == 1


def test_what_is_loaded_is_kept_in_both(cache, tmp_path):
    assert cache.load("a", lambda key: key.encode()) == b"a"
    again = TieredCache(TTLCache(2), FileTier(tmp_path, max_bytes=100_000))
    assert again.get("a") == b"a"


def test_delete_and_clear_reach_both_tiers(cache):
    cache.put("a", b"1")
    cache.put("b", b"2")
    assert cache.delete("a")
    assert not cache.delete("a")
    assert cache.get("a") is None
    cache.clear()
    assert cache.get("b") is None


@pytest.mark.parametrize("outdate", ["delete", "clear", "put"])
def test_a_result_outdated_while_it_loads_reaches_neither_tier(cache, tmp_path, outdate):
    def loader(_key):
        if outdate == "delete":
            cache.delete("a")
        elif outdate == "clear":
            cache.clear()
        else:
            cache.put("a", b"newer")
        return b"outdated"

    assert cache.load("a", loader) == b"outdated"
    expected = b"newer" if outdate == "put" else None
    assert cache.get("a") == expected
    assert FileTier(tmp_path, max_bytes=100_000).get("a") == expected


def test_get_does_not_wait_for_a_load_and_a_load_does_not_get_its_miss(cache):
    entered, opened = threading.Event(), threading.Event()
    results = []

    def loader(_key):
        entered.set()
        assert opened.wait(WAIT)
        return b"loaded"

    thread = threading.Thread(target=lambda: results.append(cache.load("a", loader)))
    thread.start()
    assert entered.wait(WAIT)
    assert cache.get("a") is None
    opened.set()
    thread.join(WAIT)
    assert results == [b"loaded"]
    assert cache.get("a") == b"loaded"


def test_a_loader_that_raises_leaves_nothing(cache):
    with pytest.raises(ZeroDivisionError):
        cache.load("a", lambda _key: 1 / 0)
    assert cache.get("a") is None
    assert cache.load("a", lambda _key: b"1") == b"1"
    assert not cache._loading


def test_a_write_that_fails_leaves_no_outdated_file(cache, tmp_path, monkeypatch):
    def full(_path, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    cache.put("a", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(_files, "_write_file", full)
        cache.put("a", b"new")
    assert cache.get("a") == b"new"
    assert FileTier(tmp_path, max_bytes=100_000).get("a") is None


@pytest.mark.parametrize("remove", [lambda cache: cache.delete("a"), lambda cache: cache.clear()])
def test_memory_forgets_even_when_the_files_fail(cache, monkeypatch, remove):
    def broken(_path, **_arguments):
        raise OSError(errno.EROFS, "Read-only file system")

    cache.put("a", b"1")
    monkeypatch.setattr(_files, "_remove_file", broken)
    with pytest.raises(StorageFailed):
        remove(cache)
    assert "a" not in cache._memory


def test_a_load_that_raises_gives_its_turn_to_write_back(cache):
    import asyncio

    with pytest.raises(ZeroDivisionError):
        cache.load("a", lambda _key: 1 / 0)
    assert not cache._loading

    async def cancelled():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(cache.aload("a", lambda _key: asyncio.Event().wait()), 0.01)

    asyncio.run(cancelled())
    assert not cache._loading


def test_coroutines_load_through_both_tiers(cache, tmp_path):
    import asyncio

    async def loader(key):
        return key.encode()

    async def main():
        return await asyncio.gather(*(cache.aload("a", loader) for _ in range(3)))

    assert asyncio.run(main()) == [b"a"] * 3
    assert FileTier(tmp_path, max_bytes=100_000).get("a") == b"a"

    async def again():
        other = TieredCache(TTLCache(2), FileTier(tmp_path, max_bytes=100_000))
        return await other.aload("a", lambda _key: pytest.fail("there is a file"))

    assert asyncio.run(again()) == b"a"


def test_one_error_is_logged_when_the_disk_fails_and_one_line_when_it_is_back(
    cache, monkeypatch, caplog
):
    def full(_path, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_files, "_write_file", full)
        for number in range(5):
            cache.put(str(number), b"value")
        assert cache.load("loaded", lambda _key: b"value") == b"value"
    assert cache.get("4") == b"value"
    assert cache.get("0") is None
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert cache.statistics().storage_failures == 6
    cache.put("5", b"value")
    assert caplog.records[-1].message == "files: files can be written again"


def test_a_file_that_can_be_neither_written_nor_deleted_is_not_served(tmp_path, monkeypatch):
    """As when the folder is mounted read-only: what was to be replaced can still be read."""
    cache = tiered(tmp_path)
    cache.put("a", b"old")
    cache.put("b", b"old")
    cache.put("c", b"kept")

    def refused(self, *_arguments, **_options):
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(_files, "_write_file", refused)
        patch.setattr(_files, "_remove_file", refused)
        cache.put("a", b"new")
        assert cache.get("a") == b"new"
        with pytest.raises(StorageFailed):
            cache.delete("b")
        cache._memory.clear()
        assert cache.get("a") is None
        assert "a" not in cache
        assert cache.get("b") is None
        assert cache.get("c") == b"kept"
        cache._memory.clear()
        assert cache.load("a", lambda _key: b"loaded") == b"loaded"
        assert len(list(tmp_path.glob("*.tkc"))) == 3
        cache.put("never written", b"x")
        assert cache._outdated == {"a", "b"}
    cache.put("d", b"new")  # files can be written again, and deleted
    assert not cache._outdated
    again = tiered(tmp_path)
    assert [again.get(key) for key in "abcd"] == [None, None, b"kept", b"new"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_while_a_thread_holds_the_locks_of_both_tiers_can_put_and_load(tmp_path):
    cache = tiered(tmp_path)
    entered, opened = threading.Event(), threading.Event()

    def slow(path, data):
        entered.set()
        assert opened.wait(WAIT)
        return write_file(path, data)

    write_file = _files._write_file
    _files._write_file = slow
    thread = threading.Thread(target=cache.put, args=("a", b"1"))
    try:
        thread.start()
        assert entered.wait(WAIT)
        child = os.fork()
        if not child:
            _files._write_file = write_file
            signal.alarm(WAIT)  # kills the child if it hangs
            done = cache.load("b", lambda _key: b"2") == b"2" and not cache._loading
            os._exit(0 if done else 1)
        opened.set()  # the child waits for the folder's lock until then
        assert os.waitpid(child, 0)[1] == 0
    finally:
        opened.set()
        thread.join(WAIT)
        _files._write_file = write_file
    assert cache.get("a") == b"1"
    assert tiered(tmp_path).get("b") == b"2"
