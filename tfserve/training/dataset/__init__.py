"""From a project folder to an index of usable images with labels, boxes or masks."""
