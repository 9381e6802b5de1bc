"""One notebook run in a process of its own, and the files that name many of them."""
