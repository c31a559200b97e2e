"""Behind ``listener``: who waits and who wakes, pauses between tries, and unread messages."""
