"""Every fault of the servers and of the machine, and what a caller gets: one table.

The tests make each fault happen and hold the table to it; docs/explanation/reliability.md shows
the same table.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "reliability.md"
COMMAND = "python tests/support/fault_matrix.py"

# The settings of the tests, in s. What follows of them stands here alone.
TIMEOUT, DEADLINE = 0.5, 1.0
SLACK = 2.0  # s more at most, on a busy machine
LIMITS: dict[str, float] = {
    "at once": 0.0,
    "`timeout`": TIMEOUT,
    "`deadline`": DEADLINE,
    "twice `timeout`": 2 * TIMEOUT,
    "3 s": 3.0,
}
LIMIT_OF_TOTAL = "twice `timeout`"  # from the look-up of the server's name to the selected folder
LIMIT_OF_LOGOUT = "3 s"


class Fault(NamedTuple):
    """A row of the table.

    Attributes:
        place: Where it happens.
        what: What happens.
        outcome: The class of the error, or ``works``.
        retryable: The error's attribute; None where it has none.
        within: After how long at most; a key of :data:`LIMITS`.
        retried: Whether and for how long the library tries again by itself.
    """

    place: str
    what: str
    outcome: str
    retryable: bool | None
    within: str
    retried: str = "no"

    @property
    def id(self) -> str:
        """Its name in the tests."""
        return f"{self.place}: {self.what}"


ENDPOINT, IMAP, MACHINE = "token endpoint", "IMAP", "this machine"
STAGES = ("greeting", "CAPABILITY", "AUTHENTICATE", "SELECT")
_UNTIL = "until `deadline`"


def _endpoint(
    what: str, *, retryable: bool = True, within: str = "`deadline`", retried: str = _UNTIL
) -> Fault:
    return Fault(ENDPOINT, what, "TokenEndpointUnavailable", retryable, within, retried)


def _for_good(what: str, *, retryable: bool = False, within: str = "at once") -> Fault:
    return _endpoint(what, retryable=retryable, within=within, retried="no")


def _imap(place: str, what: str, within: str, *, retryable: bool = True) -> Fault:
    return Fault(f"{IMAP}, {place}", what, "ConnectionFailed", retryable, within)


_STAGE_FAULTS = {
    "connection reset": "at once",
    "connection closed": "at once",
    "silence": "`timeout`",
    "a byte now and then": LIMIT_OF_TOTAL,
    "lines without an end": LIMIT_OF_TOTAL,
    "a line without an end": LIMIT_OF_TOTAL,
    "a literal of a terabyte": "at once",
    "no IMAP": "at once",
    "BYE": "at once",
}

FAULTS: tuple[Fault, ...] = (
    _endpoint("connection refused"),
    _endpoint("connection reset"),
    _endpoint("connection closed"),
    _endpoint("silence"),
    _endpoint("a byte of the head now and then"),
    _endpoint("a byte of the body now and then"),
    _endpoint("no HTTP"),
    _endpoint("503"),
    _for_good("a proxy that wants another password"),
    _endpoint("a proxy that cannot reach the endpoint"),
    _endpoint("a proxy that answers a byte now and then"),
    _for_good("a body without an end", retryable=True, within="`timeout`"),
    _for_good("200 that is not a token", retryable=True),
    _for_good("429 with a pause beyond the deadline", retryable=True),
    _for_good("a redirect"),
    _for_good("a certificate of somebody else"),
    _for_good("a certificate for another name"),
    _for_good("a certificate that has expired"),
    Fault(ENDPOINT, "refusal", "TokenRequestRejected", retryable=False, within="at once"),
    _imap("connect", "connection refused", "at once"),
    _imap("connect", "silence in place of TLS", "`timeout`"),
    _imap("connect", "a certificate of somebody else", "at once", retryable=False),
    _imap("connect", "a certificate for another name", "at once", retryable=False),
    _imap("connect", "a certificate that has expired", "at once", retryable=False),
    Fault(f"{IMAP}, STARTTLS", "not offered", "InsecureConnectionError", False, "at once"),
    _imap("STARTTLS", "more said before TLS begins", "at once"),
    _imap("STARTTLS", "refused", "at once"),
    *(
        _imap(stage, what, within)
        for stage, (what, within) in itertools.product(STAGES, _STAGE_FAULTS.items())
    ),
    *(
        Fault(f"{IMAP}, LOGOUT", what, "works", None, LIMIT_OF_LOGOUT)
        for what in ("connection reset", "silence", "a byte now and then", "lines without an end")
    ),
    Fault(MACHINE, "the name of the token endpoint is not found", "TokenEndpointUnavailable", True,
          "`deadline`", _UNTIL),
    Fault(MACHINE, "looking up the token endpoint hangs", "TokenEndpointUnavailable", True,
          "`deadline`", _UNTIL),
    Fault(MACHINE, "looking up the IMAP server hangs", "ConnectionFailed", True, LIMIT_OF_TOTAL),
    Fault(MACHINE, "its clock is a day ahead", "works", None, "at once"),
    Fault(MACHINE, "its clock is a day behind", "works", None, "at once"),
    Fault(MACHINE, "no file descriptor for the token request", "TokenEndpointUnavailable", True,
          "`deadline`", _UNTIL),
    Fault(MACHINE, "no file descriptor for the IMAP connection", "ConnectionFailed", True,
          "at once"),
    Fault(MACHINE, "Ctrl-C while the token is fetched", "KeyboardInterrupt", None, "at once"),
    *(
        Fault(MACHINE, f"Ctrl-C at {stage}", "KeyboardInterrupt", None, "at once")
        for stage in STAGES
    ),
)  # fmt: skip


def page() -> str:
    """docs/explanation/reliability.md."""
    head = "| where | fault | the caller gets | `retryable` | within | tried again |"
    rows = (
        f"| {fault.place} | {fault.what} | {_outcome(fault)} | {_yes_or_no(fault.retryable)} "
        f"| {fault.within} | {fault.retried} |"
        for fault in FAULTS
    )
    line = "| --- | --- | --- | --- | --- | --- |"
    table = [head, line, *rows, ""]
    return "\n".join([_INTRODUCTION, *table, _OUTAGE, *_torture(), "", *_fuzzing(), ""])


class Tortured(NamedTuple):
    """The figures of one run of ``python -m tests.torture``."""

    options: str
    what: str
    messages: int
    faults: int  # that struck
    actions: int  # of people
    lost: int
    doubled: int
    marked_wrongly: int
    repeats: str  # for each kill


TORTURED = (
    Tortured("--runs 2000 --seed 9401", "2,000 runs", 44_461, 14_296, 34_602, 0, 0, 0, "-"),
    Tortured(
        "--kills 200 --seed 5",
        "200 kills",
        2_115,
        546,
        1_513,
        0,
        0,
        0,
        "at most 13; 2.12 on average",
    ),
)


def _torture() -> Iterator[str]:
    yield _TORTURE
    yield (
        "| options | what | messages | faults | what people did | lost | handled twice"
        " | marked wrongly | repeats for each SIGKILL |"
    )
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    for each in TORTURED:
        counts = (each.messages, each.faults, each.actions, each.lost, each.doubled)
        figures = " | ".join(f"{count:,}" for count in (*counts, each.marked_wrongly))
        yield f"| `{each.options}` | {each.what} | {figures} | {each.repeats} |"


# Of one long run, with the seed 1, each harness by itself: executions, crashes.
LONG_RUN: dict[str, tuple[int, int]] = {
    "challenge": (1_000_000, 0),
    "properties": (1_000_000, 0),
    "advise": (1_000_000, 0),
    "token-answer": (1_000_000, 0),
    "environment": (1_000_000, 0),
    "config": (1_000_000, 0),
    "imap": (1_000_000, 0),
}


def _fuzzing() -> Iterator[str]:
    yield _FUZZING
    yield "| harness | executions | crashes |"
    yield "| --- | ---: | ---: |"
    for name, (executions, crashes) in LONG_RUN.items():
        yield f"| {name} | {executions:,} | {crashes} |"


def _outcome(fault: Fault) -> str:
    return "what was asked for" if fault.outcome == "works" else f"`{fault.outcome}`"


def _yes_or_no(value: bool | None) -> str:
    if value is None:
        return "-"
    return "yes" if value else "no"


_INTRODUCTION = f"""\
<!-- Made from tests/support/fault_matrix.py by: {COMMAND} -->
# Reliability

This page says what a program gets when servers, the network or its own machine fail. Every row is a test: it makes the fault happen, and compares the error's class, its `retryable` and the time with the row. Afterwards no thread and no socket of the library may be left, and the same process logs in as if nothing had happened. The one exception is a name lookup that hangs: its thread stays until the system gives up, but no caller waits for it.

- `timeout` and `deadline` are those of `TokenSource` for the token endpoint (10 s and 30 s unless given), and `timeout` is that of `open_mailbox` for IMAP (30 s). With IMAP it is the longest single wait; all waits together, from looking up the server's name to the selected folder, take at most {LIMIT_OF_TOTAL}, and LOGOUT at most {LIMIT_OF_LOGOUT}. A busy machine may add up to {SLACK:.0f} s.
- **Nothing is lost.** A login that fails has not touched any message. If LOGOUT fails, what was done in the body of `open_mailbox` still stands. While the endpoint fails, a token that is still valid is returned, so the rows of the token endpoint are for a program that has none.
- **Tried again** says whether and for how long the library itself repeats the token request. `retryable` says whether the same call may succeed later without anybody changing anything; a program that gets `yes` waits, at least `retry_after` seconds if the server asked for that, and calls again.
"""  # noqa: E501 - a page's lines are as long as its sentences

_OUTAGE = """\
## An outage is waited for once

After the whole `deadline` of a token request was used up in vain, whoever asks for a token of the same application gets that error at once, a copy for each, for 10 seconds. Meanwhile one request in the background goes on trying, at least every 10 seconds unless the endpoint asks for a longer pause, so the end of an outage is noticed by then. After the 10 seconds the next caller waits for that request. Twenty inboxes of one application that are polled one after the other thus get through an outage in about one `deadline`; `inbox.open(deadline=5)` makes it 5 seconds.

`get_token(claims=…)`, [`check_setup`](../how-to/check-up.md) and another secret ask at once; a forked child forgets the outage. If the endpoint's first answer asks for a pause that is longer than the `deadline`, the error comes at once each time, with `retry_after`; that is no outage.
"""  # noqa: E501 - the same

_TORTURE = """\
## Nothing is lost

A listener is tortured: a server that refuses, keeps silent, leaves messages out, sends those of somebody else, cuts connections, does what it is told and does not say so, and changes UIDVALIDITY; a `handle` that raises or takes its time; people who read, mark as unread, remove and move messages meanwhile; listeners that are stopped and started anew, and programs that are killed. Each run has at least 20 messages and 3 faults. Sixty runs come with the tests. To run more:

<!-- not run: torture takes as long as one gives it -->

```
python -m tests.torture --runs 10000 --seed 1     # listeners in one process
python -m tests.torture --kills 200 --seed 1      # programs that are killed, and started anew
```

The server writes down everything in one order, and the rules, which stand in `tests/torture/judge.py`, go by that alone:

- **Lost** is a message that is still unread when the faults have been over for 20 s, and one that was marked without being handled or given up. What a person has read or removed first is not lost.
- **Handled twice** is a message whose `handle` returned and that is handed over again without one of these reasons, each of which is counted: a person marked it as unread again; UIDVALIDITY changed; the server no longer named it as unread though it was; the listener was stopped just when a lost connection or a refusal kept its mark from the server; the process was killed. A lost connection alone is no reason, and nor is SIGTERM.
- **Repeats** are what was handled again after a SIGKILL: for each, at most as many messages as `unconfirmed` says, which is 32 unless `--unconfirmed` gives another number.
- **Marked wrongly** is a message that the listener marked as read though `handle` had not returned for it and nobody had given it up.
- If a person marks a message as unread between the end of its `handle` and the confirmation of its mark, the mark wins; this is counted as well.

The command ends with status 1 if a rule is broken, and prints the end of the server's log. Runs of this version:
"""  # noqa: E501 - as above

_FUZZING = """\
## Fuzzed, whatever the bytes are

Everything that reads bytes from outside is fuzzed: `.properties` files, a whole configuration, the answer of the token endpoint, the challenge of AUTHENTICATE, the texts that get advice, and all that an IMAP server says from its greeting to LOGOUT. Each input must end in a result or in a documented error, within 5 s of CPU time. A few hundred inputs for each of these run with the tests. To run more:

<!-- not run: fuzzing takes as long as one gives it -->

```
python -m tests.fuzz                                        # lists the harnesses
python -m tests.fuzz properties --executions 1000000 --seed 1
```

The same seed gives the same inputs; an input that breaks the rule is printed in base64, and the command ends with status 1. A long run:
"""  # noqa: E501 - as above

if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
