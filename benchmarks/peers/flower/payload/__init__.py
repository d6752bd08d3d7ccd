"""A Flower app whose rounds move arrays and train nothing."""
