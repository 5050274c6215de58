"""The loop: cut, call, flatten, verify, hand on. Knows nothing of files or terminals."""
