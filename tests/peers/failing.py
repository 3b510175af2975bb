"""What a call that fails raises."""


def caught(fn, *args):
    """The exception that `fn` raises, with its traceback."""
    try:
        fn(*args)
    except BaseException as exc:
        return exc
    raise AssertionError("it did not raise")
