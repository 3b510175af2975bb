"""Threads of a simulation, started by the handful."""


def start(sim, *bodies):
    """Run each in a thread of its own; the threads."""
    threads = [sim.thread(body) for body in bodies]
    for thread in threads:
        thread.start()
    return threads


def join(threads):
    for thread in threads:
        thread.join()


def together(sim, *bodies):
    """Run each in a thread of its own to the end."""
    join(start(sim, *bodies))
