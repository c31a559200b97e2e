"""What is known of the messages of Entra and Exchange: one table, in the order of matching.

Where a text names several things, the row that comes first counts: what says why precedes what
follows from it.
"""

from __future__ import annotations

from typing import Final

from exo_imap_oauth._advice_table.entra import ENTRA
from exo_imap_oauth._advice_table.exchange import EXCHANGE, REJECTED_LATER
from exo_imap_oauth._advice_table.network import INSTEAD, NETWORK, PLAIN_TEXT, PROXY
from exo_imap_oauth._advice_table.row import PAGES, Row, Stage

__all__ = ["INSTEAD", "PAGES", "PLAIN_TEXT", "PROXY", "RULES", "TABLE", "Row", "Stage"]

TABLE: Final = (*ENTRA, *EXCHANGE, *NETWORK)
"""A row for each id."""

RULES: Final = (*ENTRA, *EXCHANGE, REJECTED_LATER, PLAIN_TEXT, *NETWORK)
"""The rows whose patterns are tried, with those that stand in place of another one."""
