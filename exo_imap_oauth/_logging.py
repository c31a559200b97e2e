"""The one logger of the package.

It has no handler of its own: where the application configures nothing, Python writes warnings to
stderr, and a warning of ours is one that a person should see.
"""

import logging

logger = logging.getLogger("exo_imap_oauth")
