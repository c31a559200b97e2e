"""PowerShell: quoting of values, and the script that sets up Exchange Online."""
