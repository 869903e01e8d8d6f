"""The token API: access tokens and the log-in of the pages, for administrators."""
