"""Behind ``inbox``: its fields held against the rules, and read from the environment."""
