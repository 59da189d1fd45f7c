"""A whole network from the outside: applications at one end, destinations at the other."""
