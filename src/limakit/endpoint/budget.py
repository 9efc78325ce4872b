"""What an endpoint may cost, and what it has: an account that holds over the life of a workspace (promise 8).

A line of the ledger says by how many tokens an account changes: a request's bound before it is sent, and what is given back once its
answer says how many there were. So a killed run, a lost answer and a run beside this one are all counted, at the most they can cost.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import LimakitError, UsageError
from ..recipe import EndpointSpec
from .reply import Answer
from .request import Request, most_tokens


def cost(tokens_in: int, tokens_out: int, spec: EndpointSpec) -> float:
    """In the currency of the recipe's prices, which are per million tokens."""
    return (tokens_in * spec.price_in + tokens_out * spec.price_out) / 1e6


def most_they_cost(requests: Iterable[Request], spec: EndpointSpec) -> float:
    """Upper bound of requests and their answers."""
    return sum(cost(*most_tokens(request), spec) for request in requests)


def money(amount: float) -> str:
    """Two decimals, or for less than one two digits that say something."""
    return f"{amount:.2f}" if amount >= 1 or amount == 0 else f"{amount:.2g}"


class Reserved(NamedTuple):
    """Tokens counted before a request is sent; `bound_in` and `bound_out` are its bounds without what earlier answers had beyond theirs."""

    tokens_in: int
    tokens_out: int
    bound_in: int
    bound_out: int


class CapReached(LimakitError):
    """The next request could exceed max_cost. Those on their way are paid for and may still be answered."""


class Account:
    """One model at one endpoint, in the ledger at `path`; `what` is the recipe's section, for messages. Any number of processes share it.

    Cost is that of the tokens at the prices the recipe has now. Raises LimakitError where the ledger cannot be read or written: what is
    not accounted for is not sent.
    """

    def __init__(self, path: Path, spec: EndpointSpec, *, what: str):
        self.path, self.spec, self.what = path, spec, what
        self.name = [spec.base_url.rstrip("/"), spec.model]
        self._in = self._out = self._read = 0  # tokens so far, and bytes of the ledger that they were read from
        self._file: BinaryIO | None = None
        self._beyond_in = self._beyond_out = (
            0  # the most that a request and an answer had beyond their bounds: templates, thinking not held to max_tokens
        )

    @property
    def spent(self) -> float:
        """What was spent, or may have been, by all runs so far; of requests still on their way the most they can cost."""
        if self.path.exists():
            self._change(0, 0, capped=False)
        return cost(self._in, self._out, self.spec)

    def check(self, requests: Iterable[Request]) -> None:
        """Raises UsageError where the most that these requests cost, on top of what was spent, could be more than max_cost."""
        asked, cap = list(requests), self.spec.max_cost
        if not asked or cap is None:
            return
        if (most := most_they_cost(asked, self.spec)) + (spent := self.spent) > cap:
            before = f" on top of the {money(spent)} that were spent before," if spent else ","
            raise UsageError(
                f"could cost up to {money(most)}{before} more than max_cost = {money(cap)}; nothing was sent",
                where=f"{self.what}.max_cost",
                remedy=f"raise it, lower max_tokens, or ask less ({len(asked)} requests; "
                "the bound takes each byte of a text for a token and each answer for max_tokens long)",
            )

    def reserve(self, request: Request) -> Reserved:
        """Count the most that a request can cost, before it is sent; returns the tokens for `settle`. Raises CapReached where it does not fit."""
        bound_in, bound_out = most_tokens(request)
        reserved = Reserved(bound_in + self._beyond_in, bound_out + self._beyond_out, bound_in, bound_out)
        if not self._change(reserved.tokens_in, reserved.tokens_out, capped=True):
            raise CapReached(
                f"the next request could cost more than what is left of max_cost = {money(self.spec.max_cost or 0)}",
                where=self.spec.base_url,
                remedy=f"raise {self.what}.max_cost; answers that came are kept, and the same command goes on with what is still open",
            )
        return reserved

    def settle(self, reserved: Reserved, tokens_in: int, tokens_out: int) -> None:
        """Give back what a request did not use. A request that may have been billed without an answer is never settled."""
        self._beyond_in = max(self._beyond_in, tokens_in - reserved.bound_in)
        self._beyond_out = max(self._beyond_out, tokens_out - reserved.bound_out)
        self._change(tokens_in - reserved.tokens_in, tokens_out - reserved.tokens_out, capped=False)

    def settle_by(self, reserved: Reserved, answer: Answer) -> None:
        """Settle by what a reply says was used; where it does not say, the bound stays."""
        if answer.tokens_in is not None and answer.tokens_out is not None:
            self.settle(reserved, answer.tokens_in, answer.tokens_out)

    def _change(self, tokens_in: int, tokens_out: int, *, capped: bool) -> bool:
        """Read what others wrote and add a line, in one step. `capped`: False, and no line, where the cost would come to exceed the cap."""
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115 (for as long as the account is used)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                return self._add(self._file, tokens_in, tokens_out, capped=capped)
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise LimakitError(
                f"cannot keep account of what is spent: {reason}", where=self.path, remedy="free some space; the same command goes on"
            ) from error

    def _add(self, file: BinaryIO, tokens_in: int, tokens_out: int, *, capped: bool) -> bool:
        self._catch_up(file.fileno())
        if not (tokens_in or tokens_out):
            return True
        cap = self.spec.max_cost
        if capped and cap is not None and cost(self._in + tokens_in, self._out + tokens_out, self.spec) > cap:
            return False
        line = json.dumps([*self.name, tokens_in, tokens_out]).encode() + b"\n"
        if file.write(line) != len(line):
            raise OSError("the disk took part of a line only")
        self._in, self._out, self._read = self._in + tokens_in, self._out + tokens_out, self._read + len(line)
        return True

    def _catch_up(self, fd: int) -> None:
        """Add the lines written since the last look. A line cut by a full disk is ended and counts for nothing: its request was not sent."""
        size = os.fstat(fd).st_size
        if size < self._read:  # deleted or begun anew
            self._in = self._out = self._read = 0
        if size == self._read:
            return
        new = os.pread(fd, size - self._read, self._read)
        if not new.endswith(b"\n"):
            os.write(fd, b"\n")
            new += b"\n"
        for line in new.split(b"\n"):
            try:
                base_url, model, tokens_in, tokens_out = json.loads(line)
                if [base_url, model] == self.name:
                    self._in, self._out = self._in + int(tokens_in), self._out + int(tokens_out)
            except (ValueError, TypeError):
                continue
        self._read += len(new)
