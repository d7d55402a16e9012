"""Every number that decides what the service admits. docs/serve.md explains the main ones."""

from __future__ import annotations

MOST_PICTURES = 16
"""Pictures of one request on our own routes."""
MOST_OPENAI_PICTURES = 10
"""Pictures of one request on OpenAI's route, as in OpenAI's own."""
LONGEST_PROMPT = 4_000
"""Characters of a prompt."""
LARGEST_BODY = 1 << 20
"""Bytes of a request's body: 16 of the longest prompts, each character as an escape of 12 bytes, fit."""
LARGEST_MESSAGE = 1 << 16
"""Bytes of a message on the WebSocket."""
MOST_CONNECTIONS = 1_000
"""Open connections of one process; more are answered with 503 at once."""
HEADER_SECONDS = 10.0
"""Seconds that a client may take to send a request's headers."""
BODY_SECONDS = 10.0
"""Seconds that a client may take to send a request's body."""
IDLE_SECONDS = 75
"""Seconds that a connection may stay open between two requests."""
SILENT_SECONDS = 10.0
"""Seconds after which a stream without news sends a comment, so that nobody gives it up."""

PATIENCE = 10.0
"""Seconds that a request should wait at most, from which the queue's bound is computed."""
LARGEST_QUEUE = 1_000
"""Pictures that a queue holds however fast the model is, unless --queue says more."""
DEADLINE = 60.0
"""Seconds from a request's arrival after which it is answered with 504."""
GRACE = 30.0
"""Seconds from SIGTERM after which the service ends, with accepted work unfinished if need be."""
LONGEST_WAIT = 86_400.0
"""Seconds that an option may name."""

BATCH_SIZES = (1, 2, 4, 8)
"""Sizes of batches that are measured. No other size is ever formed, for only these were compared."""
WORTH = 0.03
"""The share of time per picture that a larger batch must save."""
MEASURING_SECONDS = 4.0
"""Seconds that timing the batches of one graph may take; larger ones are left out where they would take longer."""
