"""When to call and how often: backoff, the Retry-After gate, concurrency."""
