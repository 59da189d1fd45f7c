"""What the product promises when something breaks: real processes and a real Redis, under load all the time."""
