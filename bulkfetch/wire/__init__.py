"""Bytes in and out: envelopes, faults, records. No I/O and no asyncio here."""
