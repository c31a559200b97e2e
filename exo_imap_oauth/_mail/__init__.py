"""What comes after the login: the parts of :mod:`exo_imap_oauth.mail`."""
