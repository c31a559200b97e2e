"""Behind ``credentials``: certificates, secrets in files, functions, credentials of others."""
