"""Access control: principals, their scopes, and the format of tokens. Shared by web, supervisor and CLI."""
