"""What tests of the running product share: applications, destinations, members of a network, processes."""
