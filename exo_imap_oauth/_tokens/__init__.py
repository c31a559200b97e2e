"""Behind ``token_source``: the state of a token, one fetch of it, and the token endpoint."""
