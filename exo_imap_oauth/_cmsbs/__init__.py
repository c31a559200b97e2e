"""Behind ``config``: the cmsbs dialect, from files and variables to the values of inboxes."""
