"""Networks, candidates and the loop that trains them."""
