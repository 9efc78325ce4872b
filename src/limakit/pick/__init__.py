"""Selection baselines: named strategies that pick rows from any pool, for comparison with curation by hand (paper.md, last section)."""
