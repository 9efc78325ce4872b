"""How fast an endpoint is asked: by the recipe's limits, and after the pauses it asks for."""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import Mapping

from ..recipe import EndpointSpec

FIRST_PAUSE_S = 0.5  # doubles with each attempt
LONGEST_PAUSE_S = 30.0
BUSY_PATIENCE = 10  # times as long a pause after 429: limits are counted by the minute
LONGEST_RETRY_AFTER_S = 300.0  # an endpoint that asks for longer is left alone for today


class Limits:
    """One line in which all requests of a run stand: evenly spaced, so that no minute (and no second) holds more than its share.

    A request takes 60 / requests_per_minute seconds of the line, or its tokens (by their bound) * 60 / tokens_per_minute where that is
    longer. Runs beside each other do not know of each other.
    """

    def __init__(self, spec: EndpointSpec):
        self._each = 60.0 / spec.requests_per_minute if spec.requests_per_minute else 0.0
        self._token = 60.0 / spec.tokens_per_minute if spec.tokens_per_minute else 0.0
        self._free_at = 0.0
        self.not_before = 0.0  # time.monotonic(): the endpoint asked for a pause until then

    async def turn(self, tokens: int) -> None:
        """Wait until a request of so many tokens may be sent."""
        takes = max(self._each, self._token * tokens)
        if takes:
            mine = max(self._free_at, time.monotonic())
            self._free_at = mine + takes
            await asyncio.sleep(mine - time.monotonic())
        while (pause := self.not_before - time.monotonic()) > 0:
            await asyncio.sleep(pause * random.uniform(1.0, 1.1))

    def pause(self, seconds: float) -> bool:
        """Nothing is sent for so long; True where a pause begins with this."""
        now = time.monotonic()
        begins = self.not_before < now
        self.not_before = max(self.not_before, now + seconds)
        return begins


def backoff(attempts: int, *, busy: bool) -> float:
    """Seconds, with chance in it, so that questions that failed together do not come back together."""
    first = FIRST_PAUSE_S * (BUSY_PATIENCE if busy else 1)
    return min(LONGEST_PAUSE_S, first * 2 ** max(0, attempts - 1)) * random.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The Retry-After header in seconds from now: a number or a date (RFC 9110, section 10.2.3); None if absent or unreadable."""
    value = str(headers.get("retry-after") or "").strip()
    if value.replace(".", "", 1).isdigit() and value.isascii():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
