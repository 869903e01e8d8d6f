"""Jobs: the queue of each workspace, the journal that records them, and what runs them."""
