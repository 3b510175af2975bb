import threading

import pytest

from livebot.ledger import Entry
from livebot.messages import Chat
from livebot.stages import AsyncMessageHandler, MessageHandler, VoiceStage
from threadkit import DynamicThreadPool, MessageQueue


def entry(number):
    return Entry(Chat(id=str(number), text="你好"))


@pytest.fixture(params=[MessageHandler, AsyncMessageHandler])
def handler_type(request):
    return request.param


@pytest.fixture
def pool():
    with DynamicThreadPool(max_workers=2, queue_limit=2, overflow="block") as pool:
        yield pool


def numbers(entries):
    return sorted(int(item.event.id) for item in entries)


def test_every_entry_is_worked_on_once(handler_type, pool):
    queue, done, all_done = MessageQueue(), [], threading.Semaphore(0)

    def work(item):
        done.append(item)
        all_done.release()

    handler = handler_type(queue, pool, work, print)
    handler.start(None)
    for number in range(100):
        queue.put(entry(number))
    for _ in range(100):
        assert all_done.acquire(timeout=30)
    handler.stop(None)
    assert numbers(done) == list(range(100))


def test_entries_wait_in_the_queue_while_the_pool_is_full(pool):
    """So that the queue can drop the least important of them."""
    queue, gate, begun = MessageQueue(), threading.Event(), threading.Semaphore(0)

    def work(item):
        begun.release()
        gate.wait(30)

    handler = AsyncMessageHandler(queue, pool, work, work, concurrency=3)
    handler.start(None)
    for number in range(10):
        queue.put(entry(number))
    assert begun.acquire(timeout=30)
    assert begun.acquire(timeout=30)
    assert len(queue) >= 10 - 3 - 1, "no more tasks than allowed, and one entry in hand"
    gate.set()
    handler.stop(None)


def test_what_is_left_at_the_end_is_handed_back_not_worked_on(handler_type, pool):
    gate, begun, closed, done, left = *(threading.Event() for _ in range(3)), [], []

    def leave(item, reason):
        left.append((item, reason))
        closed.set()

    queue = MessageQueue(on_drop=leave)

    def work(item):
        begun.set()
        gate.wait(30)
        done.append(item)

    handler = handler_type(queue, pool, work, print)
    handler.start(None)
    for number in range(50):
        queue.put(entry(number))
    assert begun.wait(30)
    stopper = threading.Thread(target=handler.stop, args=(None,))
    stopper.start()
    assert closed.wait(30)
    gate.set()
    stopper.join(30)
    pool.wait_idle(30)
    assert {reason for _, reason in left} == {"closed"}
    assert numbers([*done, *(item for item, _ in left)]) == list(range(50))


def test_what_a_closed_pool_refuses_is_told(handler_type):
    pool = DynamicThreadPool(max_workers=1)
    pool.shutdown()
    queue, refused, told = MessageQueue(), [], threading.Event()

    def refuse(item, reason):
        refused.append((item, reason))
        told.set()

    handler = handler_type(queue, pool, lambda item: None, refuse)
    handler.start(None)
    queue.put(entry(1))
    assert told.wait(30)
    handler.stop(None)
    assert [(item.event.id, reason) for item, reason in refused] == [("1", "stopping")]


def test_what_a_full_pool_refuses_is_told():
    queue, refused, told = MessageQueue(), [], threading.Event()
    gate, begun = threading.Event(), threading.Event()

    def work(item):
        begun.set()
        gate.wait(30)

    def refuse(item, reason):
        refused.append((item.event.id, reason))
        told.set()

    with DynamicThreadPool(max_workers=1, queue_limit=1, overflow="reject") as pool:
        handler = AsyncMessageHandler(queue, pool, work, refuse)
        handler.start(None)
        queue.put(entry(1))
        assert begun.wait(30)
        queue.put(entry(2))
        queue.put(entry(3))
        assert told.wait(30)
        gate.set()
        handler.stop(None)
    assert refused == [("3", "error while answering")]


def test_concurrency_must_be_one_at_least(pool):
    with pytest.raises(ValueError, match="concurrency must be at least 1, not 0"):
        AsyncMessageHandler(MessageQueue(), pool, print, print, concurrency=0)


# -- the voice ------------------------------------------------------------------------------


class Ear:
    """Takes what the voice stage hands on."""

    def __init__(self, lookahead=2, stall=30):
        self.queue = MessageQueue(levels=4)
        self.heard, self.completed = [], []
        self.news = threading.Semaphore(0)
        self.stage = VoiceStage(
            self.queue, self._speak, self._complete, lookahead=lookahead, stall=stall
        )

    def _speak(self, number, item, sentence):
        self.heard.append((number, sentence))
        self.news.release()

    def _complete(self, item):
        self.completed.append(item)
        self.news.release()

    def wait(self, times=1):
        for _ in range(times):
            assert self.news.acquire(timeout=30)

    def __enter__(self):
        self.stage.start(None)
        return self

    def __exit__(self, *exc_info):
        self.stage.stop(None)


class Manager:
    """What a stage sees of a manager: it is told of failures, and says whether an end is final."""

    def __init__(self):
        self.final = False
        self.failed = threading.Event()

    def fail(self, exc):
        self.failure = exc
        self.failed.set()


def test_a_handler_whose_thread_died_goes_on_with_what_waits(pool, monkeypatch):
    queue, refused, done, manager = MessageQueue(), [], [], Manager()
    submit = pool.submit

    def break_once(work, item):
        monkeypatch.setattr(pool, "submit", submit)
        raise RuntimeError("no thread to be had")

    monkeypatch.setattr(pool, "submit", break_once)
    handler = MessageHandler(queue, pool, done.append, lambda *facts: refused.append(facts))
    handler.start(manager)
    first = entry(1)
    queue.put(first)
    assert manager.failed.wait(30)
    assert refused == [(first, "error while answering")]
    handler.stop(manager)
    assert not queue.closed
    handler.start(manager)
    queue.put(entry(2))
    manager.final = True
    while not done:
        pool.submit(int).result(30)  # the workers take turns; ours is not far behind
    handler.stop(manager)
    assert numbers(done) == [2]


def test_a_stage_that_lives_is_not_begun_twice():
    with Ear(lookahead=1) as ear:
        manager = Manager()
        thread = ear.stage._thread
        ear.stage.stop(manager)
        ear.stage.start(manager)
        assert ear.stage._thread is thread
        ear.queue.put(saying("一"))
        ear.wait(2)
        assert ear.heard == [(0, "一")]


def test_a_voice_whose_thread_died_gives_its_room_and_its_entry_back():
    with Ear(lookahead=1) as ear:
        manager, speak = Manager(), ear.stage._speak

        def break_once(*facts):
            ear.stage._speak = speak
            raise RuntimeError("no voice")

        ear.stage._speak = break_once
        ear.stage.start(manager)
        broken = saying("一")
        ear.queue.put(broken)
        assert manager.failed.wait(30)
        assert ear.completed == [broken]
        assert broken.sentences.closed
        ear.stage._thread.join(30)
        ear.stage.start(manager)
        ear.queue.put(saying("二"))
        ear.wait(3)
        assert [sentence for _, sentence in ear.heard] == ["二"]


def saying(*sentences, closed=True):
    item = entry(1)
    for sentence in sentences:
        item.sentences.put(sentence)
    if closed:
        item.sentences.close()
    return item


def test_no_more_sentences_are_taken_than_there_is_room_for():
    with Ear(lookahead=2) as ear:
        ear.queue.put(saying("一"), 1)
        ear.queue.put(saying("二"), 1)
        ear.wait(4)
        ear.queue.put(saying("三"), 1)
        ear.queue.put(saying("大礼物"), 0)
        ear.stage.next()
        ear.wait(2)
        assert ear.heard == [(0, "一"), (1, "二"), (2, "大礼物")], "the urgent one overtakes"
        assert len(ear.queue) == 1


def test_the_sentences_of_one_entry_follow_one_another():
    with Ear(lookahead=1) as ear:
        long = saying("一", closed=False)
        ear.queue.put(long, 3)
        ear.wait()
        ear.queue.put(saying("大礼物"), 0)
        long.sentences.put("二")
        long.sentences.close()
        for _ in range(3):
            ear.stage.next()
        ear.wait(4)
        assert [sentence for _, sentence in ear.heard] == ["一", "二", "大礼物"]


def test_an_entry_whose_next_sentence_does_not_come_is_over():
    with Ear(stall=0.01) as ear:
        slow = saying("一", closed=False)
        ear.queue.put(slow)
        ear.wait(2)
        assert ear.completed == [slow]
        assert slow.sentences.closed, "so that its writer stops"


def test_an_entry_without_a_sentence_takes_no_room():
    with Ear(lookahead=1) as ear:
        ear.queue.put(saying())
        ear.wait()
        ear.queue.put(saying("一"))
        ear.wait(2)
        assert ear.heard == [(0, "一")]
