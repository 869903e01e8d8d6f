"""What head and nodes of a cluster share: identities, handshakes, and the transfer of files."""
