"""What the type checkers must accept and infer of `threadkit.sizing`; checked, not run."""

from __future__ import annotations

from typing_extensions import assert_type

from threadkit.sizing import Decision, PoolSnapshot, SizingPolicy, policy


class Mine:
    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        return Decision(snapshot.busy + 1, "one spare worker")


class ByAnyOtherArgumentName:
    def decide(self, pool: PoolSnapshot) -> Decision:
        return Decision(pool.max_workers, "all")


mine: SizingPolicy = Mine()
other: SizingPolicy = ByAnyOtherArgumentName()
assert_type(policy("adaptive"), SizingPolicy)
assert_type(policy(Mine()), SizingPolicy)


class ForgetsTheReason:
    def decide(self, snapshot: PoolSnapshot, /) -> int:
        return snapshot.busy


wrong: SizingPolicy = ForgetsTheReason()  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]
