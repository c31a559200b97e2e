"""Behind ``listener``: what becomes of each message, one connection, pauses, and who wakes whom."""
