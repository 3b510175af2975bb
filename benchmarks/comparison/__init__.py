"""The parts of `benchmarks.policies`: measures, real runs, recordings, the report."""
