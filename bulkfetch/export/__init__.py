"""The durable job: the journal is the truth, the output is a pure function of it."""
