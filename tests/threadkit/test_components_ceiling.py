"""A program under a memory ceiling: its caches and pools give way before it is hit, and recover."""

from threadkit import ComponentManager, Governor, Reading, ResourceMonitor
from threadkit.testing import explore

LIMIT = 1000.0
OTHERS = 300.0  # what the rest of the program uses
SOUND = 4.0  # what one entry of the cache weighs
TASK = 20.0  # what a task uses while it runs


class Program:
    """Fills a cache and runs tasks; its memory is what they use, its limit is injected."""

    def __init__(self, sim):
        self.sim = sim
        self.highest = 0.0
        self.workers = []
        self.monitor = ResourceMonitor(period=1.0, sources={"memory": self.memory}, runtime=sim)
        self.governor = Governor(self.monitor, runtime=sim)
        self.manager = ComponentManager("bot", governor=self.governor, runtime=sim)
        self.cache = self.manager.cache("sounds", maxsize=2 * LIMIT, weigher=lambda *_: SOUND)
        self.pool = self.manager.pool("speak", min_workers=1, max_workers=40, check_interval=0.5)
        self.busy = 0

    def memory(self):
        return Reading(self.used, LIMIT)

    @property
    def used(self):
        return OTHERS + self.cache.statistics().weight + TASK * self.busy

    def task(self):
        self.busy += 1
        self.highest = max(self.highest, self.used)
        self.sim.sleep(2.0)
        self.busy -= 1

    def load(self, seconds):
        """Four sounds and one task a second, more than there is room for."""
        for number in range(seconds):
            for sound in range(4):
                self.cache.put((number, sound), b"")
                self.highest = max(self.highest, self.used)
            self.pool.submit(self.task)
            self.workers.append(self.pool.statistics().alive)
            self.sim.sleep(1.0)


def run(sim, *, governed):
    program = Program(sim)
    if not governed:
        program.governor.freeze("to see what happens without it")
    with program.manager:
        program.load(120)
        under_load = program.cache.maxsize, program.pool.statistics().max_workers
        program.cache.clear()
        sim.sleep(60.0)
        after = program.cache.maxsize, program.pool.statistics().max_workers
        events = program.governor.statistics().events
    return program, under_load, after, events


def test_caches_shrink_and_pools_stop_growing_before_the_ceiling_is_hit_and_recover():
    def scenario(sim):
        program, (cache, workers), after, events = run(sim, governed=True)
        assert 0.75 * LIMIT < program.highest < LIMIT
        assert cache < LIMIT - OTHERS
        assert workers <= max(program.workers) < 40
        assert after == (2 * LIMIT, 40)
        assert {event.reason for event in events} <= {
            "memory is WARN", "memory is CRITICAL", "memory is OK", "room for all",
        }  # fmt: skip

    explore(scenario, 10)


def test_without_the_governor_the_same_program_hits_it():
    def scenario(sim):
        program, _, _, events = run(sim, governed=False)
        assert program.highest > LIMIT
        assert events == ()

    explore(scenario, 3)
