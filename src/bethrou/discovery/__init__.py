"""Which exits there are: sources that see them come and go, and the directory that merges what they say."""
