"""The transfer of files between the machines of a cluster, by content: only what is missing is sent."""
