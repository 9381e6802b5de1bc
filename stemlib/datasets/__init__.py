"""Raw files to tasks: loaders, checks, cards."""
