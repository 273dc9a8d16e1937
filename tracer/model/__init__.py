"""The pure model: records in, verdicts out; no clock, no I/O."""
