"""A machine of a cluster that is not the head: it joins, starts workers for the head, and answers predictions."""
