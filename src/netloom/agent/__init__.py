"""The agent: the shell around the calculation.  `main` runs it as a process; `node` is what it does."""
