import threading

import pytest

from livebot.ledger import Ledger, Stage
from livebot.messages import Chat, Stats


def chat(number=1):
    return Chat(id=str(number), text="你好")


def spoken(ledger, entry):
    ledger.begin(entry)
    ledger.complete(entry)
    ledger.end(entry)


def test_an_event_is_in_one_place_until_it_has_ended():
    ledger = Ledger()
    entry = ledger.admit(chat())
    assert ledger.statistics().waiting == {Stage.RECEIVED.value: 1}
    ledger.move(entry, Stage.TEXT)
    assert ledger.statistics().waiting == {Stage.TEXT.value: 1}
    spoken(ledger, entry)
    books = ledger.statistics()
    assert (books.received, books.spoken, books.pending, books.dropped) == (1, 1, 0, {})


def test_an_entry_cannot_end_twice():
    ledger = Ledger()
    entry = ledger.admit(chat())
    ledger.drop(entry, "cool-down")
    with pytest.raises(RuntimeError, match="event 1 has ended already"):
        spoken(ledger, entry)
    assert ledger.statistics().spoken == 0


def test_a_lost_entry_shows_in_the_books():
    ledger = Ledger()
    ledger.admit(chat(1))
    ledger.drop(ledger.admit(chat(2)), "repeat")
    books = ledger.statistics()
    assert books.received == books.spoken + books.pending + sum(books.dropped.values()) == 2
    assert books.pending == 1


def test_events_nobody_speaks_are_counted_apart():
    ledger = Ledger()
    ledger.ignore(Stats(id="1"))
    assert ledger.statistics().other == {"stats": 1}
    assert ledger.statistics().received == 0


def test_settled_is_told_each_time_the_last_entry_ends():
    told = []
    ledger = Ledger(on_settled=lambda: told.append(ledger.statistics().pending))
    first, second = ledger.admit(chat(1)), ledger.admit(chat(2))
    spoken(ledger, first)
    assert told == []
    ledger.drop(second, "stale")
    assert told == [0]


def test_many_threads_keep_the_books_balanced():
    ledger = Ledger()

    def work():
        for number in range(500):
            entry = ledger.admit(chat(number))
            ledger.move(entry, Stage.PROCESSING)
            if number % 3:
                spoken(ledger, entry)
            else:
                ledger.drop(entry, "every third")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    books = ledger.statistics()
    assert (books.received, books.pending) == (2000, 0)
    assert books.spoken == 4 * 333
    assert books.dropped == {"every third": 4 * 167}


def test_an_entry_of_several_sentences_ends_with_the_last_of_them():
    ledger = Ledger()
    entry = ledger.admit(chat())
    ledger.begin(entry)
    ledger.begin(entry)
    ledger.end(entry)
    ledger.complete(entry)
    assert ledger.statistics().pending == 1
    ledger.end(entry, "speech: timeout")
    assert (ledger.statistics().spoken, ledger.statistics().dropped) == (1, {})


def test_an_entry_of_which_nothing_was_heard_is_dropped_for_its_first_failure():
    ledger = Ledger()
    entry = ledger.admit(chat())
    ledger.begin(entry)
    ledger.begin(entry)
    ledger.complete(entry)
    ledger.end(entry, "speech: timeout")
    ledger.end(entry, "voice: skipped")
    assert ledger.statistics().dropped == {"speech: timeout": 1}


def test_an_entry_without_a_sentence_had_nothing_to_say():
    ledger = Ledger()
    ledger.complete(ledger.admit(chat()))
    assert ledger.statistics().dropped == {"nothing to say": 1}
