"""Sizes that both ends of a boundary agree on."""

MAX_ENVELOPE_BYTES = 900 * 1024 * 1024
"""What an envelope may weigh: below the 1,000,000,000 bytes that SQLite holds in one value."""

MAX_VECTOR_LENGTH = (MAX_ENVELOPE_BYTES - 8 * 1024 * 1024) // 4
"""How many float32 values a message may carry: what an envelope holds besides its header."""
