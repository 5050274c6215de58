"""Where a publication goes: one module a kind of output."""
