"""Scenarios of a simulation by name: a test each, and the stress tests run them much longer."""

import pytest

from threadkit.testing import explore

SEEDS = 150


class Scenarios(dict):
    """Functions of a `SimRuntime`, whose docstrings are the promises they check, and their options.

    Args:
        preempt: What all of them pre-empt.
    """

    def __init__(self, preempt):
        super().__init__()
        self.preempt = preempt

    def add(self, function=None, /, **options):
        """Decorate a scenario, with or without options for `explore`."""

        def register(function):
            self[function.__name__] = (function, options)
            return function

        return register if function is None else register(function)

    def test(self):
        """The test of those registered so far, each under some schedules."""

        @pytest.mark.parametrize("name", self)
        def test(name):
            function, options = self[name]
            explored = explore(function, SEEDS, preempt=self.preempt, **options)
            assert explored.schedules == SEEDS
            assert explored.distinct > SEEDS // 2

        return test
