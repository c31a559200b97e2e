"""Behind ``imap``: the connection, who logs in, AUTHENTICATE, the mailbox, and what was said."""
