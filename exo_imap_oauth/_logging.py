"""The one logger of the package; silent until the application configures logging."""

import logging

logger = logging.getLogger("exo_imap_oauth")
logger.addHandler(logging.NullHandler())
